//! Sessions between client and relay: WebSocket byte stream, yamux with the stream rules of DESIGN §6, the handshake
//! on both sides, and the splice.
//!
//! Moves bytes and speaks the handshake; who may log in and where a visitor goes is decided by the programs.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod buffer;
pub mod client;
mod driver;
mod frames;
pub mod link;
mod liveness;
mod opener;
pub mod relay;
pub mod splice;
mod stream;
pub mod tcp;
pub mod tls;
mod unread;
mod websocket;
mod wire;
pub mod workers;

pub use buffer::{BufferPool, keep_freed_memory};
pub use client::{
    ClientSession, ConnectError, ConnectOptions, ForwarderSession, IncomingStream, IncomingStreams, Login,
    RelayTarget, SessionControl, SessionEnded, SessionEvent, SessionEvents, connect, connect_forwarder,
};
pub use frames::Violation;
pub use opener::{OpenError, StreamOpener};
pub use splice::{Abort, Direction, SpliceContext, SpliceEnd, Spliced, Tap, splice};
pub use stream::SessionStream;
pub use unread::{MemoryBudget, UnreadLimits};
pub use websocket::Transport;
pub use workers::{Guest, Worker, Workers};
