//! The demonstration: the main job end to end, as a story of steps whose measurements make a [`Report`].
//!
//! Asserts nothing about speed; a step that does not do what it should makes the report fail.

mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

pub use report::{Measure, Report};

use crate::load;
use crate::process::Signal;
use crate::visitor::Visitor;
use crate::web::{self, BIG_FILE, SECRET_PHRASE, Web};
use crate::world::programs::{Client, tunnler_ok};
use crate::world::{Layout, World, ZONE};

const LABEL: &str = "mynode";

/// What the command line asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Leave everything running until Ctrl-C.
    pub keep: bool,
    /// Fewer seconds of visits.
    pub smoke: bool,
    /// JSON on standard output.
    pub json: bool,
    /// State directory; a temporary one by default.
    pub dir: Option<PathBuf>,
}

/// Runs the demonstration.
pub async fn run(options: Options) -> Result<Report> {
    let temporary = match &options.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tunnler-demo-").tempdir()?),
    };
    let dir = options
        .dir
        .clone()
        .or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()))
        .expect("one of both");
    let story = Story::new();
    let result = tokio::select! {
        result = tell(&story, &dir, &options) => result,
        // Dropping the story stops every process it started.
        () = interrupted(), if !options.keep => Err(anyhow::anyhow!("interrupted")),
    };
    story.finish();
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            // The logs are what one wants to see now.
            if let Some(dir) = temporary {
                eprintln!("logs are kept in {}", dir.keep().display());
            }
            return Err(error);
        }
    };
    // With --keep it has been printed already.
    if !options.keep {
        print_report(&report, &options)?;
    }
    Ok(report)
}

fn print_report(report: &Report, options: &Options) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// Ctrl-C, or the polite signal of whoever started this.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn tell(story: &Story, dir: &std::path::Path, options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let begun = Instant::now();
    let mut world = World::start(dir, &Layout::default(), |step| story.step(step)).await?;
    report.time("network up: ledger, contracts, CA, DNS, two relays with certificates", begun.elapsed());

    story.step("starting a web server and publishing it");
    let web = Web::start().await?;
    let (_, key) = world.funded_key("publisher").await?;
    world.register_name(&key, LABEL).await?;
    let begun = Instant::now();
    let client = world.publish("client", &key, &web.address().to_string(), LABEL).await?;
    let visitor = world.visitor().await?;
    let host = client.host().to_owned();
    World::wait_for("the published page", Duration::from_secs(15), || async {
        visitor.get(&host, "/").await.is_ok()
    })
    .await?;
    report.time("from `tunnler http` to the first page, certificate included", begun.elapsed());

    story.step("visiting as a stranger");
    visit_everything(&visitor, &host, &client, &mut report).await?;

    story.step("publishing the name as the account's home_domain");
    tunnler_ok(&world, &key, &["home-domain", "set", &host]).await?;
    let shown = tunnler_ok(&world, &key, &["home-domain", "show"]).await?;
    report.check("home_domain on the ledger is the name", shown.contains(&host));

    failover(story, &mut world, &visitor, &host, Signal::Kill, options, &mut report).await?;
    if !options.smoke {
        story.step("starting the dead relay again");
        let dead = dead_relay(&mut world)?;
        world_restart(&mut world, dead).await?;
        both_named(&world, &visitor, &host).await?;
        failover(story, &mut world, &visitor, &host, Signal::Stop, options, &mut report).await?;
    }

    if options.keep {
        story.finish();
        print_report(&report, options)?;
        look_around(&world, &client, &visitor).await?;
        interrupted().await;
    }
    Ok(report)
}

async fn visit_everything(visitor: &Visitor, host: &str, client: &Client, report: &mut Report) -> Result<()> {
    let page = visitor.get(host, "/").await?;
    report.check(
        "the page arrives under a certificate of the CA",
        String::from_utf8_lossy(&page.body).contains(SECRET_PHRASE),
    );
    let chain = std::fs::read(client.state().join("certs").join(host).join("chain.pem"));
    let chain = chain.context("the client's certificate is not in its state directory")?;
    let own = rustls_pki_types::pem::PemObject::from_pem_slice(&chain)
        .map(|leaf: rustls_pki_types::CertificateDer| leaf == page.leaf);
    report.check("the visitor's TLS ends at the client, not at a relay", own.unwrap_or(false));

    let big = web::big_file();
    let begun = Instant::now();
    let file = download(visitor, host).await?;
    report.rate("50 MB down", BIG_FILE, begun.elapsed());
    report.check("50 MB down are byte-identical", file == big);
    let begun = Instant::now();
    let put = visitor.put(host, "/upload", big.clone()).await?;
    report.rate("50 MB up", BIG_FILE, begun.elapsed());
    report.check("50 MB up are byte-identical", put.body == web::digest(&big).as_bytes());

    let cookies = visitor.get(host, "/cookies").await?;
    report.check("repeated Set-Cookie survive", cookies.headers.get_all("set-cookie").iter().count() == 2);
    report.check("WebSocket echo at the public name", visitor.echo(host, "/echo", "hello").await? == "hello");
    Ok(())
}

async fn download(visitor: &Visitor, host: &str) -> Result<bytes::Bytes> {
    Ok(visitor.get(host, "/file").await?.body)
}

/// Takes the relay away that DNS names first, in the middle of steady visits.
async fn failover(
    story: &Story,
    world: &mut World,
    visitor: &Visitor,
    host: &str,
    signal: Signal,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let (before, after) = if options.smoke { (2, 10) } else { (5, 30) };
    let what = if signal == Signal::Kill { "SIGKILL" } else { "SIGSTOP" };
    story.step(&format!(
        "20 visits a second for {} s; {what} of the relay in use after {before} s",
        before + after
    ));
    let used = visitor.get(host, "/").await?.via;
    let index =
        world.relays.iter().position(|relay| relay.ingress() == used).context("an unknown relay answered")?;
    let visits = tokio::spawn({
        let (visitor, host) = (visitor.clone(), host.to_owned());
        async move {
            load::visit(&visitor, &host, "/", SECRET_PHRASE, 20, Duration::from_secs(before + after)).await
        }
    });
    tokio::time::sleep(Duration::from_secs(before)).await;
    world.relays[index].process.signal(signal)?;
    let withdrawn = World::wait_for("withdrawal from DNS", Duration::from_secs(20), || async {
        visitor.addresses(host).await.is_ok_and(|found| !found.contains(&used.ip()) && !found.is_empty())
    })
    .await;
    let visits = visits.await?;
    match withdrawn {
        Ok(time) => report.time(&format!("{what}: DNS stops naming the relay"), time),
        Err(_) => report.check(&format!("{what}: DNS stops naming the relay"), false),
    }
    report.check(&format!("{what}: no visit failed"), visits.failed == 0 && visits.made > 0);
    report.visits(what, visits);
    Ok(())
}

fn dead_relay(world: &mut World) -> Result<usize> {
    let dead = world.relays.iter_mut().position(|relay| !relay.process.runs());
    dead.context("every relay still runs")
}

async fn world_restart(world: &mut World, index: usize) -> Result<()> {
    let mut relay = world.relays.remove(index);
    let restarted = relay.restart(world, &format!("relay{}", index + 1)).await;
    world.relays.insert(index, relay);
    restarted
}

async fn both_named(world: &World, visitor: &Visitor, host: &str) -> Result<()> {
    let all = world.relays.len();
    World::wait_for("all relays named again", Duration::from_secs(60), || async {
        visitor.addresses(host).await.is_ok_and(|found| found.len() == all)
    })
    .await
    .map(drop)
}

async fn look_around(world: &World, client: &Client, visitor: &Visitor) -> Result<()> {
    let roots = world.dir().join("ca-root.pem");
    std::fs::write(&roots, world.pebble.issuing_root().await?)?;
    let addresses = visitor.addresses(client.host()).await?;
    ensure!(!addresses.is_empty(), "the name has no address");
    let (port, dns) = (world.network().ingress_port, world.dns[0].address());
    println!("\nEverything is still running. Look around, then press Ctrl-C:");
    println!("  dig @{} -p {} {} A", dns.ip(), dns.port(), client.host());
    println!("  dig @{} -p {} {} CAA", dns.ip(), dns.port(), client.host());
    println!(
        "  curl --cacert {} --resolve {}:{port}:{} https://{}:{port}/",
        roots.display(),
        client.host(),
        addresses[0],
        client.host()
    );
    println!("  target/debug/tunnler --network {} relays", world.network_file().display());
    println!("  target/debug/tunnler --network {} name resolve {LABEL}", world.network_file().display());
    println!(
        "  stellar contract invoke --network-passphrase '{}' --rpc-url {} --source-account {} --id {} -- resolve --name {LABEL}",
        world.network().passphrase,
        world.localnet.url(),
        world.admin().address(),
        world.network().namespace
    );
    println!("  logs and state: {} (zone {ZONE})", world.dir().display());
    Ok(())
}

/// Progress on standard error.
struct Story {
    bar: ProgressBar,
    begun: Instant,
}

impl Story {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}").expect("a template"),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, begun: Instant::now() }
    }

    fn step(&self, what: &str) {
        let done = self.bar.message();
        if !done.is_empty() {
            self.line(&done);
        }
        self.bar.set_message(what.to_owned());
    }

    fn finish(&self) {
        let done = self.bar.message();
        if !done.is_empty() {
            self.line(&done);
            self.bar.set_message("");
        }
        self.bar.finish_and_clear();
    }

    /// One line per finished step, also where standard error is no terminal.
    fn line(&self, done: &str) {
        let line = format!("✓ {:>5.1} s  {done}", self.begun.elapsed().as_secs_f64());
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }
}
