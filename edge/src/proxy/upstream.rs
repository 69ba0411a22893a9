//! The local service: where it is, how to reach it, and requests sent to it over a pool of HTTP/1.1 connections.
//!
//! Dials one declared address and nothing else, whatever a request says.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls};
use tower::util::BoxCloneSyncService;

use super::Visitor;
use super::body::{Patient, ResponseBody};
use super::headers;
use super::refusal::Refusal;
use super::request::Checked;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(300);
const BODY_SILENCE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 32;

/// Where a local service listens: `8080`, `host:port`, or an `http`, `https` or `h2c` (HTTP/2 without TLS, what gRPC
/// servers speak) URL without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// A text that is not a [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a port, host:port or http(s)://host[:port] or h2c://host:port URL")]
pub struct TargetError;

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

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let is_port = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let url = if is_port {
            format!("http://127.0.0.1:{text}")
        } else if text.contains("://") {
            text.to_owned()
        } else if text.contains(':') {
            format!("http://{text}")
        } else {
            return Err(TargetError);
        };
        let uri: Uri = url.parse().map_err(|_| TargetError)?;
        let scheme = uri.scheme().cloned().ok_or(TargetError)?;
        let default_port = match scheme.as_str() {
            "http" | "h2c" => 80,
            "https" => 443,
            _ => return Err(TargetError),
        };
        let authority = uri.authority().ok_or(TargetError)?;
        let has_port = authority.as_str().rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = match (authority.port_u16(), has_port) {
            (Some(port), _) => port,
            (None, false) => default_port,
            (None, true) => return Err(TargetError),
        };
        let plain = authority.as_str().contains('@') || authority.host().is_empty() || port == 0;
        if plain || uri.path_and_query().is_some_and(|path| path != "/") {
            return Err(TargetError);
        }
        Ok(Self { scheme, host: authority.host().to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl Target {
    fn speaks_http2(&self) -> bool {
        self.scheme.as_str() == "h2c"
    }

    fn socket(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

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

/// Opens connections to one target; the URI of a request has no say in it.
#[derive(Clone)]
struct Dial {
    target: Arc<Target>,
    tls: Option<TlsConnector>,
}

impl Dial {
    fn new(target: Target, tls: &UpstreamTls) -> Self {
        let tls = (target.scheme == Scheme::HTTPS).then(|| TlsConnector::from(Arc::new(client_config(tls))));
        Self { target: Arc::new(target), tls }
    }

    async fn connect(self) -> std::io::Result<TokioIo<UpstreamStream>> {
        let connecting = async {
            let tcp = TcpStream::connect(self.target.socket()).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = self.tls else { return Ok(UpstreamStream(Box::pin(tcp))) };
            let name =
                ServerName::try_from(self.target.socket().0.to_owned()).map_err(std::io::Error::other)?;
            Ok(UpstreamStream(Box::pin(tls.connect(name, tcp).await?)))
        };
        let connected = tokio::time::timeout(CONNECT_DEADLINE, connecting).await;
        connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map(TokioIo::new)
    }
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<UpstreamStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection to the upstream, with TLS or without.
struct UpstreamStream(Pin<Box<dyn Stream>>);

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

fn client_config(tls: &UpstreamTls) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3");
    let pin = match tls {
        UpstreamTls::Roots(roots) => {
            return builder.with_root_certificates(roots.clone()).with_no_client_auth();
        }
        UpstreamTls::AnyCertificate => None,
        UpstreamTls::Pinned(digest) => Some(*digest),
    };
    let verifier = Arc::new(LocalVerifier { pin, algorithms });
    builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

/// Accepts one pinned leaf, or any; the handshake's signature is checked in both cases.
#[derive(Debug)]
struct LocalVerifier {
    pin: Option<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for LocalVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fits = self.pin.is_none_or(|pin| {
            use sha2::Digest;
            sha2::Sha256::digest(leaf)[..] == pin
        });
        if fits {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the upstream shows another certificate than the pinned one".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, means) in [
            ("8080", "http://127.0.0.1:8080"),
            ("localhost:3000", "http://localhost:3000"),
            ("https://127.0.0.1:9998", "https://127.0.0.1:9998"),
            ("http://nas.lan/", "http://nas.lan:80"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("h2c://localhost:50051", "h2c://localhost:50051"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), means, "{text}");
        }
        for bad in
            ["", "0", "99999", "nas", "ftp://x", "http://u@x", "http://x/path", "http://x:", ":80", "a b:1"]
        {
            assert_eq!(bad.parse::<Target>(), Err(TargetError), "{bad}");
        }
    }
}
