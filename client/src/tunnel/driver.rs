//! Drives the agent: turns what happens into its events and its actions into dials, presences and closes. Decides
//! nothing itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnler_chain::Chain;
use tunnler_edge::Certificates;
use tunnler_protocol::agent::{Action, Agent, Config, Event, Loss, State, Visit};
use tunnler_protocol::directory::{Directory, Relay};
use tunnler_protocol::instance::SessionId;
use tunnler_protocol::selection::Policy;
use tunnler_protocol::{Address, HostName, Label, UnixSeconds};
use tunnler_transport::{ConnectOptions, Login, MemoryBudget, RelayTarget, SessionControl, Workers};

use super::certificates::{Keeping, Overview};
use super::clock::{Clock, Reading};
use super::door::Door;
use super::ports::Ports;
use super::presence::{self, Signer};
use super::probe::Shown;
use super::relayed::Looking;
use super::session::{self, Report};
use super::urls::Urls;
use super::{TunnelConfig, TunnelEvent, check_name, probe};
use crate::state::StateDir;
use crate::status::{RelayStatus, Status};

const REPORTS: usize = 64;
const TICK: Duration = Duration::from_secs(1);
/// What may lie unread in all sessions together, in bytes.
const UNREAD: usize = 256 * 1024 * 1024;
/// A relay that asks for what it may not have is told of so often; it could ask without end.
const REFUSALS_TOLD: u32 = 8;
/// Visitors have this long to finish when the user ends the program.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What a driver works with.
pub(super) struct Parts {
    pub(super) chain: Chain,
    pub(super) signer: Arc<Signer>,
    pub(super) door: Arc<Door>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) urls: Urls,
    pub(super) events: broadcast::Sender<TunnelEvent>,
    pub(super) status: watch::Sender<Status>,
    pub(super) workers: Workers,
}

/// The task behind a [`super::Tunnel`].
pub(super) struct Driver {
    agent: Agent,
    chain: Chain,
    state: Arc<StateDir>,
    signer: Arc<Signer>,
    door: Arc<Door>,
    certificates: Arc<Certificates>,
    ports: Ports,
    urls: Urls,
    events: broadcast::Sender<TunnelEvent>,
    status: watch::Sender<Status>,
    session: SessionId,
    options: ConnectOptions,
    policy: Policy,
    sessions: BTreeMap<Address, Held>,
    problems: BTreeMap<Address, String>,
    tasks: JoinSet<()>,
    /// Where sessions and their visitors live.
    workers: Workers,
    reports: mpsc::Sender<Report>,
    labels: Vec<Label>,
    lost_names: BTreeMap<Label, String>,
    /// What relays asked for in vain.
    refusals: BTreeMap<Address, u32>,
    told: Option<State>,
    serving_told: bool,
}

struct Held {
    control: SessionControl,
    closing: bool,
}

impl Driver {
    pub(super) fn new(config: &TunnelConfig, parts: Parts) -> Self {
        let Parts { chain, signer, door, certificates, urls, events, status, workers } = parts;
        let agent =
            Agent::new(Config { sessions: config.sessions, policy: config.policy(), seed: rand::random() });
        Self {
            agent,
            chain,
            state: config.state.clone(),
            signer,
            door,
            certificates,
            ports: Ports::open(config),
            urls,
            events,
            status,
            session: SessionId(rand::random()),
            options: ConnectOptions { roots: None, budget: MemoryBudget::new(UNREAD) },
            policy: config.policy(),
            sessions: BTreeMap::new(),
            problems: BTreeMap::new(),
            tasks: JoinSet::new(),
            workers,
            // Replaced by `run`, which owns the receiving end.
            reports: mpsc::channel(1).0,
            labels: config.labels.clone(),
            lost_names: BTreeMap::new(),
            refusals: BTreeMap::new(),
            told: None,
            serving_told: false,
        }
    }

    /// Runs until `stop` is cancelled and the sessions are closed.
    pub(super) async fn run(mut self, keeping: Keeping, stop: CancellationToken) {
        let (reports, mut incoming) = mpsc::channel(REPORTS);
        self.reports = reports;
        let overview = match keeping.load() {
            Ok(overview) => overview,
            Err(error) => {
                self.warn(error.to_string());
                return;
            }
        };
        let mut certificates: Overview = overview.subscribe();
        let overview = Arc::new(overview);
        if !self.signer.relayed().is_empty() {
            let looking = Looking {
                hosts: self.signer.relayed().to_vec(),
                chain: self.chain.handle(),
                policy: self.policy.addresses,
                status: self.status.subscribe(),
                overview: overview.clone(),
                events: self.events.clone(),
            };
            self.tasks.spawn(looking.run());
        }
        self.tasks.spawn(keeping.run(overview));
        let mut directories = self.chain.handle().subscribe();
        let mut clock = Clock::new(Reading::now(self.outward()));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        self.directory_changed(&mut directories);
        let mut stopping = None;
        loop {
            self.agree_on_ports();
            self.carry_out();
            self.show(&certificates);
            let now = Instant::now();
            if stopping.is_some_and(|until| now >= until || self.sessions.is_empty()) {
                break;
            }
            let timeout = self.agent.poll_timeout(now).unwrap_or(now + TICK);
            tokio::select! {
                () = stop.cancelled(), if stopping.is_none() => {
                    self.agent.handle(Instant::now(), Event::Stop);
                    stopping = Some(Instant::now() + STOP_GRACE);
                }
                Some(report) = incoming.recv() => self.report(report),
                changed = directories.changed() => match changed {
                    Ok(()) => self.directory_changed(&mut directories),
                    Err(_) => break,
                },
                Ok(()) = certificates.changed() => {}
                () = self.signer.changed.notified() => self.publish(self.agent.listed()),
                _ = tick.tick() => {
                    self.signer.drop_expired(&self.agent.listed());
                    if let Some(change) = clock.look(Reading::now(self.outward())) {
                        tracing::info!(?change, "what was learnt about the network is void");
                        self.agent.handle(Instant::now(), Event::NetworkChanged);
                    }
                }
                () = tokio::time::sleep_until(timeout.into()) => self.agent.handle_timeout(Instant::now()),
                Some(_) = self.tasks.join_next() => {}
            }
        }
        self.tasks.shutdown().await;
        self.chain.shutdown().await;
    }

    fn directory_changed(&mut self, directories: &mut watch::Receiver<Option<Arc<Directory>>>) {
        let directory = directories.borrow_and_update().clone();
        if let Some(directory) = directory {
            self.status.send_modify(|status| status.ledger = Some(directory.ledger.sequence));
            self.check_names(&directory);
            self.agent.handle(Instant::now(), Event::Directory(directory));
        }
    }

    /// Tells once when a name is not this key's any more, or is again.
    fn check_names(&mut self, directory: &Directory) {
        let mine = self.signer.key().address();
        for label in self.labels.clone() {
            let lost = check_name(&label, mine, directory).err().map(|error| error.to_string());
            if self.lost_names.get(&label) == lost.as_ref() {
                continue;
            }
            match lost {
                Some(why) => {
                    self.warn(format!("visitors of {label} are not sent here any more: {why}"));
                    self.lost_names.insert(label, why);
                }
                None => {
                    self.lost_names.remove(&label);
                    self.warn(format!("{label} is this key's again"));
                }
            }
        }
    }

    fn report(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::Connected(relay, control) => {
                self.sessions.insert(relay, Held { control, closing: false });
                self.problems.remove(&relay);
                self.ports.attached(relay);
                self.tell(TunnelEvent::RelayConnected { relay });
                self.agent.handle(now, Event::Connected(relay));
            }
            Report::DialFailed(relay, failure, problem) => {
                tracing::info!(%relay, problem, "dial failed");
                self.problems.insert(relay, problem.clone());
                self.tell(TunnelEvent::RelayFailed { relay, problem });
                self.agent.handle(now, Event::DialFailed(relay, failure));
            }
            Report::PresenceOk(relay, seq) => tracing::debug!(%relay, seq = seq.0, "presence taken over"),
            Report::Stale(relay, seq) => {
                tracing::info!(%relay, seq = seq.0, "the relay knows a newer presence");
                self.state.raise_sequence(seq, presence::now());
                self.agent.handle(now, Event::Stale(relay));
            }
            Report::AcmeValue(relay, request) => {
                let host = request.name.clone();
                if let Err(refused) = self.signer.take(relay, request, &self.agent.listed()) {
                    let refusals = self.refusals.entry(relay).or_default();
                    *refusals = refusals.saturating_add(1);
                    if *refusals <= REFUSALS_TOLD {
                        self.warn(format!("relay {relay} may not get a certificate for {host}: {refused}"));
                    }
                }
            }
            Report::Granted(relay, ports) => self.ports.answered(&relay, &ports),
            Report::Draining(relay, deadline) => {
                let left = deadline.since(unix_now());
                self.agent.handle(now, Event::Draining(relay, now + left));
            }
            Report::Lost(relay, loss, problem) => {
                self.ports.detached(&relay);
                let asked = self.sessions.remove(&relay).is_some_and(|held| held.closing);
                let loss = if asked && loss != Loss::Superseded { Loss::Asked } else { loss };
                if !asked {
                    self.problems.insert(relay, problem.clone());
                    self.tell(TunnelEvent::RelayLost { relay, problem });
                }
                self.agent.handle(now, Event::Lost(relay, loss));
            }
            Report::Measured(relay, rtt) => self.agent.handle(now, Event::Measured(relay, rtt)),
            Report::Visited(relay, visit) => {
                if visit == Visit::Swallowed {
                    self.warn(format!("a visit of the own name through relay {relay} did not arrive"));
                }
                self.agent.handle(now, Event::Visited(relay, visit));
            }
        }
    }

    /// Asks relays for the ports of TCP services and leaves those that cannot carry them.
    fn agree_on_ports(&mut self) {
        let now = Instant::now();
        while let Some((relay, wishes)) = self.ports.poll_ask(now) {
            if let Some(held) = self.sessions.get(&relay) {
                // A session that takes no message is about to be lost.
                let _ = held.control.ask_ports(wishes);
            }
        }
        for relay in self.ports.unsuitable() {
            if self.agent.serving().contains(&relay) {
                let problem =
                    "it does not grant the port of a TCP service that other relays grant".to_owned();
                self.problems.insert(relay, problem.clone());
                self.tell(TunnelEvent::RelayFailed { relay, problem });
                self.agent.handle(now, Event::Unsuitable(relay));
            }
        }
        self.ports.keep();
        self.signer.set_ports(self.ports.usable());
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::Measure(relays) => relays.iter().for_each(|relay| self.measure(relay)),
                Action::Dial(relay) => self.dial(&relay),
                Action::Publish(relays) => self.publish(relays),
                Action::Close(relay, grace) => self.close(relay, grace),
                Action::Visit(relay) => self.visit(&relay),
                Action::Check(relay, within) => {
                    if let Some(held) = self.sessions.get(&relay) {
                        held.control.check(within);
                    }
                }
                Action::NewInstance => {
                    self.warn("another process logged in with a copy of this state directory; going on as a new instance".into());
                    if let Err(error) = self.state.new_instance() {
                        self.warn(error.to_string());
                    }
                }
            }
        }
    }

    fn measure(&mut self, relay: &Arc<Relay>) {
        let (address, reports) = (relay.address, self.reports.clone());
        let addresses = self.sockets(relay, relay.control_port);
        self.tasks.spawn(async move {
            let _ = reports.send(Report::Measured(address, probe::round_trip(addresses).await)).await;
        });
    }

    fn dial(&mut self, relay: &Arc<Relay>) {
        // The presence must list the relay it is shown to, or that relay would not route it.
        let mut listed = self.agent.listed();
        listed.push(relay.address);
        let presence = match self.signer.sign(listed) {
            Ok(presence) => Some(presence),
            Err(error) => {
                self.warn(error.to_string());
                None
            }
        };
        let Some(directory) = self.chain.handle().directory() else { return };
        let target = RelayTarget {
            relay: relay.address,
            host: relay.own_host(&directory.zone.zone),
            addresses: self.sockets(relay, relay.control_port),
        };
        let login = Login {
            key: self.signer.key().clone(),
            instance: self.state.instance(),
            session: self.session,
            services: self.signer.services(),
            presence,
        };
        let (options, door, reports) = (self.options.clone(), self.door.clone(), self.reports.clone());
        let worker = self.workers.least_busy();
        let handle = worker.handle();
        let running = async move {
            session::run(target, login, options, door, reports).await;
            // It lived there until now.
            drop(worker);
        };
        self.tasks.spawn_on(running, &handle);
    }

    fn publish(&mut self, relays: Vec<Address>) {
        if self.sessions.is_empty() {
            return;
        }
        match self.signer.sign(relays) {
            Ok(presence) => {
                for (relay, held) in &self.sessions {
                    if held.control.send_presence(&presence).is_err() {
                        tracing::info!(%relay, "the session takes no presence");
                    }
                }
            }
            Err(error) => self.warn(error.to_string()),
        }
    }

    fn close(&mut self, relay: Address, grace: Duration) {
        if let Some(held) = self.sessions.get_mut(&relay) {
            held.closing = true;
            let control = held.control.clone();
            self.tasks.spawn(async move {
                let _ = control.leave();
                control.close(grace).await;
            });
        }
    }

    fn visit(&mut self, relay: &Arc<Relay>) {
        let (address, reports) = (relay.address, self.reports.clone());
        let host = self.status.borrow().certificates.first().and_then(|entry| entry.host.parse().ok());
        let relayed = host.clone().filter(|host: &HostName| self.signer.relayed().contains(host));
        let found = host.and_then(|host: HostName| Some((self.certificates.find(host.as_str())?, host)));
        let ingress = self.sockets(relay, relay.ingress_port);
        self.tasks.spawn(async move {
            let visit = match (relayed, found) {
                (Some(host), _) => match probe::look(&ingress, &host).await {
                    Shown::Certificate(_) => Visit::Arrived,
                    // It may be waiting for its CA.
                    Shown::Refusal => Visit::Untried,
                    Shown::Silence => Visit::Swallowed,
                },
                (None, Some((certificate, host))) => {
                    probe::visit(ingress, &host, certificate.leaf().clone().into_owned()).await
                }
                (None, None) => Visit::Untried,
            };
            let _ = reports.send(Report::Visited(address, visit)).await;
        });
    }

    fn sockets(&self, relay: &Relay, port: u16) -> Vec<SocketAddr> {
        relay
            .addresses(self.policy.addresses_of(&relay.address))
            .map(|ip| SocketAddr::new(ip, port))
            .collect()
    }

    /// Some address outside, to see by which own address it is reached.
    fn outward(&self) -> Option<SocketAddr> {
        let directory = self.chain.handle().directory()?;
        let relay = self.sessions.keys().next().and_then(|relay| directory.relays.get(relay));
        let relay = relay.or_else(|| directory.relays.values().next())?;
        self.sockets(relay, relay.control_port).first().copied()
    }

    /// Brings the status up to date and tells what changed.
    fn show(&mut self, certificates: &Overview) {
        let state = self.agent.state(Instant::now());
        if self.told != Some(state) {
            self.told = Some(state);
            self.tell(TunnelEvent::State { state });
        }
        let serving = self.agent.serving();
        let (visitors, visitors_total) = self.door.visitors();
        let mut relays: BTreeMap<Address, RelayStatus> = BTreeMap::new();
        for (relay, held) in &self.sessions {
            let streams = held.control.open_streams();
            let serving = serving.contains(relay);
            relays.insert(*relay, RelayStatus { relay: *relay, serving, streams, problem: String::new() });
        }
        for (relay, problem) in &self.problems {
            let status = RelayStatus { relay: *relay, serving: false, streams: 0, problem: problem.clone() };
            relays.entry(*relay).or_insert(status);
        }
        let certificates = certificates.borrow().clone();
        let certified = certificates.iter().all(|certificate| certificate.not_after > 0);
        let ports = self.ports.usable();
        let complete = state == State::Connected && certified && self.urls.is_complete(&ports);
        let changed = self.status.send_if_modified(|status| {
            let mut new = status.clone();
            new.state = state;
            new.serving = complete;
            new.urls = self.urls.with(&ports);
            new.relays = relays.into_values().collect();
            new.certificates = certificates;
            (new.visitors, new.visitors_total) = (visitors, visitors_total);
            let changed = new != *status;
            *status = new;
            changed
        });
        if !self.serving_told && complete {
            self.serving_told = true;
            let urls = self.status.borrow().urls.clone();
            self.tell(TunnelEvent::Serving { urls });
        }
        if changed && let Err(error) = self.status.borrow().write(&self.state) {
            tracing::warn!(%error, "status not written");
        }
    }

    fn tell(&self, event: TunnelEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn warn(&self, text: String) {
        tracing::warn!(text);
        self.tell(TunnelEvent::Warning { text });
    }
}

fn unix_now() -> UnixSeconds {
    presence::now().seconds()
}
