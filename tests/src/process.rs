//! Child processes with a log file, a readiness check and signals. Dropping one kills it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

/// Where the workspace's programs lie: beside this executable or one directory up.
pub fn program(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let found = me.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built; run `cargo build --workspace --bins`"))
}

/// The root of the source tree.
pub fn source_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the workspace")
}

/// A temporary directory that stays when its test fails, because its logs are what one wants to see then.
#[derive(Debug)]
pub struct Scratch(Option<tempfile::TempDir>);

impl Scratch {
    /// Makes a new one.
    pub fn new() -> Result<Self> {
        Ok(Self(Some(tempfile::Builder::new().prefix("tunnler-test-").tempdir()?)))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("taken only by done and drop").path()
    }

    /// All went well: remove it.
    pub fn done(mut self) {
        self.0.take();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            println!("logs are kept in {}", dir.keep().display());
        }
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A signal this harness sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Die at once.
    Kill,
    /// Freeze: connections stay open, nothing answers.
    Stop,
    /// Go on after [`Signal::Stop`].
    Continue,
    /// Please finish.
    Terminate,
}

impl Process {
    /// Starts `command` with standard output and error in `dir/NAME.log`.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Polls `ready` until it says yes; an exit of the process or the deadline is an error that shows the log's end.
    pub async fn wait_until<F>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut ready: impl FnMut() -> F,
    ) -> Result<()>
    where
        F: Future<Output = bool>,
    {
        let started = Instant::now();
        while !ready().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before {what}:\n{}", self.name, self.tail());
            }
            ensure!(
                started.elapsed() < deadline,
                "{} not {what} in {deadline:?}:\n{}",
                self.name,
                self.tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(id)?).context("no pid")?;
        let signal = match signal {
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
            Signal::Terminate => rustix::process::Signal::TERM,
        };
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// SIGKILL, and waits until its locks and ports are free.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.wait(Duration::from_secs(10)).await.map(drop)
    }

    /// Waits for the end.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let waited = tokio::time::timeout(deadline, self.child.wait()).await;
        Ok(waited.with_context(|| format!("{} still runs after {deadline:?}", self.name))??)
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// What it started ends with it: a master that is killed leaves its workers behind.
impl Drop for Process {
    fn drop(&mut self) {
        let Some(id) = self.child.id() else { return };
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            if let Some(child) = child.parse().ok().and_then(rustix::process::Pid::from_raw) {
                // An error means that it has ended already.
                let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
            }
        }
    }
}

/// What a finished command said.
#[derive(Debug)]
pub struct Output {
    /// Exit code; −1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end, at most a minute.
pub async fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.with_context(|| format!("{command:?} still runs after a minute"))??;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command that must succeed; returns its standard output, trimmed.
pub async fn run_ok(command: &mut Command) -> Result<String> {
    let output = run(command).await?;
    ensure!(output.code == 0, "{command:?} failed ({}):\n{}{}", output.code, output.stdout, output.stderr);
    Ok(output.stdout.trim().to_owned())
}
