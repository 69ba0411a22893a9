//! Getting a transaction into a ledger exactly once. An envelope is sent again unchanged until a ledger includes it or
//! its time bounds have passed in the ledger's own time; only then, or when its sequence number is certainly another
//! one's, is another one built. So an answer that got lost never doubles a transaction.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stellar_rpc_client::GetTransactionResponse;
use stellar_xdr::{Hash, OperationBody, SorobanTransactionData, TransactionEnvelope};
use tunnler_protocol::time::LedgerTime;

use super::Writer;
use super::assemble::{INCLUSION_FEE, Validity, is_contract_call};
use super::draft::{Draft, Receipt};
use super::verdict::{self, Failure, Refusal};
use crate::endpoints::pause;
use crate::error::WriteError;
use crate::read;
use crate::rpc::{self, Lookup, Submission};

/// For how long a transaction is valid, in seconds of ledger time.
const VALID_FOR: u64 = 60;
/// How long an outcome is looked for after that while no endpoint answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many transactions are built for one draft: most are lost to another program's sequence number.
const ATTEMPTS: u32 = 40;
/// Times the state may differ from the simulated one: each costs a fee, so the next try waits longer.
const SIMULATIONS: u32 = 8;
/// The highest bid for inclusion, in stroops.
const HIGHEST_BID: u32 = 1_000_000;
/// First and longest pause between two looks at a transaction.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// After how long without inclusion the same envelope is sent again.
const RESEND: Duration = Duration::from_secs(5);

/// Ledgers by which an endpoint's look-ups may be behind what it refuses by.
const LAG: u32 = 2;

/// What became of one envelope.
enum Fate {
    Included(Box<GetTransactionResponse>),
    Failed(Box<GetTransactionResponse>),
    /// Refused, or expired: no ledger will ever include it.
    Void(Refusal),
}

/// What became of one operation.
enum Inclusion {
    Done(Receipt),
    /// It failed, perhaps because the state was no longer the simulated one.
    Outdated(WriteError),
}

impl Draft<'_> {
    pub(super) async fn submit(&self) -> Result<Receipt, WriteError> {
        let draft = self.body()?;
        let mut outdated = None;
        for attempt in 0..SIMULATIONS {
            if attempt > 0 {
                pause(LOOK.0 * (1 << attempt)).await;
            }
            let (body, resources) = if is_contract_call(draft) {
                let mut simulated = self.simulate(draft).await?;
                if let Some(restore) = simulated.restore.take() {
                    let (restoring, resources) = restore.into_transaction();
                    self.writer.include(&restoring, Some(&resources)).await?;
                    simulated = self.simulate(draft).await?;
                }
                (simulated.body, Some(simulated.resources))
            } else {
                (draft.clone(), None)
            };
            match self.writer.include(&body, resources.as_ref()).await? {
                Inclusion::Done(receipt) => return Ok(receipt),
                Inclusion::Outdated(error) => outdated = Some(error),
            }
        }
        Err(outdated.unwrap_or(WriteError::NotIncluded { attempts: SIMULATIONS }))
    }
}

impl Writer {
    /// Has one operation included.
    async fn include(
        &self,
        body: &OperationBody,
        resources: Option<&SorobanTransactionData>,
    ) -> Result<Inclusion, WriteError> {
        let mut bid = INCLUSION_FEE;
        for attempt in 0..ATTEMPTS {
            let account = read::account(&self.endpoints, &self.address()).await?;
            let account = account.ok_or_else(|| WriteError::NoAccount(self.address().to_string()))?;
            let validity = self.validity().await?;
            let sequence = account.sequence.saturating_add(1);
            let tx = self.transaction(body.clone(), resources.cloned(), sequence, bid, validity)?;
            let fee = tx.fee;
            let (envelope, hash) = self.signed(tx);
            let text = Hash(hash).to_string();
            match self.follow(&envelope, &hash, validity, fee).await? {
                Fate::Included(response) => return Ok(Inclusion::Done(receipt(text, &response))),
                Fate::Failed(response) => {
                    let events = &response.events.diagnostic_events;
                    return match verdict::of_failure(response.result.as_ref(), events, &text) {
                        Failure::Final(error) => Err(error),
                        Failure::Outdated(error) => Ok(Inclusion::Outdated(error)),
                    };
                }
                Fate::Void(Refusal::Sequence) => {
                    self.endpoints.turn_away();
                    pause(Duration::from_millis(20 * u64::from(attempt + 1))).await;
                }
                Fate::Void(Refusal::Fee | Refusal::Expired) => bid = bid.saturating_mul(4).min(HIGHEST_BID),
                Fate::Void(Refusal::Final(error)) => return Err(error),
            }
        }
        Err(WriteError::NotIncluded { attempts: ATTEMPTS })
    }

    /// Time bounds in ledger time, which a development network may have moved away from ours.
    async fn validity(&self) -> Result<Validity, WriteError> {
        let health = self.endpoints.ask(|rpc| async move { rpc.health().await }).await?;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let until = health.ledger.closed_at.0.max(clock).saturating_add(VALID_FOR);
        let from = rand::random_range(1..1_000_000_000);
        Ok(Validity { from, until, since: health.ledger.sequence })
    }

    /// Sends `envelope` and looks for it until its fate is certain.
    async fn follow(
        &self,
        envelope: &TransactionEnvelope,
        hash: &[u8; 32],
        validity: Validity,
        fee: u32,
    ) -> Result<Fate, WriteError> {
        let text = Hash(*hash).to_string();
        let give_up = Instant::now() + Duration::from_secs(VALID_FOR) + PATIENCE;
        // Whether some endpoint may have taken it in.
        let mut at_large = false;
        let mut send_at = Instant::now();
        let mut without = Without::new(validity, self.network.quorum);
        let mut look = LOOK.0;
        let mut problem = String::new();
        for turn in 0_usize.. {
            let now = Instant::now();
            let rpc = self.endpoints.pick(turn);
            let mut refused = false;
            if now >= send_at {
                match rpc.send(envelope).await {
                    Ok(Submission::Accepted) => {
                        at_large = true;
                        send_at = now + RESEND;
                    }
                    Ok(Submission::TryAgainLater) => send_at = now + LOOK.1 / 2,
                    Ok(Submission::Refused(result)) => {
                        let refusal = verdict::of_refusal(&result, &self.address(), fee, &text);
                        if !at_large {
                            return Ok(Fate::Void(refusal));
                        }
                        // It may be refused because it is included already: only the ledger can tell.
                        refused = matches!(refusal, Refusal::Sequence);
                        send_at = now + RESEND;
                    }
                    Err(rpc::Failure(failure)) => {
                        at_large = true;
                        problem = format!("{}: {failure}", rpc.url());
                        send_at = now + LOOK.1;
                    }
                }
            }
            match rpc.transaction(hash).await {
                Ok(Lookup::Success(response)) => return Ok(Fate::Included(response)),
                Ok(Lookup::Failed(response)) => return Ok(Fate::Failed(response)),
                Ok(Lookup::NotFound { oldest, latest }) => {
                    if let Some(refusal) = without.told(rpc.url(), oldest, latest, refused) {
                        return Ok(Fate::Void(refusal));
                    }
                }
                Err(rpc::Failure(failure)) => problem = format!("{}: {failure}", rpc.url()),
            }
            if now >= give_up {
                break;
            }
            pause(look).await;
            look = (look * 2).min(LOOK.1);
        }
        Err(WriteError::Unknown { hash: text, problem })
    }
}

/// What endpoints said about ledgers that do not hold a transaction: when enough of it came together, none ever will.
struct Without {
    validity: Validity,
    quorum: usize,
    /// Endpoints at whose newest ledger the time bounds had passed.
    expired: HashSet<String>,
    /// Endpoints that said that the sequence number is taken, and their newest ledger then.
    taken: HashMap<String, u32>,
    /// Those of them that have come further since and still do not have it.
    superseded: HashSet<String>,
}

impl Without {
    fn new(validity: Validity, quorum: usize) -> Self {
        let (expired, superseded) = (HashSet::new(), HashSet::new());
        Self { validity, quorum, expired, taken: HashMap::new(), superseded }
    }

    /// `endpoint` does not have the transaction in its ledgers from `oldest` to `latest`, and `refused` its sequence
    /// number just before.
    fn told(&mut self, endpoint: &str, oldest: u32, latest: LedgerTime, refused: bool) -> Option<Refusal> {
        if oldest > self.validity.since {
            return None; // It may have been in a ledger that the endpoint has forgotten.
        }
        if latest.closed_at.0 > self.validity.until {
            self.expired.insert(endpoint.to_owned());
        }
        if refused {
            self.taken.entry(endpoint.to_owned()).or_insert(latest.sequence);
        }
        // An endpoint refuses by the newest ledger, and may look it up a ledger later.
        if self.taken.get(endpoint).is_some_and(|ledger| latest.sequence >= ledger.saturating_add(LAG)) {
            self.superseded.insert(endpoint.to_owned());
        }
        if self.expired.len() >= self.quorum {
            return Some(Refusal::Expired);
        }
        (self.superseded.len() >= self.quorum).then_some(Refusal::Sequence)
    }
}

fn receipt(hash: String, response: &GetTransactionResponse) -> Receipt {
    let fee_charged = response.result.as_ref().map_or(0, |result| result.fee_charged);
    Receipt { hash, ledger: response.ledger.unwrap_or(0), fee_charged }
}

#[cfg(test)]
mod tests {
    use tunnler_protocol::time::UnixSeconds;

    use super::*;

    fn at(sequence: u32, closed_at: u64) -> LedgerTime {
        LedgerTime { sequence, closed_at: UnixSeconds(closed_at) }
    }

    #[test]
    fn expiry_needs_a_quorum_that_still_remembers() {
        let validity = Validity { from: 1, until: 100, since: 10 };
        let mut without = Without::new(validity, 2);
        assert!(without.told("a", 5, at(20, 100), false).is_none(), "the last valid ledger may still come");
        assert!(without.told("a", 5, at(21, 101), false).is_none(), "one endpoint's word");
        assert!(without.told("a", 5, at(22, 106), false).is_none(), "still one endpoint's word");
        assert!(without.told("b", 11, at(22, 106), false).is_none(), "forgotten is not absent");
        assert!(matches!(without.told("c", 10, at(22, 106), false), Some(Refusal::Expired)));
    }

    #[test]
    fn a_taken_sequence_number_is_certain_only_two_ledgers_later() {
        let validity = Validity { from: 1, until: 1000, since: 10 };
        let mut without = Without::new(validity, 1);
        assert!(without.told("a", 5, at(20, 100), true).is_none(), "it may be included in the newest ledger");
        assert!(without.told("a", 5, at(21, 105), true).is_none());
        assert!(without.told("b", 5, at(30, 105), false).is_none(), "another endpoint, that refused nothing");
        assert!(matches!(without.told("a", 5, at(22, 110), false), Some(Refusal::Sequence)));
    }
}
