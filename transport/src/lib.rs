//! Sessions between client and relay: WebSocket byte stream, yamux with the stream rules of DESIGN §6, the handshake
//! on both sides, and the splice.
//!
//! Moves bytes and speaks the handshake; who may log in and where a visitor goes is decided by the programs.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod client;
pub mod stream;

pub use client::{ClientSession, ConnectError, IncomingStream, IncomingStreams, Login, RelayTarget};
pub use client::{SessionControl, SessionEvent, SessionEvents, connect};
pub use stream::SessionStream;
