//! One HTTPS request to one of a zone's servers: for questions where something on the way reads port 53, and for
//! presences where relays do not pass them on.
//!
//! The server's certificate is not judged: what is sent is public and signed, and what is answered is believed no more
//! than an answer over port 53.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::proxy::UpstreamTls;
use crate::proxy::upstream::dial::client_config;

const DEADLINE: Duration = Duration::from_secs(5);
/// No answer of a zone's server is longer.
const LONGEST: usize = 65_535;

/// POSTs `body` to `path`; returns status and body of the answer. Within 5 s.
pub async fn post(
    server: SocketAddr,
    path: &str,
    content_type: &'static str,
    body: Vec<u8>,
) -> io::Result<(StatusCode, Bytes)> {
    let asked = timeout(DEADLINE, ask(server, path, content_type, body)).await;
    asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask(
    server: SocketAddr,
    path: &str,
    content_type: &'static str,
    body: Vec<u8>,
) -> io::Result<(StatusCode, Bytes)> {
    let tcp = TcpStream::connect(server).await?;
    let tls = TlsConnector::from(Arc::new(client_config(&UpstreamTls::AnyCertificate)));
    let stream = tls.connect(ServerName::IpAddress(server.ip().into()), tcp).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::post(path)
        .header(header::HOST, server.to_string())
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(answered, connection);
    // The connection does the work and lives no longer than its one answer.
    tokio::select! {
        biased;
        answer = &mut answered => return answer,
        // Its end says nothing: the answer, whole or cut, is known by its length.
        _ = &mut connection => {}
    }
    answered.await
}
