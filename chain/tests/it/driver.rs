//! Programs of their own, for what only several processes show: this test binary, started again in a role. What they
//! have to say goes to standard error, one JSON object a line, because the test harness owns standard output.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tunnler_chain::{Chain, ChainConfig, FollowedNames, Writer, descriptor};
use tunnler_protocol::directory::Directory;
use tunnler_protocol::network::Network;

use crate::world::{POLL, key};

const ROLE: &str = "TUNNLER_TEST_ROLE";
const DESCRIPTOR: &str = "TUNNLER_TEST_DESCRIPTOR";
/// How long a program may take for an answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads the chain, and tells about it when asked.
    Follow,
    /// Sends so many transactions with the key of seed 2, asked or not, then tells how many.
    Send(usize),
}

/// A running program. Dropping it kills it.
pub struct Program {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStderr>>,
}

impl Program {
    /// Starts it on `network`, whose descriptor is written into `directory`.
    pub fn start(role: Role, network: &Network, directory: &Path) -> Self {
        let descriptor = directory.join("network.toml");
        std::fs::write(&descriptor, network.to_toml()).expect("written");
        let role = match role {
            Role::Follow => "follow".to_owned(),
            Role::Send(count) => format!("send {count}"),
        };
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "driver::a_program_plays_its_role", "--nocapture"])
            .env(ROLE, role)
            .env(DESCRIPTOR, descriptor)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let answers = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { questions: child.stdin.take().expect("piped"), answers, child }
    }

    /// Its next word.
    pub async fn answer(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.answers.next_line()).await.expect("in time");
        let line = line.expect("readable").expect("it still runs");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the program said: {line}"))
    }

    /// Asks it how things are.
    pub async fn ask(&mut self) -> Value {
        self.questions.write_all(b"\n").await.expect("it listens");
        self.answer().await
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it still runs")
    }
}

/// No test unless it was started as a program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let network = PathBuf::from(std::env::var_os(DESCRIPTOR).expect("a descriptor"));
    let network = descriptor::load(network.to_str().expect("UTF-8")).expect("a descriptor");
    match role.split_once(' ') {
        None => follow(network).await,
        Some((_, count)) => send(network, count.parse().expect("a number")).await,
    }
}

async fn follow(network: Network) {
    let config = ChainConfig { poll: POLL, ..ChainConfig::new(network, FollowedNames::All) };
    let chain = Chain::start(config).expect("starts");
    let changes = Arc::new(AtomicUsize::new(0));
    let (counter, mut news) = (changes.clone(), chain.handle().subscribe());
    tokio::spawn(async move {
        let mut last: Option<Arc<Directory>> = None;
        while news.changed().await.is_ok() {
            let Some(next) = news.borrow_and_update().clone() else { continue };
            let new = last.map_or(0, |last| next.changes_since(&last).len());
            counter.fetch_add(new, Ordering::Relaxed);
            last = Some(next);
        }
    });
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    while questions.next_line().await.expect("readable").is_some() {
        let directory = chain.handle().directory();
        let names = directory.iter().flat_map(|directory| &directory.names);
        let targets: serde_json::Map<String, Value> =
            names.map(|(label, record)| (label.to_string(), json!(record.target))).collect();
        let told = json!({
            "revision": directory.as_ref().map(|directory| directory.namespace_revision),
            "targets": targets,
            "changes": changes.load(Ordering::Relaxed),
        });
        eprintln!("{told}");
    }
}

async fn send(network: Network, count: usize) {
    let writer = Writer::new(network, key(2)).expect("writer");
    for turn in 0..count {
        let domain = format!("p{}-{turn}.test", std::process::id()).parse().expect("a host");
        writer.set_home_domain(Some(&domain)).send().await.expect("sent");
    }
    eprintln!("{}", json!({ "sent": count }));
}

/// Resident memory of a process (a number or `self`), in bytes.
pub fn resident(process: &str) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
