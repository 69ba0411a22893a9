//! Who may do what: each mutating call with the signatures it needs, and with one of them missing or a stranger's.

use soroban_sdk::{Address, BytesN, Env, IntoVal, Val, Vec, vec};
use tunnel_testbed::{Call, DAY, Key, Outcome, Payment, on_both_builds, wasm};

use crate::scene::{FEES, Scene, config};

on_both_builds![calls_on_names_need_exactly_their_signatures, admin_calls_need_the_admin];

impl Scene {
    fn call(&self, function: &'static str, args: impl IntoVal<Env, Vec<Val>>) -> Call {
        let args = args.into_val(self.env());
        Call { contract: self.names.address.clone(), function, args, payment: None }
    }

    /// The same call, which takes a year's fee for a long name from `payer`.
    fn paying(&self, payer: &Address, call: Call) -> Call {
        let args = (payer.clone(), self.names.address.clone(), FEES[2]).into_val(self.env());
        Call { payment: Some(Payment { token: self.bed.token.clone(), args }), ..call }
    }

    fn registration(&self) -> Call {
        let (owner, target) = (&self.owner.address, &self.target.address);
        let args = (owner.clone(), self.text("mynode"), target.clone(), 1_u32, Option::<BytesN<32>>::None);
        self.paying(owner, self.call("register", args))
    }

    /// The call needs exactly these signatures.
    fn needs(&self, call: &Call, signers: &[&Key]) {
        call.needs(self.env(), signers, &self.stranger);
        self.bed.pass_ledgers(1);
    }
}

fn calls_on_names_need_exactly_their_signatures(scene: Scene) {
    let env = scene.env();
    let (owner, target) = (&scene.owner, &scene.target);
    let heir = scene.bed.account(50);
    let name = || scene.text("mynode");

    let hash = BytesN::from_array(env, &[5; 32]);
    scene.needs(&scene.call("commit", (owner.address.clone(), hash)), &[owner]);
    scene.needs(&scene.registration(), &[owner]);
    let renew = scene.call("renew", (heir.address.clone(), name(), 1_u32));
    scene.needs(&scene.paying(&heir.address, renew), &[&heir]);
    scene.needs(&scene.call("set_target", (name(), Some(target.address.clone()))), &[owner]);
    scene.needs(&scene.call("set_relays", (name(), vec![env, heir.address.clone()])), &[owner]);
    scene.needs(&scene.call("set_primary", (target.address.clone(), name())), &[target]);
    scene.needs(&scene.call("map_domain", (name(), scene.text("a.example.org"))), &[owner]);
    scene.needs(&scene.call("unmap_domain", (name(), scene.text("a.example.org"))), &[owner]);
    scene.needs(&scene.call("transfer", (name(), heir.address.clone())), &[owner, &heir]);
    // What was the owner's is now the heir's.
    assert_eq!(scene.call("release", (name(),)).signed_by(env, &[owner]), Outcome::Stopped);
    scene.needs(&scene.call("release", (name(),)), &[&heir]);
}

fn admin_calls_need_the_admin(scene: Scene) {
    let env = scene.env();
    let admin = &scene.admin;
    let none = || Vec::<Val>::new(env);
    let name = || scene.text("mynode");
    let code = soroban_sdk::Bytes::from_slice(env, &wasm("tunnel_namespace.wasm"));
    let hash = env.deployer().upload_contract_wasm(code);
    let heir = scene.bed.account(60);
    scene.needs(&scene.call("reserve", (name(),)), &[admin]);
    scene.needs(&scene.call("unreserve", (name(),)), &[admin]);
    scene.needs(&scene.registration(), &[&scene.owner]);
    scene.needs(&scene.call("suspend", (name(), scene.text("spam"))), &[admin]);
    scene.needs(&scene.call("unsuspend", (name(),)), &[admin]);
    scene.needs(&scene.call("withdraw_fees", (heir.address.clone(), 1_i128)), &[admin]);
    scene.needs(&scene.call("set_config", (config(env, &scene.bed.token),)), &[admin]);
    scene.needs(&scene.call("pause", none()), &[admin]);
    scene.needs(&scene.call("unpause", none()), &[admin]);
    scene.needs(&scene.call("announce_upgrade", (hash.clone(),)), &[admin]);
    scene.needs(&scene.call("cancel_upgrade", none()), &[admin]);
    scene.needs(&scene.call("announce_upgrade", (hash,)), &[admin]);
    scene.needs(&scene.call("announce_admin", (heir.address.clone(),)), &[admin]);
    scene.needs(&scene.call("cancel_admin", none()), &[admin]);
    scene.needs(&scene.call("announce_admin", (heir.address.clone(),)), &[admin]);
    scene.bed.pass(7 * DAY);
    scene.needs(&scene.call("accept_admin", none()), &[&heir]);
    scene.needs(&scene.call("upgrade", none()), &[&heir]);
}
