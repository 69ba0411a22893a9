//! Certificates from a real ACME server (pebble) with its mock DNS, all on loopback. Needs `pebble` and
//! `pebble-challtestsrv`; `scripts/test` installs them, and without them these tests fail.

#[path = "../../../tests/src/pebble/front.rs"]
#[allow(dead_code, reason = "the whole-system tests use the rest")]
mod front;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tunnler_edge::acme::{
    Account, AcmeError, CertificateAuthority, Challenge, Dns01, ExternalAccount, Hosts, Keeper, KeeperState,
    order,
};
use tunnler_edge::propagation::NotVisible;
use tunnler_edge::{Certificates, Store};
use tunnler_protocol::HostName;

use crate::front::{ApiFiles, Front};

const DEADLINE: Duration = Duration::from_secs(50);

/// A child process that ends with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(spawned.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Ca {
    pebble: Process,
    _dns: Process,
    api: SocketAddr,
    management: SocketAddr,
    directory: tempfile::TempDir,
    authority: CertificateAuthority,
}

/// An address that no outgoing connection takes before its server does: those come from 127.0.0.1.
const LOOPBACK: &str = "127.0.77.1";

fn free() -> SocketAddr {
    TcpListener::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap()
}

/// What pebble is told to do.
#[derive(Clone, Copy, Default)]
struct Temper {
    rejected_nonces: u8,
    lifetime: Option<u32>,
    /// Accounts must be bound to this customer account: id and MAC key.
    external: Option<(&'static str, &'static str)>,
}

impl Ca {
    async fn start(temper: Temper) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let root = at("root.pem");
        write_api_certificate(&root, &at("api.pem"), &at("api.key"));
        let (api, pebble_management, dns, management) = (free(), free(), free(), free());
        let mut settings = serde_json::json!({
            "listenAddress": api.to_string(), "managementListenAddress": pebble_management.to_string(),
            "certificate": at("api.pem"), "privateKey": at("api.key"), "httpPort": 1, "tlsPort": 1,
        });
        if let Some(lifetime) = temper.lifetime {
            settings["certificateValidityPeriod"] = lifetime.into();
        }
        if let Some((id, key)) = temper.external {
            settings["externalAccountBindingRequired"] = true.into();
            settings["externalAccountMACKeys"] = serde_json::json!({ id: key });
        }
        let config = serde_json::json!({ "pebble": settings });
        std::fs::write(at("pebble.json"), config.to_string()).unwrap();
        let mut mock = Command::new("pebble-challtestsrv");
        mock.args(["-dns01", &dns.to_string(), "-management", &management.to_string()]);
        mock.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        let mock = Process::start(&mut mock);
        let mut pebble = Command::new("pebble");
        pebble.args(["-strict", "-dnsserver", &dns.to_string(), "-config"]).arg(at("pebble.json"));
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        pebble.env("PEBBLE_WFE_NONCEREJECT", temper.rejected_nonces.to_string());
        let pebble = Process::start(&mut pebble);
        let begun = Instant::now();
        for address in [api, management] {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                assert!(begun.elapsed() < DEADLINE, "{address} does not answer");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let url = format!("https://{api}/dir");
        let authority =
            CertificateAuthority { root: Some(root), ..CertificateAuthority::new(url, "pebble.test".into()) };
        Self { pebble, _dns: mock, api, management, directory, authority }
    }

    /// Puts a front before the CA; accounts opened from now on go through it.
    async fn behind_a_front(&mut self) -> Front {
        let listener = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        self.authority.directory = format!("https://{}/dir", listener.local_addr().unwrap());
        let at = |name: &str| self.directory.path().join(name);
        let files = ApiFiles { chain: at("api.pem"), key: at("api.key"), root: at("root.pem") };
        Front::start(listener, &files, self.api)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.directory.path().join(name)).unwrap()
    }

    fn dns(&self) -> MockDns {
        MockDns { management: self.management, shown: Arc::default(), refuse: Refuse::Nothing }
    }
}

fn write_api_certificate(root: &Path, chain: &PathBuf, key_file: &PathBuf) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    std::fs::write(root, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into(), LOOPBACK.into()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    std::fs::write(chain, leaf.pem()).unwrap();
    std::fs::write(key_file, key.serialize_pem()).unwrap();
}

/// Publishes through the mock server's management interface.
#[derive(Clone)]
struct MockDns {
    management: SocketAddr,
    shown: Arc<AtomicUsize>,
    refuse: Refuse,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refuse {
    Nothing,
    /// Says that the zone does not show the values.
    Presenting,
    /// Claims to have published and has not: the CA will refuse.
    Lying,
}

impl MockDns {
    async fn post(&self, path: &str, body: serde_json::Value) {
        let body = body.to_string();
        let mut stream = tokio::net::TcpStream::connect(self.management).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Dns01 for MockDns {
    async fn present(&self, challenge: &Challenge) -> Result<(), NotVisible> {
        self.shown.fetch_add(1, Ordering::SeqCst);
        if self.refuse == Refuse::Presenting {
            let host = challenge.host.to_string();
            return Err(NotVisible { host, waited: Duration::ZERO, found: "a test".into() });
        }
        // A presence replaces what was published before; this server would only add to it.
        self.withdraw(&challenge.host).await;
        let host = format!("_acme-challenge.{}.", challenge.host);
        for value in challenge.values.iter().filter(|_| self.refuse == Refuse::Nothing) {
            self.post("/set-txt", serde_json::json!({ "host": host, "value": value })).await;
        }
        Ok(())
    }

    async fn withdraw(&self, host: &HostName) {
        let host = format!("_acme-challenge.{host}.");
        self.post("/clear-txt", serde_json::json!({ "host": host })).await;
    }
}

fn hosts() -> Hosts {
    Hosts { host: "mynode.tun.test".parse().unwrap(), wildcard: true }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("done in time")
}

#[tokio::test]
async fn an_order_yields_a_certificate_for_the_name_and_its_wildcard() {
    let ca = Ca::start(Temper::default()).await;
    let (accounts, store) = (ca.store("acme"), ca.store("cert"));
    let account = within(Account::open(&accounts, &ca.authority)).await.unwrap();
    let again = within(Account::open(&accounts, &ca.authority)).await.unwrap();
    assert_eq!(account.identity(), again.identity());
    assert!(account.identity().is_well_formed(), "{:?}", account.identity());
    let begun = Instant::now();
    let issued = within(order::obtain(&account, &store, &hosts(), &ca.dns(), None)).await.unwrap();
    println!("one order took {:?}", begun.elapsed());
    assert!(issued.covers("mynode.tun.test") && issued.covers("api.mynode.tun.test"));
    let kept = order::load(&store, &hosts()).unwrap().unwrap();
    assert_eq!(kept.leaf(), issued.leaf());
    // Renewal keeps the key.
    let key = store.read(order::KEY_FILE).unwrap();
    let renewed = within(order::obtain(&account, &store, &hosts(), &ca.dns(), Some(&issued))).await.unwrap();
    assert_ne!(renewed.leaf(), issued.leaf());
    assert_eq!(store.read(order::KEY_FILE).unwrap(), key);
}

#[tokio::test]
async fn an_interrupted_order_is_taken_up_and_not_repeated() {
    let ca = Ca::start(Temper::default()).await;
    let (accounts, store) = (ca.store("acme"), ca.store("cert"));
    let account = within(Account::open(&accounts, &ca.authority)).await.unwrap();
    let deaf = MockDns { refuse: Refuse::Presenting, ..ca.dns() };
    let stopped = within(order::obtain(&account, &store, &hosts(), &deaf, None)).await;
    assert!(matches!(stopped, Err(AcmeError::NotVisible(_))));
    let url = store.read("order.json").unwrap().expect("the order is on file");
    // What a killed process leaves behind: a new one opens the account from disk and goes on with the same order.
    let account = within(Account::open(&accounts, &ca.authority)).await.unwrap();
    let deaf_again = within(order::obtain(&account, &store, &hosts(), &deaf, None)).await;
    assert!(matches!(deaf_again, Err(AcmeError::NotVisible(_))));
    assert_eq!(store.read("order.json").unwrap().unwrap(), url);
    within(order::obtain(&account, &store, &hosts(), &ca.dns(), None)).await.unwrap();
    assert!(store.read("order.json").unwrap().is_none());
}

#[tokio::test]
async fn a_refused_order_is_dead_and_the_next_one_works() {
    let ca = Ca::start(Temper::default()).await;
    let store = ca.store("cert");
    let account = within(Account::open(&ca.store("acme"), &ca.authority)).await.unwrap();
    let liar = MockDns { refuse: Refuse::Lying, ..ca.dns() };
    let refused = within(order::obtain(&account, &store, &hosts(), &liar, None)).await.unwrap_err();
    assert!(matches!(&refused, AcmeError::Refused(_)), "{refused}");
    assert!(store.read("order.json").unwrap().is_none());
    within(order::obtain(&account, &store, &hosts(), &ca.dns(), None)).await.unwrap();
}

#[tokio::test]
async fn half_of_all_nonces_rejected_costs_no_second_order() {
    let ca = Ca::start(Temper { rejected_nonces: 50, ..Temper::default() }).await;
    let store = ca.store("cert");
    let dns = ca.dns();
    let (mut account, mut issued) = (None, None);
    let mut orders = std::collections::BTreeSet::new();
    let begun = Instant::now();
    while issued.is_none() {
        assert!(begun.elapsed() < DEADLINE, "no certificate");
        if account.is_none() {
            account = Account::open(&ca.store("acme"), &ca.authority).await.ok();
            continue;
        }
        let open = account.as_ref().unwrap();
        match within(order::obtain(open, &store, &hosts(), &dns, None)).await {
            Ok(certificate) => issued = Some(certificate),
            Err(error) => assert!(matches!(error, AcmeError::Unavailable { .. }), "{error}"),
        }
        orders.extend(store.read("order.json").unwrap());
    }
    assert!(orders.len() <= 1, "{} orders", orders.len());
}

#[tokio::test]
async fn an_account_is_bound_to_a_customer_account_where_the_ca_wants_it() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let mut ca = Ca::start(Temper { external: Some(("customer-1", key)), ..Temper::default() }).await;
    let unbound = within(Account::open(&ca.store("acme"), &ca.authority)).await;
    let refused = unbound.err().expect("refused without a customer account");
    assert!(matches!(&refused, AcmeError::Refused(why) if why.contains("xternal")), "{refused}");
    assert!(ExternalAccount::new("customer-1".into(), "not base64url!").is_none());
    ca.authority.external = ExternalAccount::new("customer-1".into(), key);
    let account = within(Account::open(&ca.store("acme"), &ca.authority)).await.unwrap();
    within(order::obtain(&account, &ca.store("cert"), &hosts(), &ca.dns(), None)).await.unwrap();
}

#[tokio::test]
async fn a_profile_is_ordered_if_the_ca_offers_it() {
    let mut ca = Ca::start(Temper::default()).await;
    let front = ca.behind_a_front().await;
    front.conduct().profiles = vec!["classic", "shortlived"];
    for (profile, offered) in [("shortlived", true), ("eternal", false)] {
        ca.authority.profile = Some(profile.into());
        let account = within(Account::open(&ca.store(profile), &ca.authority)).await.unwrap();
        let ordered =
            within(order::obtain(&account, &ca.store(&format!("{profile}-cert")), &hosts(), &ca.dns(), None))
                .await;
        match ordered {
            Ok(_) => assert!(offered),
            Err(error) => {
                let text = error.to_string();
                assert!(!offered && text.contains("classic") && text.contains("shortlived"), "{text}");
            }
        }
    }
    let orders: Vec<_> = front.conduct().orders.iter().map(|order| order["profile"].clone()).collect();
    assert_eq!(orders, ["shortlived"]);
}

#[tokio::test]
async fn a_limit_is_kept_to_while_the_old_certificate_serves() {
    let mut ca = Ca::start(Temper { lifetime: Some(6), ..Temper::default() }).await;
    let front = ca.behind_a_front().await;
    let certificates = Arc::new(Certificates::default());
    let (state, mut told) = watch::channel(KeeperState::Starting);
    let keeper = Keeper {
        account: within(Account::open(&ca.store("acme"), &ca.authority)).await.unwrap(),
        hosts: hosts(),
        store: ca.store("cert"),
        dns: ca.dns(),
        certificates: certificates.clone(),
        state,
    };
    let keeping = tokio::spawn(keeper.run());
    within(told.wait_for(|state| matches!(state, KeeperState::Valid { .. }))).await.unwrap();
    let first = certificates.find("mynode.tun.test").unwrap();
    let before = front.conduct().orders.len();
    front.conduct().limit = Some(3);
    let limited =
        within(told.wait_for(|state| matches!(state, KeeperState::Failed { .. }))).await.unwrap().clone();
    let KeeperState::Failed { problem, next } = limited else { unreachable!() };
    assert!(problem.contains("asks to wait") && problem.contains("too many"), "{problem}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 1..=now + 3).contains(&next.0), "{} is not 3 s after {now}", next.0);
    assert_eq!(front.conduct().orders.len(), before + 1, "not asked again at once in other words");
    assert_eq!(certificates.find("mynode.tun.test").unwrap().leaf(), first.leaf(), "the old one serves");
    front.conduct().limit = None;
    within(told.wait_for(|state| matches!(state, KeeperState::Valid { .. }))).await.unwrap();
    assert_ne!(certificates.find("mynode.tun.test").unwrap().leaf(), first.leaf());
    assert_eq!(front.conduct().orders.len(), before + 2);
    keeping.abort();
}

#[tokio::test]
async fn a_certificate_is_replaced_when_the_ca_says_so() {
    let mut ca = Ca::start(Temper::default()).await;
    let front = ca.behind_a_front().await;
    front.conduct().replace = Some(1);
    let (state, mut told) = watch::channel(KeeperState::Starting);
    let keeper = Keeper {
        account: within(Account::open(&ca.store("acme"), &ca.authority)).await.unwrap(),
        hosts: hosts(),
        store: ca.store("cert"),
        dns: ca.dns(),
        certificates: Arc::default(),
        state,
    };
    let keeping = tokio::spawn(keeper.run());
    let far = std::time::SystemTime::now() + Duration::from_secs(200 * 24 * 3600);
    let far = far.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // The first is to be replaced at once, the second after 300 days although it lives for years.
    let settled =
        |state: &KeeperState| matches!(state, KeeperState::Valid { renewal, .. } if renewal.0 > far);
    within(told.wait_for(settled)).await.unwrap();
    let orders = front.conduct().orders.clone();
    // This pebble takes no `replaces`, so the renewal is ordered once more without.
    let replaces: Vec<bool> = orders.iter().map(|order| order["replaces"].is_string()).collect();
    assert_eq!(replaces, [false, true, false], "{orders:?}");
    keeping.abort();
}

#[tokio::test]
async fn a_short_lived_certificate_is_renewed_unattended_and_an_outage_leaves_the_old_one() {
    let ca = Ca::start(Temper { lifetime: Some(6), ..Temper::default() }).await;
    let certificates = Arc::new(Certificates::default());
    let (state, mut told) = watch::channel(KeeperState::Starting);
    let dns = ca.dns();
    let keeper = Keeper {
        account: within(Account::open(&ca.store("acme"), &ca.authority)).await.unwrap(),
        hosts: hosts(),
        store: ca.store("cert"),
        dns: dns.clone(),
        certificates: certificates.clone(),
        state,
    };
    let keeping = tokio::spawn(keeper.run());
    let mut leaves = std::collections::BTreeSet::new();
    within(async {
        while leaves.len() < 4 {
            told.changed().await.unwrap();
            leaves.extend(certificates.find("mynode.tun.test").map(|found| found.leaf().to_vec()));
        }
    })
    .await;
    assert!(dns.shown.load(Ordering::SeqCst) <= 5, "orders within budget");
    drop(ca.pebble);
    within(told.wait_for(|state| matches!(state, KeeperState::Failed { .. }))).await.unwrap();
    let kept = certificates.find("mynode.tun.test").expect("the old certificate serves");
    assert!(leaves.contains(kept.leaf().as_ref()));
    keeping.abort();
}
