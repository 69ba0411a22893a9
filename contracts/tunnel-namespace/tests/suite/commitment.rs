//! Commit–reveal, where the zone asks for it.

use soroban_sdk::testutils::Address as _;
use soroban_sdk::{Address, BytesN, String};
use tunnel_namespace::Error;
use tunnel_testbed::on_both_builds;

use crate::scene::Scene;

on_both_builds![
    a_commitment_admits_one_registration,
    a_commitment_has_its_time,
    a_commitment_binds_everything_it_names,
    a_commitment_is_its_makers_alone,
    without_a_salt_there_is_no_registration,
    the_hash_is_the_documented_one,
];

impl Scene {
    /// Commits the owner to a name, as it should be done.
    fn commit(&self, name: &String) {
        let (owner, target) = (&self.owner.address, &self.target.address);
        self.names.commit(owner, &self.hash(&self.names.address, name, owner, target));
    }

    fn reveal(&self, name: &String) -> Result<(), Error> {
        let (owner, target) = (&self.owner.address, &self.target.address);
        let outcome = self.names.try_register(owner, name, target, &1, &Some(self.salt()));
        outcome.map(|done| done.expect("nothing is returned")).map_err(|error| error.expect("an own error"))
    }
}

fn a_commitment_admits_one_registration(scene: Scene) {
    let scene = scene.agreed().committed();
    let name = scene.text("mynode");
    assert_eq!(scene.reveal(&name), Err(Error::NoCommitment));
    scene.commit(&name);
    scene.bed.pass_ledgers(12);
    assert_eq!(scene.reveal(&name), Ok(()));
    // Replayed after the name is free again, it is worth nothing.
    scene.names.release(&name);
    assert_eq!(scene.reveal(&name), Err(Error::NoCommitment));
}

fn a_commitment_has_its_time(scene: Scene) {
    let scene = scene.agreed().committed();
    let name = scene.text("mynode");
    scene.commit(&name);
    scene.bed.pass_ledgers(11);
    assert_eq!(scene.reveal(&name), Err(Error::CommitmentTooYoung));
    // Kept alive by whoever pays, it is too old all the same: the ledger is in the entry.
    scene.bed.pass_ledgers(17_280 - 11);
    assert_eq!(scene.reveal(&name), Ok(()));
    scene.names.release(&name);
    scene.commit(&name);
    let (owner, target) = (&scene.owner.address, &scene.target.address);
    let hash = scene.hash(&scene.names.address, &name, owner, target);
    scene.env().as_contract(&scene.names.address, || {
        let key = tunnel_namespace::DataKey::Commitment(owner.clone(), hash);
        scene.env().storage().temporary().extend_ttl(&key, 40_000, 40_000);
    });
    scene.bed.pass_ledgers(17_281);
    assert_eq!(scene.reveal(&name), Err(Error::CommitmentTooOld));
}

fn a_commitment_binds_everything_it_names(scene: Scene) {
    let scene = scene.agreed().committed();
    let (names, owner, target) = (&scene.names, &scene.owner.address, &scene.target.address);
    let name = scene.text("mynode");
    scene.commit(&name);
    scene.bed.pass_ledgers(12);
    let missing = Err(Ok(Error::NoCommitment));
    let other_salt = Some(BytesN::from_array(scene.env(), &[8; 32]));
    assert_eq!(names.try_register(owner, &scene.text("other"), target, &1, &Some(scene.salt())), missing);
    assert_eq!(names.try_register(owner, &name, &scene.stranger.address, &1, &Some(scene.salt())), missing);
    assert_eq!(names.try_register(owner, &name, target, &1, &other_salt), missing);
    // One made for another contract.
    let elsewhere = scene.hash(&Address::generate(scene.env()), &name, owner, target);
    names.commit(&scene.stranger.address, &elsewhere);
    scene.bed.pass_ledgers(12);
    let stranger = &scene.stranger.address;
    assert_eq!(names.try_register(stranger, &name, target, &1, &Some(scene.salt())), missing);
    assert_eq!(scene.reveal(&name), Ok(()));
}

fn a_commitment_is_its_makers_alone(scene: Scene) {
    let scene = scene.agreed().committed();
    let (names, owner, target) = (&scene.names, &scene.owner.address, &scene.target.address);
    let name = scene.text("mynode");
    scene.commit(&name);
    scene.bed.pass_ledgers(6);
    // A copy of the hash under another key neither helps its maker nor delays the owner.
    let hash = scene.hash(&names.address, &name, owner, target);
    names.commit(&scene.stranger.address, &hash);
    scene.bed.pass_ledgers(6);
    let copied = names.try_register(&scene.stranger.address, &name, target, &1, &Some(scene.salt()));
    assert_eq!(copied, Err(Ok(Error::NoCommitment)));
    assert_eq!(scene.reveal(&name), Ok(()));
}

fn without_a_salt_there_is_no_registration(scene: Scene) {
    let scene = scene.agreed().committed();
    let (owner, target) = (&scene.owner.address, &scene.target.address);
    let bare = scene.names.try_register(owner, &scene.text("mynode"), target, &1, &None);
    assert_eq!(bare, Err(Ok(Error::SaltMissing)));
}

fn the_hash_is_the_documented_one(scene: Scene) {
    let env = scene.env();
    let account = |text: &str| Address::from_str(env, text);
    let hash = scene.hash(
        &account("CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD2KM"),
        &scene.text("mynode"),
        &account("GCFIRY65OQE7DFP5KLNS2PF2LVZMUZYJX4OZIEQ36N2IQANUB5XVYOJR"),
        &account("GAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3QZ6Q"),
    );
    // For host implementations; made with the XDR written out by hand.
    let hex: std::string::String = hash.to_array().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "9c833673c9b406a1f69c9995a960b54453b2ee6511432a301e50b4f46aa23f3e");
}
