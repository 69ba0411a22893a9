//! Many visitors with bad manners.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tunnler_protocol::instance::SessionId;
use tunnler_transport::Login;

use crate::comparison::{Visits, compare};
use crate::raw::client_hello;
use crate::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_visitors_that_vanish_leave_nothing_behind() {
    let world = World::new().await;
    let (control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let (at, hello) = (world.relay.local_addr(), client_hello("mynode.tun.test"));
    let attacked = Visits::while_repeating(&world, async || vanish(at, &hello).await).await;
    // An equal load: as many, as many at once, for the same client, but with good manners.
    let idle = Visits::while_repeating(&world, async || behave(at).await).await;
    compare("a thousand that vanish", &attacked, &idle);
    let observer = world.relay.observer();
    eventually("no stream is left", || async {
        control.open_streams() == 0 && observer.sessions().iter().all(|session| session.streams == 0)
    })
    .await;
    assert_eq!(observer.unread_bytes(), 0);
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
}

/// A thousand visitors, a hundred at once.
async fn thousand<F: Future<Output = ()> + Send + 'static>(visit: impl Fn(usize) -> F) {
    let mut visitors = JoinSet::new();
    for n in 0..1000 {
        if visitors.len() >= 100 {
            visitors.join_next().await.unwrap().unwrap();
        }
        visitors.spawn(visit(n));
    }
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
}

/// They say `hello` and leave in all the ways there are.
async fn vanish(at: SocketAddr, hello: &[u8]) {
    let leave = |n| {
        let hello = hello.to_vec();
        async move {
            let mut tcp = TcpStream::connect(at).await.unwrap();
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
        }
    };
    thousand(leave).await;
}

/// They are served and say goodbye.
async fn behave(at: SocketAddr) {
    let be_served = |_| async move {
        let mut tls = visit(at, "mynode.tun.test").await.unwrap();
        assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
        tls.shutdown().await.unwrap();
    };
    thousand(be_served).await;
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

/// One download of a thousand is never read: it stops at its window, and the others neither notice nor lose anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_streams_one_that_is_never_read_slows_no_other() {
    const STREAMS: usize = 1000;
    const BODY: usize = 32 * 1024;
    const PAIRS: usize = 5;
    /// Half of the window that a yamux stream begins with: it is renewed when half of it was read.
    const HELD_BACK: usize = 128 * 1024;
    let world = World::new().await;
    let mut sites = JoinSet::new();
    for _ in 0..4 {
        let login = Login { session: SessionId([7; 16]), ..login(1, Some(world.presence(1, 0))) };
        let session = world.connect(login).await.unwrap();
        sites.spawn(async move {
            let tunnler_transport::ClientSession { control: _control, mut streams, events: _events, .. } =
                session;
            let mut answers = JoinSet::new();
            while let Some(stream) = streams.next().await {
                answers.spawn(upload(stream.io));
            }
        });
    }
    let observer = world.relay.observer();
    eventually("all are attached", || async {
        observer.sessions().first().is_some_and(|s| s.connections == 4)
    })
    .await;
    let (address, hello) = (world.relay.local_addr(), client_hello("mynode.tun.test"));
    let round = async |visitors: usize| {
        let start = tokio::time::Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..visitors {
            let hello = hello.clone();
            tasks.spawn(async move {
                let mut tcp = TcpStream::connect(address).await.unwrap();
                tcp.write_all(&hello).await.unwrap();
                tcp.write_all(&[1]).await.unwrap();
                let mut body = vec![0; BODY];
                timeout(Duration::from_secs(25), tcp.read_exact(&mut body)).await.expect("in time").unwrap();
                assert!(body.iter().all(|byte| *byte == 7));
            });
        }
        while let Some(visitor) = tasks.join_next().await {
            visitor.unwrap();
        }
        start.elapsed()
    };
    // The first thousand warm everything up.
    round(STREAMS - 1).await;
    let mut ratios = Vec::new();
    for _ in 0..PAIRS {
        eventually("nothing is unread", || async { observer.unread_bytes() == 0 }).await;
        let mut greedy = TcpStream::connect(address).await.unwrap();
        let alone = round(STREAMS - 1).await;
        greedy.write_all(&hello).await.unwrap();
        greedy.write_all(&[0]).await.unwrap();
        eventually("its window is full", || async { observer.unread_bytes() >= HELD_BACK }).await;
        let beside = round(STREAMS - 1).await;
        assert!(observer.unread_bytes() < 17 << 20);
        ratios.push(beside.as_secs_f64() / alone.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[PAIRS / 2];
    eprintln!(
        "999 visitors beside one that never reads, to beside a silent one: {median:.2} of {ratios:.2?}"
    );
    assert!(median < 2.0, "{ratios:?}");
    sites.shutdown().await;
}

/// Reads the hello and one byte more; sends a body, or without end.
async fn upload(mut io: tunnler_transport::SessionStream) -> std::io::Result<()> {
    let mut header = [0; 5];
    io.read_exact(&mut header).await?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    io.read_exact(&mut hello).await?;
    let mut kind = [0];
    io.read_exact(&mut kind).await?;
    let chunk = [7; 32 * 1024];
    io.write_all(&chunk).await?;
    if kind == [0] {
        loop {
            io.write_all(&chunk).await?;
        }
    }
    io.shutdown().await?;
    tokio::io::copy(&mut io, &mut tokio::io::sink()).await.map(drop)
}
