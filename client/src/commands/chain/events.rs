//! `tunnler chain events` and `tunnler chain history`: the contracts' events, as one endpoint tells them.

use clap::ValueEnum;
use serde_json::Value;
use tunnler_chain::{ChainEvent, EventFeed, POLL, Since};
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, Label};

use super::{Reader, emit, json};
use crate::cli::Shared;
use crate::error::ClientError;

/// Where a list of events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beginning {
    /// With the oldest event that the endpoint still has
    Oldest,
    /// With the next ledger
    Now,
}

/// Where a list of events ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    UntilNow,
    Endless,
}

pub(super) async fn run(
    shared: &Shared,
    network: &Network,
    extent: Extent,
    since: Option<Beginning>,
) -> Result<(), ClientError> {
    let since = match (since, extent) {
        (Some(Beginning::Oldest), _) | (None, Extent::UntilNow) => Since::Oldest,
        (Some(Beginning::Now), _) | (None, Extent::Endless) => Since::Now,
    };
    let mut feed = EventFeed::open(network, since).await?;
    loop {
        match feed.next().await {
            Ok(events) if events.is_empty() && extent == Extent::UntilNow => return Ok(()),
            Ok(events) => {
                let form = |event: &ChainEvent| if shared.json { json(event) } else { line(event) };
                if emit(events.iter().map(form))? == Reader::Gone {
                    return Ok(());
                }
                if !events.is_empty() {
                    continue;
                }
            }
            // Who follows wants to go on when the endpoints are back.
            Err(error) if extent == Extent::Endless => eprintln!("{error}; still trying"),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(super) async fn history(shared: &Shared, network: &Network, subject: &str) -> Result<(), ClientError> {
    let is_known_form = subject.parse::<Address>().is_ok() || subject.parse::<Label>().is_ok();
    if !is_known_form {
        let problem = "is neither a name (without the zone) nor an address (G…, 56 characters)";
        return Err(ClientError::Usage(format!("{subject:?} {problem}")));
    }
    let events = tunnler_chain::history(network, subject).await?;
    if shared.json {
        emit([json(&events)])?;
        return Ok(());
    }
    if events.is_empty() {
        eprintln!("nothing happened to {subject} in the ledgers that the endpoint still has, a week usually");
    }
    emit(events.iter().map(line))?;
    Ok(())
}

fn line(event: &ChainEvent) -> String {
    let mut line = format!("{}  {}  {}", event.closed_at, event.ledger, event.event);
    for subject in &event.subjects {
        line.push_str("  ");
        line.push_str(subject);
    }
    match &event.details {
        Value::Null => {}
        Value::Object(details) => {
            for (name, value) in details {
                line.push_str(&format!("  {name}={}", plain(value)));
            }
        }
        other => line.push_str(&format!("  {}", plain(other))),
    }
    line
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut event = ChainEvent {
            id: "1-1".into(),
            ledger: 7,
            closed_at: "2026-11-20T14:00:00Z".into(),
            contract: "C".into(),
            event: "name_renewed".into(),
            subjects: vec!["mynode".into()],
            details: json!({ "expires_at": 5, "note": null }),
            transaction: None,
        };
        let start = "2026-11-20T14:00:00Z  7  name_renewed  mynode";
        assert_eq!(line(&event), format!("{start}  expires_at=5  note=none"));
        event.details = Value::Null;
        assert_eq!(line(&event), start);
    }
}
