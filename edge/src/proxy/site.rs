//! Which backend answers which path of one host. The first rule that fits decides.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use super::body::ResponseBody;
use super::document::Document;
use super::files::Files;
use super::upstream::Upstream;

/// What one host serves.
#[derive(Debug)]
pub struct Site {
    routes: Vec<Route>,
    rest: Backend,
}

/// A rule of a [`Site`].
#[derive(Debug)]
pub struct Route {
    /// Which paths it is for.
    pub path: PathRule,
    /// Who answers them.
    pub backend: Backend,
}

/// Which paths a [`Route`] is for. Compared with the path as sent: another spelling of it (`%2e`, `//`) is another
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// This path and no other.
    Exact(String),
    /// This path and everything below it.
    Under(String),
}

/// Who answers.
#[derive(Debug)]
pub enum Backend {
    /// A web server.
    Upstream(Upstream),
    /// One document of a web server and nothing else of it.
    Document(Document),
    /// A directory of files.
    Files(Files),
    /// The edge itself.
    Fixed(Fixed),
}

/// An answer known in advance.
#[derive(Clone, Debug)]
pub struct Fixed {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Site {
    /// A site with one backend for everything.
    pub fn new(rest: Backend) -> Self {
        Self { routes: Vec::new(), rest }
    }

    /// Adds a rule, after those already there.
    #[must_use]
    pub fn route(mut self, path: PathRule, backend: Backend) -> Self {
        self.routes.push(Route { path, backend });
        self
    }

    pub(super) fn backend(&self, path: &str) -> &Backend {
        self.routes.iter().find(|route| route.path.fits(path)).map_or(&self.rest, |route| &route.backend)
    }
}

impl From<Upstream> for Site {
    fn from(upstream: Upstream) -> Self {
        Self::new(Backend::Upstream(upstream))
    }
}

impl PathRule {
    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Under(parent) => path
                .strip_prefix(parent.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl Fixed {
    /// A body of a media type with status 200.
    pub fn new(media_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, media_type);
        Self { status: StatusCode::OK, headers, body: body.into() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(super) fn answer(&self, method: &Method) -> Response<ResponseBody> {
        let readable = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let body = if readable { ResponseBody::full(self.body.clone()) } else { ResponseBody::empty() };
        let mut response = Response::new(body);
        *response.status_mut() = if readable { self.status } else { StatusCode::METHOD_NOT_ALLOWED };
        response.headers_mut().clone_from(&self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fits_its_own_paths_only() {
        let under = PathRule::Under("/api/".into());
        for (path, fits) in [
            ("/api", true),
            ("/api/", true),
            ("/api/x", true),
            ("/apix", false),
            ("/", false),
            ("/API", false),
        ] {
            assert_eq!(under.fits(path), fits, "{path}");
        }
        let exact = PathRule::Exact("/.well-known/stellar.toml".into());
        assert!(exact.fits("/.well-known/stellar.toml"));
        for path in
            ["/.well-known/stellar.toml/", "//.well-known/stellar.toml", "/.well-known/stellar%2etoml"]
        {
            assert!(!exact.fits(path), "{path}");
        }
    }
}
