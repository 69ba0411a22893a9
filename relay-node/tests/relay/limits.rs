//! Bounds on visitors, seen from outside.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::Instant;
use tunnler_relay::limits::Rule;

use crate::world::*;

fn at_once(at_once: usize) -> Rule {
    Rule { at_once, per_second: 1000, bytes_per_second: None }
}

/// Keys 1 and 2 serve `mynode` and `other`.
async fn two_names(change: impl FnOnce(&mut tunnler_relay::RelayConfig)) -> (World, [SiteTask; 2]) {
    let world = World::with(change).await;
    let names = vec![named("mynode", &key(1)), named("other", &key(2))];
    world.directory.send_replace(Some(Arc::new(directory(names))));
    let relay = [world.relay.address()];
    let one = world.connect(login(1, Some(presence(1, 0, &["mynode"], &relay)))).await.unwrap();
    let two = world.connect(login(2, Some(presence(2, 0, &["other"], &relay)))).await.unwrap();
    let sites = [spawn_site(one, echo), spawn_site(two, echo)];
    (world, sites)
}

#[tokio::test]
async fn a_hot_name_is_bounded_and_starves_no_other() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (world, _sites) = two_names(|config| {
        config.limits.per_name = at_once(3);
        config.workers = here();
    })
    .await;
    let mut hot = Vec::new();
    for _ in 0..3 {
        hot.push(world.visit("mynode.tun.test").await.unwrap());
    }
    let error = world.visit("mynode.tun.test").await.unwrap_err();
    assert!(error.to_string().contains("InternalError"), "told at once: {error}");
    let mut other = world.visit("other.tun.test").await.unwrap();
    assert_eq!(exchange(&mut other, b"hello").await.unwrap(), b"hello");
    assert_eq!(exchange(&mut hot[0], b"hello").await.unwrap(), b"hello", "who is inside stays");
    drop(hot);
    eventually("there is room again", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let metrics = metrics.render();
    assert!(metrics.contains("tunnler_dropped_total{limit=\"name_at_once\"}"), "{metrics}");
}

#[tokio::test]
async fn a_network_is_bounded_whatever_it_visits() {
    let (world, _sites) = two_names(|config| config.limits.per_network = at_once(2)).await;
    let _one = world.visit("mynode.tun.test").await.unwrap();
    let two = world.visit("other.tun.test").await.unwrap();
    assert!(world.visit("mynode.tun.test").await.is_err());
    drop(two);
    eventually("there is room again", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
}

#[tokio::test]
async fn new_visitors_of_a_client_have_a_rate() {
    let rule = Rule { at_once: 1000, per_second: 2, bytes_per_second: None };
    let (world, _sites) = two_names(|config| config.limits.per_client = rule).await;
    let start = Instant::now();
    let mut served = 0;
    for _ in 0..12 {
        served += u32::from(world.visit("mynode.tun.test").await.is_ok());
    }
    let most = 3 + 2 * start.elapsed().as_secs() as u32;
    assert!((2..=most).contains(&served), "{served} of at most {most}");
    world.visit("other.tun.test").await.unwrap();
}

#[tokio::test]
async fn bytes_of_a_name_have_a_rate_that_its_visitors_share() {
    let rule = Rule { at_once: 1000, per_second: 1000, bytes_per_second: Some(1 << 20) };
    let (world, _sites) = two_names(|config| config.limits.per_name = rule).await;
    let body = vec![7; 1 << 20];
    let mut hot =
        [world.visit("mynode.tun.test").await.unwrap(), world.visit("mynode.tun.test").await.unwrap()];
    let start = Instant::now();
    // 4 MiB in all, both ways together; the first second is free.
    for answer in futures::future::join_all(hot.iter_mut().map(|tls| exchange(tls, &body))).await {
        assert_eq!(answer.unwrap(), body);
    }
    assert!(start.elapsed().as_secs_f64() > 2.5, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_granted_is_announced() {
    let rule = Rule { at_once: 11, per_second: 12, bytes_per_second: Some(1 << 20) };
    let (world, _sites) = two_names(|config| config.limits.per_client = rule).await;
    let session = world.connect(login(3, None)).await.unwrap();
    let limits = session.auth_ok.limits;
    assert_eq!((limits.visitors, limits.visits_per_second), (Some(11), Some(12)));
    assert_eq!((limits.streams, limits.connections, limits.bytes_per_second), (256, 4, Some(1 << 20)));
}
