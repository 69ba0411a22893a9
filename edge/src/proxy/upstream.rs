//! The local service: where it is, how to reach it, and requests sent to it over a pool of HTTP/1.1 connections.
//!
//! Dials one declared address and nothing else, whatever a request says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use tokio_rustls::rustls;
use tower::util::BoxCloneSyncService;

pub use target::{Target, TargetError};

use super::Visitor;
use super::body::{Patient, ResponseBody};
use super::headers;
use super::refusal::Refusal;
use super::request::Checked;

mod dial;
mod target;

use dial::{Dial, UpstreamStream};

const ANSWER_DEADLINE: Duration = Duration::from_secs(300);
const BODY_SILENCE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 32;

/// How the certificate of an `https` upstream is judged.
#[derive(Clone, Debug, Default)]
pub enum UpstreamTls {
    /// It must end at one of these roots.
    Roots(Arc<RootCertStore>),
    /// Any certificate: fit for the loopback interface only, which is what local services have.
    #[default]
    AnyCertificate,
    /// Exactly this leaf, by the SHA-256 of its DER.
    Pinned([u8; 32]),
}

/// What the upstream sees as `Host`.
#[derive(Clone, Debug, Default)]
pub enum HostHeader {
    /// What the visitor asked for.
    #[default]
    Keep,
    /// This.
    Set(Authority),
}

/// A local web server and the connections to it.
#[derive(Clone)]
pub struct Upstream {
    target: Target,
    host: HostHeader,
    client: Client<Connector, Patient>,
}

type Connector = BoxCloneSyncService<Uri, TokioIo<UpstreamStream>, std::io::Error>;

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("target", &self.target)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// A web server at `target`. Connects when asked for something, not before.
    pub fn new(target: Target, tls: &UpstreamTls, host: HostHeader) -> Self {
        let connector = Connector::new(Dial::new(target.clone(), tls));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false)
            .http2_only(target.speaks_http2())
            .build(connector);
        Self { target, host, client }
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn pass(
        &self,
        checked: Checked,
        visitor: &Visitor,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let answer = self.send(self.outgoing(checked, visitor)).await?;
        if answer.status().is_informational() {
            return Err(Refusal::BrokenUpstream);
        }
        Ok(self.incoming(answer))
    }

    /// The request as the upstream shall see it.
    pub(super) fn outgoing(&self, checked: Checked, visitor: &Visitor) -> Request<Patient> {
        let Checked { mut parts, body, host, path } = checked;
        let trailers = headers::lists(&parts.headers, &header::TE, "trailers");
        headers::strip_hop_by_hop(&mut parts.headers);
        headers::strip_claims(&mut parts.headers);
        headers::join_cookies(&mut parts.headers);
        // The edge itself answers `100-continue` once the upstream takes the body.
        parts.headers.remove(header::EXPECT);
        headers::set_forwarding(&mut parts.headers, visitor.address, &host);
        if trailers {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
            if !self.target.speaks_http2() {
                parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
        }
        let mut request = Request::new(Patient::new(body, BODY_SILENCE));
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        self.address(&mut request, path, &host);
        request
    }

    /// A plain GET of `path` that carries nothing of the visitor's request.
    pub(super) fn fetch(
        &self,
        path: PathAndQuery,
        host: &HeaderValue,
        visitor: &Visitor,
    ) -> Request<Patient> {
        let mut request = Request::new(Patient::empty());
        headers::set_forwarding(request.headers_mut(), visitor.address, host);
        self.address(&mut request, path, host);
        request
    }

    /// Sets target, protocol version and the host that the upstream sees.
    fn address(&self, request: &mut Request<Patient>, path: PathAndQuery, host: &HeaderValue) {
        let host = match &self.host {
            HostHeader::Keep => host.clone(),
            HostHeader::Set(authority) => {
                HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII")
            }
        };
        // In HTTP/2 the authority is the host; in HTTP/1.1 it only names the pool of connections. Where to connect is
        // settled in either case.
        let authority = if self.target.speaks_http2() {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
            host.to_str().unwrap_or_default().to_owned()
        } else {
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(header::HOST, host);
            format!("{}:{}", self.target.host, self.target.port)
        };
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build();
        *request.uri_mut() = uri.expect("hosts and targets are checked where they come in");
    }

    pub(super) async fn send(&self, request: Request<Patient>) -> Result<Response<Incoming>, Refusal> {
        match tokio::time::timeout(ANSWER_DEADLINE, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::debug!(target = %self.target, error = %Causes(&error), "upstream failed");
                Err(if error.is_connect() { Refusal::Unreachable } else { Refusal::BrokenUpstream })
            }
            Err(_) => Err(Refusal::UpstreamTimeout),
        }
    }

    /// The answer as the visitor shall see it.
    pub(super) fn incoming<B: IntoResponseBody>(&self, answer: Response<B>) -> Response<ResponseBody> {
        let (mut parts, body) = answer.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.extensions.clear();
        Response::from_parts(parts, body.into_response_body())
    }
}

/// What an answer of the upstream may carry.
pub(super) trait IntoResponseBody {
    fn into_response_body(self) -> ResponseBody;
}

impl IntoResponseBody for Incoming {
    fn into_response_body(self) -> ResponseBody {
        ResponseBody::streamed(self)
    }
}

impl IntoResponseBody for () {
    fn into_response_body(self) -> ResponseBody {
        ResponseBody::empty()
    }
}

struct Causes<'a>(&'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
