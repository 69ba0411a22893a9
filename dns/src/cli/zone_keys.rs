//! `tunnler-dns keys`: the zone's DNSSEC keys, on the operator's side. Running servers follow within seconds.

use std::path::Path;

use clap::Subcommand;
use hickory_proto::rr::Name;
use tunnler_protocol::name::Zone;

use super::Failure;
use crate::clock;
use crate::dnssec::keys::{self, SETTLED_AFTER, ZoneKeys};

/// One step in the life of a key.
#[derive(Debug, Subcommand)]
pub(super) enum Step {
    /// Make a key: the first signs at once, a later one is published and waits
    New,
    /// Show every key with its DNSKEY and the DS for the parent zone
    Show {
        /// The zone
        #[arg(long)]
        zone: Zone,
    },
    /// Let a published key sign; the one that did retires
    Activate {
        /// Its tag
        tag: u16,
    },
    /// Forget a retired key
    Remove {
        /// Its tag
        tag: u16,
    },
}

pub(super) fn run(dir: &Path, step: Step) -> Result<(), Failure> {
    let now = clock::unix_now().seconds();
    match step {
        Step::New => {
            let tag = keys::generate(dir, now)?;
            println!("made key {tag} in {}", dir.display());
            println!("next: copy {} to every server of the zone, then give the DS of", dir.display());
            println!("`keys show` to the parent zone; a second key can be activated after {SETTLED_AFTER} s");
        }
        Step::Show { zone } => {
            let origin = Name::from_ascii(format!("{zone}.")).expect("a zone is a host name");
            for key in ZoneKeys::load(dir)?.iter() {
                println!("; key {} ({:?})", key.tag, key.state);
                println!("{origin} 3600 IN DNSKEY {}", key.dnskey);
                if let Some(ds) = key.ds(&origin) {
                    println!("{origin} 3600 IN DS {ds}");
                }
            }
        }
        Step::Activate { tag } => {
            keys::activate(dir, tag, now)?;
            println!("key {tag} signs now; remove the retired one after {SETTLED_AFTER} s, and then its DS");
        }
        Step::Remove { tag } => {
            keys::remove(dir, tag, now)?;
            println!("key {tag} is gone");
        }
    }
    Ok(())
}
