//! What holds for every request to a service: access, rates, sizes, headers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use tunnler_edge::proxy::{Edits, FullUrl, Rules};

use super::access::{RawAccess, RawRate};

/// The keys of a service that say so.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RawRules {
    pub(super) access: RawAccess,
    pub(super) rate: Option<RawRate>,
    pub(super) max_body_mib: Option<u64>,
    pub(super) request_headers: RawEdits,
    pub(super) response_headers: RawEdits,
    pub(super) hsts_days: Option<u64>,
    pub(super) full_url: bool,
}

/// Changes to headers.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEdits {
    remove: Vec<String>,
    set: BTreeMap<String, String>,
    add: BTreeMap<String, String>,
}

impl RawRules {
    pub(super) fn check(self, base: &Path) -> Result<Rules, String> {
        Ok(Rules {
            access: self.access.check(base)?,
            rates: self.rate.map(RawRate::check).transpose()?,
            max_body: self.max_body_mib.map(|mib| mib.saturating_mul(1 << 20)),
            request: self.request_headers.check()?,
            response: self.response_headers.check()?,
            hsts: self.hsts_days.map(|days| Duration::from_secs(days.saturating_mul(24 * 3600))),
            full_url: if self.full_url { FullUrl::Said } else { FullUrl::Unsaid },
        })
    }
}

impl RawEdits {
    fn check(self) -> Result<Edits, String> {
        let mut edits = Edits::default();
        for name in &self.remove {
            edits = edits.remove(header(name)?).map_err(|error| error.to_string())?;
        }
        for (name, text) in &self.set {
            edits = edits.set(header(name)?, value(name, text)?).map_err(|error| error.to_string())?;
        }
        for (name, text) in &self.add {
            edits = edits.add(header(name)?, value(name, text)?).map_err(|error| error.to_string())?;
        }
        Ok(edits)
    }
}

fn header(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("{name:?} is not the name of a header"))
}

/// The value may be a secret: it is not repeated.
fn value(name: &str, text: &str) -> Result<HeaderValue, String> {
    text.parse().map_err(|_| format!("header {name}: its value cannot be sent"))
}
