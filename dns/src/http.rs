//! HTTP: routes for clients that POST presences ([`presence`]), and the operators' own listener ([`admin`]), which is
//! plain HTTP without caps and not for the public.

pub mod admin;
pub mod presence;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long open requests may take once the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// An address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: {source}; choose another address")]
pub struct HttpError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The bound admin listener.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    listener: TcpListener,
}

/// Binds `address`, if there is one.
pub async fn bind(address: Option<SocketAddr>) -> Result<Option<Bound>, HttpError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| HttpError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Some(Bound { address, listener }))
}

impl Bound {
    /// The address with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` until `stop`.
    pub async fn serve(self, routes: Router, stop: CancellationToken) {
        let stopped = stop.clone().cancelled_owned();
        let serving = axum::serve(self.listener, routes).with_graceful_shutdown(stopped);
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = serving => if let Err(error) = result {
                tracing::error!(%error, "HTTP listener failed");
            },
            () = overdue => {}
        }
    }
}
