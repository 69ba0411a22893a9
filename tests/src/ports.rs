//! Free ports on loopback. Found below the kernel's ephemeral range, so that no outgoing connection takes one between
//! the search and its use; a cursor shared by the process keeps two searches apart.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

const FIRST: u16 = 10_240;
const LAST: u16 = 19_999;

static CURSOR: AtomicU16 = AtomicU16::new(0);

/// A port that is free for TCP and UDP on every one of `addresses`.
pub fn free(addresses: &[IpAddr]) -> Result<u16> {
    let span = LAST - FIRST + 1;
    // Processes start at different places, so that parallel test binaries rarely meet.
    let offset = (std::process::id() as u16).wrapping_mul(97) % span;
    for _ in 0..span {
        let step = CURSOR.fetch_add(1, Ordering::Relaxed) % span;
        let port = FIRST + ((u32::from(offset) + u32::from(step)) % u32::from(span)) as u16;
        let free = addresses.iter().all(|ip| {
            let address = SocketAddr::new(*ip, port);
            TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
        });
        if free {
            return Ok(port);
        }
    }
    None.context("no free port on loopback")
}

/// A free socket address on 127.0.0.1.
pub fn local() -> Result<SocketAddr> {
    let ip = IpAddr::from([127, 0, 0, 1]);
    Ok(SocketAddr::new(ip, free(&[ip])?))
}
