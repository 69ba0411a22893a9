//! What stands in the logs of a whole life of a session, and what must never.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tunnler_protocol::ServiceName;
use tunnler_protocol::control::{AuthFailure, AuthResponse, PortGrant, ToClient, ToRelay};
use tunnler_protocol::ports::candidates;
use tunnler_protocol::presence::ServiceKind;
use tunnler_transport::{ClientSession, Login, SessionEvent};

use crate::raw::*;
use crate::world::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const BODY: &str = "a-body-that-nobody-may-write-down";

/// Everything is logged, of every crate of ours, while sessions come, are refused, renew, serve and end.
#[tokio::test]
async fn no_log_holds_a_token_a_key_or_a_body() {
    let log = Log::default();
    let filter = EnvFilter::new("warn,tunnler_relay=trace,tunnler_transport=trace,tunnler_protocol=trace");
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter);
    // For every test of this program: none of them may write down what is secret here.
    let subscriber = subscriber.with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).expect("nobody else logs");

    let world = World::new().await;
    let relay = world.relay.address();
    let mut secrets = vec![BODY.to_owned()];
    for seed in [1, 2, 9] {
        secrets.push(key(seed).to_strkey().to_string());
        secrets.push(hex(&[seed; 32]));
    }
    // Refused: a token for another relay, a presence of somebody else.
    let (mut raw, challenge) = Raw::connect(&world).await;
    let wrong = tunnler_protocol::token::Claims { aud: key(8).address(), ..claims(relay, &challenge) };
    let wrong = wrong.sign(&key(1));
    assert_eq!(raw.log_in(wrong.clone()).await, Err(AuthFailure::BadToken));
    let (mut raw, challenge) = Raw::connect(&world).await;
    let (token, stolen) = (claims(relay, &challenge).sign(&key(1)), presence(2, 0, &["mynode"], &[relay]));
    let answer = AuthResponse { presence: Some(stolen.text().to_string()), ..response(token.clone()) };
    raw.say(&ToRelay::AuthResponse(answer)).await;
    assert!(matches!(raw.next().await, Some(ToClient::AuthFailed(_))));
    raw.websocket.get_mut().write_all(b"\xff\xff").await.unwrap();
    // Served, over a port whose bytes the relay could read.
    let ssh: ServiceName = "ssh".parse().unwrap();
    let mut own = world.presence(1, 0).claims().clone();
    (own.services[0].name, own.services[0].kind) = (ssh.clone(), ServiceKind::Tcp);
    let own = own.sign(&key(1)).unwrap();
    let login = Login { services: vec![ssh.clone()], ..login(1, Some(own.clone())) };
    let ClientSession { control, mut streams, mut events, .. } = world.connect(login).await.unwrap();
    let ports = candidates(&key(1).address(), &ssh);
    control.ask_ports(ports.map(|port| PortGrant { service: ssh.clone(), port }).to_vec()).unwrap();
    let Some(SessionEvent::Renewed(ok)) = timeout(PATIENCE, events.next()).await.unwrap() else { panic!() };
    let mut visitor = TcpStream::connect((world.relay.local_addr().ip(), ok.ports[0].port)).await.unwrap();
    visitor.write_all(BODY.as_bytes()).await.unwrap();
    let mut incoming = timeout(PATIENCE, streams.next()).await.unwrap().unwrap();
    let mut read = vec![0; BODY.len()];
    timeout(PATIENCE, incoming.io.read_exact(&mut read)).await.unwrap().unwrap();
    incoming.io.write_all(&read).await.unwrap();
    timeout(PATIENCE, visitor.read_exact(&mut read)).await.unwrap().unwrap();
    drop((visitor, incoming, control, streams, events));
    let observer = world.relay.observer();
    eventually("it has left", || async { observer.session_count() == 0 }).await;
    world.relay.shutdown(std::time::Duration::ZERO).await;

    for document in [&wrong, &token, &stolen.text().to_string(), &own.text().to_string()] {
        secrets.extend(document.split('.').skip(1).map(str::to_owned));
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for needle in [
        "\"message\":\"session attached\"",
        "\"message\":\"login refused\"",
        "\"client\":\"G",
        "\"peer\":\"127.",
    ] {
        assert!(log.contains(needle), "{needle} is missing in {} lines", log.lines().count());
    }
    for line in log.lines() {
        let _: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
    }
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
