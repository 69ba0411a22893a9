//! A directory of files: ranges, conditional requests and media types by tower-http; no listing, no hidden files.

use std::path::Path;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower_http::services::ServeDir;

use super::body::{BodyError, ResponseBody};
use super::refusal::Refusal;
use super::request::Checked;

/// Files below one directory. `index.html` stands for its directory.
#[derive(Clone, Debug)]
pub struct Files {
    directory: ServeDir,
}

impl Files {
    /// Serves what lies below `directory`. Links are followed: what they point to is served as well.
    pub fn new(directory: &Path) -> Self {
        Self { directory: ServeDir::new(directory).append_index_html_on_directories(true) }
    }

    pub(super) async fn answer(&self, checked: &Checked) -> Result<Response<ResponseBody>, Refusal> {
        if !matches!(*checked.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        if is_hidden(checked.path()) {
            return Err(Refusal::NotFound);
        }
        let mut request = Request::new(Empty::<bytes::Bytes>::new());
        *request.method_mut() = checked.method().clone();
        *request.uri_mut() = checked.path.clone().into();
        request.headers_mut().clone_from(&checked.parts.headers);
        let answer = self.directory.clone().try_call(request).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "file");
            Refusal::NotFound
        })?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(Refusal::NotFound);
        }
        Ok(answer.map(|body| ResponseBody::boxed(body.map_err(BodyError::from).boxed_unsync())))
    }
}

/// Whether a path leads to something whose name begins with a dot, in any spelling; `.well-known` is public by its
/// nature (RFC 8615).
fn is_hidden(path: &str) -> bool {
    let plain = path.to_ascii_lowercase().replace("%2e", ".");
    // An encoded separator could hide one; nobody needs it in a file name.
    let odd = ["%2f", "%5c", "\\", "%00"].iter().any(|odd| plain.contains(odd));
    odd || plain.split('/').any(|segment| segment.starts_with('.') && segment != ".well-known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_are_hidden_in_every_spelling() {
        for path in [
            "/.git/config",
            "/a/.env",
            "/%2egit/config",
            "/a/%2E%2e/b",
            "/..",
            "/%2f.git",
            "/a%5c.env",
            "/a\\.env",
        ] {
            assert!(is_hidden(path), "{path}");
        }
        for path in ["/", "/index.html", "/a.b/c.d", "/.well-known/stellar.toml", "/%20"] {
            assert!(!is_hidden(path), "{path}");
        }
    }
}
