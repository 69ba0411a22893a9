//! `tunnler status`: what the tunnel that runs with this state directory is doing.

use std::fmt::Write;

use super::print;
use crate::cli::Shared;
use crate::error::ClientError;
use crate::status::Status;

pub(crate) fn run(shared: &Shared) -> Result<(), ClientError> {
    let path = shared.state_path(&shared.network()?);
    let Some(status) = Status::read(&path) else {
        return Err(ClientError::Failed(format!(
            "no tunnler runs with the state directory {}",
            path.display()
        )));
    };
    print(shared.json, &status, || describe(&status));
    Ok(())
}

fn describe(status: &Status) -> String {
    let mut text = format!("{}: {:?} on {}\n", status.address, status.state, status.network).to_string();
    for url in &status.urls {
        let _ = writeln!(text, "  {url}");
    }
    for relay in &status.relays {
        let what = match (relay.serving, relay.problem.as_str()) {
            (true, _) => format!("serves, {} streams", relay.streams),
            (false, "") => format!("no new visitors, {} streams", relay.streams),
            (false, problem) => problem.to_owned(),
        };
        let _ = writeln!(text, "  relay {}: {what}", relay.relay);
    }
    for certificate in &status.certificates {
        let _ = writeln!(text, "  certificate for {}: {}", certificate.host, certificate.state);
    }
    let ledger = status.ledger.map_or_else(|| "none yet".to_owned(), |ledger| ledger.to_string());
    let _ = write!(
        text,
        "  visitors: {} now, {} in all; ledger {ledger}",
        status.visitors, status.visitors_total
    );
    text
}
