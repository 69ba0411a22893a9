//! One session with one relay: a task that dials, hands visitors to the door and events to the driver, until it is
//! over. Owns its visitors' tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tunnler_protocol::agent::{DialFailure, Loss};
use tunnler_protocol::control::{AcmeValue, AuthFailure, CloseCode, PortGrant};
use tunnler_protocol::{Address, UnixMillis, UnixSeconds};
use tunnler_transport::{
    ClientSession, ConnectError, ConnectOptions, Login, RelayTarget, SessionControl, SessionEvent, connect,
};

use super::door::Door;

/// Visitors of a session that is over have this long to end by themselves.
const LINGER: Duration = Duration::from_secs(5);

/// What a session's task tells the driver.
#[derive(Debug)]
pub(super) enum Report {
    Connected(Address, SessionControl),
    DialFailed(Address, DialFailure, String),
    PresenceOk(Address, UnixMillis),
    Stale(Address, UnixMillis),
    Draining(Address, UnixSeconds),
    /// These ports of TCP services are granted.
    Granted(Address, Vec<PortGrant>),
    /// It asks for a DNS-01 value to be shown.
    AcmeValue(Address, AcmeValue),
    Lost(Address, Loss, String),
    /// From a probe: a measured round trip, or none.
    Measured(Address, Option<Duration>),
    /// From a probe: a visit of the own name.
    Visited(Address, tunnler_protocol::agent::Visit),
}

/// Runs one session from dial to end.
pub(super) async fn run(
    target: RelayTarget,
    login: Login,
    options: ConnectOptions,
    door: Arc<Door>,
    reports: mpsc::Sender<Report>,
) {
    let relay = target.relay;
    let session = match connect(&target, login, &options).await {
        Ok(session) => session,
        Err(error) => {
            let _ = reports.send(Report::DialFailed(relay, failure(&error), error.to_string())).await;
            return;
        }
    };
    let ClientSession { control, mut streams, mut events, .. } = session;
    if reports.send(Report::Connected(relay, control)).await.is_err() {
        return;
    }
    let mut visitors = JoinSet::new();
    let mut loss = Loss::Broken;
    let mut accepting = true;
    loop {
        tokio::select! {
            stream = streams.next(), if accepting => match stream {
                Some(stream) => drop(visitors.spawn(door.clone().admit(stream))),
                None => accepting = false,
            },
            Some(_) = visitors.join_next() => {}
            event = events.next() => {
                let report = match event {
                    Some(SessionEvent::PresenceOk(seq)) => Report::PresenceOk(relay, seq),
                    Some(SessionEvent::PresenceStale(seq)) => Report::Stale(relay, seq),
                    Some(SessionEvent::Draining(deadline)) => Report::Draining(relay, deadline),
                    Some(SessionEvent::Renewed(auth_ok)) => Report::Granted(relay, auth_ok.ports),
                    Some(SessionEvent::Closing(closing)) => {
                        let superseded = closing.code == CloseCode::Superseded;
                        loss = if superseded { Loss::Superseded } else { Loss::Closed };
                        tracing::debug!(%relay, code = ?closing.code, text = closing.text, "relay closes");
                        continue;
                    }
                    Some(SessionEvent::Refused(refused)) => {
                        tracing::warn!(%relay, error = refused.error, "relay did not renew the session");
                        continue;
                    }
                    Some(SessionEvent::AcmeValue(value)) => Report::AcmeValue(relay, value),
                    Some(SessionEvent::Limits(_)) => continue,
                    Some(SessionEvent::Lost(why)) => {
                        let _ = reports.send(Report::Lost(relay, loss, why)).await;
                        break;
                    }
                    None => {
                        let _ = reports.send(Report::Lost(relay, loss, "session over".into())).await;
                        break;
                    }
                };
                if reports.send(report).await.is_err() {
                    return;
                }
            }
        }
    }
    // Their streams are cut; what is left over is aborted when the set is dropped.
    let _ = tokio::time::timeout(LINGER, async { while visitors.join_next().await.is_some() {} }).await;
}

fn failure(error: &ConnectError) -> DialFailure {
    match error {
        ConnectError::Unreachable { .. } | ConnectError::NoAddress(_) | ConnectError::Timeout(_) => {
            DialFailure::Unreachable
        }
        ConnectError::Tls { .. } | ConnectError::Protocol { .. } => {
            DialFailure::Refused(AuthFailure::Unknown)
        }
        ConnectError::Intercepted(_) | ConnectError::WrongRelay { .. } => DialFailure::Untrusted,
        ConnectError::Refused(refused) => DialFailure::Refused(refused.code),
    }
}
