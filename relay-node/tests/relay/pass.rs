//! Visitors of a name in pass mode.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::world::*;

#[tokio::test]
async fn a_visitor_talks_to_the_client_and_the_relay_sees_only_tls_records() {
    let recorder = Arc::new(Recorder::default());
    let world = World::with(|config| config.tap = Some(recorder.clone())).await;
    let (_control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let mut tls = world.visit("MyNode.tun.test").await.unwrap();
    let sent: Vec<u8> = b"the page's very own text ".iter().copied().cycle().take(3_000_000).collect();
    assert_eq!(exchange(&mut tls, &sent).await.unwrap(), sent);
    tls.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, tls.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());

    let seen = recorder.0.lock().unwrap();
    assert!(seen.len() > 6_000_000);
    assert!(!seen.windows(10).any(|window| window == b"page's ver"));
    assert_eq!(seen[..3], [22, 3, 1], "a handshake record");
}

#[tokio::test]
async fn what_nobody_serves_is_refused_by_an_alert_at_once() {
    let world = World::new().await;
    for host in ["mynode.tun.test", "nobody.tun.test", "tun.test", "elsewhere.example", "127.0.0.1"] {
        let error = world.visit(host).await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("unrecogni"), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_reset_is_never_an_end_of_data() {
    let world = World::new().await;
    // Half an answer, then the upstream dies.
    let (_control, _site) = world
        .serve_mynode(|mut tls| {
            Box::pin(async move {
                let mut byte = [0];
                tls.read_exact(&mut byte).await?;
                tls.write_all(b"half an answ").await?;
                tls.flush().await?;
                tls.read_exact(&mut byte).await?;
                tls.into_inner().0.reset();
                Ok(())
            })
        })
        .await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    tls.write_all(b"x").await.unwrap();
    let mut half = [0; 12];
    timeout(PATIENCE, tls.read_exact(&mut half)).await.unwrap().unwrap();
    let (tcp, _) = tls.get_mut();
    tcp.write_all(&[0; 0]).await.unwrap();
    tls.write_all(b"y").await.unwrap();
    // Below TLS: the TCP connection itself must have been reset.
    let (mut tcp, _) = tls.into_inner();
    let mut raw = Vec::new();
    let error = timeout(PATIENCE, tcp.read_to_end(&mut raw)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_lost_session_resets_its_visitors() {
    let world = World::new().await;
    let (control, site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    exchange(&mut tls, b"hello").await.unwrap();
    drop((control, site));
    let (mut tcp, _) = tls.into_inner();
    let error = timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    eventually("the name is offline", || async { world.visit("mynode.tun.test").await.is_err() }).await;
}

#[tokio::test]
async fn a_name_taken_away_loses_visitors_old_and_new() {
    let world = World::new().await;
    let (_control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    exchange(&mut tls, b"hello").await.unwrap();
    let taken = tokio::time::Instant::now();
    world.directory.send_replace(Some(Arc::new(directory(vec![named("mynode", &key(2))]))));
    let (mut tcp, _) = tls.into_inner();
    let error = timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(world.visit("mynode.tun.test").await.is_err());
    // The chain is asked every 5 s: this is what is left of the 15 s after a ledger.
    assert!(taken.elapsed() < std::time::Duration::from_secs(5), "{:?}", taken.elapsed());
}

#[tokio::test]
async fn a_suspended_name_is_taken_down_and_its_client_is_not() {
    let world = World::new().await;
    let own = named("innocent", &key(1));
    let publish = |suspended| {
        let mut taken = named("mynode", &key(1));
        taken.suspended = suspended;
        world.directory.send_replace(Some(Arc::new(directory(vec![taken, own.clone()]))));
    };
    publish(false);
    let both = presence(1, 0, &["mynode", "innocent"], &[world.relay.address()]);
    let _site = spawn_site(world.connect(login(1, Some(both))).await.unwrap(), echo);
    let mut taken = world.visit("mynode.tun.test").await.unwrap();
    let mut innocent = world.visit("innocent.tun.test").await.unwrap();
    exchange(&mut taken, b"hello").await.unwrap();
    publish(true);
    let (mut tcp, _) = taken.into_inner();
    let error = timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(world.visit("mynode.tun.test").await.is_err());
    assert_eq!(exchange(&mut innocent, b"hello").await.unwrap(), b"hello");
    publish(false);
    world.visit("mynode.tun.test").await.expect("back again");
}

#[tokio::test]
async fn a_custom_domain_that_chain_and_presence_name_is_served() {
    let world = World::new().await;
    let mut record = named("mynode", &key(1));
    record.domains = vec!["www.shop.example".parse().unwrap()];
    world.directory.send_replace(Some(Arc::new(directory(vec![record]))));
    let relay = [world.relay.address()];
    let session = world.connect(login(1, Some(presence(1, 0, &["mynode"], &relay)))).await.unwrap();
    assert!(world.visit("www.shop.example").await.is_err(), "not without the client's consent");
    let consent = presence(1, 5, &["mynode", "www.shop.example"], &relay);
    session.control.send_presence(&consent).unwrap();
    let _site = spawn_site(session, echo);
    eventually("the domain is served", || async { world.visit("www.shop.example").await.is_ok() }).await;
}
