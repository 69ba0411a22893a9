//! Random commands, and what must hold after each of them. The fuzz target runs the same.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;
use soroban_sdk::testutils::arbitrary::SorobanArbitrary;
use soroban_sdk::{Address, FromVal, String, Vec};
use tunnel_namespace::{Config, DataKey, LabelEntry, NameRecord};
use tunnel_testbed::{Build, DAY, went_through};

use crate::scene::{FEES, Scene, YEAR};

#[derive(Arbitrary, Debug)]
enum Command {
    Commit(Who, Name, Who),
    Register { owner: Who, name: Name, target: Who, years: u8, reveal: bool },
    RegisterAgain(Who, Usual),
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
    Configure { grace: u8, per_owner: u8, commit_reveal: bool },
    PassLedgers(u8),
    PassDays(u8),
    PassYears,
}

/// Bytes that spell a command, and commands in a run.
const SPELLING: usize = 32;
const COMMANDS: usize = 80;

/// One of a few keys, so that they meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Who(u8);

#[derive(Arbitrary, Debug)]
enum Name {
    Usual(Usual),
    Any(<String as SorobanArbitrary>::Prototype),
}

/// One of a few names, so that they meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Usual(u8);

const LABELS: [&str; 3] = ["abc", "abcd", "mynode"];
const KEYS: u8 = 3;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_natively(bytes in prop::collection::vec(any::<u8>(), SPELLING * COMMANDS)) {
        explore(Build::Native, &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_on_wasm(bytes in prop::collection::vec(any::<u8>(), SPELLING * COMMANDS)) {
        explore(Build::Wasm, &bytes);
    }
}

/// Carries out the commands that the bytes spell, a few for each, and checks all invariants after each.
pub fn explore(build: Build, bytes: &[u8]) {
    let scene = Scene::from(build).agreed();
    let mut fees = 0;
    for spelling in bytes.chunks(SPELLING) {
        let Ok(command) = Command::arbitrary(&mut Unstructured::new(spelling)) else { continue };
        let before = scene.names.revision();
        let went = scene.carry_out(&command);
        let counted = match &command {
            Command::Commit(..) | Command::PassLedgers(_) | Command::PassDays(_) | Command::PassYears => {
                false
            }
            _ => went,
        };
        assert_eq!(scene.names.revision(), before + u64::from(counted), "after {command:?}");
        fees += match &command {
            Command::Register { name, years, .. } | Command::Renew(_, name, years) if went => {
                scene.fee(name) * i128::from(*years)
            }
            Command::RegisterAgain(_, name) if went => scene.fee(&Name::Usual(*name)),
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
            Name::Usual(Usual(index)) => self.text(LABELS[usize::from(*index) % LABELS.len()]),
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
                went_through(
                    names.try_commit(
                        &owner,
                        &self.hash(&self.names.address, &self.name(name), &owner, &target),
                    ),
                )
            }
            Command::Register { owner, name, target, years, reveal } => {
                let (owner, target) = (self.who(*owner), self.who(*target));
                let salt = reveal.then(|| self.salt());
                went_through(names.try_register(&owner, &self.name(name), &target, &u32::from(*years), &salt))
            }
            Command::RegisterAgain(owner, name) => {
                let owner = self.who(*owner);
                went_through(names.try_register(&owner, &self.name(&Name::Usual(*name)), &owner, &1, &None))
            }
            Command::Renew(payer, name, years) => {
                went_through(names.try_renew(&self.who(*payer), &self.name(name), &u32::from(*years)))
            }
            Command::Transfer(name, heir) => {
                went_through(names.try_transfer(&self.name(name), &self.who(*heir)))
            }
            Command::Point(name, target) => {
                went_through(names.try_set_target(&self.name(name), &target.map(|target| self.who(target))))
            }
            Command::Restrict(name, relays) => {
                let relays = (0..relays % 10).map(|seed| self.bed.account(50 + seed).address);
                went_through(names.try_set_relays(&self.name(name), &Vec::from_iter(self.env(), relays)))
            }
            Command::Prefer(target, name) => {
                went_through(names.try_set_primary(&self.who(*target), &self.name(name)))
            }
            Command::Release(name) => went_through(names.try_release(&self.name(name))),
            Command::Map(name, domain) => {
                went_through(names.try_map_domain(&self.name(name), &self.domain(*domain)))
            }
            Command::Unmap(name, domain) => {
                went_through(names.try_unmap_domain(&self.name(name), &self.domain(*domain)))
            }
            Command::Reserve(name) => went_through(names.try_reserve(&self.name(name))),
            Command::Unreserve(name) => went_through(names.try_unreserve(&self.name(name))),
            Command::Suspend(name, reason) => {
                went_through(names.try_suspend(&self.name(name), &String::from_val(self.env(), reason)))
            }
            Command::Unsuspend(name) => went_through(names.try_unsuspend(&self.name(name))),
            // The one call that can fail in the token's contract.
            Command::Collect(amount) => {
                names.try_withdraw_fees(&self.admin.address, &i128::from(*amount)).is_ok()
            }
            Command::Pause => went_through(names.try_pause()),
            Command::Unpause => went_through(names.try_unpause()),
            Command::Configure { grace, per_owner, commit_reveal } => {
                let changed = Config {
                    grace: u64::from(*grace) * DAY,
                    per_owner: u32::from(*per_owner % 4),
                    commit_reveal: *commit_reveal,
                    ..names.config()
                };
                went_through(names.try_set_config(&changed))
            }
            Command::PassLedgers(ledgers) => {
                self.bed.pass_ledgers(u32::from(*ledgers));
                true
            }
            Command::PassDays(days) => {
                self.bed.pass(u64::from(*days) * DAY);
                true
            }
            Command::PassYears => {
                self.bed.pass(2 * YEAR);
                true
            }
        }
    }

    fn check(&self, after: &Command) {
        let now = self.bed.now();
        let keys: std::vec::Vec<_> = (0..KEYS).map(|who| self.who(Who(who))).collect();
        let count = self.names.count();
        let records = self.env().as_contract(&self.names.address, || {
            let storage = self.env().storage().persistent();
            let held = |who: &Address| -> Vec<u32> {
                storage.get(&DataKey::Owner(who.clone())).unwrap_or(Vec::new(self.env()))
            };
            let record = |slot| -> NameRecord { storage.get(&DataKey::Slot(slot)).expect("never removed") };
            let records: std::vec::Vec<_> = (0..count).map(record).collect();
            assert!(!storage.has(&DataKey::Slot(count)), "after {after:?}");
            for (slot, record) in (0..).zip(&records) {
                let entry: LabelEntry =
                    storage.get(&DataKey::Label(record.label.clone())).expect("labels stay");
                assert_eq!(entry.slot, Some(slot), "after {after:?}");
                assert!(record.expires_at <= now + 5 * YEAR, "after {after:?}");
                let lapsed = now >= record.expires_at + record.grace;
                assert!(lapsed || !entry.reserved, "a reserved name with an owner, after {after:?}");
                for who in &keys {
                    let times = held(who).iter().filter(|held| *held == slot).count();
                    let owns = *who == record.owner;
                    assert!(times <= usize::from(owns), "two owners, after {after:?}");
                    assert!(
                        lapsed || times == usize::from(owns),
                        "an owner without the name, after {after:?}"
                    );
                }
            }
            records
        });
        let labels: BTreeSet<_> = records.iter().map(|record| record.label.to_string()).collect();
        let serials: BTreeSet<_> = records.iter().map(|record| record.serial).collect();
        assert_eq!((labels.len(), serials.len()), (records.len(), records.len()), "after {after:?}");
        for record in records {
            let resolves = now < record.expires_at && record.suspended.is_none();
            let resolved =
                self.names.try_resolve(&record.label).ok().map(|target| target.expect("an address"));
            assert_eq!(resolved, record.target.filter(|_| resolves), "after {after:?}");
            assert_eq!(self.names.domains(&record.label).len(), record.domains, "after {after:?}");
        }
        for who in &keys {
            if let Some(name) = self.names.primary(who) {
                assert_eq!(self.names.resolve(&name), *who, "after {after:?}");
            }
        }
    }
}
