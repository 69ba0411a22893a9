//! `tunnler-dns explain`: asks the running server, as only it knows what the feeds say.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::Failure;

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 1 << 20;

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For machines.
    Json,
}

pub(super) fn explain(name: &str, admin: SocketAddr, form: Form) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { tokio::time::timeout(DEADLINE, ask(name, admin)).await });
    let no_answer = |why: &dyn std::fmt::Display| {
        Failure::NoAnswer(format!(
            "no answer from {admin}: {why}; is `tunnler-dns run --admin {admin}` running?"
        ))
    };
    let (status, body) = match asked {
        Err(_) => return Err(no_answer(&"too slow")),
        Ok(Err(error)) => return Err(no_answer(&error)),
        Ok(Ok(answer)) => answer,
    };
    let text = String::from_utf8_lossy(&body);
    if status != StatusCode::OK {
        return Err(Failure::NoAnswer(text.trim().to_owned()));
    }
    match (form, serde_json::from_slice::<Value>(&body)) {
        (Form::Text, Ok(explanation)) => print!("{}", in_words(&explanation)),
        (Form::Json, Ok(explanation)) => println!("{explanation:#}"),
        (_, Err(_)) => println!("{text}"),
    }
    Ok(())
}

/// The explanation, a fact a line.
fn in_words(explanation: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all = |key: &str| explanation[key].as_array().cloned().unwrap_or_default();
    let mut lines = vec![word(&explanation["name"]), format!("  {}", word(&explanation["verdict"]))];
    lines.push(match (&explanation["ledger_age"], explanation["synced"] == true) {
        (Value::Null, _) => "  the chain has not been read yet".into(),
        (age, true) => format!("  the chain's last word is {age} s old; every feed was heard or given up on"),
        (age, false) => format!("  the chain's last word is {age} s old; still waiting for feeds"),
    });
    if !explanation["client"].is_null() {
        lines.push(format!("  served by key {}", word(&explanation["client"])));
    }
    if let Some(at) = explanation["waits_until"].as_u64() {
        lines.push(format!(
            "  the zone admits so many new names a week; this one may have certificates from {at} s"
        ));
    }
    for said in all("presences") {
        let over = if said["expired"] == true { "expired" } else { "ends" };
        lines.push(format!(
            "  presence {} signed at {} ms, {over} at {} s",
            word(&said["ins"]),
            said["seq"],
            said["exp"]
        ));
    }
    for relay in all("relays") {
        let feed = word(&relay["feed"]);
        lines.push(format!(
            "  relay {}: {} (its feed is {feed})",
            word(&relay["relay"]),
            word(&relay["standing"])
        ));
    }
    lines.join("\n") + "\n"
}

type AskError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(name: &str, admin: SocketAddr) -> Result<(StatusCode, Bytes), AskError> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("/explain/{name}"))
        .header(hyper::header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    drop(sender);
    connection.abort();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_why_in_a_few_lines() {
        let explanation = serde_json::json!({
            "name": "mynode.tunnel.example.", "verdict": "1 of the listed relays may be answered",
            "ledger_age": 3, "synced": true, "client": "GA", "expires_at": 9,
            "presences": [{ "ins": "00ff", "seq": 5, "exp": 6, "expired": false }],
            "relays": [{ "relay": "GB", "ins": "00ff", "standing": "attached", "feed": "complete" }],
        });
        let text = in_words(&explanation);
        assert!(text.contains("relay GB: attached (its feed is complete)"), "{text}");
        assert_eq!(text.lines().count(), 6);
    }
}
