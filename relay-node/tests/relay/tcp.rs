//! TCP services on granted ports.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tunnler_protocol::ServiceName;
use tunnler_protocol::control::PortGrant;
use tunnler_protocol::ports::candidates;
use tunnler_protocol::presence::ServiceKind;
use tunnler_transport::{ClientSession, Login, SessionEvent};

use crate::world::*;

#[tokio::test]
async fn a_granted_port_carries_bytes_to_the_service() {
    let world = World::new().await;
    let ssh: ServiceName = "ssh".parse().unwrap();
    let client = key(1).address();
    let mut claims = world.presence(1, 0).claims().clone();
    claims.services[0].name = ssh.clone();
    claims.services[0].kind = ServiceKind::Tcp;
    let presence = claims.sign(&key(1)).unwrap();
    let login = Login { services: vec![ssh.clone()], ..login(1, Some(presence)) };
    let session = world.connect(login).await.unwrap();
    let ClientSession { control, mut streams, mut events, .. } = session;

    let wish = |service: &ServiceName, port| PortGrant { service: service.clone(), port };
    let mut wishes = vec![wish(&"web".parse().unwrap(), 20_000), wish(&ssh, 19_999)];
    wishes.extend(candidates(&client, &ssh).map(|port| wish(&ssh, port)));
    control.ask_ports(wishes).unwrap();
    let Some(SessionEvent::Renewed(auth_ok)) = timeout(PATIENCE, events.next()).await.unwrap() else {
        panic!()
    };
    let [grant] = &auth_ok.ports[..] else { panic!("{:?}", auth_ok.ports) };
    assert!(grant.service == ssh && candidates(&client, &ssh).contains(&grant.port));

    let address = (world.relay.local_addr().ip(), grant.port);
    let mut visitor = TcpStream::connect(address).await.unwrap();
    let mut incoming = timeout(PATIENCE, streams.next()).await.unwrap().unwrap();
    assert_eq!((&incoming.header.service, incoming.header.kind), (&ssh, ServiceKind::Tcp));
    assert_eq!(incoming.header.visitor, visitor.local_addr().unwrap());
    incoming.io.write_all(b"SSH-2.0-the server speaks first\r\n").await.unwrap();
    let mut banner = [0; 7];
    timeout(PATIENCE, visitor.read_exact(&mut banner)).await.unwrap().unwrap();
    assert_eq!(&banner, b"SSH-2.0");
    drop(incoming);
    let end = timeout(PATIENCE, visitor.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);

    drop((control, streams, events));
    eventually("visitors are reset when nobody is there", || async {
        let mut visitor = TcpStream::connect(address).await.unwrap();
        timeout(PATIENCE, visitor.read(&mut [0])).await.unwrap().is_err()
    })
    .await;
}

/// The port that key 1 is granted for its service `ssh`.
async fn granted(world: &World, first: Option<u16>) -> (ClientSession, u16) {
    let ssh: ServiceName = "ssh".parse().unwrap();
    let login = Login { services: vec![ssh.clone()], ..login(1, None) };
    let mut session = world.connect(login).await.unwrap();
    let ports = candidates(&key(1).address(), &ssh);
    let wishes =
        first.into_iter().chain(ports).map(|port| PortGrant { service: ssh.clone(), port }).collect();
    session.control.ask_ports(wishes).unwrap();
    let renewed = timeout(PATIENCE, session.events.next()).await.unwrap();
    let Some(SessionEvent::Renewed(ok)) = renewed else { panic!("{renewed:?}") };
    (session, ok.ports[0].port)
}

/// Also when the relay was not asked to stop: the port is on disk before the client hears of it.
#[tokio::test]
async fn a_port_is_held_across_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let store = || tunnler_edge::Store::open(state.path()).unwrap();
    let world = World::with(|config| config.state = Some(store())).await;
    let (session, port) = granted(&world, None).await;
    drop((session, world));
    let ip = std::net::IpAddr::from([127, 0, 0, 1]);
    eventually("the old one is gone", || async { TcpStream::connect((ip, port)).await.is_err() }).await;

    let world = World::with(|config| config.state = Some(store())).await;
    let mut visitor = TcpStream::connect((ip, port)).await.expect("held before the client is back");
    assert!(timeout(PATIENCE, visitor.read(&mut [0])).await.unwrap().is_err(), "nobody is there yet");
    let (_session, again) = granted(&world, Some(port)).await;
    assert_eq!(again, port);
    drop(world);

    std::fs::write(state.path().join("ports.json"), "[{").unwrap();
    let _world = World::with(|config| config.state = Some(store())).await;
    assert!(state.path().join("ports.json.corrupt").exists(), "set aside, not fatal");
}
