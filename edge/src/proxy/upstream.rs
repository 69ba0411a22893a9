//! The local service: where it is, how to reach it, and requests sent to it over connections that are kept.
//!
//! Dials one declared address and nothing else, whatever a request says.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls;
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use tracing::Instrument;

pub use pool::{Checks, Pool};
pub use target::{Target, TargetError};

use super::Visitor;
use super::body::{Cut, Inbound, RequestBody, ResponseBody, Silence, Source};
use super::headers;
use super::hints::Hints;
use super::refusal::Refusal;
use super::request::Checked;
use crate::tls::Protocol;

pub(crate) mod dial;
pub(in crate::proxy) mod http2;
mod pool;
mod target;

use dial::{Dial, UpstreamStream};

/// Connections kept open to one upstream although no request uses them: as many as visitors of one session may use at
/// once, or a crowd of them would make new connections all the time.
const MAX_IDLE: usize = 256;

/// Most bytes of one connection held for a visitor that reads more slowly, and of an answer's head.
const MAX_BUFFER: usize = 128 * 1024;

/// How long an upstream, and a visitor sending to it, may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// To connect, TLS included. Default 10 s.
    pub connect: Duration,
    /// From the last byte of the request to the head of the answer. Default 300 s.
    pub answer: Duration,
    /// Between two parts of a visitor's body while the upstream waits for it. Default 60 s.
    pub upload_silence: Duration,
    /// Between two parts of the answer's body. Default `None`, no limit: events may be hours apart.
    pub answer_silence: Option<Duration>,
    /// How long an unused connection is kept. Default 30 s.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            answer: seconds(300),
            upload_silence: seconds(60),
            answer_silence: None,
            idle: seconds(30),
        }
    }
}

impl Timeouts {
    /// Where another edge has deadlines of its own: it must not be hurried, and closes unused connections after 20 s.
    fn of_other_end() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(3600), idle: seconds(10), ..Self::default() }
    }
}

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
    timeouts: Timeouts,
    connections: Connections,
    /// What WebSockets are asked of, if this one speaks HTTP/2.
    upgrading: Option<Arc<Self>>,
}

/// How requests get there.
#[derive(Clone)]
enum Connections {
    Http1(Box<Client<Connector, RequestBody>>),
    Http2(http2::Client),
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
        Self::with_timeouts(target, tls, host, Timeouts::default())
    }

    /// The same with other than the usual timeouts.
    pub fn with_timeouts(target: Target, tls: &UpstreamTls, host: HostHeader, timeouts: Timeouts) -> Self {
        let connector = Connector::new(Dial::new(target.clone(), tls, timeouts.connect));
        let connections = Connections::new(connector, &target, &timeouts);
        Self { target, host, timeouts, connections, upgrading: None }
    }

    /// A web server at the other end of connections that `open` makes in the protocol asked for. Speaks `protocol` to
    /// it; WebSockets have HTTP/1.1 connections of their own in any case.
    pub fn over<F, R, S>(open: F, protocol: Protocol) -> Self
    where
        F: Fn(Protocol) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = std::io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let upgrading = match protocol {
            Protocol::Http1 => None,
            Protocol::Http2 => Some(Arc::new(Self::over(open.clone(), Protocol::Http1))),
        };
        let connector = Connector::new(service_fn(move |_: Uri| {
            let opening = open(protocol);
            async move { Ok(TokioIo::new(UpstreamStream::new(opening.await?))) }
        }));
        let (target, timeouts) = (Target::other_end(protocol), Timeouts::of_other_end());
        let connections = Connections::new(connector, &target, &timeouts);
        Self { target, host: HostHeader::Keep, timeouts, connections, upgrading }
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn pass(&self, checked: Checked) -> Result<Response<ResponseBody>, Refusal> {
        let hints = checked.hints.clone();
        let (request, _) = self.outgoing(checked);
        self.exchange(request, &hints).await
    }

    /// Sends a request and readies its answer for the visitor.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
        hints: &Hints,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let answer = self.send(request, hints).await?;
        if answer.status().is_informational() {
            return Err(Refusal::BrokenUpstream);
        }
        Ok(self.incoming(answer))
    }

    /// The request as the upstream shall see it, and where its body comes back to if nobody reads it.
    pub(super) fn outgoing(&self, checked: Checked) -> (Request<RequestBody>, oneshot::Receiver<Source>) {
        let Checked { mut parts, body, host, path, trailers, most, .. } = checked;
        if trailers {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
            if !self.target.speaks_http2() {
                parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
        }
        let silence = Silence::new(Some(self.timeouts.upload_silence));
        let (body, returned) = RequestBody::new(body, most, silence);
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        self.address(&mut request, path, &host);
        (request, returned)
    }

    /// A plain GET of `path` that carries nothing of the visitor's request.
    pub(super) fn fetch(
        &self,
        path: PathAndQuery,
        host: &HeaderValue,
        visitor: &Visitor,
    ) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        headers::set_forwarding(request.headers_mut(), visitor.address, host);
        self.address(&mut request, path, host);
        request
    }

    /// Sets target, protocol version and the host that the upstream sees.
    fn address(&self, request: &mut Request<RequestBody>, path: PathAndQuery, host: &HeaderValue) {
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

    /// Sends a request and waits for the head of its answer; interim ones go to `hints`. Time counts from when the
    /// request's body last moved: a long upload is not a slow answer.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        hints: &Hints,
    ) -> Result<Response<Inbound>, Refusal> {
        let progress = request.body().progress();
        let span = tracing::debug_span!("upstream", target = %self.target);
        let sending = self.connections.send(request, hints).instrument(span);
        tokio::pin!(sending);
        loop {
            let deadline = progress.last() + self.timeouts.answer;
            match timeout_at(deadline, &mut sending).await {
                Ok(answered) => return answered,
                Err(_) if progress.last() + self.timeouts.answer > Instant::now() => {}
                Err(_) => return Err(Refusal::UpstreamTimeout),
            }
        }
    }

    /// The answer as the visitor shall see it.
    pub(super) fn incoming(&self, answer: Response<Inbound>) -> Response<ResponseBody> {
        let silence = Silence::new(self.timeouts.answer_silence);
        self.head(answer.map(|body| ResponseBody::streamed(body, silence)))
    }

    /// The head of an answer as the visitor shall see it.
    pub(super) fn head<B>(&self, answer: Response<B>) -> Response<B> {
        let (mut parts, body) = answer.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.extensions.clear();
        Response::from_parts(parts, body)
    }

    /// Where to ask for WebSockets, if anywhere.
    pub(super) fn upgrading(&self) -> Option<&Self> {
        if self.target.speaks_http2() { self.upgrading.as_deref() } else { Some(self) }
    }
}

impl Connections {
    fn new(connector: Connector, target: &Target, timeouts: &Timeouts) -> Self {
        if target.speaks_http2() {
            return Self::Http2(http2::Client::new(connector, timeouts.idle));
        }
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.idle)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_BUFFER)
            .set_host(false)
            .build(connector);
        Self::Http1(Box::new(client))
    }

    async fn send(
        &self,
        mut request: Request<RequestBody>,
        hints: &Hints,
    ) -> Result<Response<Inbound>, Refusal> {
        let client = match self {
            Self::Http1(client) => client,
            Self::Http2(client) => return client.send(request, hints).await,
        };
        if hints.are_wanted() {
            let hints = hints.clone();
            hyper::ext::on_informational(&mut request, move |interim| {
                hints.tell(interim.status(), interim.headers());
            });
        }
        client.request(request).await.map(|answer| answer.map(Inbound::Http1)).map_err(|error| {
            tracing::debug!(error = told(&error), "upstream failed");
            if error.is_connect() { unconnected(&error) } else { broken(&error) }
        })
    }
}

/// What a failed connection tells the visitor.
fn unconnected(error: &(dyn Error + 'static)) -> Refusal {
    match cause::<std::io::Error>(error).map(std::io::Error::kind) {
        Some(std::io::ErrorKind::TimedOut) => Refusal::ConnectTimeout,
        // What rustls says comes as this.
        Some(std::io::ErrorKind::InvalidData) => Refusal::UntrustedUpstream,
        _ => Refusal::Unreachable,
    }
}

/// What an exchange that broke tells the visitor.
fn broken(error: &(dyn Error + 'static)) -> Refusal {
    match cause::<Cut>(error) {
        Some(Cut::TooLarge) => Refusal::TooLarge,
        Some(Cut::Silent) => Refusal::BodyTimeout,
        None => Refusal::BrokenUpstream,
    }
}

/// The first error of a kind among the causes.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// An error with its causes.
fn told(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
