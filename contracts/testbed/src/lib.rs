//! A ledger for the contracts' tests: accounts with real keys and signatures, the native asset as token, time that
//! passes, and both builds of a contract, native and wasm.
//!
//! For tests only; knows nothing about either contract.
#![forbid(unsafe_code)]

mod call;
mod cost;
mod key;
mod life;
mod wasm;

use soroban_sdk::testutils::{EnvTestConfig, Ledger as _};
use soroban_sdk::token::TokenClient;
use soroban_sdk::{Address, Env, TryIntoVal, xdr};

pub use call::{Call, Outcome, Payment, went_through};
pub use cost::{BOUND, Cost, Costs};
pub use key::Key;
pub use life::Life;
pub use wasm::{Build, wasm};

/// Ledgers close about every five seconds.
const LEDGER_SECONDS: u64 = 5;
/// Seconds of a day.
pub const DAY: u64 = 24 * 60 * 60;
/// Unix seconds at which tests begin.
pub const START: u64 = 1_800_000_000;
/// What every account begins with, in stroops.
pub const FUNDS: i128 = 10_000_000_000_000;

/// A ledger with the native asset's contract on it.
pub struct Testbed {
    /// The environment of all contracts.
    pub env: Env,
    /// The native asset's contract.
    pub token: Address,
}

impl Default for Testbed {
    fn default() -> Self {
        let env = Env::new_with_config(EnvTestConfig { capture_snapshot_at_drop: false });
        // Life times as on testnet, where they are shortest.
        env.ledger().with_mut(|ledger| {
            ledger.timestamp = START;
            ledger.sequence_number = 1_000;
            ledger.min_temp_entry_ttl = 720;
            ledger.min_persistent_entry_ttl = 120_960;
            ledger.max_entry_ttl = 3_110_400;
        });
        let create = xdr::HostFunction::CreateContract(xdr::CreateContractArgs {
            contract_id_preimage: xdr::ContractIdPreimage::Asset(xdr::Asset::Native),
            executable: xdr::ContractExecutable::StellarAsset,
        });
        let token = env.host().invoke_function(create).expect("the native asset's contract deploys");
        let token = token.try_into_val(&env).expect("a contract's address");
        Self { env, token }
    }
}

impl Testbed {
    /// A funded account; the same seed is the same account.
    pub fn account(&self, seed: u8) -> Key {
        Key::funded(&self.env, seed)
    }

    /// What an address owns of the native asset, in stroops.
    pub fn balance(&self, address: &Address) -> i128 {
        TokenClient::new(&self.env, &self.token).balance(address)
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.env.ledger().timestamp()
    }

    /// Lets time and ledgers pass.
    pub fn pass(&self, seconds: u64) {
        self.env.ledger().with_mut(|ledger| {
            ledger.timestamp += seconds;
            ledger.sequence_number += u32::try_from(seconds / LEDGER_SECONDS).expect("less than centuries");
        });
    }

    /// Lets ledgers pass, and the time they take.
    pub fn pass_ledgers(&self, ledgers: u32) {
        self.pass(u64::from(ledgers) * LEDGER_SECONDS);
    }
}
