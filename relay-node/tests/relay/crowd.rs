//! Many visitors with bad manners.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tunnler_protocol::instance::SessionId;
use tunnler_transport::Login;

use crate::raw::client_hello;
use crate::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_visitors_that_vanish_leave_nothing_behind() {
    let world = World::new().await;
    let (control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let (address, hello) = (world.relay.local_addr(), client_hello("mynode.tun.test"));
    let mut visitors = JoinSet::new();
    for n in 0..1000 {
        if visitors.len() >= 100 {
            visitors.join_next().await.unwrap().unwrap();
        }
        let hello = hello.clone();
        visitors.spawn(async move {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(&hello).await.unwrap();
            match n % 4 {
                0 => tcp.shutdown().await.unwrap(),
                1 => {
                    let _ = timeout(Duration::from_secs(5), tcp.read(&mut [0; 100])).await;
                    tcp.set_zero_linger().unwrap();
                }
                2 => {}
                _ => {
                    tcp.shutdown().await.unwrap();
                    let _ = timeout(Duration::from_secs(5), tcp.read_to_end(&mut Vec::new())).await;
                }
            }
        });
    }
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
    let observer = world.relay.observer();
    eventually("no stream is left", || async {
        control.open_streams() == 0 && observer.sessions().iter().all(|session| session.streams == 0)
    })
    .await;
    assert_eq!(observer.unread_bytes(), 0);
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn silent_visitors_take_places_but_never_the_session() {
    let world = World::with(|config| config.limits.streams = 4).await;
    let (_control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let hello = client_hello("mynode.tun.test");
    let mut silent = Vec::new();
    let observer = world.relay.observer();
    eventually("nobody is there", || async { observer.sessions()[0].streams == 0 }).await;
    for _ in 0..4 {
        let mut tcp = TcpStream::connect(world.relay.local_addr()).await.unwrap();
        tcp.write_all(&hello).await.unwrap();
        silent.push(tcp);
    }
    eventually("every place is taken", || async { observer.sessions()[0].streams == 4 }).await;
    let error = world.visit("mynode.tun.test").await.unwrap_err();
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert_eq!(observer.sessions()[0].streams, 4, "the others are untouched");
    drop(silent);
    eventually("there is room again", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
}

#[tokio::test]
async fn connections_of_one_session_share_its_visitors() {
    let world = World::new().await;
    let login = || Login { session: SessionId([7; 16]), ..login(1, Some(world.presence(1, 0))) };
    let first = world.connect(login()).await.unwrap();
    let (first_control, _first_site) = (first.control.clone(), spawn_site(first, echo));
    let second = world.connect(login()).await.unwrap();
    let (second_control, _second_site) = (second.control.clone(), spawn_site(second, echo));
    let observer = world.relay.observer();
    eventually("both are attached", || async { observer.sessions()[0].connections == 2 }).await;
    let mut visitors = Vec::new();
    for _ in 0..4 {
        visitors.push(world.visit("mynode.tun.test").await.unwrap());
    }
    assert_eq!((first_control.open_streams(), second_control.open_streams()), (2, 2));
    drop((first_control, _first_site));
    eventually("one is left", || async { observer.sessions()[0].connections == 1 }).await;
    let mut served = 0;
    for mut visitor in visitors {
        match exchange(&mut visitor, b"still here").await {
            Ok(answer) => served += usize::from(answer == b"still here"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}")
            }
        }
    }
    assert_eq!(served, 2);
}
