//! `tunnler-dns keys`: the zone's DNSSEC keys, on the operator's side. Running servers follow within seconds.

use std::path::Path;

use clap::Subcommand;
use hickory_proto::rr::Name;
use tunnler_protocol::name::Zone;
use tunnler_protocol::time::UnixSeconds;

use super::Failure;
use crate::clock;
use crate::dnssec::keys::{self, KeyState, SETTLED_AFTER, ZoneKey, ZoneKeys};

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
    /// Forget a retired key, or a published one that is not wanted after all
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
            let keys = ZoneKeys::load(dir)?.iter().count();
            let dir = dir.display();
            println!("made key {tag} in {dir}");
            println!("next: copy {dir} to every server of the zone and give the parent zone its DS:");
            println!("  tunnler-dns keys --dir {dir} show --zone ZONE");
            if keys > 1 {
                println!("when the parent shows that DS, and not before {SETTLED_AFTER} s have passed:");
                println!("  tunnler-dns keys --dir {dir} activate {tag}");
            }
        }
        Step::Show { zone } => {
            let origin = Name::from_ascii(format!("{zone}.")).expect("a zone is a host name");
            for key in ZoneKeys::load(dir)?.iter() {
                println!("; key {}: {}", key.tag, standing(key, now));
                println!("{origin} 3600 IN DNSKEY {}", key.dnskey);
                if let Some(ds) = key.ds(&origin) {
                    println!("{origin} 3600 IN DS {ds}");
                }
            }
        }
        Step::Activate { tag } => {
            keys::activate(dir, tag, now)?;
            println!("key {tag} signs now; copy {} to every server of the zone", dir.display());
            println!("next: take the DS of the retired key out of the parent zone; `keys remove` it after");
            println!("{SETTLED_AFTER} s, and not before the parent shows the DS of {tag} alone");
        }
        Step::Remove { tag } => {
            keys::remove(dir, tag, now)?;
            println!("key {tag} is gone; copy {} to every server of the zone", dir.display());
        }
    }
    Ok(())
}

/// What a key does, and from when on the next step is possible.
fn standing(key: &ZoneKey, now: UnixSeconds) -> String {
    let left = SETTLED_AFTER.saturating_sub(now.since(key.since).as_secs());
    let from = if left == 0 { "now".to_owned() } else { format!("in {left} s") };
    match key.state {
        KeyState::Active => "active, signs the zone".into(),
        KeyState::Published => format!("published, may be activated {from}"),
        KeyState::Retired => format!("retired, may be removed {from}"),
    }
}
