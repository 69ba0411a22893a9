//! Port 80: sends every request to the same place over HTTPS, and does nothing else.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONNECTION, HOST, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tunnler_protocol::HostName;

/// Connections at once.
const MOST: usize = 256;
/// How long one connection may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until it is dropped. Visitors are sent to `port`.
pub async fn serve(listener: TcpListener, port: u16) {
    let places = Arc::new(Semaphore::new(MOST));
    let routes = Router::new().fallback(move |request: Request| async move { redirect(&request, port) });
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(routes.clone());
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(tcp), service);
            let _ = timeout(PATIENCE, connection).await;
            drop(place);
        });
    }
}

fn redirect(request: &Request, port: u16) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    match host.and_then(|host| location(host, request.uri(), port)) {
        Some(location) => {
            (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location), (CONNECTION, "close".into())])
                .into_response()
        }
        None => (StatusCode::BAD_REQUEST, "name a host\n").into_response(),
    }
}

/// Where a request for `host` (with or without a port) goes. The host must be one: nothing else is echoed.
fn location(host: &str, uri: &Uri, port: u16) -> Option<String> {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name: HostName = name.parse().ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    path.starts_with('/').then(|| format!("https://{name}{port}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_echoed() {
        let to = |host: &str, path: &str, port| location(host, &path.parse().unwrap(), port);
        assert_eq!(to("MyNode.tun.test", "/a?b=c", 443).unwrap(), "https://mynode.tun.test/a?b=c");
        assert_eq!(to("mynode.tun.test:80", "/", 8443).unwrap(), "https://mynode.tun.test:8443/");
        for host in ["", "127.0.0.1", "a b.test", "evil.test/..", "user@evil.test"] {
            assert_eq!(to(host, "/", 443), None, "{host}");
        }
    }
}
