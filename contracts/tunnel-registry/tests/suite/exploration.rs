//! Random commands, and what must hold after each of them. The fuzz target runs the same.

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;
use soroban_sdk::testutils::arbitrary::SorobanArbitrary;
use soroban_sdk::{Address, FromVal, String};
use tunnel_registry::{Config, DataKey, RelayEntry, RelayRecord, RelayStatus};
use tunnel_testbed::{Build, DAY, FUNDS, went_through};

use crate::scene::{STAKE, Scene, config, record};

#[derive(Arbitrary, Debug)]
enum Command {
    Register { operator: Who, relay: Who, record: Record, stake: Stake },
    RegisterAgain { relay: Who },
    Update(Who, Record),
    Rotate(Who, Who),
    Heartbeat(Who, u32),
    Drain(Who),
    Deregister(Who),
    Withdraw(Who),
    Delist(Who, <String as SorobanArbitrary>::Prototype),
    Relist(Who),
    Unpause,
    Pause,
    Configure { min_stake: i8, unbonding: u8, per_operator: u8 },
    PassHours(u8),
    PassMonth,
}

/// Bytes that spell a command, and commands in a run.
const SPELLING: usize = 32;
const COMMANDS: usize = 80;
const KEYS: u8 = 5;

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
    for spelling in bytes.chunks(SPELLING) {
        let Ok(command) = Command::arbitrary(&mut Unstructured::new(spelling)) else { continue };
        let before = scene.registry.revision();
        let counted = scene.carry_out(&command);
        assert_eq!(scene.registry.revision(), before + u64::from(counted), "after {command:?}");
        scene.check(&command);
    }
}

impl Scene {
    fn who(&self, who: Who) -> Address {
        self.bed.account(10 + who.0 % KEYS).address
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
                if affordable { went_through(outcome) } else { outcome.is_ok() }
            }
            Command::RegisterAgain { relay } => {
                let relay = self.who(*relay);
                went_through(registry.try_register(&relay, &relay, &self::record(self.env()), &STAKE))
            }
            Command::Update(relay, record) => {
                went_through(registry.try_update(&self.who(*relay), &self.what(record)))
            }
            Command::Rotate(relay, new) => {
                went_through(registry.try_rotate(&self.who(*relay), &self.who(*new)))
            }
            Command::Heartbeat(relay, load) => {
                went_through(registry.try_heartbeat(&self.who(*relay), load));
                false
            }
            Command::Drain(relay) => {
                went_through(registry.try_set_status(&self.who(*relay), &RelayStatus::Draining))
            }
            Command::Deregister(relay) => went_through(registry.try_deregister(&self.who(*relay))),
            Command::Withdraw(relay) => went_through(registry.try_withdraw(&self.who(*relay))),
            Command::Delist(relay, reason) => {
                went_through(registry.try_delist(&self.who(*relay), &String::from_val(self.env(), reason)))
            }
            Command::Relist(relay) => went_through(registry.try_relist(&self.who(*relay))),
            Command::Unpause => went_through(registry.try_unpause()),
            Command::Pause => went_through(registry.try_pause()),
            Command::Configure { min_stake, unbonding, per_operator } => {
                let changed = Config {
                    min_stake: i128::from(*min_stake),
                    unbonding: u64::from(*unbonding) * 3_600,
                    per_operator: u32::from(*per_operator),
                    ..config(&self.bed.token)
                };
                went_through(registry.try_set_config(&changed))
            }
            Command::PassHours(hours) => {
                self.bed.pass(u64::from(*hours) * 3_600);
                false
            }
            Command::PassMonth => {
                self.bed.pass(31 * DAY);
                false
            }
        }
    }

    fn check(&self, after: &Command) {
        let registry = &self.registry.address;
        let who: std::vec::Vec<_> = (0..KEYS).map(|who| self.who(Who(who))).collect();
        let balances = [registry].into_iter().chain(&who).map(|who| self.bed.balance(who));
        let balances: std::vec::Vec<_> = balances.collect();
        let count = self.registry.count();
        self.env().as_contract(registry, || {
            let storage = self.env().storage().persistent();
            let entries: std::vec::Vec<RelayEntry> =
                (0..count).map(|slot| storage.get(&DataKey::Slot(slot)).expect("occupied")).collect();
            assert!(!storage.has(&DataKey::Slot(count)), "after {after:?}");
            let stakes: i128 = entries.iter().map(|entry| entry.stake).sum();
            assert!(entries.iter().all(|entry| entry.stake >= 0), "after {after:?}");
            assert_eq!(balances[0], stakes, "after {after:?}");
            for (who, balance) in who.iter().zip(&balances[1..]) {
                let slots = (0..).zip(&entries).filter(|(_, entry)| entry.relay == *who);
                let slots: std::vec::Vec<u32> = slots.map(|(slot, _)| slot).collect();
                let slot: Option<u32> = storage.get(&DataKey::Relay(who.clone()));
                assert_eq!(slots, slot.into_iter().collect::<std::vec::Vec<_>>(), "after {after:?}");
                let own = || entries.iter().filter(|entry| entry.operator == *who);
                let operated: Option<usize> =
                    storage.get(&DataKey::Operator(who.clone())).map(|relays: u32| relays as usize);
                assert_eq!(operated.unwrap_or(0), own().count(), "after {after:?}");
                let staked: i128 = own().map(|entry| entry.stake).sum();
                assert_eq!(balance + staked, FUNDS, "nobody gains or loses, after {after:?}");
            }
        });
    }
}
