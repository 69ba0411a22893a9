//! Visitors that are nobody's test code: curl, a browser, Python's WebSocket and gRPC libraries, load generators, before
//! nginx and a Python application.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tunnler_tests::ports;
use tunnler_tests::process::{Process, Scratch, run_ok, source_root};
use tunnler_tests::world::programs::tunnler;
use tunnler_tests::world::{Layout, World};

const HOST: &str = "mynode.tun.test";
const BIG: u64 = 200 << 20;
/// How much 200 MB each way may add to a program's memory, in KiB.
const GROWTH: u64 = 16 << 10;

/// A network with one client in front of nginx and a Python application.
struct Stage {
    world: World,
    client: Process,
    application: Process,
    _nginx: Process,
    root: PathBuf,
}

impl Stage {
    /// `mode` is what the configuration says of each service: who ends the visitor's TLS.
    async fn set(dir: &Path, mode: &str) -> Result<Self> {
        tunnler_transport::tls::install_provider();
        let mut world =
            World::start(dir, &Layout { relays: 1, ..Layout::default() }, |step| println!("{step}")).await?;
        let mut python = Command::new(python()?);
        python.arg(source_root().join("tests/visitors/upstream.py"));
        let mut application = Process::spawn("application", python, world.dir())?;
        let log = application.log().to_owned();
        let spoken = || std::future::ready(log_text(&log).contains('\n'));
        application.wait_until("listening", Duration::from_secs(20), spoken).await?;
        let listening: serde_json::Value =
            serde_json::from_str(log_text(&log).lines().next().unwrap_or_default())?;
        let (nginx_port, nginx) = nginx(world.dir()).await?;
        let (_, key) = world.funded_key("publisher").await?;
        world.register_name(&key, "mynode").await?;
        let mut config = String::from("names = [\"mynode\"]\n");
        for (name, target) in [
            ("page", listening["page"].to_string()),
            ("socket", listening["socket"].to_string()),
            ("rpc", format!("h2c://127.0.0.1:{}", listening["rpc"])),
            ("files", nginx_port.to_string()),
        ] {
            config += &format!("[[service]]\nname = \"{name}\"\ntarget = \"{target}\"\n{mode}\n");
        }
        let file = world.dir().join("tunnler.toml");
        std::fs::write(&file, config)?;
        let mut up = tunnler(&world, &key)?;
        up.arg("--state").arg(world.dir().join("client-state")).arg("up").arg(&file);
        let mut client = Process::spawn("client", up, world.dir())?;
        let log = client.log().to_owned();
        let serving = || std::future::ready(log_text(&log).contains("https://mynode"));
        client.wait_until("serving", Duration::from_secs(30), serving).await?;
        let root = world.dir().join("root.pem");
        std::fs::write(&root, world.pebble.issuing_root().await?)?;
        let it = Self { world, client, application, _nginx: nginx, root };
        World::wait_for("the page", Duration::from_secs(30), || async {
            it.curl(HOST, &["/protocol"]).await.is_ok_and(|text| text == "https")
        })
        .await?;
        Ok(it)
    }

    fn port(&self) -> u16 {
        self.world.relays[0].ingress().port()
    }

    fn ip(&self) -> String {
        self.world.relays[0].ingress().ip().to_string()
    }

    /// curl with the last argument as the path.
    async fn curl(&self, host: &str, arguments: &[&str]) -> Result<String> {
        let (path, options) = arguments.split_last().context("no path")?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "50", "--cacert"]).arg(&self.root);
        curl.args(["--resolve", &format!("{host}:{}:{}", self.port(), self.ip())]).args(options);
        run_ok(curl.arg(format!("https://{host}:{}{path}", self.port()))).await
    }

    async fn python(&self, part: &str) -> Result<serde_json::Value> {
        let mut visit = Command::new(python()?);
        visit.arg(source_root().join("tests/visitors/visit.py")).arg(part);
        visit.args([&self.ip(), &self.port().to_string(), HOST]).arg(&self.root);
        let silence = std::env::var("TUNNLER_SILENCE").unwrap_or("2".into());
        let visit = visit.arg(&silence).kill_on_drop(true).output();
        let patience = Duration::from_secs(60 + silence.parse::<u64>().context("TUNNLER_SILENCE")?);
        let visit = tokio::time::timeout(patience, visit).await??;
        ensure!(visit.status.success(), "{part}: {}", String::from_utf8_lossy(&visit.stderr));
        let said: serde_json::Value = serde_json::from_slice(&visit.stdout)?;
        println!("{part}: {said}");
        Ok(said)
    }
}

#[tokio::test]
async fn every_kind_of_visitor_is_served_by_the_client() -> Result<()> {
    every_kind_of_visitor_is_served("").await
}

#[tokio::test]
async fn every_kind_of_visitor_is_served_where_relays_end_tls() -> Result<()> {
    every_kind_of_visitor_is_served("tls = \"term\"").await
}

async fn every_kind_of_visitor_is_served(mode: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let it = Stage::set(scratch.path(), mode).await?;
    curl_moves_big_files_through_little_memory(&it).await?;
    hints_come_before_the_answer(&it).await?;
    it.python("websockets").await?;
    it.python("grpc").await?;
    let events = it.python("events").await?;
    // The bar is 50 ms; a busy machine gets ten times that, far below the 300 ms between events times five.
    ensure!(events["first_event_ms"].as_f64().is_some_and(|ms| ms < 500.0), "{events}");
    load_generators_see_no_failure(&it).await?;
    a_browser_reads_talks_and_listens(&it).await?;
    drop(it);
    scratch.done();
    Ok(())
}

async fn curl_moves_big_files_through_little_memory(it: &Stage) -> Result<()> {
    let big = it.world.dir().join("www/big");
    std::fs::File::create(&big)?.set_len(BIG)?;
    let (size, host) = (BIG.to_string(), format!("files.{HOST}"));
    let programs = [("client", &it.client), ("relay", &it.world.relays[0].process)];
    let before: Vec<u64> =
        programs.iter().map(|(_, program)| program.resident_kib()).collect::<Result<_>>()?;
    for version in ["--http1.1", "--http2"] {
        let measured =
            ["--output", "/dev/null", "--write-out", "%{http_version} %{size_download} %{speed_download}"];
        let down = it.curl(&host, &[&[version][..], &measured[..], &["/big"]].concat()).await?;
        println!("{version} down: {down}");
        ensure!(down.split(' ').nth(1) == Some(&size), "{down}");
        let (file, target) = (big.to_string_lossy().into_owned(), format!("/put{version}"));
        let measured =
            ["--upload-file", &file, "--write-out", "%{http_version} %{size_upload} %{speed_upload}"];
        let up = it.curl(&host, &[&[version][..], &measured[..], &[&target]].concat()).await?;
        println!("{version} up: {up}");
        let stored = std::fs::metadata(it.world.dir().join("www").join(&target[1..]))?.len();
        ensure!(stored == BIG, "{stored} bytes were stored");
    }
    for ((name, program), before) in programs.iter().zip(before) {
        let grown = program.resident_kib()?.saturating_sub(before);
        println!("{name}: {grown} KiB more after 200 MB four times");
        ensure!(grown < GROWTH, "the {name} grew by {grown} KiB");
    }
    let part = it.curl(&host, &["--range", "10-19", "--write-out", "%{http_code}", "/big"]).await?;
    ensure!(part.trim_start_matches('\0') == "206", "{part:?}");
    Ok(())
}

async fn hints_come_before_the_answer(it: &Stage) -> Result<()> {
    let said = it.curl(HOST, &["--http2", "--include", "/hinted"]).await?;
    let heads: Vec<&str> =
        said.lines().filter(|line| line.starts_with("HTTP/2 ")).map(str::trim_end).collect();
    ensure!(heads == ["HTTP/2 102", "HTTP/2 103", "HTTP/2 200"], "{said}");
    ensure!(
        said.contains("link: </style.css>; rel=preload; as=style\r\n") && said.ends_with("hinted"),
        "{said}"
    );
    let said = it.curl(HOST, &["--http1.1", "--include", "/hinted"]).await?;
    ensure!(said.starts_with("HTTP/1.1 200") && !said.contains("style.css"), "{said}");
    Ok(())
}

async fn load_generators_see_no_failure(it: &Stage) -> Result<()> {
    let mut hey = Command::new("hey");
    hey.args(["-n", "500", "-c", "10", "-host", HOST]);
    let said = run_ok(hey.arg(format!("https://{}:{}/protocol", it.ip(), it.port()))).await?;
    ensure!(said.contains("[200]\t500 responses"), "{said}");
    let mut h2load = Command::new("h2load");
    h2load.args(["--requests", "1000", "--clients", "4", "--max-concurrent-streams", "16"]);
    h2load.args(["--connect-to", &format!("{}:{}", it.ip(), it.port())]);
    let said = run_ok(h2load.arg(format!("https://files.{HOST}:{}/", it.port()))).await?;
    ensure!(said.contains("1000 succeeded, 0 failed, 0 errored"), "{said}");
    ensure!(said.contains("Application protocol: h2"), "{said}");
    Ok(())
}

async fn a_browser_reads_talks_and_listens(it: &Stage) -> Result<()> {
    // The browser trusts what its user trusts.
    let home = it.world.dir().join("browser");
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store)?;
    let database = format!("sql:{}", store.display());
    run_ok(Command::new("certutil").args(["-N", "--empty-password", "-d", &database])).await?;
    let mut trust = Command::new("certutil");
    trust.args(["-A", "-n", "test", "-t", "C,,", "-d", &database, "-i"]).arg(&it.root);
    run_ok(&mut trust).await?;
    let mut chromium = Command::new("chromium");
    chromium.env("HOME", &home).args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
    ]);
    chromium.args([&format!("--host-resolver-rules=MAP *.tun.test {}", it.ip()), "--no-proxy-server"]);
    chromium.arg(format!("--user-data-dir={}", home.join("profile").display()));
    chromium.arg(format!("https://{HOST}:{}/", it.port()));
    let mut browser = Process::spawn("browser", chromium, it.world.dir())?;
    let log = it.application.log().to_owned();
    let heard = || {
        let text = log_text(&log);
        let events = text.lines().filter(|line| line.starts_with("event=")).count();
        let rest = text.contains("page=https") && text.contains("socket=from a browser");
        std::future::ready(rest && events >= 3)
    };
    browser.wait_until("done with page, events and WebSocket", Duration::from_secs(40), heard).await
}

/// nginx that serves and stores files below `dir/www`, in the foreground.
async fn nginx(dir: &Path) -> Result<(u16, Process)> {
    let port = ports::local()?.port();
    std::fs::create_dir_all(dir.join("www"))?;
    std::fs::write(dir.join("www/index.html"), "<h1>nginx</h1>")?;
    let dir_text = dir.display();
    // Its workers would otherwise give up root for a user who may not read the test's directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; {user} pid {dir_text}/nginx.pid; error_log stderr; worker_processes 1; events {{}}
        http {{ access_log off; client_max_body_size 0; client_body_temp_path {dir_text}/nginx-body;
        proxy_temp_path {dir_text}/t1; fastcgi_temp_path {dir_text}/t2; uwsgi_temp_path {dir_text}/t3;
        scgi_temp_path {dir_text}/t4;
        server {{ listen 127.0.0.1:{port}; root {dir_text}/www; location / {{ dav_methods PUT; }} }} }}"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&file).arg("-p").arg(dir);
    let mut process = Process::spawn("nginx", command, dir)?;
    let up = || async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
    process.wait_until("listening", Duration::from_secs(10), up).await?;
    Ok((port, process))
}

/// The Python environment that scripts/prepare makes.
fn python() -> Result<PathBuf> {
    let tools = std::env::var_os("TUNNLER_TOOLS").context("TUNNLER_TOOLS is not set; use scripts/test")?;
    Ok(PathBuf::from(tools).join("python/bin/python"))
}

fn log_text(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}
