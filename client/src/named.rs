//! Relays that the user names by address and key, `wss://HOST:PORT#ADDRESS`, whether or not the chain knows them.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tunnler_protocol::Address;
use tunnler_protocol::directory::{Relay, RelayStatus};
use tunnler_protocol::time::UnixSeconds;

use crate::error::ClientError;

/// Reads `text` and resolves its host. The key is what the relay must prove, so the host need not be believed.
pub(crate) fn read(text: &str) -> Result<Arc<Relay>, ClientError> {
    let wrong = |problem: &str| ClientError::Usage(format!("relay {text:?}: {problem}"));
    let form = "write wss://HOST:PORT#ADDRESS";
    let (place, key) =
        text.strip_prefix("wss://").unwrap_or(text).split_once('#').ok_or_else(|| wrong(form))?;
    let address: Address = key.parse().map_err(|_| wrong("what follows # is not a relay's address (G…)"))?;
    let place = place.trim_end_matches('/');
    let found: Vec<SocketAddr> = match place.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return Err(wrong(&format!("{error}; {form}"))),
    };
    let port = found.first().ok_or_else(|| wrong("its host has no address"))?.port();
    let ipv4 = found.iter().find_map(|found| if let IpAddr::V4(ip) = found.ip() { Some(ip) } else { None });
    let ipv6 = found.iter().find_map(|found| if let IpAddr::V6(ip) = found.ip() { Some(ip) } else { None });
    Ok(Arc::new(Relay {
        address,
        operator: "you".into(),
        host: None,
        control_port: port,
        ingress_port: port,
        ipv4,
        ipv6,
        region: "own".into(),
        capacity: u32::MAX,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: None,
        registered_at: UnixSeconds(0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_named_by_address_and_key() {
        let key = tunnler_protocol::SecretKey::from_seed(&[3; 32]).address();
        for text in [format!("wss://10.1.2.3:8443#{key}"), format!("10.1.2.3:8443#{key}")] {
            let relay = read(&text).unwrap();
            assert_eq!((relay.address, relay.control_port), (key, 8443));
            assert_eq!(relay.ipv4, Some([10, 1, 2, 3].into()));
        }
        assert!(read(&format!("wss://[::1]:8443/#{key}")).unwrap().ipv6.is_some());
        for bad in ["wss://10.1.2.3:8443", "wss://10.1.2.3:8443#GABC", &format!("wss://10.1.2.3#{key}")] {
            assert_eq!(read(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
