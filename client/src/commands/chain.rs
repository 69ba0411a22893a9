//! `tunnler chain`: what the ledger says, and how well it can be seen. Reads only; needs no key and sends nothing.

mod directory;
mod events;
mod status;

use std::io::{ErrorKind, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde::Serialize;
use tunnler_protocol::time::UnixSeconds;

use crate::cli::Shared;
use crate::error::ClientError;

#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Show the endpoints, their ledgers and whether they agree
    Status,
    /// List every relay on chain, with its last heartbeat
    Relays,
    /// List every name on chain
    Names,
    /// List what happened, as far back as an endpoint remembers; with --json one event a line
    Events {
        /// Go on with what happens next
        #[arg(long)]
        follow: bool,
        /// Where to begin [default: oldest, with --follow now]
        #[arg(long, value_enum)]
        since: Option<events::Beginning>,
    },
    /// List what happened to a name or a relay
    History {
        /// A name without the zone, or a relay's address
        #[arg(value_name = "NAME|RELAY")]
        subject: String,
    },
}

pub(crate) async fn run(shared: &Shared, command: ChainCommand) -> Result<(), ClientError> {
    let network = shared.network()?;
    match command {
        ChainCommand::Status => status::run(shared, network).await,
        ChainCommand::Relays => directory::relays(shared, &network).await,
        ChainCommand::Names => directory::names(shared, &network).await,
        ChainCommand::Events { follow, since } => {
            let extent = if follow { events::Extent::Endless } else { events::Extent::UntilNow };
            events::run(shared, &network, extent, since).await
        }
        ChainCommand::History { subject } => events::history(shared, &network, &subject).await,
    }
}

/// Whether somebody still reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Listening,
    Gone,
}

/// Prints lines that may be many: whoever reads them may stop early (`| head`), which is no failure.
fn emit(lines: impl IntoIterator<Item = String>) -> Result<Reader, ClientError> {
    let mut out = std::io::stdout().lock();
    let written = lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(ClientError::Failed(format!("cannot write to standard output: {error}"))),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain JSON")
}

fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A time span in the largest unit that keeps it exact enough to read.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_down_to_a_unit_that_says_enough() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
