//! Every call that changes something, in an order in which each succeeds and with the largest inputs it takes.

use std::net::Ipv6Addr;

use sha2::{Digest, Sha256};
use stellar_xdr::{BytesM, ScBytes, ScMap, ScMapEntry, ScVal, ScVec};
use tunnler_chain::RelayRegistration;
use tunnler_protocol::directory::{AcmeIdentity, RelayStatus};
use tunnler_protocol::name::{HostName, Label};
use tunnler_protocol::{Address, SecretKey};

use super::Costs;
use crate::meter::{Meter, address, symbol, text};
use crate::world::{STAKE, record, wasm};

const DAY: u64 = 24 * 60 * 60;
/// Ledgers until a commitment can be used.
const COMMITTED: u32 = 12;

/// Makes all calls, with keys and names of its own in each `turn` (1 or 2).
pub async fn measure(meter: &Meter<'_>, turn: u8) -> Costs {
    let mut costs = Costs::default();
    relays(meter, turn, &mut costs[0]).await;
    names(meter, turn, &mut costs[1]).await;
    let (registry, namespace) = (&meter.network.registry, &meter.network.namespace);
    steward(meter, turn, registry, "tunnel_registry", &mut costs[0]).await;
    steward(meter, turn, namespace, "tunnel_namespace", &mut costs[1]).await;
    costs
}

type Table = std::collections::BTreeMap<&'static str, crate::meter::Cost>;

async fn relays(meter: &Meter<'_>, turn: u8, costs: &mut Table) {
    let registry = &meter.network.registry;
    let admin = admin(meter, turn);
    let [operator, relay, other, neighbour] = accounts(meter, turn * 10).await;
    let (as_operator, as_relay, reason) = (meter.writer(&operator), meter.writer(&relay), reason());
    as_operator.register_relay(&neighbour, &record(2), STAKE).send().await.expect("registered");
    let draft = as_operator.register_relay(&relay, &largest(), STAKE);
    costs.insert("register", meter.send(draft).await);
    costs.insert("update", meter.send(as_relay.update_relay(&largest())).await);
    costs.insert("heartbeat", meter.send(as_relay.heartbeat(7)).await);
    costs.insert("set_status", meter.send(as_relay.set_status(RelayStatus::Draining)).await);
    let subject = address(&relay.address());
    let delisting = vec![subject.clone(), reason.clone()];
    costs.insert("delist", meter.call(&admin, registry, "delist", delisting).await);
    costs.insert("relist", meter.call(&admin, registry, "relist", vec![subject]).await);
    costs.insert("rotate", meter.send(as_operator.rotate_relay(&relay.address(), &other)).await);
    let delisting = vec![address(&other.address()), reason];
    meter.call(&admin, registry, "delist", delisting).await;
    costs.insert("deregister", meter.send(as_operator.deregister(&other.address())).await);
    as_operator.deregister(&neighbour.address()).send().await.expect("deregistered");
    pass(meter, DAY).await;
    // The last relay, which is the largest there can be, moves into the freed slot.
    costs.insert("withdraw", meter.send(as_operator.withdraw(&neighbour.address())).await);
    as_operator.withdraw(&other.address()).send().await.expect("withdrawn");
    let config = meter.value(registry, "config").await;
    costs.insert("set_config", meter.call(&admin, registry, "set_config", vec![config]).await);
}

async fn names(meter: &Meter<'_>, turn: u8, costs: &mut Table) {
    let namespace = &meter.network.namespace;
    let admin = admin(meter, turn);
    let [owner, target, other, _] = accounts(meter, turn * 10 + 4).await;
    let (writer, as_target, as_other) = (meter.writer(&owner), meter.writer(&target), meter.writer(&other));
    let name: Label = format!("{}{turn}", "n".repeat(62)).parse().expect("a label");
    let said = text(name.as_str());
    let config = with_largest_lists(meter.value(namespace, "config").await, true);
    costs.insert("set_config", meter.call(&admin, namespace, "set_config", vec![config]).await);
    let salt = [turn; 32];
    costs.insert("commit", meter.send(writer.commit_name(&name, &target.address(), &salt)).await);
    meter.world.net.advance(COMMITTED).await.expect("advanced");
    let draft = writer.register_name(&name, &target.address(), 1, Some(salt));
    costs.insert("register", meter.send(draft).await);
    costs.insert("renew", meter.send(as_other.renew_name(&name, 1)).await);
    costs.insert("set_target", meter.send(writer.set_target(&name, Some(&target.address()))).await);
    let carriers: Vec<Address> = (0..8).map(|i| crate::world::key(220 + i).address()).collect();
    costs.insert("set_relays", meter.send(writer.set_relays(&name, &carriers)).await);
    costs.insert("set_primary", meter.send(as_target.set_primary(&name)).await);
    let suspending = vec![said.clone(), reason()];
    costs.insert("suspend", meter.call(&admin, namespace, "suspend", suspending).await);
    costs.insert("unsuspend", meter.call(&admin, namespace, "unsuspend", vec![said.clone()]).await);
    for number in 0..4 {
        let cost = meter.send(writer.map_domain(&name, &domain(number))).await;
        costs.insert("map_domain", cost);
    }
    costs.insert("unmap_domain", meter.send(writer.unmap_domain(&name, &domain(0))).await);
    costs.insert("transfer", meter.send(writer.transfer(&name, &other)).await);
    // The dearest registration takes a lapsed name over from somebody who still holds it.
    as_other.set_relays(&name, &carriers).send().await.expect("set");
    pass(meter, 3 * 366 * DAY).await;
    writer.commit_name(&name, &target.address(), &salt).send().await.expect("committed");
    meter.world.net.advance(COMMITTED).await.expect("advanced");
    let draft = writer.register_name(&name, &target.address(), 1, Some(salt));
    costs.insert("register a lapsed name", meter.send(draft).await);
    costs.insert("release", meter.send(writer.release(&name)).await);
    let other = text(&format!("reserved{turn}"));
    costs.insert("reserve", meter.call(&admin, namespace, "reserve", vec![other.clone()]).await);
    costs.insert("unreserve", meter.call(&admin, namespace, "unreserve", vec![other]).await);
    let payout = vec![address(&owner.address()), ScVal::from(1i128)];
    costs.insert("withdraw_fees", meter.call(&admin, namespace, "withdraw_fees", payout).await);
    let config = with_largest_lists(meter.value(namespace, "config").await, false);
    meter.call(&admin, namespace, "set_config", vec![config]).await;
}

/// The calls that both contracts have. Afterwards the other of two admins is in charge.
async fn steward(meter: &Meter<'_>, turn: u8, contract: &str, code: &str, costs: &mut Table) {
    let old = admin(meter, turn);
    let new = admin(meter, turn + 1);
    meter.world.net.fund(*new.address().as_bytes()).await.expect("funded");
    let hash: [u8; 32] = Sha256::digest(wasm(code)).into();
    let hash = ScVal::Bytes(ScBytes(BytesM::try_from(hash.to_vec()).expect("32 bytes")));
    let call =
        async |source: &SecretKey, function: &str, args| meter.call(source, contract, function, args).await;
    costs.insert("pause", call(&old, "pause", vec![]).await);
    costs.insert("unpause", call(&old, "unpause", vec![]).await);
    costs.insert("announce_upgrade", call(&old, "announce_upgrade", vec![hash.clone()]).await);
    costs.insert("cancel_upgrade", call(&old, "cancel_upgrade", vec![]).await);
    call(&old, "announce_upgrade", vec![hash]).await;
    let newcomer = address(&new.address());
    costs.insert("announce_admin", call(&old, "announce_admin", vec![newcomer.clone()]).await);
    costs.insert("cancel_admin", call(&old, "cancel_admin", vec![]).await);
    call(&old, "announce_admin", vec![newcomer]).await;
    pass(meter, 7 * DAY).await;
    costs.insert("upgrade", call(&old, "upgrade", vec![]).await);
    costs.insert("accept_admin", call(&new, "accept_admin", vec![]).await);
}

/// Who is in charge in a turn.
fn admin(meter: &Meter<'_>, turn: u8) -> SecretKey {
    if turn == 1 { meter.world.admin.clone() } else { crate::world::key(199 + turn) }
}

async fn accounts<const N: usize>(meter: &Meter<'_>, from: u8) -> [SecretKey; N] {
    let mut seed = from;
    let keys = [(); N].map(|()| {
        seed += 1;
        crate::world::key(seed)
    });
    for key in &keys {
        meter.world.net.fund(*key.address().as_bytes()).await.expect("funded");
    }
    keys
}

/// The network's clock goes on; it is seen with the next ledger.
async fn pass(meter: &Meter<'_>, seconds: u64) {
    meter.world.net.move_clock(seconds);
    meter.world.net.advance(1).await.expect("closed");
}

/// The largest record that is accepted.
fn largest() -> RelayRegistration {
    let uri = |len: usize| format!("https://{}", "a".repeat(len - 8));
    RelayRegistration {
        host: Some(format!("{}.{}", "a".repeat(20), "b".repeat(19)).parse().expect("a host")),
        ipv6: Some(Ipv6Addr::LOCALHOST),
        region: "r".repeat(16),
        capacity: 1_000_000,
        acme: Some(AcmeIdentity {
            issuer: format!("{}.{}", "i".repeat(12), "j".repeat(11)),
            account: uri(64),
        }),
        terms: Some(uri(32)),
        ..record(1)
    }
}

fn reason() -> ScVal {
    text(&"x".repeat(32))
}

fn domain(number: usize) -> HostName {
    format!("{number}{}.{}", "a".repeat(62), "b".repeat(32)).parse().expect("a host")
}

/// The configuration with the longest lists that are accepted, and commitments on or off.
fn with_largest_lists(config: ScVal, commit_reveal: bool) -> ScVal {
    let ScVal::Map(Some(map)) = config else { panic!("a structure") };
    let entries = map.0.iter().cloned().map(|ScMapEntry { key, val }| {
        let named = |name: &str| key == ScVal::Symbol(symbol(name));
        let val = if named("commit_reveal") {
            ScVal::Bool(commit_reveal)
        } else if named("servers") {
            let ScVal::Vec(Some(servers)) = val else { panic!("a list") };
            ScVal::Vec(Some(ScVec(vec![largest_server(&servers[0]); 5].try_into().expect("five"))))
        } else if named("acme_issuers") {
            ScVal::Vec(Some(ScVec(vec![text(&"i".repeat(24)); 4].try_into().expect("four"))))
        } else {
            val
        };
        ScMapEntry { key, val }
    });
    ScVal::Map(Some(ScMap(entries.collect::<Vec<_>>().try_into().expect("as many"))))
}

/// The same server with the longest host and both addresses.
fn largest_server(server: &ScVal) -> ScVal {
    let ScVal::Map(Some(map)) = server else { panic!("a structure") };
    let mut entries = map.0.to_vec();
    for ScMapEntry { key, val } in &mut entries {
        if *key == ScVal::Symbol(symbol("host")) {
            *val = text(&format!("{}.{}", "h".repeat(36), "o".repeat(35)));
        } else if *key == ScVal::Symbol(symbol("ipv6")) {
            *val = ScVal::Bytes(ScBytes(vec![0x20; 16].try_into().expect("16 bytes")));
        }
    }
    ScVal::Map(Some(ScMap(entries.try_into().expect("as many"))))
}
