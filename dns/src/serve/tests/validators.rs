//! Every kind of answer validated by independent resolvers: unbound, and BIND both as a server and as delv.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tunnler_protocol::time::UnixSeconds;

use super::*;
use crate::dnssec::keys::{self, ZoneKey};
use crate::fixture::address;

/// What a validating resolver should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Records(usize),
    /// Compact denial makes these two look alike to a resolver that does not know NXNAME.
    Denied,
}

fn cases() -> Vec<(String, RecordType, Expected)> {
    use Expected::{Denied, Records};
    use RecordType::*;
    let relay = format!("{}.relay", address(1).label());
    let account = address(103).label();
    let mut cases: Vec<(&str, RecordType, Expected)> = vec![
        ("", SOA, Records(1)),
        ("", NS, Records(2)),
        ("", DNSKEY, Records(1)),
        ("", CAA, Records(2)),
        ("", A, Denied),
        ("", TXT, Denied),
        ("", MX, Denied),
        ("mynode", A, Records(2)),
        ("mynode", AAAA, Records(2)),
        ("mynode", HTTPS, Records(1)),
        ("mynode", CAA, Records(8)),
        ("mynode", TXT, Denied),
        ("mynode", MX, Denied),
        ("mynode", SRV, Denied),
        ("ssh.mynode", A, Records(2)),
        ("ssh.mynode", HTTPS, Denied),
        ("ftp.mynode", A, Denied),
        ("_acme-challenge.mynode", TXT, Records(2)),
        ("_acme-challenge.mynode", A, Denied),
        ("_tunnler.mynode", TXT, Records(2)),
        ("_tcp.mynode", SRV, Denied),
        ("_ssh._tcp.mynode", SRV, Records(1)),
        ("_ssh._tcp.mynode", A, Denied),
        ("offline", A, Denied),
        ("offline", CAA, Denied),
        ("nobody", A, Denied),
        ("nobody", TXT, Denied),
        ("deep.under.nobody", AAAA, Denied),
        ("relay", A, Denied),
        ("ns", TXT, Denied),
        ("ns1", A, Records(1)),
        ("b.ns", AAAA, Records(1)),
        ("b.ns", TXT, Denied),
    ];
    cases.extend([(&*relay, A, Records(1)), (&*relay, CAA, Records(2)), (&*relay, TXT, Denied)]);
    cases.push((&*account, A, Denied));
    cases.extend(
        [A, AAAA, NS, SOA, TXT, CAA, HTTPS, SRV, DS, DNSKEY, MX, PTR].map(|wanted| ("void", wanted, Denied)),
    );
    let full = |name: &str| {
        if name.is_empty() { format!("{}.", fixture::ZONE) } else { format!("{name}.{}.", fixture::ZONE) }
    };
    cases.into_iter().map(|(name, wanted, expected)| (full(name), wanted, expected)).collect()
}

/// A resolver that validates with one trust anchor and asks the served zone for it; it ends with this value.
struct Resolver {
    process: Child,
    address: SocketAddr,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Resolver {
    fn unbound(dir: &Path, zone: SocketAddr, anchor: &Anchor) -> Self {
        // Not 127.0.0.1: a client's socket there could get the same port first and talk to itself.
        let address = free_port("127.0.77.1");
        let config = format!(
            "server:\n interface: {ip}@{port}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n \
             directory: \"{dir}\"\n use-syslog: no\n max-udp-size: 4096\n logfile: \"\"\n do-ip6: no\n \
             do-not-query-localhost: no\n module-config: \"validator iterator\"\n num-threads: 1\n \
             trust-anchor: \"{anchor}\"\n\
             remote-control:\n control-enable: no\n\
             stub-zone:\n name: \"{origin}\"\n stub-addr: {stub}@{stub_port}\n",
            ip = address.ip(),
            port = address.port(),
            dir = dir.display(),
            anchor = anchor.ds,
            origin = fixture::ZONE,
            stub = zone.ip(),
            stub_port = zone.port(),
        );
        Self::start("unbound", "unbound", &["-d", "-c"], dir, &config, address)
    }

    fn bind(dir: &Path, zone: SocketAddr, anchor: &Anchor) -> Self {
        // It listens on addresses of the host's interfaces only, of which loopback has one.
        let address = free_port("127.0.0.1");
        let config = format!(
            "options {{ directory \"{dir}\"; pid-file none; session-keyfile none; port {zone_port}; \
             listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; recursion yes; \
             dnssec-validation yes; empty-zones-enable no; max-udp-size 4096; max-cache-size 16M; }};\ncontrols {{ }};\n{anchor}\
             zone \"{origin}\" {{ type static-stub; server-addresses {{ {stub}; }}; }};\n",
            dir = dir.display(),
            // The port of every server it asks; its own is said apart.
            zone_port = zone.port(),
            port = address.port(),
            ip = address.ip(),
            anchor = anchor.bind,
            origin = fixture::ZONE,
            stub = zone.ip(),
        );
        Self::start("named", "bind9", &["-f", "-n", "1", "-c"], dir, &config, address)
    }

    fn start(
        program: &str,
        package: &str,
        options: &[&str],
        dir: &Path,
        config: &str,
        address: SocketAddr,
    ) -> Self {
        let path = dir.join(format!("{program}.conf"));
        std::fs::write(&path, config).unwrap();
        let whole = Path::new("/usr/sbin").join(program);
        let process = Command::new(if whole.exists() { whole } else { program.into() })
            .args(options)
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; run: apt-get install {package}"));
        Self { process, address }
    }

    /// Every case is answered, validated, and what it should be.
    fn validates_everything(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        for (owner, wanted, expected) in cases() {
            let answer = loop {
                match resolve(self.address, &owner, wanted) {
                    Some(answer) => break answer,
                    None => assert!(Instant::now() < patience, "no answer to {owner} {wanted}"),
                }
            };
            let what = format!("{owner} {wanted}: {answer}");
            assert_ne!(answer.metadata.response_code, ResponseCode::ServFail, "bogus: {what}");
            assert!(answer.metadata.authentic_data, "not validated: {what}");
            match expected {
                Expected::Records(count) => assert_eq!(answer.answers.len(), count, "{what}"),
                Expected::Denied => assert!(answer.answers.is_empty(), "{what}"),
            }
        }
    }
}

fn free_port(ip: &str) -> SocketAddr {
    UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// The zone's key as resolvers are told to trust it.
struct Anchor {
    ds: String,
    bind: String,
}

impl Anchor {
    fn of(key: &ZoneKey) -> Self {
        let origin: Name = format!("{}.", fixture::ZONE).parse().unwrap();
        let record = key.dnskey.to_string();
        let [flags, protocol, algorithm, public]: [&str; 4] =
            record.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        let key_of_bind = format!("static-key {flags} {protocol} {algorithm} \"{public}\"");
        Self {
            ds: format!("{origin} DS {}", key.ds(&origin).unwrap()),
            bind: format!("trust-anchors {{ {origin} {key_of_bind}; }};\n"),
        }
    }
}

fn resolve(resolver: SocketAddr, owner: &str, wanted: RecordType) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.77.2:0").unwrap();
    socket.connect(resolver).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut query = Message::new(4, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.metadata.authentic_data = true;
    query.add_query(Query::query(Name::from_ascii(owner).unwrap(), wanted));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    socket.send(&query.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Message::from_vec(&buffer[..length]).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unbound_validates_every_kind_of_answer() {
    validates_everything(Resolver::unbound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bind_validates_every_kind_of_answer() {
    validates_everything(Resolver::bind).await;
}

async fn validates_everything(resolver: fn(&Path, SocketAddr, &Anchor) -> Resolver) {
    let keys = ZoneKeys::ephemeral();
    let anchor = Anchor::of(keys.iter().next().unwrap());
    let served = serve(keys, Rate::Unlimited).await;
    let dir = tempfile::tempdir().unwrap();
    let resolver = resolver(dir.path(), served.address, &anchor);
    tokio::task::spawn_blocking(move || resolver.validates_everything()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delv_validates_every_kind_of_answer() {
    let keys = ZoneKeys::ephemeral();
    let anchor = Anchor::of(keys.iter().next().unwrap());
    let served = serve(keys, Rate::Unlimited).await;
    for (owner, wanted, expected) in cases() {
        let text = delv(&anchor, served.address, &owner, wanted).await;
        let validated = match expected {
            Expected::Records(_) => text.contains("; fully validated"),
            Expected::Denied => text.contains("; negative response, fully validated"),
        };
        assert!(validated, "{owner} {wanted}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_ds_validates_while_keys_roll_over() {
    let dir = tempfile::tempdir().unwrap();
    let hours_ago = |hours: u64| UnixSeconds(clock::unix_now().seconds().0 - hours * 3600);
    keys::generate(dir.path(), hours_ago(9)).unwrap();
    let new = keys::generate(dir.path(), hours_ago(8)).unwrap();
    let zone = format!("{}.", fixture::ZONE);
    for activated in [false, true] {
        if activated {
            keys::activate(dir.path(), new, hours_ago(1)).unwrap();
        }
        // Every server of the zone has a copy of the keys; caches may hold one's DNSKEY and another's answer.
        let servers = [load_and_serve(dir.path()).await, load_and_serve(dir.path()).await];
        for anchor in ZoneKeys::load(dir.path()).unwrap().iter().map(Anchor::of) {
            for (served, wanted) in servers.iter().zip([RecordType::SOA, RecordType::DNSKEY]) {
                let text = delv(&anchor, served.address, &zone, wanted).await;
                assert!(text.contains("; fully validated"), "activated {activated}: {text}");
            }
        }
    }
}

async fn load_and_serve(keys: &Path) -> Served {
    serve(ZoneKeys::load(keys).unwrap(), Rate::Unlimited).await
}

/// What BIND's validating client says of one question.
async fn delv(anchor: &Anchor, server: SocketAddr, owner: &str, wanted: RecordType) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &anchor.bind).unwrap();
    let output = tokio::process::Command::new("delv")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string()])
        .arg("-a")
        .arg(file.path())
        .arg(format!("+root={}", fixture::ZONE))
        .args([owner, &wanted.to_string()])
        .output()
        .await
        .expect("delv is installed (apt-get install bind9-dnsutils)");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
