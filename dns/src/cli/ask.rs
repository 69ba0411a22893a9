//! `tunnler-dns explain`: asks the running server, as only it knows what the feeds say.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Failure;

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 1 << 20;

pub(super) fn explain(name: &str, admin: SocketAddr) -> Result<(), Failure> {
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
    let pretty =
        serde_json::from_slice::<serde_json::Value>(&body).and_then(|v| serde_json::to_string_pretty(&v));
    println!("{}", pretty.unwrap_or_else(|_| text.into_owned()));
    Ok(())
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
