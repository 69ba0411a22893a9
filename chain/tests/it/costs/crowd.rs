//! Many records, put on the ledger fast: one registration of each kind is simulated, and the others are made of its
//! footprint with other keys in it. Measures nothing.

use std::collections::HashMap;

use stellar_xdr::{
    LedgerKey, OperationBody, PublicKey, ScAddress, ScVal, ScVec, SorobanTransactionData, Uint256,
};
use tunnler_protocol::{Address, SecretKey};

use crate::meter::{Meter, address, text};
use crate::world::{STAKE, label, record};

/// Names that one account may hold.
const PER_OWNER: usize = 64;

/// Records of both kinds.
pub struct Crowd<'m> {
    meter: &'m Meter<'m>,
    relays: usize,
    names: usize,
    /// Last used sequence numbers, while nobody else uses these accounts.
    sequences: HashMap<Address, i64>,
    name: Template,
    relay: Template,
}

/// One registration as simulated.
struct Template {
    body: OperationBody,
    data: SorobanTransactionData,
    /// Whose it is.
    whose: Address,
}

impl<'m> Crowd<'m> {
    /// Registers one of each.
    pub async fn new(meter: &'m Meter<'m>) -> Self {
        let first = member(0);
        meter.world.net.fund(*first.address().as_bytes()).await.expect("funded");
        let writer = meter.writer(&first);
        let name = meter.sent(writer.register_name(&label(&named(0)), &first.address(), 1, None)).await;
        let relay = meter.sent(writer.register_relay(&first, &record(1), STAKE)).await;
        let template = |(body, data)| Template { body, data, whose: first.address() };
        let (name, relay) = (template(name), template(relay));
        Self { meter, relays: 1, names: 1, sequences: HashMap::new(), name, relay }
    }

    /// Goes on until there are so many more of each kind than others have put there.
    pub async fn grow(&mut self, relays: usize, names: usize) {
        let others = |count: ScVal, own: usize| match count {
            ScVal::U32(count) => count as usize - own,
            other => panic!("{other:?}"),
        };
        let (registry, namespace) = (&self.meter.network.registry, &self.meter.network.namespace);
        let other_relays = others(self.meter.value(registry, "count").await, self.relays);
        let other_names = others(self.meter.value(namespace, "count").await, self.names);
        self.sequences.clear();
        for number in self.relays..relays {
            let body = self.relay.of(&member(number), number, other_relays + number);
            self.put(&member(number), body).await;
        }
        for number in self.names..names {
            let owner = member(number / PER_OWNER);
            let body = self.name.of(&owner, number, other_names + number);
            self.put(&owner, body).await;
        }
        (self.relays, self.names) = (relays, names);
        let total = |count: usize| ScVal::U32(u32::try_from(count).expect("few"));
        assert_eq!(self.meter.value(registry, "count").await, total(other_relays + relays));
        assert_eq!(self.meter.value(namespace, "count").await, total(other_names + names));
    }

    async fn put(&mut self, owner: &SecretKey, (body, data): (OperationBody, SorobanTransactionData)) {
        let sequence = match self.sequences.get(&owner.address()) {
            Some(sequence) => sequence + 1,
            None => {
                self.meter.world.net.fund(*owner.address().as_bytes()).await.expect("funded");
                self.meter.sequence(owner).await
            }
        };
        self.sequences.insert(owner.address(), sequence);
        self.meter.submit(owner, body, data, sequence).await;
    }
}

impl Template {
    /// The same registration of somebody else.
    fn of(&self, owner: &SecretKey, number: usize, slot: usize) -> (OperationBody, SorobanTransactionData) {
        let change = |value: &mut ScVal| replace(value, self.whose, owner.address(), number, slot);
        let mut body = self.body.clone();
        if let OperationBody::InvokeHostFunction(call) = &mut body {
            if let stellar_xdr::HostFunction::InvokeContract(args) = &mut call.host_function {
                args.args = changed(&args.args, change);
            }
            let mut auth = call.auth.to_vec();
            for entry in &mut auth {
                invocation(&mut entry.root_invocation, &change);
            }
            call.auth = auth.try_into().expect("as many");
        }
        let mut data = self.data.clone();
        for keys in [&mut data.resources.footprint.read_only, &mut data.resources.footprint.read_write] {
            let mut own = keys.to_vec();
            for key in &mut own {
                match key {
                    LedgerKey::ContractData(key) => change(&mut key.key),
                    LedgerKey::Account(key) if is(&key.account_id.0, self.whose) => {
                        key.account_id.0 =
                            PublicKey::PublicKeyTypeEd25519(Uint256(*owner.address().as_bytes()));
                    }
                    _ => {}
                }
            }
            *keys = own.try_into().expect("as many");
        }
        // The owner's list of slots grows.
        data.resources.write_bytes += 1_024;
        data.resources.instructions *= 2;
        data.resource_fee *= 4;
        (body, data)
    }
}

fn invocation(of: &mut stellar_xdr::SorobanAuthorizedInvocation, change: &impl Fn(&mut ScVal)) {
    if let stellar_xdr::SorobanAuthorizedFunction::ContractFn(args) = &mut of.function {
        args.args = changed(&args.args, change);
    }
    let mut subs = of.sub_invocations.to_vec();
    for sub in &mut subs {
        invocation(sub, change);
    }
    of.sub_invocations = subs.try_into().expect("as many");
}

fn changed(args: &[ScVal], change: impl Fn(&mut ScVal)) -> stellar_xdr::VecM<ScVal> {
    let mut args = args.to_vec();
    args.iter_mut().for_each(change);
    args.try_into().expect("as many")
}

/// Puts another owner, label and slot into an argument or a key.
fn replace(value: &mut ScVal, of: Address, owner: Address, number: usize, slot: usize) {
    match value {
        ScVal::Address(ScAddress::Account(id)) if is(&id.0, of) => *value = address(&owner),
        ScVal::String(string) if string.0.to_utf8_string_lossy() == named(0) => *value = text(&named(number)),
        ScVal::Vec(Some(items)) => {
            let mut own = items.to_vec();
            if let [ScVal::Symbol(kind), ScVal::U32(number)] = &mut own[..]
                && kind.0.as_slice() == b"Slot"
            {
                *number = u32::try_from(slot).expect("few");
            }
            own.iter_mut().for_each(|item| replace(item, of, owner, number, slot));
            *items = ScVec(own.try_into().expect("as many"));
        }
        _ => {}
    }
}

fn is(key: &PublicKey, address: Address) -> bool {
    let PublicKey::PublicKeyTypeEd25519(Uint256(bytes)) = key;
    bytes == address.as_bytes()
}

pub fn named(number: usize) -> String {
    format!("crowd{number:05}")
}

pub fn member(number: usize) -> SecretKey {
    let mut seed = [77; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SecretKey::from_seed(&seed)
}
