//! Logins, presences, takeover, drain.

use std::time::Duration;

use tokio::time::timeout;
use tunnler_protocol::control::{AuthFailure, CloseCode};
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_transport::{ConnectError, Login, SessionEvent};

use crate::world::*;

async fn next_event(events: &mut tunnler_transport::SessionEvents) -> SessionEvent {
    timeout(PATIENCE, events.next()).await.expect("in time").expect("not the end")
}

#[tokio::test]
async fn auth_ok_names_the_hosts_that_are_routed() {
    let world = World::new().await;
    let session = world.connect(login(1, Some(world.presence(1, 0)))).await.unwrap();
    let hosts: Vec<_> = session.auth_ok.endpoints.iter().map(|host| host.as_str().to_owned()).collect();
    assert_eq!(hosts, ["mynode.tun.test".to_owned(), format!("{}.tun.test", key(1).address().label())]);
    let attached_only = world.connect(login(2, None)).await.unwrap();
    assert!(attached_only.auth_ok.endpoints.is_empty());
}

#[tokio::test]
async fn presences_are_answered_and_older_ones_do_not_come_back() {
    let world = World::new().await;
    let mut session = world.connect(login(1, None)).await.unwrap();
    let (old, new) = (world.presence(1, 0), world.presence(1, 5));
    session.control.send_presence(&new).unwrap();
    assert_eq!(next_event(&mut session.events).await, SessionEvent::PresenceOk(new.claims().seq));
    session.control.send_presence(&old).unwrap();
    assert_eq!(next_event(&mut session.events).await, SessionEvent::PresenceStale(new.claims().seq));
}

#[tokio::test]
async fn somebody_elses_presence_is_refused() {
    let world = World::new().await;
    let stolen = Login { instance: InstanceId([1; 16]), ..login(2, Some(world.presence(1, 0))) };
    let Err(ConnectError::Refused(failed)) = world.connect(stolen).await else { panic!("accepted") };
    assert_eq!(failed.code, AuthFailure::Mismatch);
}

#[tokio::test]
async fn a_relay_with_another_key_is_recognised_before_anything_signed_is_sent() {
    let world = World::new().await;
    let mut target = world.target();
    target.relay = key(8).address();
    let error = tunnler_transport::connect(&target, login(1, None), &options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongRelay { .. }), "{error}");
}

#[tokio::test]
async fn another_process_of_the_instance_takes_over() {
    let world = World::new().await;
    let mut old = world.connect(login(1, Some(world.presence(1, 0)))).await.unwrap();
    let newer = Login { session: SessionId([2; 16]), ..login(1, Some(world.presence(1, 1))) };
    let new = world.connect(newer).await.unwrap();
    let event = next_event(&mut old.events).await;
    assert!(
        matches!(&event, SessionEvent::Closing(closing) if closing.code == CloseCode::Superseded),
        "{event:?}"
    );
    assert!(matches!(next_event(&mut old.events).await, SessionEvent::Lost(_)));
    let _site = spawn_site(new, echo);
    eventually("the newer one serves", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
}

#[tokio::test]
async fn too_many_failed_logins_shut_the_door_for_a_while() {
    let world = World::new().await;
    let stolen = || Login { instance: InstanceId([1; 16]), ..login(2, Some(world.presence(1, 0))) };
    for _ in 0..10 {
        let Err(ConnectError::Refused(failed)) = world.connect(stolen()).await else { panic!("accepted") };
        assert_eq!(failed.code, AuthFailure::Mismatch);
    }
    assert!(world.connect(login(3, None)).await.is_err(), "the network of the culprit is shut out");
}

#[tokio::test]
async fn shutdown_tells_clients_and_waits_for_them() {
    let world = World::new().await;
    let mut session = world.connect(login(1, Some(world.presence(1, 0)))).await.unwrap();
    let relay = world.relay;
    let stopped = tokio::spawn(relay.shutdown(Duration::from_secs(1)));
    assert!(matches!(next_event(&mut session.events).await, SessionEvent::Draining(_)));
    let event = next_event(&mut session.events).await;
    assert!(
        matches!(&event, SessionEvent::Closing(closing) if closing.code == CloseCode::ShuttingDown),
        "{event:?}"
    );
    assert!(matches!(next_event(&mut session.events).await, SessionEvent::Lost(_)));
    timeout(PATIENCE, stopped).await.expect("in time").unwrap();
}
