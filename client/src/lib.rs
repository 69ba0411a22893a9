//! The client: publishes services of a private machine under public HTTPS names, through relays found on chain.
//!
//! [`Tunnel`] holds sessions with several relays, signs the presence, keeps certificates valid and serves visitors;
//! the command line is a thin layer over it. The private keys of account, certificates and client never leave the
//! state directory, and visitors reach nothing that was not declared as a [`Service`]. `examples/publish.rs` is a whole
//! program.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tunnler::{Service, StateDir, Tunnel, TunnelConfig};
//!
//! # async fn example() -> Result<(), tunnler::ClientError> {
//! let network = tunnler_chain::descriptor::load("local")?;
//! let key = tunnler_chain::key::load(Some("node.key".as_ref()))?;
//! let state = Arc::new(StateDir::open("state".as_ref())?);
//! let mut config = TunnelConfig::new(network, key, state);
//! config.labels = vec!["mynode".parse().expect("a label")];
//! config.services = vec![Service::http("8080".parse().expect("a port"))];
//! let tunnel = Tunnel::start(config).await?;
//! tunnel.wait_connected(Some(std::time::Duration::from_secs(60))).await?;
//! for url in tunnel.wait_serving().await? {
//!     println!("{url}");
//! }
//! tunnel.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod authority;
pub mod cli;
mod commands;
mod config;
pub mod error;
mod named;
pub mod state;
pub mod status;
pub mod tunnel;

pub use error::ClientError;
pub use state::StateDir;
pub use status::{RelayStatus, Status};
pub use tunnel::{Announce, Service, TcpUpstream, Tunnel, TunnelConfig, TunnelEvent};
