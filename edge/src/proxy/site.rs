//! Which backend answers which path of one host, and what holds for all of them. The first rule that fits decides.

mod plain;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use tunnler_protocol::HostName;

use super::Visitor;
use super::access::Access;
use super::body::ResponseBody;
use super::document::Document;
use super::files::Files;
use super::headers;
use super::rates::Rates;
use super::refusal::Refusal;
use super::request::Checked;
use super::rules::Edits;
use super::upstream::{Pool, Upstream};

/// What one host serves. Clones share limits and connections.
#[derive(Clone, Debug)]
pub struct Site {
    routes: Vec<Route>,
    rest: Backend,
    rules: Rules,
    zone: Option<HostName>,
    sockets: Http2Sockets,
}

/// Whether visitors are told that WebSockets may come in HTTP/2 streams (RFC 8441).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2Sockets {
    /// Yes.
    #[default]
    Offered,
    /// No: the certificate covers other sites' hosts, too. A browser then sends a WebSocket for one host over its
    /// connection to another, and unlike with requests does not ask again elsewhere when told 421.
    Withheld,
}

/// What holds for every request to a [`Site`]. By default nothing is refused or changed.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Who may ask; a route may have its own instead.
    pub access: Access,
    /// How often.
    pub rates: Option<Arc<Rates>>,
    /// Most bytes of a request's body.
    pub max_body: Option<u64>,
    /// What is done to requests' headers.
    pub request: Edits,
    /// What is done to answers' headers.
    pub response: Edits,
    /// For how long browsers shall use nothing but HTTPS (RFC 6797).
    pub hsts: Option<Duration>,
    /// Whether `X-Forwarded-Url` says the whole URL that was asked for.
    pub full_url: FullUrl,
}

/// Whether upstreams are told the whole URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullUrl {
    /// No: it can be put together from other headers.
    #[default]
    Unsaid,
    /// Yes.
    Said,
}

/// A rule of a [`Site`].
#[derive(Clone, Debug)]
pub struct Route {
    /// Which paths it is for.
    pub path: PathRule,
    /// Who answers them.
    pub backend: Backend,
    access: Option<Access>,
}

/// Which paths a [`Route`] is for. Compared with the path as sent; a path that is for another route once it is decoded
/// and folded is refused, so that no spelling gets around a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// This path and no other.
    Exact(String),
    /// This path and everything below it.
    Under(String),
}

/// Who answers.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A web server.
    Upstream(Upstream),
    /// Several equal web servers.
    Pool(Pool),
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
        Self {
            routes: Vec::new(),
            rest,
            rules: Rules::default(),
            zone: None,
            sockets: Http2Sockets::default(),
        }
    }

    /// Adds a rule, after those already there.
    #[must_use]
    pub fn route(mut self, path: PathRule, backend: Backend) -> Self {
        self.routes.push(Route { path, backend, access: None });
        self
    }

    /// Adds a rule whose paths have rules of access of their own, in place of the site's.
    #[must_use]
    pub fn guarded(mut self, path: PathRule, access: Access, backend: Backend) -> Self {
        self.routes.push(Route { path, backend, access: Some(access) });
        self
    }

    /// Sets what holds for every request.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Names the zone that the site's hosts share with others: no cookie is set for all of it.
    #[must_use]
    pub fn in_zone(mut self, zone: HostName) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Says whether WebSockets may come in HTTP/2 streams.
    #[must_use]
    pub fn sockets(mut self, sockets: Http2Sockets) -> Self {
        self.sockets = sockets;
        self
    }

    pub(super) fn offers_http2_sockets(&self) -> bool {
        self.sockets == Http2Sockets::Offered
    }

    /// Lets a request in, readies it, and says who answers it.
    pub(super) async fn admit(&self, checked: &mut Checked, visitor: &Visitor) -> Result<&Backend, Refusal> {
        let rules = &self.rules;
        if let Some(rates) = &rules.rates {
            rates.count(visitor.address.ip()).map_err(Refusal::TooMany)?;
        }
        let route = self.find(checked.path())?;
        if let Some(most) = rules.max_body {
            if checked.announced().is_some_and(|length| length > most) {
                return Err(Refusal::TooLarge);
            }
            checked.most = most;
        }
        let access = route.and_then(|route| route.access.as_ref()).unwrap_or(&rules.access);
        access.admit(checked, visitor).await?;
        rules.request.apply(&mut checked.parts.headers);
        if rules.full_url == FullUrl::Said {
            headers::set_full_url(&mut checked.parts.headers, &checked.host, &checked.path);
        }
        Ok(route.map_or(&self.rest, |route| &route.backend))
    }

    /// Readies any answer, the edge's own too.
    pub(super) fn finish(&self, headers: &mut HeaderMap) {
        if let Some(zone) = &self.zone {
            headers::strip_shared_cookies(headers, zone);
        }
        if let Some(hsts) = self.rules.hsts {
            let value = format!("max-age={}", hsts.as_secs());
            let value = HeaderValue::from_str(&value).expect("a number is visible ASCII");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        self.rules.response.apply(headers);
    }

    /// The route of a path, the same however the path is spelt.
    fn find(&self, path: &str) -> Result<Option<&Route>, Refusal> {
        let position = |path: &str| self.routes.iter().position(|route| route.path.fits(path));
        let found = position(path);
        if !self.routes.is_empty() && position(&plain::plain(path)) != found {
            return Err(Refusal::Malformed("a path spelt so that it may be taken for another"));
        }
        Ok(found.map(|position| &self.routes[position]))
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

    #[test]
    fn a_path_that_may_be_taken_for_another_routes_is_refused() {
        let fixed = || Backend::Fixed(Fixed::new(HeaderValue::from_static("text/plain"), ""));
        let site = Site::new(fixed())
            .route(PathRule::Under("/admin".into()), fixed())
            .route(PathRule::Exact("/only.txt".into()), fixed());
        for (path, route) in [
            ("/admin", Ok(Some(0))),
            ("/admin/x%20y", Ok(Some(0))),
            ("/only.txt", Ok(Some(1))),
            ("/only.txt/", Ok(None)),
            ("/a//b/../c", Ok(None)),
            ("/administrator", Ok(None)),
            ("//admin", Err(())),
            ("/%61dmin", Err(())),
            ("/x/../admin", Err(())),
            ("/x/..%2fadmin/", Err(())),
            ("/admin/../x", Err(())),
            ("/admin/%2e%2e/only.txt", Err(())),
            ("/.;/admin", Err(())),
            ("/only%2etxt", Err(())),
        ] {
            let found = site.find(path).map_err(drop);
            let position = |route: &Route| site.routes.iter().position(|other| std::ptr::eq(other, route));
            assert_eq!(found.map(|route| route.and_then(position)), route, "{path}");
        }
    }
}
