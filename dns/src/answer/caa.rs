//! CAA (RFC 8659) with account and method bound (RFC 8657): who may issue for a host, and nobody else.

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::CAA;
use tunnler_protocol::directory::{AcmeIdentity, ZoneConfig};

/// How the account has to prove control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A TXT record, hence the client's signed word.
    Dns01,
    /// TLS at the host itself.
    TlsAlpn01,
}

/// Whether the account may also have the wildcard below the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wildcard {
    Allow,
    Deny,
}

/// Nobody may issue.
pub(super) fn deny_all() -> Vec<RData> {
    vec![property("issue", ";".into()), property("issuewild", ";".into())]
}

/// The given accounts may issue; empty when none is left, so that the search climbs to the zone's denial.
pub(super) fn allow(zone: &ZoneConfig, accounts: &[(&AcmeIdentity, Wildcard)], method: Method) -> Vec<RData> {
    let allowed = |account: &AcmeIdentity| {
        account.is_well_formed() && (zone.issuers.is_empty() || zone.issuers.contains(&account.issuer))
    };
    let mut records: Vec<RData> = Vec::new();
    for (account, wildcard) in accounts.iter().filter(|(account, _)| allowed(account)) {
        let value = value(account, method);
        let wild = (*wildcard == Wildcard::Allow).then(|| property("issuewild", value.clone()));
        for record in [property("issue", value)].into_iter().chain(wild) {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    // Without any `issuewild`, `issue` would govern wildcards too (RFC 8659, section 4.3).
    let is_wild = |record: &RData| matches!(record, RData::CAA(caa) if caa.tag == "issuewild");
    if !records.is_empty() && !records.iter().any(is_wild) {
        records.push(property("issuewild", ";".into()));
    }
    records
}

fn value(account: &AcmeIdentity, method: Method) -> String {
    let method = match method {
        Method::Dns01 => "dns-01",
        Method::TlsAlpn01 => "tls-alpn-01",
    };
    format!("{}; accounturi={}; validationmethods={method}", account.issuer, account.account)
}

fn property(tag: &str, value: String) -> RData {
    let mut caa = CAA::new_issue(false, None, Vec::new());
    caa.tag = tag.into();
    caa.value = value.into_bytes();
    RData::CAA(caa)
}
