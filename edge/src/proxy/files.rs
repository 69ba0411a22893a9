//! A directory of files: ranges, conditional requests and media types by tower-http. No hidden files, nothing outside of
//! the directory, and a list of what is in it only where that is wanted.

mod listing;

use std::path::{Path, PathBuf};

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use percent_encoding::percent_decode_str;
use tower_http::services::ServeDir;

use super::body::{BodyError, ResponseBody};
use super::refusal::Refusal;
use super::request::Checked;

/// Files below one directory. `index.html` stands for its directory.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
    directory: ServeDir,
    listing: Listing,
}

/// Whether directories without an `index.html` are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// They are not found.
    #[default]
    Hidden,
    /// As a page of links.
    Shown,
}

impl Files {
    /// Serves what lies below `directory`. A link is followed if what it points to lies there as well.
    pub fn new(directory: &Path) -> Self {
        let root = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let directory = ServeDir::new(&root).append_index_html_on_directories(true);
        Self { root, directory, listing: Listing::Hidden }
    }

    /// Shows or hides what is in directories.
    #[must_use]
    pub fn listing(mut self, listing: Listing) -> Self {
        self.listing = listing;
        self
    }

    pub(super) async fn answer(&self, checked: &Checked) -> Result<Response<ResponseBody>, Refusal> {
        if !matches!(*checked.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        let found = self.locate(checked.path()).await.ok_or(Refusal::NotFound)?;
        let mut request = Request::new(Empty::<bytes::Bytes>::new());
        *request.method_mut() = checked.method().clone();
        *request.uri_mut() = checked.path.clone().into();
        request.headers_mut().clone_from(checked.headers());
        let answer = self.directory.clone().try_call(request).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "file");
            Refusal::NotFound
        })?;
        if answer.status() != StatusCode::NOT_FOUND {
            return Ok(answer.map(|body| ResponseBody::boxed(body.map_err(BodyError::from).boxed_unsync())));
        }
        match (self.listing, found) {
            (Listing::Shown, Found::Directory(directory)) => self.list(directory, checked).await,
            _ => Err(Refusal::NotFound),
        }
    }

    async fn list(&self, directory: PathBuf, checked: &Checked) -> Result<Response<ResponseBody>, Refusal> {
        let (root, path) = (self.root.clone(), checked.path().to_owned());
        let page = tokio::task::spawn_blocking(move || listing::page(&root, &directory, &path)).await;
        let page = page.ok().and_then(Result::ok).ok_or(Refusal::NotFound)?;
        let mut response = Response::new(ResponseBody::full(page.into()));
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        Ok(response)
    }

    /// Where a path leads, if that is a place that is served.
    async fn locate(&self, path: &str) -> Option<Found> {
        if is_hidden(path) {
            return None;
        }
        let decoded = percent_decode_str(path).decode_utf8().ok()?;
        let asked = self.root.join(decoded.trim_start_matches('/'));
        let found = self.inside(&asked).await?;
        if !tokio::fs::metadata(&found).await.ok()?.is_dir() {
            return Some(Found::File);
        }
        // The page that stands for a directory may itself be a link.
        let index = asked.join("index.html");
        if tokio::fs::symlink_metadata(&index).await.is_ok() {
            return self.inside(&index).await.map(|_| Found::File);
        }
        Some(Found::Directory(found))
    }

    async fn inside(&self, path: &Path) -> Option<PathBuf> {
        let found = tokio::fs::canonicalize(path).await.ok()?;
        is_served(&self.root, &found).then_some(found)
    }
}

enum Found {
    File,
    Directory(PathBuf),
}

/// Whether a path without links lies below `root` and nothing on the way is hidden.
fn is_served(root: &Path, found: &Path) -> bool {
    let below = found.strip_prefix(root).ok();
    below.is_some_and(|below| !below.iter().any(|part| is_hidden_name(&part.to_string_lossy())))
}

/// Whether a path leads to something whose name begins with a dot, in any spelling.
fn is_hidden(path: &str) -> bool {
    let plain = path.to_ascii_lowercase().replace("%2e", ".");
    // An encoded separator could hide one; nobody needs it in a file name.
    let odd = ["%2f", "%5c", "\\", "%00"].iter().any(|odd| plain.contains(odd));
    odd || plain.split('/').any(is_hidden_name)
}

/// `.well-known` is public by its nature (RFC 8615).
fn is_hidden_name(name: &str) -> bool {
    name.starts_with('.') && name != ".well-known"
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
