//! A later version with one more optional field reads what the released one wrote, and the other way round.

use soroban_sdk::{Address, Env, IntoVal, Map, String, Symbol, TryFromVal, Val, vec};
use tunnel_testbed::{Build, wasm};

use crate::scene::{Scene, record, upload};

/// The field that the later version has.
const NEW_FIELD: &str = "contact";

#[test]
fn records_survive_an_upgrade_that_adds_a_field() {
    let scene = Scene::from(Build::Wasm).agreed();
    let (env, registry, relay) = (scene.env(), &scene.registry, &scene.relay.address);
    scene.register();
    let before = registry.relay(relay);
    assert!(!scene.stored_record(relay).contains_key(Symbol::new(env, NEW_FIELD)));

    scene.upgrade("tunnel_registry_grown.wasm");
    assert_eq!(registry.relay(relay), before, "what was written before is read by the new code");
    let contact: Val = scene.stored_record(relay).get_unchecked(Symbol::new(env, NEW_FIELD));
    assert!(contact.is_void(), "the new field is there and empty");

    let mut grown = scene.fields(record(env));
    let complaints = String::from_str(env, "abuse@example.org");
    grown.set(Symbol::new(env, NEW_FIELD), complaints.to_val());
    env.invoke_contract::<()>(&registry.address, &Symbol::new(env, "update"), (relay, grown).into_val(env));
    let contact: Val = scene.stored_record(relay).get_unchecked(Symbol::new(env, NEW_FIELD));
    assert_eq!(String::try_from_val(env, &contact).ok(), Some(complaints));

    scene.upgrade("tunnel_registry.wasm");
    assert_eq!(registry.relay(relay), before, "and the older code reads past it");
}

impl Scene {
    fn upgrade(&self, file: &str) {
        self.registry.announce_upgrade(&upload(self.env(), &wasm(file)));
        self.bed.pass(tunnel_stewardship::NOTICE);
        self.registry.upgrade();
    }

    /// A relay's record as it comes over the wire, whatever its fields.
    fn stored_record(&self, relay: &Address) -> Map<Symbol, Val> {
        let env = self.env();
        let entry: Map<Symbol, Val> = env.invoke_contract(
            &self.registry.address,
            &Symbol::new(env, "relay"),
            vec![env, relay.to_val()],
        );
        self.fields(entry.get_unchecked(Symbol::new(env, "record")))
    }

    fn fields(&self, value: impl IntoVal<Env, Val>) -> Map<Symbol, Val> {
        Map::try_from_val(self.env(), &value.into_val(self.env())).expect("a record is a map")
    }
}
