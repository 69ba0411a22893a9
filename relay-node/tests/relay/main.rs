//! A relay, clients and visitors in one process, over loopback sockets. No ledger: the directory is given.

mod attacks;
mod crowd;
mod feed;
mod operator;
mod pass;
mod sessions;
mod tcp;
mod world;
