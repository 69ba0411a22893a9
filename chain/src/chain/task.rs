//! The task of a running reader: makes the calls the state machine wants, feeds it their outcomes, publishes what comes
//! out and keeps it on disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tunnler_protocol::directory::Directory;
use tunnler_protocol::name::Label;
use tunnler_protocol::time::UnixSeconds;

use super::ChainConfig;
use super::alarms::Alarms;
use crate::contract::Contracts;
use crate::error::ChainError;
use crate::fetch::fetch;
use crate::reader::cell::EndpointId;
use crate::reader::{Answer, Call, Policy, Reader};
use crate::rpc::{Failure, Rpc};
use crate::state::{Opened, Rest, StateFile};
use crate::status::{ChainStatus, EndpointStatus};

/// The least time between two writes of the projection: what is lost in a crash is read again from the endpoints.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How many times longer than a write took the next one is put off, so that a large projection is not always written.
const WRITE_SHARE: u32 = 200;

/// What handles ask for.
pub(super) enum Command {
    Follow(Vec<Label>, Option<oneshot::Sender<Arc<Directory>>>),
    Unfollow(Vec<Label>),
    Refresh,
    Shutdown,
}

/// The task.
pub(super) struct Task {
    reader: Reader,
    policy: Policy,
    /// What the reader has still to be given of what was kept.
    rest: Option<Rest>,
    endpoints: Vec<Rpc>,
    contracts: Contracts,
    quorum: usize,
    calls: FuturesUnordered<BoxFuture<'static, Outcome>>,
    commands: mpsc::Receiver<Command>,
    waiting: Vec<(Vec<Label>, oneshot::Sender<Arc<Directory>>)>,
    directory: watch::Sender<Option<Arc<Directory>>>,
    status: watch::Sender<ChainStatus>,
    alarms: Alarms,
    keeper: Option<Keeper>,
}

/// A call that came back.
type Outcome = (EndpointId, Call, Result<Answer, Failure>);

/// Writes the projection now and then, off the task.
struct Keeper {
    file: StateFile,
    /// When it last began to write; the first projection is written at once.
    saved: Option<Instant>,
    unsaved: bool,
    /// Tells how long it took.
    writing: Option<JoinHandle<Duration>>,
    pause: Duration,
}

/// The receivers of a new task.
type Published = (Task, watch::Receiver<Option<Arc<Directory>>>, watch::Receiver<ChainStatus>);

impl Task {
    pub(super) fn new(
        config: ChainConfig,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Published, ChainError> {
        let network = &config.network;
        let endpoints: Vec<Rpc> = network.rpc.iter().map(|url| Rpc::new(url)).collect::<Result<_, _>>()?;
        let file = config.state.as_deref();
        let file = file.map(|path| StateFile::in_directory(path, network, config.names)).transpose()?;
        let opened = file.as_ref().map(StateFile::open).transpose()?.flatten();
        let (restored, rest) = opened.map(|Opened { directory, rest }| (Arc::new(directory), rest)).unzip();
        let policy = Policy {
            endpoints: endpoints.len(),
            quorum: network.quorum,
            passphrase: network.passphrase.clone(),
            poll: config.poll,
            names: config.names,
        };
        let now = Instant::now();
        let reader = Reader::new(policy.clone(), None, rand::random(), now);
        restored.as_deref().inspect(|directory| measure(directory));
        let (directory, directories) = watch::channel(restored);
        let status = status(&reader, directory.borrow().as_deref(), &endpoints, network.quorum, now);
        let (status, statuses) = watch::channel(status);
        let task = Self {
            reader,
            policy,
            rest,
            endpoints,
            contracts: Contracts::of(network)?,
            quorum: network.quorum,
            calls: FuturesUnordered::new(),
            commands,
            waiting: Vec::new(),
            directory,
            status,
            alarms: Alarms::default(),
            keeper: file.map(Keeper::new),
        };
        Ok((task, directories, statuses))
    }

    /// Runs until it is told to shut down or nobody holds a handle.
    pub(super) async fn run(mut self) {
        self.restore().await;
        loop {
            self.make_calls();
            self.publish();
            let now = Instant::now();
            let due = self.reader.due_at(now).unwrap_or(now + Duration::from_secs(60));
            tokio::select! {
                Some((endpoint, call, outcome)) = self.calls.next() => {
                    self.reader.handle(endpoint, call, outcome, Instant::now());
                }
                command = self.commands.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.obey(command),
                },
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
        self.end().await;
    }

    /// Gives the reader what was kept, which the directory is served without: decoding it all takes a while.
    async fn restore(&mut self) {
        let (Some(rest), Some(keeper)) = (self.rest.take(), &self.keeper) else { return };
        let (file, policy, seed) = (keeper.file.clone(), self.policy.clone(), rand::random());
        let restored = tokio::task::spawn_blocking(move || match rest.read() {
            Ok(kept) => Some(Reader::new(policy, Some(kept), seed, Instant::now())),
            Err(problem) => {
                if let Err(error) = file.set_aside(&problem) {
                    tracing::error!(%error, "the damaged projection stays in its place");
                }
                None
            }
        });
        match restored.await {
            Ok(Some(reader)) => self.reader = reader,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "what was kept could not be read; reading everything again")
            }
        }
    }

    fn make_calls(&mut self) {
        let now = Instant::now();
        for (id, endpoint) in self.endpoints.iter().enumerate() {
            while let Some(call) = self.reader.next_call(id, now) {
                let (rpc, contracts) = (endpoint.clone(), self.contracts);
                self.calls.push(Box::pin(async move {
                    let outcome = fetch(&rpc, &contracts, &call).await;
                    (id, call, outcome)
                }));
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Follow(labels, answer) => {
                for label in &labels {
                    self.reader.follow(label.clone());
                }
                self.waiting.extend(answer.map(|answer| (labels, answer)));
            }
            Command::Unfollow(labels) => labels.iter().for_each(|label| self.reader.unfollow(label)),
            Command::Refresh => self.reader.refresh(now),
            Command::Shutdown => {}
        }
    }

    fn publish(&mut self) {
        let now = Instant::now();
        if let Some(directory) = self.reader.snapshot(now) {
            measure(&directory);
            self.directory.send_replace(Some(directory));
            if let Some(keeper) = &mut self.keeper {
                keeper.unsaved = true;
            }
        }
        self.answer_waiting(now);
        if let Some(keeper) = &mut self.keeper {
            keeper.save_if_due(&self.reader, self.directory.borrow().as_ref(), now);
        }
        let served = self.directory.borrow().clone();
        let status = status(&self.reader, served.as_deref(), &self.endpoints, self.quorum, now);
        let usable = status.endpoints.iter().filter(|endpoint| endpoint.usable).count();
        metrics::gauge!("chain_usable_endpoints").set(usable as f64);
        metrics::gauge!("chain_disputed_entries").set(status.disputed as f64);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.alarms.tell(&status.alarms(UnixSeconds(clock)), now);
        self.status.send_if_modified(|old| {
            let modified = *old != status;
            *old = status;
            modified
        });
    }

    /// Tells those who wait for labels that have been read, once what was read is published.
    fn answer_waiting(&mut self, now: Instant) {
        let Some(directory) = self.directory.borrow().clone() else { return };
        if self.reader.has_news() {
            return;
        }
        let reader = &self.reader;
        let read = |(labels, _): &mut (Vec<Label>, _)| labels.iter().all(|label| reader.has_read(label, now));
        for (_, answer) in self.waiting.extract_if(.., read) {
            // An error means that the one who asked has given up.
            let _ = answer.send(directory.clone());
        }
        self.waiting.retain(|(_, answer)| !answer.is_closed());
    }

    async fn end(self) {
        let Some(mut keeper) = self.keeper else { return };
        if let Some(writing) = keeper.writing.take() {
            // A failed write has been logged by itself; the last one counts.
            let _ = writing.await;
        }
        keeper.save(&self.reader, self.directory.borrow().as_ref());
        if let Some(writing) = keeper.writing {
            let _ = writing.await;
        }
    }
}

impl Keeper {
    fn new(file: StateFile) -> Self {
        Self { file, saved: None, unsaved: false, writing: None, pause: SAVE_EVERY }
    }

    fn save_if_due(&mut self, reader: &Reader, served: Option<&Arc<Directory>>, now: Instant) {
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if busy || !self.unsaved {
            return;
        }
        if let Some(Ok(took)) = self.writing.take().and_then(FutureExt::now_or_never) {
            self.pause = SAVE_EVERY.max(took * WRITE_SHARE);
        }
        if self.saved.is_none_or(|saved| now.duration_since(saved) >= self.pause) {
            self.saved = Some(now);
            self.save(reader, served);
        }
    }

    fn save(&mut self, reader: &Reader, served: Option<&Arc<Directory>>) {
        let (Some(kept), Some(served)) = (reader.keep(), served.cloned()) else { return };
        self.unsaved = false;
        let file = self.file.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            if let Err(error) = file.save(&kept, &served) {
                tracing::error!(%error, "the chain's projection was not kept");
            }
            started.elapsed()
        }));
    }
}

fn measure(directory: &Directory) {
    metrics::gauge!("chain_ledger").set(f64::from(directory.ledger.sequence));
    metrics::gauge!("chain_ledger_closed_at_seconds").set(directory.ledger.closed_at.0 as f64);
}

fn status(
    reader: &Reader,
    served: Option<&Directory>,
    endpoints: &[Rpc],
    quorum: usize,
    now: Instant,
) -> ChainStatus {
    let (ledger, revisions, pending, disputed, ignored_records) = reader.progress();
    let endpoint = |(id, (rpc, state)): (usize, (&Rpc, &crate::reader::endpoint::Endpoint))| EndpointStatus {
        url: rpc.url().to_owned(),
        ledger: state.ledger,
        usable: reader.is_usable(id, now),
        last_error: state.set_aside.clone().or_else(|| state.last_error.clone()),
        contradictions: state.contradictions,
        calls: state.calls,
    };
    ChainStatus {
        endpoints: endpoints.iter().zip(reader.endpoints()).enumerate().map(endpoint).collect(),
        quorum,
        ledger: ledger.or(served.map(|directory| directory.ledger)),
        revisions: revisions
            .map(|[registry, namespace]| (registry, namespace))
            .or(served.map(|directory| (directory.registry_revision, directory.namespace_revision))),
        pending,
        disputed,
        ignored_records,
    }
}
