//! Answers that come from the edge itself: what went wrong, in words for people or as JSON for programs.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::ResponseBody;

/// A request that gets no answer from the service behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("this method is not passed on")]
    Method,
    #[error("there is nothing here")]
    NotFound,
    #[error("this connection is for another host")]
    Misdirected,
    #[error("the service behind this name is not running or refuses connections")]
    Unreachable,
    #[error("the service behind this name broke off without an answer")]
    BrokenUpstream,
    #[error("the service behind this name did not answer in time")]
    UpstreamTimeout,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            Self::BrokenUpstream => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The visitor's HTTP/1 connection is closed after a request that was not understood: what follows it cannot be
    /// trusted to be another request.
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
        if self == Self::Method {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        if self == Self::Unreachable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if http1 && matches!(self, Self::Malformed(_) | Self::Method) {
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
