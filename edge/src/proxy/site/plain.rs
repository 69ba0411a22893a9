//! The plainest spelling of a path: what a server may take it for that decodes, folds and cuts before it looks.

/// Decodes `%xx` once, turns `\` into `/`, cuts path parameters (`;…`), and resolves empty segments, `.` and `..`. Keeps
/// whether it ends with a slash.
pub(super) fn plain(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    let mut segments = Vec::new();
    let mut open = false;
    for segment in decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let end = if open && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_path_has_nothing_left_to_fold(path in "(/|%2f|%5c|%2e|%2E|\\.|;|a|%61|%|\\\\|%00|é){0,24}") {
            let plain = plain(&path);
            let segments: Vec<&str> = plain.strip_prefix('/').unwrap().split('/').collect();
            let (last, inner) = segments.split_last().unwrap();
            prop_assert!(inner.iter().all(|segment| !matches!(*segment, "" | "." | "..")), "{}", plain);
            prop_assert!(!matches!(*last, "." | "..") && !plain.contains(['\\', ';']), "{}", plain);
        }
    }

    #[test]
    fn many_spellings_have_one_plain_form() {
        for (path, form) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/%61/%62", "/a/b"),
            ("/a%2fb", "/a/b"),
            ("/a%5Cb", "/a/b"),
            ("/a\\b", "/a/b"),
            ("/a/./b/.", "/a/b/"),
            ("/x/../a/b/..", "/a/"),
            ("/../../a", "/a"),
            ("/%2e%2E/a", "/a"),
            ("/a;v=1/..;/b;c", "/b"),
            ("/%ff", "/\u{fffd}"),
            ("/..", "/"),
        ] {
            assert_eq!(plain(path), form, "{path}");
        }
    }
}
