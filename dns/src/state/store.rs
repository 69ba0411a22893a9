//! Presences on disk, so that a restart knows who was live and lets nothing older come back.
//!
//! A log of signed texts, one a line. Replaying it is a merge, so order, repetition and a torn last line do not matter,
//! and every line is verified again: the file is not trusted. Rewritten when most of it is outdated. Never holds keys.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tunnler_protocol::presence::{MAX_LEN, Presence, UnverifiedPresence};

const FILE: &str = "presences";
/// Writes that may wait for a slow disk.
const QUEUE: usize = 64;
/// Lines beyond twice what is remembered before the log is rewritten.
const SLACK: usize = 1024;

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("state directory {path}: {source}; check that it exists and is writable", path = path.display())]
pub struct StoreError {
    path: PathBuf,
    source: std::io::Error,
}

/// The log, written by a thread of its own so that a slow disk delays no answer.
#[derive(Debug)]
pub struct Store {
    writer: SyncSender<Job>,
    thread: JoinHandle<()>,
    lines: usize,
    remembered: usize,
}

enum Job {
    Append(Vec<Arc<Presence>>),
    Rewrite(Vec<Arc<Presence>>),
}

impl Store {
    /// Opens the log in `dir` and reads back every presence in it that still verifies.
    pub fn open(dir: &Path) -> Result<(Self, Vec<Arc<Presence>>), StoreError> {
        let failed = |source| StoreError { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(FILE);
        let (kept, lines) = read(&path).map_err(failed)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        // A torn last line must not swallow the next one.
        if lines > 0 {
            file.write_all(b"\n").map_err(failed)?;
        }
        let (writer, jobs) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("presence log".into()).spawn(move || {
            for job in jobs {
                let result = match job {
                    Job::Append(presences) => append(&mut file, &presences),
                    Job::Rewrite(presences) => rewrite(&path, &presences).map(|new| file = new),
                };
                if let Err(error) = result {
                    metrics::counter!("tunnler_dns_state_write_failures_total").increment(1);
                    tracing::error!(path = %path.display(), %error, "presences are not saved");
                }
            }
        });
        let thread = thread.map_err(failed)?;
        Ok((Self { writer, thread, lines, remembered: kept.len() }, kept))
    }

    /// Adds `presences`; `all` is asked when the log has grown enough to be rewritten.
    pub fn append(&mut self, presences: Vec<Arc<Presence>>, all: impl FnOnce() -> Vec<Arc<Presence>>) {
        self.lines += presences.len();
        let job = if self.lines > 2 * self.remembered + SLACK {
            let all = all();
            (self.lines, self.remembered) = (all.len(), all.len());
            Job::Rewrite(all)
        } else {
            Job::Append(presences)
        };
        if let Err(TrySendError::Full(_)) = self.writer.try_send(job) {
            metrics::counter!("tunnler_dns_state_write_failures_total").increment(1);
            tracing::error!("the disk is too slow: some presences are not saved");
            // The next write saves everything.
            self.remembered = 0;
            self.lines = SLACK + 1;
        }
    }

    /// Waits until everything handed over is written.
    pub async fn close(self) {
        let Self { writer, thread, .. } = self;
        drop(writer);
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

fn read(path: &Path) -> std::io::Result<(Vec<Arc<Presence>>, usize)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let (mut kept, mut lines) = (Vec::new(), 0);
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        lines += 1;
        let text = std::str::from_utf8(&line).ok().filter(|text| !text.is_empty() && text.len() <= MAX_LEN);
        let presence = text.and_then(|text| UnverifiedPresence::parse_of_any_time(text).ok()?.verify().ok());
        kept.extend(presence.map(Arc::new));
    }
    Ok((kept, lines))
}

fn append(file: &mut File, presences: &[Arc<Presence>]) -> std::io::Result<()> {
    file.write_all(lines(presences).as_bytes())
}

fn rewrite(path: &Path, presences: &[Arc<Presence>]) -> std::io::Result<File> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(lines(presences).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    OpenOptions::new().append(true).open(path)
}

fn lines(presences: &[Arc<Presence>]) -> String {
    let mut text = String::new();
    for presence in presences {
        text.push_str(presence.text());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{claims, signed};

    #[tokio::test]
    async fn what_was_written_comes_back_and_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = (101..105).map(|n| signed(n, claims(n, &[], &[1]))).collect();
        let (mut store, before) = Store::open(dir.path()).unwrap();
        assert!(before.is_empty());
        store.append(all.clone(), Vec::new);
        store.close().await;
        let path = dir.path().join(FILE);
        let mut text = fs::read_to_string(&path).unwrap();
        // One signature broken, one line torn.
        let torn = text.len() - 100;
        text.truncate(torn);
        let broken = text.find('\n').unwrap() - 5;
        text.replace_range(broken..=broken, if &text[broken..=broken] == "A" { "B" } else { "A" });
        fs::write(&path, text).unwrap();
        let (mut store, kept) = Store::open(dir.path()).unwrap();
        assert_eq!(kept, all[1..3]);
        store.append(vec![all[3].clone()], Vec::new);
        store.close().await;
        let (store, kept) = Store::open(dir.path()).unwrap();
        assert_eq!(kept, all[1..]);
        store.close().await;
    }

    #[tokio::test]
    async fn the_log_is_rewritten_when_it_is_mostly_outdated() {
        let dir = tempfile::tempdir().unwrap();
        let one = signed(101, claims(101, &[], &[1]));
        let (mut store, _) = Store::open(dir.path()).unwrap();
        for _ in 0..40 {
            store.append(vec![one.clone(); 32], || vec![one.clone()]);
        }
        store.close().await;
        let lines = fs::read_to_string(dir.path().join(FILE)).unwrap().lines().count();
        assert!(lines < SLACK, "{lines} lines for one presence");
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let error = Store::open(Path::new("/proc/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere") && error.contains("writable"), "{error}");
    }
}
