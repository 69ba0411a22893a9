//! Records by type and situation, from hand-made snapshots.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Query as Question;
use hickory_proto::rr::Name;
use tunnler_protocol::directory::{AccountHosts, AcmeIdentity, Directory, NameRecord};
use tunnler_protocol::live::{Hearing, Session};
use tunnler_protocol::presence::{Claims, Service, ServiceKind, TlsMode};

use super::*;
use crate::fixture::{NOW, TERMS, address, claims, directory, name, relay, signed};
use crate::snapshot::{Changes, Client};
use crate::zone::Gate;

/// A snapshot under construction.
struct World {
    directory: Directory,
    clients: HashMap<u8, Vec<Claims>>,
    sessions: Vec<(u8, u8, Session)>,
    hearings: HashMap<u8, Hearing>,
    gate: Gate,
    footing: Footing,
    now: UnixMillis,
}

/// `mynode` of client 101 on relays 1 and 2, both attached and heard.
fn world() -> World {
    let relays = (1..=6).map(relay);
    World {
        directory: directory(relays, [name("mynode", 101), name("offline", 102)]),
        clients: [(101, vec![claims(101, &["mynode"], &[1, 2])])].into(),
        sessions: vec![(1, 101, Session::Attached), (2, 101, Session::Attached)],
        hearings: (1..=6).map(|n| (n, Hearing::Complete)).collect(),
        gate: Gate::Open,
        footing: Footing::Synced,
        now: NOW,
    }
}

impl World {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn claims(self, change: impl FnOnce(&mut Claims)) -> Self {
        self.with(|world| change(&mut world.clients.get_mut(&101).unwrap()[0]))
    }

    fn record(self, label: &str, change: impl FnOnce(&mut NameRecord)) -> Self {
        self.with(|world| {
            change(Arc::make_mut(world.directory.names.get_mut(&label.parse().unwrap()).unwrap()))
        })
    }

    fn snapshot(&self) -> Snapshot {
        let mut changes = Changes {
            hearings: Some(self.hearings.iter().map(|(n, hearing)| (address(*n), *hearing)).collect()),
            ..Changes::default()
        };
        for (n, claims) in &self.clients {
            let presences = claims.iter().map(|claims| signed(*n, claims.clone())).collect();
            let sessions = self.sessions.iter().filter(|(_, client, _)| client == n);
            let sessions =
                sessions.map(|(relay, _, session)| (address(*relay), claims[0].ins, *session)).collect();
            changes.clients.insert(address(*n), Some(Client { presences, sessions }));
        }
        let zone = Arc::new(ZoneView::new(Arc::new(self.directory.clone()), self.gate));
        Snapshot::empty(TERMS).with(Some(zone), self.footing, changes)
    }

    fn ask(&self, owner: &str, wanted: RecordType) -> Reply {
        let mut name = Name::from_ascii(owner).unwrap();
        name.set_fqdn(true);
        let question = Question::query(name, wanted);
        let query = Query { id: 1, recursion_desired: false, checking_disabled: false, question, edns: None };
        answer(&query, &self.snapshot(), Moment { now: self.now, turn: 0 })
    }

    /// The answer in one line: the response code, or the sorted records' data.
    fn says(&self, owner: &str, wanted: RecordType) -> String {
        let reply = self.ask(&format!("{owner}.tunnel.example"), wanted);
        let text = |data: &RData| data.to_string().trim_end_matches(',').to_owned();
        let mut data: Vec<_> = reply.answers.iter().map(|record| text(&record.data)).collect();
        data.sort_unstable();
        match (reply.code, data.is_empty()) {
            (ResponseCode::NoError, true) => "NODATA".into(),
            (ResponseCode::NoError, false) => data.join(" | "),
            (code, _) => format!("{code:?}"),
        }
    }
}

fn account(issuer: &str, number: u8) -> AcmeIdentity {
    AcmeIdentity { issuer: issuer.into(), account: format!("https://ca.example/acct/{number}") }
}

fn service(name: &str, kind: ServiceKind, tls: TlsMode, port: Option<u16>) -> Service {
    Service { name: name.parse().unwrap(), kind, tls, port }
}

use RecordType::{A, AAAA, ANY, CAA, HTTPS, MX, NS, SOA, SRV, TXT};

#[test]
fn a_live_name_has_its_relays_addresses() {
    let world = world();
    assert_eq!(world.says("mynode", A), "9.9.1.1 | 9.9.2.1");
    assert_eq!(world.says("MyNode", A), "9.9.1.1 | 9.9.2.1");
    assert_eq!(world.says("mynode", AAAA), "NODATA");
    assert_eq!(world.says("mynode", MX), "NODATA");
    assert_eq!(world.says("web.mynode", A), "9.9.1.1 | 9.9.2.1");
    assert_eq!(world.says("ftp.mynode", A), "NXDomain", "no such service");
    assert_eq!(world.says("mynode", HTTPS), "1 . alpn=h2,http/1.1, ipv4hint=9.9.1.1,9.9.2.1");
    let reply = world.ask("mynode.tunnel.example", A);
    assert!(reply.authoritative && reply.answers.iter().all(|record| record.ttl == 30));
    let turned = Moment { now: NOW, turn: 1 };
    let query = Query {
        id: 1,
        recursion_desired: false,
        checking_disabled: false,
        question: Question::query(Name::from_ascii("mynode.tunnel.example.").unwrap(), A),
        edns: None,
    };
    assert_ne!(answer(&query, &world.snapshot(), turned).answers, reply.answers, "the order turns");
}

#[test]
fn names_without_a_live_client_are_nodata_and_unknown_ones_nxdomain() {
    let world = world();
    for (owner, wanted) in [("offline", A), ("offline", CAA), ("relay", A), ("ns", A), ("svc.offline", A)] {
        assert_eq!(world.says(owner, wanted), "NODATA", "{owner} {wanted}");
    }
    for owner in ["nobody", "www", "a.b.mynode", "_x.mynode", "_acme-challenge.offline", "_tcp.mynode", "*"] {
        assert_eq!(world.says(owner, A), "NXDomain", "{owner}");
        assert_eq!(world.says(owner, ANY), "NXDomain", "{owner}");
    }
    assert!(world.says("mynode", ANY).starts_with("RFC8482"), "{}", world.says("mynode", ANY));
    let reply = world.ask("nobody.tunnel.example", A);
    assert_eq!((reply.authorities[0].record_type(), reply.authorities[0].ttl), (SOA, 10));
    for outside in ["example", "nottunnel.example", "tunnel.example.com", ""] {
        assert_eq!(world.ask(outside, A).code, ResponseCode::Refused, "{outside}");
    }
}

#[test]
fn chain_client_and_relay_each_can_withdraw() {
    let gone = |world: World| assert_eq!(world.says("mynode", A), "NODATA");
    gone(world().record("mynode", |record| record.suspended = true));
    gone(world().record("mynode", |record| record.target = Some(address(102))));
    gone(world().record("mynode", |record| record.expires_at = NOW.seconds()));
    gone(world().claims(|claims| claims.names.clear()));
    gone(world().claims(|claims| claims.relays.clear()));
    gone(world().with(|world| world.sessions.clear()));
    let lapsed = world().record("mynode", |record| {
        record.expires_at = NOW.seconds();
        record.grace = Duration::ZERO;
    });
    assert_eq!(lapsed.says("mynode", A), "NXDomain");
    let limited = world().record("mynode", |record| record.relays = vec![address(2)]);
    assert_eq!(limited.says("mynode", A), "9.9.2.1");
    let silent = world().with(|world| world.hearings = [(2, Hearing::Complete)].into());
    assert_eq!(silent.says("mynode", A), "9.9.2.1");
    let all_silent = world().with(|world| world.hearings.clear());
    assert_eq!(all_silent.says("mynode", A), "9.9.1.1 | 9.9.2.1", "silence never empties a name");
    let expired = all_silent.with(|world| world.now = NOW.plus(Duration::from_secs(3600)));
    assert_eq!(expired.says("mynode", A), "ServFail");
    assert_eq!(expired.says("mynode", CAA), "ServFail");
    let forgotten = expired.with(|world| world.now = NOW.plus(Duration::from_secs(7200)));
    assert_eq!(forgotten.says("mynode", A), "NODATA");
}

#[test]
fn a_server_that_is_not_synced_knows_only_what_the_contracts_say() {
    let unsynced = world().with(|world| world.footing = Footing::Unsynced);
    for owner in ["mynode", "offline", "nobody", "_acme-challenge.mynode"] {
        assert_eq!(unsynced.says(owner, A), "ServFail", "{owner}");
    }
    assert_eq!(unsynced.ask("tunnel.example", SOA).answers.len(), 1);
    assert_eq!(unsynced.says(&format!("{}.relay", address(1).label()), A), "9.9.1.1");
    let restored = world().with(|world| world.footing = Footing::Restored);
    assert_eq!(restored.says("mynode", A), "9.9.1.1 | 9.9.2.1");
    assert_eq!(restored.says("offline", A), "ServFail", "its presence may not have arrived yet");
    let stale = world().with(|world| world.now = NOW.plus(Duration::from_secs(8 * 86_400)));
    assert_eq!(stale.says("mynode", A), "ServFail");
    let blind = Snapshot::empty(TERMS);
    let question = Question::query(Name::from_ascii("tunnel.example.").unwrap(), SOA);
    let query = Query { id: 1, recursion_desired: false, checking_disabled: false, question, edns: None };
    assert_eq!(answer(&query, &blind, Moment { now: NOW, turn: 0 }).code, ResponseCode::ServFail);
}

#[test]
fn account_hosts_follow_the_zones_policy() {
    let host = address(101).label();
    let stranger = address(103).label();
    let with = |policy| world().with(|world| world.directory.zone.account_hosts = policy);
    assert_eq!(with(AccountHosts::Owners).says(&host, A), "9.9.1.1 | 9.9.2.1");
    assert_eq!(with(AccountHosts::Off).says(&host, A), "NODATA");
    for policy in [AccountHosts::Off, AccountHosts::Owners, AccountHosts::All] {
        let world = with(policy).with(|world| {
            world.clients.insert(103, vec![claims(103, &[], &[1])]);
            world.sessions.push((1, 103, Session::Attached));
        });
        let expected = if policy == AccountHosts::All { "9.9.1.1" } else { "NODATA" };
        assert_eq!(world.says(&stranger, A), expected);
        assert_eq!(world.says(&address(104).label(), A), "NODATA", "an address is never NXDOMAIN");
    }
}

#[test]
fn the_apex_names_its_servers_and_denies_issuance() {
    let world = world();
    let ns = world.ask("tunnel.example", NS);
    assert_eq!((ns.answers.len(), ns.additionals.len()), (2, 4));
    assert_eq!(world.says("ns1", A), "9.0.0.1");
    assert_eq!(world.says("b.ns", AAAA), "2600::2");
    assert_eq!(world.ask("tunnel.example", A).answers.len(), 0);
    let soa = world.ask("tunnel.example", SOA).answers[0].data.to_string();
    assert!(
        soa.starts_with("ns1.tunnel.example. hostmaster.tunnel.example. 7 ") && soa.ends_with(" 10"),
        "{soa}"
    );
    let caa: Vec<_> = world.ask("tunnel.example", CAA).answers.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(caa, ["0 issue \";\"", "0 issuewild \";\""]);
}

#[test]
fn caa_opens_exactly_what_the_client_signed() {
    let open =
        |n| format!("\"letsencrypt.org; accounturi=https://ca.example/acct/{n}; validationmethods=dns-01\"");
    let pass = world()
        .claims(|claims| claims.acme = vec![account("letsencrypt.org", 1), account("evil.example", 2)]);
    assert_eq!(pass.says("mynode", CAA), format!("0 issue {} | 0 issuewild {}", open(1), open(1)));
    assert_eq!(pass.says("offline", CAA), "NODATA", "climbs to the apex, which denies");
    // A relay's account counts only where the relay ends TLS, and never for wildcards.
    let with_relay = |tls| {
        world()
            .claims(|claims| {
                claims.services[0].tls = tls;
                claims.acme = vec![account("letsencrypt.org", 1), account("letsencrypt.org", 7)];
            })
            .with(|world| {
                let mut theirs = relay(2);
                theirs.acme = Some(account("letsencrypt.org", 7));
                world.directory.relays.insert(theirs.address, Arc::new(theirs));
            })
    };
    let mine = format!("0 issue {} | 0 issuewild {}", open(1), open(1));
    assert_eq!(with_relay(TlsMode::Pass).says("mynode", CAA), mine);
    let both = format!("0 issue {} | 0 issue {} | 0 issuewild \";\"", open(1), open(7));
    assert_eq!(with_relay(TlsMode::Term).says("mynode", CAA), both);
    let ex = with_relay(TlsMode::Term).record("mynode", |record| record.relays = vec![address(1)]);
    assert_eq!(ex.says("mynode", CAA), format!("0 issue {} | 0 issuewild \";\"", open(1)));
}

#[test]
fn relay_hosts_come_from_the_contract_alone() {
    let world = world().with(|world| {
        let mut with_account = relay(1);
        with_account.acme = Some(account("letsencrypt.org", 5));
        world.directory.relays.insert(with_account.address, Arc::new(with_account));
        let mut gone = relay(3);
        gone.status = tunnler_protocol::directory::RelayStatus::Delisted;
        world.directory.relays.insert(gone.address, Arc::new(gone));
    });
    let host = |n| format!("{}.relay", address(n).label());
    assert_eq!(world.says(&host(1), A), "9.9.1.1");
    let issue = "\"letsencrypt.org; accounturi=https://ca.example/acct/5; validationmethods=tls-alpn-01\"";
    assert_eq!(world.says(&host(1), CAA), format!("0 issue {issue} | 0 issuewild \";\""));
    assert_eq!(world.says(&host(2), CAA), "NODATA");
    assert_eq!(world.says(&host(3), A), "NODATA", "delisted");
    assert_eq!(world.says(&host(3), CAA), "NODATA");
    assert_eq!(world.says(&host(99), A), "NXDomain", "not registered");
}

#[test]
fn challenges_are_answered_for_exactly_the_signed_host() {
    let value = "A".repeat(43);
    let world = world().claims(|claims| {
        for host in ["mynode.tunnel.example", "offline.tunnel.example", "example.org"] {
            claims.txt.insert(host.parse().unwrap(), vec![value.clone(), "b".repeat(43)]);
        }
    });
    assert_eq!(world.says("_acme-challenge.mynode", TXT), format!("{value} | {}", "b".repeat(43)));
    assert_eq!(world.ask("_acme-challenge.mynode.tunnel.example", TXT).answers[0].ttl, 5);
    assert_eq!(world.says("_acme-challenge.mynode", A), "NODATA");
    assert_eq!(world.says("_acme-challenge.offline", TXT), "NXDomain", "another's name");
    assert_eq!(world.says("_acme-challenge.web.mynode", TXT), "NXDomain");
    let silent = world.with(|world| world.hearings.clear());
    assert_eq!(silent.says("_acme-challenge.mynode", TXT), "ServFail");
}

#[test]
fn tcp_services_have_one_port() {
    let world = world().claims(|claims| {
        claims.services = vec![
            service("web", ServiceKind::Http, TlsMode::Pass, None),
            service("ssh", ServiceKind::Tcp, TlsMode::Pass, Some(20_022)),
            service("db", ServiceKind::Tcp, TlsMode::Pass, None),
        ];
    });
    assert_eq!(world.says("_ssh._tcp.mynode", SRV), "0 0 20022 mynode.tunnel.example.");
    assert_eq!(world.says("_ssh._tcp.ssh.mynode", SRV), "0 0 20022 ssh.mynode.tunnel.example.");
    assert_eq!(world.says("_ssh._tcp.mynode", A), "NODATA");
    assert_eq!(world.says("_tcp.mynode", SRV), "NODATA");
    assert_eq!(world.says("_tcp.web.mynode", SRV), "NXDomain");
    assert_eq!(world.says("_db._tcp.mynode", SRV), "NXDomain", "no port yet");
    assert_eq!(world.says("ssh.mynode", HTTPS), "NODATA");
    assert_eq!(world.says("ssh.mynode", A), "9.9.1.1 | 9.9.2.1");
}

#[test]
fn behind_a_gate_a_name_waits_for_its_certificates_only() {
    let acme = |claims: &mut Claims| claims.acme = vec![account("letsencrypt.org", 1)];
    let gated = |serial: u64| {
        let one = std::num::NonZeroU32::new(1).unwrap();
        let world = world().claims(acme).record("mynode", |record| record.serial = serial);
        world.record("offline", |record| record.serial = 5).with(|world| world.gate = Gate::PerWeek(one))
    };
    let (first, second) = (gated(4), gated(6));
    assert!(first.says("mynode", CAA).contains("acct/1"));
    assert_eq!(second.says("mynode", CAA), "NODATA", "climbs to the apex, which denies");
    assert_eq!(second.says("mynode", A), first.says("mynode", A));
    let explanation = |world: &World| {
        let name = Name::from_ascii("mynode.tunnel.example.").unwrap();
        explain(&name, &world.snapshot(), NOW).unwrap().waits_until
    };
    let week = NOW.seconds().plus(Duration::from_secs(7 * 86_400));
    assert_eq!((explanation(&first), explanation(&second)), (None, Some(week)));
    let account = address(101).label().to_string();
    assert!(world().claims(acme).says(&account, CAA).contains("acct/1"));
    assert_eq!(first.says(&account, CAA), "NODATA", "accounts have no place in the order");
}

#[test]
fn the_explanation_names_each_relay_and_why() {
    let world = world().with(|world| {
        world.sessions.remove(0);
        world.clients.get_mut(&101).unwrap()[0].relays.push(address(99));
    });
    let name = Name::from_ascii("mynode.tunnel.example.").unwrap();
    let explanation = explain(&name, &world.snapshot(), NOW).unwrap();
    let standings: Vec<_> = explanation.relays.iter().map(|weighed| weighed.standing).collect();
    assert_eq!(standings, ["absent", "attached", "not registered"]);
    assert_eq!(explanation.client, Some(address(101)));
    assert!(explain(&Name::from_ascii("example.org.").unwrap(), &world.snapshot(), NOW).is_none());
    assert!(world.says("_tunnler.mynode", TXT).contains(&format!("relay={} attached", address(2))));
}
