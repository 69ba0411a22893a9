//! Who may do what: each mutating call with the signatures it needs, and with one of them missing or a stranger's.

use soroban_sdk::{Address, IntoVal, Val, Vec};
use tunnel_registry::RelayStatus;
use tunnel_testbed::{Call, Key, Payment, on_both_builds};

use crate::scene::{STAKE, Scene, UNBONDING, config, record, text, upload};

on_both_builds![every_call_needs_exactly_its_signatures, admin_calls_need_the_admin];

impl Scene {
    fn call(&self, function: &'static str, args: impl IntoVal<soroban_sdk::Env, Vec<Val>>) -> Call {
        let args = args.into_val(self.env());
        Call { contract: self.registry.address.clone(), function, args, payment: None }
    }

    fn stake(&self, operator: &Address) -> Option<Payment> {
        let args = (operator.clone(), self.registry.address.clone(), STAKE).into_val(self.env());
        Some(Payment { token: self.bed.token.clone(), args })
    }

    /// The call needs exactly these signatures.
    fn needs(&self, call: &Call, signers: &[&Key]) {
        call.needs(self.env(), signers, &self.stranger);
        self.bed.pass_ledgers(1);
    }
}

fn every_call_needs_exactly_its_signatures(scene: Scene) {
    let env = scene.env();
    let (operator, relay) = (&scene.operator, &scene.relay);
    let key = || relay.address.clone();

    let mut register = scene.call("register", (operator.address.clone(), key(), record(env), STAKE));
    register.payment = scene.stake(&operator.address);
    scene.needs(&register, &[operator, relay]);
    scene.needs(&scene.call("update", (key(), record(env))), &[relay]);
    scene.needs(&scene.call("heartbeat", (key(), 3_u32)), &[relay]);
    scene.needs(&scene.call("set_status", (key(), RelayStatus::Draining)), &[relay]);
    let fresh = scene.bed.account(50);
    scene.needs(&scene.call("rotate", (key(), fresh.address.clone())), &[operator, &fresh]);
    scene.needs(&scene.call("rotate", (fresh.address.clone(), key())), &[operator, relay]);
    scene.needs(&scene.call("deregister", (key(),)), &[operator]);
    scene.bed.pass(UNBONDING);
    scene.needs(&scene.call("withdraw", (key(),)), &[operator]);

    // One key in both roles signs once.
    let mut register = scene.call("register", (key(), key(), record(env), STAKE));
    register.payment = scene.stake(&key());
    scene.needs(&register, &[relay]);
}

fn admin_calls_need_the_admin(scene: Scene) {
    let env = scene.env();
    let admin = &scene.admin;
    let mut register = scene
        .call("register", (scene.operator.address.clone(), scene.relay.address.clone(), record(env), STAKE));
    register.payment = scene.stake(&scene.operator.address);
    scene.needs(&register, &[&scene.operator, &scene.relay]);

    let none = || Vec::<Val>::new(env);
    let hash = upload(env, &tunnel_testbed::wasm("tunnel_registry.wasm"));
    let heir = scene.bed.account(60);
    let relay = scene.relay.address.clone();
    scene.needs(&scene.call("set_config", (config(&scene.bed.token),)), &[admin]);
    scene.needs(&scene.call("delist", (relay.clone(), text(env, "spam"))), &[admin]);
    scene.needs(&scene.call("relist", (relay,)), &[admin]);
    scene.needs(&scene.call("pause", none()), &[admin]);
    scene.needs(&scene.call("unpause", none()), &[admin]);
    scene.needs(&scene.call("announce_upgrade", (hash.clone(),)), &[admin]);
    scene.needs(&scene.call("cancel_upgrade", none()), &[admin]);
    scene.needs(&scene.call("announce_upgrade", (hash.clone(),)), &[admin]);
    scene.needs(&scene.call("announce_admin", (heir.address.clone(),)), &[admin]);
    scene.needs(&scene.call("cancel_admin", none()), &[admin]);
    scene.needs(&scene.call("announce_admin", (heir.address.clone(),)), &[admin]);
    scene.bed.pass(tunnel_testbed::DAY * 7);
    scene.needs(&scene.call("accept_admin", none()), &[&heir]);
    scene.needs(&scene.call("upgrade", none()), &[&heir]);
}
