//! Answers that come from the edge itself: what went wrong, in words for people or as JSON for programs.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::ResponseBody;

/// A request that gets no answer from the service behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("this service asks for a name and password, or a token")]
    Unauthorized(Challenge),
    #[error("this address may not use this service")]
    Forbidden,
    #[error("the message is not signed as this service expects: {0}")]
    Unsigned(&'static str),
    #[error("there is nothing here")]
    NotFound,
    #[error("this method is not passed on")]
    Method,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the body is larger than this service takes")]
    TooLarge,
    #[error("this connection is for another host")]
    Misdirected,
    #[error("too many requests")]
    TooMany(Duration),
    #[error("the service behind this name does not speak WebSocket")]
    NoWebSocket,
    #[error("the service behind this name broke off without an answer")]
    BrokenUpstream,
    #[error("the service behind this name does not speak TLS, or shows another certificate than it should")]
    UntrustedUpstream,
    #[error("the service behind this name is not running or refuses connections")]
    Unreachable,
    #[error("too much is being received at once")]
    Busy,
    #[error("the service behind this name could not be reached in time")]
    ConnectTimeout,
    #[error("the service behind this name did not answer in time")]
    UpstreamTimeout,
}

/// What proves that a visitor may use a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and password (RFC 7617).
    Basic,
    /// A token (RFC 6750).
    Bearer,
    /// Either.
    Either,
}

impl Challenge {
    fn offers(self) -> &'static [&'static str] {
        const BASIC: &str = "Basic realm=\"this service\", charset=\"UTF-8\"";
        match self {
            Self::Basic => &[BASIC],
            Self::Bearer => &["Bearer"],
            Self::Either => &[BASIC, "Bearer"],
        }
    }
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) | Self::Unsigned(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoWebSocket => StatusCode::NOT_IMPLEMENTED,
            Self::BrokenUpstream | Self::UntrustedUpstream => StatusCode::BAD_GATEWAY,
            Self::Unreachable | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether no connection to the upstream came about.
    pub(super) fn is_unconnected(self) -> bool {
        matches!(self, Self::Unreachable | Self::UntrustedUpstream | Self::ConnectTimeout)
    }

    /// Whether the upstream is to blame.
    pub(super) fn is_upstreams_fault(self) -> bool {
        self.is_unconnected() || matches!(self, Self::BrokenUpstream | Self::UpstreamTimeout)
    }

    /// The visitor's HTTP/1 connection is closed after a request that was not understood or whose body was not read:
    /// what follows it cannot be trusted to be another request.
    pub(super) fn into_response(self, wants: Wants, http1: bool) -> Response<ResponseBody> {
        let status = self.status();
        let (kind, text) = match wants {
            Wants::Json => ("application/json", self.json(status)),
            Wants::Html => ("text/html; charset=utf-8", self.html(status)),
        };
        let mut response = Response::new(ResponseBody::full(text.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Method => {
                let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
                headers.insert(header::ALLOW, methods);
            }
            Self::Unauthorized(challenge) => {
                for offer in challenge.offers() {
                    headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(offer));
                }
            }
            Self::TooMany(wait) => {
                // Whole seconds (RFC 9110, section 10.2.3), never too early.
                headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            }
            Self::Unreachable | Self::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        let unread = matches!(self, Self::Malformed(_) | Self::Method | Self::TooLarge | Self::BodyTimeout);
        if http1 && unread {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn json(self, status: StatusCode) -> String {
        serde_json::json!({ "status": status.as_u16(), "error": self.to_string() }).to_string() + "\n"
    }

    fn html(self, status: StatusCode) -> String {
        format!(
            "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{status}</title><style>body{{font:1.1rem/1.5 system-ui;max-width:36rem;margin:15vh auto;\
             padding:0 1rem}}</style><h1>{status}</h1><p>{self}.</p>\n"
        )
    }
}

/// The form in which the visitor likes an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// People.
    Html,
    /// Programs.
    Json,
}

impl Wants {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match (accept.find("json"), accept.find("html")) {
            (Some(json), Some(html)) if json < html => Self::Json,
            (Some(_), None) => Self::Json,
            _ => Self::Html,
        }
    }
}
