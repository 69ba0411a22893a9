//! Random commands, and what must hold after each of them. The fuzz target runs the same.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;
use soroban_sdk::testutils::arbitrary::SorobanArbitrary;
use soroban_sdk::{Address, FromVal, InvokeError, String, Vec};
use tunnel_namespace::{Config, DataKey, LabelEntry, NameRecord};
use tunnel_testbed::Build;

use crate::scene::{FEES, Scene, YEAR};

#[derive(Arbitrary, Debug)]
enum Command {
    Commit(Who, Name, Who),
    Register { owner: Who, name: Name, target: Who, years: u8, reveal: bool },
    Renew(Who, Name, u8),
    Transfer(Name, Who),
    Point(Name, Option<Who>),
    Restrict(Name, u8),
    Prefer(Who, Name),
    Release(Name),
    Map(Name, u8),
    Unmap(Name, u8),
    Reserve(Name),
    Unreserve(Name),
    Suspend(Name, <String as SorobanArbitrary>::Prototype),
    Unsuspend(Name),
    Collect(u16),
    Pause,
    Unpause,
    Configure { grace: u32, per_owner: u8, commit_reveal: bool },
    PassLedgers(u8),
    PassDays(u16),
}

/// One of a few keys, so that they meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Who(u8);

#[derive(Arbitrary, Debug)]
enum Name {
    /// One of a few, so that they meet.
    Usual(u8),
    Any(<String as SorobanArbitrary>::Prototype),
}

const LABELS: [&str; 5] = ["abc", "abcd", "mynode", "my-other-node", "zz9"];
const KEYS: u8 = 4;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_natively(bytes in prop::collection::vec(any::<u8>(), 100..1500)) {
        explore(Build::Native, &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_on_wasm(bytes in prop::collection::vec(any::<u8>(), 100..1500)) {
        explore(Build::Wasm, &bytes);
    }
}

/// Carries out the commands that the bytes spell, and checks all invariants after each.
pub fn explore(build: Build, bytes: &[u8]) {
    let scene = Scene::from(build).agreed();
    let mut input = Unstructured::new(bytes);
    let mut fees = 0;
    while !input.is_empty() {
        let Ok(command) = Command::arbitrary(&mut input) else { return };
        let before = scene.names.revision();
        let went = scene.carry_out(&command);
        let counted = match &command {
            Command::Commit(..) | Command::PassLedgers(_) | Command::PassDays(_) => false,
            _ => went,
        };
        assert_eq!(scene.names.revision(), before + u64::from(counted), "after {command:?}");
        fees += match &command {
            Command::Register { name, years, .. } | Command::Renew(_, name, years) if went => {
                scene.fee(name) * i128::from(*years)
            }
            Command::Collect(amount) if went => -i128::from(*amount),
            _ => 0,
        };
        assert_eq!(scene.bed.balance(&scene.names.address), fees, "after {command:?}");
        scene.check(&command);
    }
}

impl Scene {
    fn who(&self, who: Who) -> Address {
        self.bed.account(10 + who.0 % KEYS).address
    }

    fn name(&self, name: &Name) -> String {
        match name {
            Name::Usual(index) => self.text(LABELS[usize::from(*index) % LABELS.len()]),
            Name::Any(prototype) => String::from_val(self.env(), prototype),
        }
    }

    fn fee(&self, name: &Name) -> i128 {
        FEES[(self.name(name).len() as usize).clamp(3, 5) - 3]
    }

    fn domain(&self, number: u8) -> String {
        self.text(&format!("d{}.example.org", number % 6))
    }

    /// Whether the command went through.
    fn carry_out(&self, command: &Command) -> bool {
        let names = &self.names;
        match command {
            Command::Commit(owner, name, target) => {
                let (owner, target) = (self.who(*owner), self.who(*target));
                done(
                    names.try_commit(
                        &owner,
                        &self.hash(&self.names.address, &self.name(name), &owner, &target),
                    ),
                )
            }
            Command::Register { owner, name, target, years, reveal } => {
                let (owner, target) = (self.who(*owner), self.who(*target));
                let salt = reveal.then(|| self.salt());
                done(names.try_register(&owner, &self.name(name), &target, &u32::from(*years), &salt))
            }
            Command::Renew(payer, name, years) => {
                done(names.try_renew(&self.who(*payer), &self.name(name), &u32::from(*years)))
            }
            Command::Transfer(name, heir) => done(names.try_transfer(&self.name(name), &self.who(*heir))),
            Command::Point(name, target) => {
                done(names.try_set_target(&self.name(name), &target.map(|target| self.who(target))))
            }
            Command::Restrict(name, relays) => {
                let relays = (0..relays % 10).map(|seed| self.bed.account(50 + seed).address);
                done(names.try_set_relays(&self.name(name), &Vec::from_iter(self.env(), relays)))
            }
            Command::Prefer(target, name) => {
                done(names.try_set_primary(&self.who(*target), &self.name(name)))
            }
            Command::Release(name) => done(names.try_release(&self.name(name))),
            Command::Map(name, domain) => done(names.try_map_domain(&self.name(name), &self.domain(*domain))),
            Command::Unmap(name, domain) => {
                done(names.try_unmap_domain(&self.name(name), &self.domain(*domain)))
            }
            Command::Reserve(name) => done(names.try_reserve(&self.name(name))),
            Command::Unreserve(name) => done(names.try_unreserve(&self.name(name))),
            Command::Suspend(name, reason) => {
                done(names.try_suspend(&self.name(name), &String::from_val(self.env(), reason)))
            }
            Command::Unsuspend(name) => done(names.try_unsuspend(&self.name(name))),
            // The one call that can fail in the token's contract.
            Command::Collect(amount) => {
                names.try_withdraw_fees(&self.admin.address, &i128::from(*amount)).is_ok()
            }
            Command::Pause => done(names.try_pause()),
            Command::Unpause => done(names.try_unpause()),
            Command::Configure { grace, per_owner, commit_reveal } => {
                let changed = Config {
                    grace: u64::from(*grace),
                    per_owner: u32::from(*per_owner),
                    commit_reveal: *commit_reveal,
                    ..names.config()
                };
                done(names.try_set_config(&changed))
            }
            Command::PassLedgers(ledgers) => {
                self.bed.pass_ledgers(u32::from(*ledgers));
                true
            }
            Command::PassDays(days) => {
                self.bed.pass(u64::from(*days % 500) * 86_400);
                true
            }
        }
    }

    fn check(&self, after: &Command) {
        let now = self.bed.now();
        let mut labels = BTreeSet::new();
        let mut serials = BTreeSet::new();
        for slot in 0..self.names.count() {
            let record: NameRecord = self.stored(DataKey::Slot(slot)).expect("slots are never removed");
            assert!(labels.insert(record.label.to_string()), "a label twice, after {after:?}");
            assert!(serials.insert(record.serial), "a serial twice, after {after:?}");
            let entry: LabelEntry = self.stored(DataKey::Label(record.label.clone())).expect("labels stay");
            assert_eq!(entry.slot, Some(slot), "after {after:?}");
            assert!(record.expires_at <= now + 5 * YEAR, "after {after:?}");

            let live = now < record.expires_at;
            let lapsed = now >= record.expires_at + record.grace;
            assert!(lapsed || !entry.reserved, "a reserved name with an owner, after {after:?}");
            let resolved =
                self.names.try_resolve(&record.label).ok().map(|target| target.expect("an address"));
            let expected = record.target.clone().filter(|_| live && record.suspended.is_none());
            assert_eq!(resolved, expected, "after {after:?}");
            assert_eq!(self.names.domains(&record.label).len(), record.domains, "after {after:?}");

            for who in 0..KEYS {
                let who = self.who(Who(who));
                let holds = self.held(&who).contains(slot);
                assert!(!holds || who == record.owner, "two owners, after {after:?}");
                assert!(lapsed || holds || who != record.owner, "an owner without the name, after {after:?}");
            }
        }
        let count = self.names.count();
        assert!(self.stored::<NameRecord>(DataKey::Slot(count)).is_none(), "after {after:?}");
        for who in 0..KEYS {
            let who = self.who(Who(who));
            assert!(self.held(&who).len() <= 64);
            if let Some(name) = self.names.primary(&who) {
                assert_eq!(self.names.resolve(&name), who, "after {after:?}");
            }
        }
    }

    fn held(&self, owner: &Address) -> Vec<u32> {
        self.stored(DataKey::Owner(owner.clone())).unwrap_or(Vec::new(self.env()))
    }

    fn stored<T: soroban_sdk::TryFromVal<soroban_sdk::Env, soroban_sdk::Val>>(
        &self,
        key: DataKey,
    ) -> Option<T> {
        self.env().as_contract(&self.names.address, || self.env().storage().persistent().get(&key))
    }
}

/// Whether a call went through; it may be refused, but not break.
fn done<T, C, E>(outcome: Result<Result<T, C>, Result<E, InvokeError>>) -> bool {
    assert!(!matches!(outcome, Err(Err(InvokeError::Abort))), "a call broke off");
    outcome.is_ok()
}
