//! A directory as a site: what is in it, parts of it, and nothing else.

use std::os::unix::fs::symlink;

use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use tunnler_edge::Site;
use tunnler_edge::proxy::{Backend, Files, Listing};

use crate::rig::{self, HOST, Record, Rig, empty, get, within};

/// A public directory with everything that could lead out of it.
fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    let public = world.path().join("public");
    for dir in ["public/docs", "public/.git", "public/sub", "public/.well-known", "private"] {
        std::fs::create_dir_all(world.path().join(dir)).unwrap();
    }
    for (file, text) in [
        ("public/index.html", "front page"),
        ("public/docs/a b.txt", "0123456789"),
        ("public/docs/<script>.txt", "odd"),
        ("public/.git/config", "hidden"),
        ("public/.well-known/stellar.toml", "VERSION"),
        ("private/key", "secret"),
        ("private/index.html", "secret"),
    ] {
        std::fs::write(world.path().join(file), text).unwrap();
    }
    symlink(world.path().join("private/key"), public.join("docs/key.txt")).unwrap();
    symlink(world.path().join("private"), public.join("docs/out")).unwrap();
    symlink("../../private/index.html", public.join("sub/index.html")).unwrap();
    symlink(public.join(".git/config"), public.join("docs/config.txt")).unwrap();
    symlink("a b.txt", public.join("docs/same.txt")).unwrap();
    world
}

async fn serve(files: Files) -> Rig {
    rig::serving(Site::new(Backend::Files(files)), Record::default()).await
}

async fn fetch(rig: &Rig, path: &str) -> (u16, String) {
    let answer = within(rig.http1().await.send_request(get(path))).await.unwrap();
    let status = answer.status().as_u16();
    let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn nothing_outside_of_the_directory_is_served() {
    let world = world();
    for listing in [Listing::Hidden, Listing::Shown] {
        let rig = serve(Files::new(&world.path().join("public")).listing(listing)).await;
        for (path, body) in [
            ("/", "front page"),
            ("/docs/a%20b.txt", "0123456789"),
            ("/docs/same.txt", "0123456789"),
            ("/.well-known/stellar.toml", "VERSION"),
        ] {
            assert_eq!(fetch(&rig, path).await, (200, body.into()), "{path}");
        }
        for path in [
            "/docs/key.txt",
            "/docs/out/key",
            "/docs/out/",
            "/docs/config.txt",
            "/sub/",
            "/sub/index.html",
            "/.git/config",
            "/%2egit/config",
            "/../private/key",
            "/docs/../../private/key",
            "/docs/..%2f..%2fprivate/key",
            "/..%5cprivate%5ckey",
            "/%2e%2e/private/key",
            "//../private/key",
            "/docs/a%20b.txt/",
            "/docs/a%20b.txt%00",
            "/%ff",
            "/nothing",
        ] {
            let (status, body) = fetch(&rig, path).await;
            assert!(status == 404 && !body.contains("secret"), "{path}: {status} {body}");
        }
        let raw = format!("GET {}/private/key HTTP/1.1\r\nHost: {HOST}\r\n\r\n", world.path().display());
        assert!(rig.raw_until_answered(&raw).await.starts_with("HTTP/1.1 404"));
        let put = format!("PUT /new.txt HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
        assert!(rig.raw_until_answered(&put).await.starts_with("HTTP/1.1 405"));
    }
}

#[tokio::test]
async fn directories_are_listed_only_where_that_is_wanted() {
    let world = world();
    let files = Files::new(&world.path().join("public"));
    assert_eq!(fetch(&serve(files.clone()).await, "/docs/").await.0, 404);
    let rig = serve(files.listing(Listing::Shown)).await;
    let (status, page) = fetch(&rig, "/docs/").await;
    assert_eq!(status, 200);
    for shown in ["/docs/a%20b.txt\"", ">a b.txt<", "same.txt", "%3Cscript%3E.txt\">&lt;script&gt;.txt<"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    for hidden in ["key.txt", "out", "config.txt", "<script>"] {
        assert!(!page.contains(hidden), "{hidden}: {page}");
    }
}

#[tokio::test]
async fn parts_of_files_and_conditions() {
    let world = world();
    let rig = serve(Files::new(&world.path().join("public"))).await;
    let mut sender = rig.http2().await;
    let mut ask = async |name: header::HeaderName, value: &str| {
        let request = Request::get(format!("https://{HOST}/docs/same.txt")).header(name, value);
        let answer = within(sender.send_request(request.body(empty()).unwrap())).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts, within(body.collect()).await.unwrap().to_bytes())
    };
    let (head, body) = ask(header::RANGE, "bytes=2-4").await;
    assert_eq!((head.status, &body[..]), (StatusCode::PARTIAL_CONTENT, &b"234"[..]));
    assert_eq!(head.headers[header::CONTENT_RANGE], "bytes 2-4/10");
    assert_eq!(ask(header::RANGE, "bytes=-3").await.1, "789");
    assert_eq!(ask(header::RANGE, "bytes=20-").await.0.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let modified = head.headers[header::LAST_MODIFIED].to_str().unwrap().to_owned();
    assert_eq!(ask(header::IF_MODIFIED_SINCE, &modified).await.0.status, StatusCode::NOT_MODIFIED);
}
