//! Random commands, and what must hold after each of them. The fuzz target runs the same.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;
use soroban_sdk::testutils::arbitrary::SorobanArbitrary;
use soroban_sdk::{Address, FromVal, InvokeError, String};
use tunnel_registry::{Config, DataKey, RelayRecord, RelayStatus};
use tunnel_testbed::{Build, FUNDS};

use crate::scene::{Scene, config, record};

#[derive(Arbitrary, Debug)]
enum Command {
    Register { operator: Who, relay: Who, record: Record, stake: Stake },
    Update(Who, Record),
    Rotate(Who, Who),
    Heartbeat(Who, u32),
    Drain(Who),
    Deregister(Who),
    Withdraw(Who),
    Delist(Who, <String as SorobanArbitrary>::Prototype),
    Relist(Who),
    Pause,
    Unpause,
    Configure { min_stake: i16, unbonding: u32, per_operator: u8 },
    Pass(u16),
}

/// One of a few keys, so that they meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Who(u8);

#[derive(Arbitrary, Debug)]
enum Record {
    Good,
    Any(<RelayRecord as SorobanArbitrary>::Prototype),
}

#[derive(Arbitrary, Debug)]
enum Stake {
    Usual(u16),
    Any(i128),
}

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
    while !input.is_empty() {
        let Ok(command) = Command::arbitrary(&mut input) else { return };
        let before = scene.registry.revision();
        let counted = scene.carry_out(&command);
        assert_eq!(scene.registry.revision(), before + u64::from(counted), "after {command:?}");
        scene.check(&command);
    }
}

impl Scene {
    fn who(&self, who: Who) -> Address {
        self.bed.account(10 + who.0 % 6).address
    }

    fn what(&self, record: &Record) -> RelayRecord {
        match record {
            Record::Good => self::record(self.env()),
            Record::Any(prototype) => RelayRecord::from_val(self.env(), prototype),
        }
    }

    /// Whether the command changed something that counts as a revision.
    fn carry_out(&self, command: &Command) -> bool {
        let registry = &self.registry;
        match command {
            Command::Register { operator, relay, record, stake } => {
                let stake = match stake {
                    Stake::Usual(stake) => i128::from(*stake),
                    Stake::Any(stake) => *stake,
                };
                let (operator, relay) = (self.who(*operator), self.who(*relay));
                // Only here can a call fail in the token's contract.
                let affordable = stake <= self.bed.balance(&operator) - 1_0000_0000;
                let outcome = registry.try_register(&operator, &relay, &self.what(record), &stake);
                if affordable { done(outcome) } else { outcome.is_ok() }
            }
            Command::Update(relay, record) => {
                done(registry.try_update(&self.who(*relay), &self.what(record)))
            }
            Command::Rotate(relay, new) => done(registry.try_rotate(&self.who(*relay), &self.who(*new))),
            Command::Heartbeat(relay, load) => {
                done(registry.try_heartbeat(&self.who(*relay), load));
                false
            }
            Command::Drain(relay) => done(registry.try_set_status(&self.who(*relay), &RelayStatus::Draining)),
            Command::Deregister(relay) => done(registry.try_deregister(&self.who(*relay))),
            Command::Withdraw(relay) => done(registry.try_withdraw(&self.who(*relay))),
            Command::Delist(relay, reason) => {
                done(registry.try_delist(&self.who(*relay), &String::from_val(self.env(), reason)))
            }
            Command::Relist(relay) => done(registry.try_relist(&self.who(*relay))),
            Command::Pause => done(registry.try_pause()),
            Command::Unpause => done(registry.try_unpause()),
            Command::Configure { min_stake, unbonding, per_operator } => {
                let changed = Config {
                    min_stake: i128::from(*min_stake),
                    unbonding: u64::from(*unbonding),
                    per_operator: u32::from(*per_operator),
                    ..config(&self.bed.token)
                };
                done(registry.try_set_config(&changed))
            }
            Command::Pass(hours) => {
                self.bed.pass(u64::from(*hours) * 3_600);
                false
            }
        }
    }

    fn check(&self, after: &Command) {
        let registry = &self.registry;
        let listed = self.listed();
        let mut stakes = 0;
        let mut operated = BTreeMap::new();
        for (slot, relay) in (0..).zip(&listed) {
            let entry = registry.relay(relay);
            assert_eq!(entry.relay, *relay, "after {after:?}");
            assert_eq!(self.stored(DataKey::Relay(relay.clone())), Some(slot), "after {after:?}");
            assert!(entry.stake >= 0);
            stakes += entry.stake;
            *operated.entry(entry.operator.to_string().to_string()).or_default() += 1;
        }
        assert_eq!(self.bed.balance(&registry.address), stakes, "after {after:?}");
        for who in 0..6 {
            let who = self.who(Who(who));
            assert!(self.bed.balance(&who) <= FUNDS, "nobody gains, after {after:?}");
            assert_eq!(
                self.stored(DataKey::Operator(who.clone())),
                operated.get(&who.to_string().to_string()).copied()
            );
            if !listed.contains(&who) {
                assert_eq!(self.stored(DataKey::Relay(who)), None, "after {after:?}");
            }
        }
        let beyond = DataKey::Slot(registry.count());
        self.env().as_contract(&registry.address, || {
            assert!(!self.env().storage().persistent().has(&beyond), "after {after:?}");
        });
    }

    fn stored(&self, key: DataKey) -> Option<u32> {
        self.env().as_contract(&self.registry.address, || self.env().storage().persistent().get(&key))
    }
}

/// Whether a call went through; it may be refused, but not break.
fn done<T, C, E>(outcome: Result<Result<T, C>, Result<E, InvokeError>>) -> bool {
    assert!(!matches!(outcome, Err(Err(InvokeError::Abort))), "a call broke off");
    outcome.is_ok()
}
