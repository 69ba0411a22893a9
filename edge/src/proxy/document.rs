//! One document of a web server, where nothing else of that server may ever be reached.
//!
//! The request that leaves here is made here: method GET, a path fixed in advance, no body and nothing the visitor
//! sent. So no spelling of a path, header or method reaches anything but that document.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Response};

use super::Visitor;
use super::body::ResponseBody;
use super::hints::Hints;
use super::refusal::Refusal;
use super::request::Checked;
use super::upstream::Upstream;

/// A document of an upstream.
#[derive(Clone, Debug)]
pub struct Document {
    upstream: Upstream,
    path: PathAndQuery,
    headers: HeaderMap,
}

impl Document {
    /// The document at `path` of `upstream`.
    pub fn new(upstream: Upstream, path: PathAndQuery) -> Self {
        Self { upstream, path, headers: HeaderMap::new() }
    }

    /// Sets a header of the answer, in place of the upstream's.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) async fn answer(
        &self,
        checked: &Checked,
        visitor: &Visitor,
    ) -> Result<Response<ResponseBody>, Refusal> {
        if !matches!(*checked.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        let request = self.upstream.fetch(self.path.clone(), &checked.host, visitor);
        let mut answer = self.upstream.incoming(self.upstream.send(request, &Hints::unwanted()).await?);
        for name in [header::SET_COOKIE, header::LOCATION] {
            answer.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        Ok(answer)
    }
}
