//! A relay, clients and visitors in one process, over loopback sockets. No ledger: the directory is given.

mod abuse;
#[path = "../../../edge/tests/proxy/adversary.rs"]
#[allow(dead_code, reason = "the edge's own tests use the rest")]
mod adversary;
mod attacks;
mod bearer;
mod comparison;
mod crowd;
mod ended;
mod feed;
mod forward;
mod limits;
mod logs;
mod named;
mod operator;
mod pass;
mod places;
mod raw;
mod sessions;
mod tcp;
mod term;
mod world;
mod zone;
