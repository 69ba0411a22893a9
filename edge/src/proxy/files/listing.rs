//! A page of links to what is in a directory.

use std::fmt::Write;
use std::io;
use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{is_hidden_name, is_served};

/// Most entries shown.
const MOST: usize = 10_000;

/// What cannot stand in a link as it is.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'#')
    .add(b'?')
    .add(b'%')
    .add(b'\'')
    .add(b'&')
    .add(b'`')
    .add(b':');

/// The page for `directory`, which was asked for as `path`. What would not be served is not shown.
pub(super) fn page(root: &Path, directory: &Path, path: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(MOST) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let served = entry.path().canonicalize().is_ok_and(|found| is_served(root, &found));
        if served && !is_hidden_name(&name) && !name.contains('\\') {
            let end = if entry.path().is_dir() { "/" } else { "" };
            names.push(name + end);
        }
    }
    names.sort();
    // Links begin at the root: they are right with and without a slash at the end of `path`.
    let base = path.trim_end_matches('/');
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Files</title><style>body{font:1.1rem/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}\
         </style><ul>",
    );
    for name in names {
        let link = utf8_percent_encode(&name, ESCAPED);
        let _ = write!(page, "<li><a href=\"{}/{link}\">{}</a>", text(base), text(&name));
    }
    page.push_str("</ul>\n");
    Ok(page)
}

fn text(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
