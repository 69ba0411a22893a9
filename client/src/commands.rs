//! The commands of the program, each a thin layer over the library.

pub(crate) mod chain;
mod guard;
pub(crate) mod home_domain;
pub(crate) mod http;
pub(crate) mod key;
pub(crate) mod name;
pub(crate) mod pintheon;
pub(crate) mod publish;
pub(crate) mod relays;
mod sep1;
pub(crate) mod status;
pub(crate) mod tcp;
pub(crate) mod up;

use serde::Serialize;
use tunnler_protocol::HostName;
use tunnler_protocol::name::{HOME_DOMAIN_MAX, Zone};

/// Prints a result: JSON for machines, `text` for people.
fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    if json {
        println!("{}", serde_json::to_string(value).expect("plain JSON"));
    } else {
        println!("{}", text());
    }
}

/// How much of a `home_domain` a host takes.
fn budget(host: &HostName) -> String {
    let length = host.as_str().len();
    let verdict = if length <= HOME_DOMAIN_MAX { "fits" } else { "does not fit" };
    format!("{host} has {length} bytes and {verdict} into a home_domain ({HOME_DOMAIN_MAX})")
}

/// What would fit.
fn zone_budget(zone: &Zone) -> String {
    match zone.label_budget() {
        Some(budget) => format!("in {zone} a name of up to {budget} characters fits"),
        None => format!("the zone {zone} alone is too long for it"),
    }
}
