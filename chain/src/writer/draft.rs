//! A transaction that is not sent yet, what it would cost, and what became of it.

use stellar_xdr::OperationBody;
use tunnler_protocol::SecretKey;

use super::Writer;
use super::assemble::{self, INCLUSION_FEE, NextSlots};
use crate::error::WriteError;

/// A transaction that is not sent yet.
#[must_use = "a draft does nothing until it is sent"]
pub struct Draft<'w> {
    pub(super) writer: &'w Writer,
    body: Result<OperationBody, WriteError>,
    pub(super) signers: Vec<SecretKey>,
    pub(super) next_slots: NextSlots,
}

/// What a draft would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The most the transaction can cost, in stroops: inclusion and resources; what is not used comes back.
    pub fee: u64,
    /// The resource part of it, rent included, in stroops.
    pub resource_fee: u64,
    /// Whether archived entries must be restored for it, by the call itself or before; `fee` already pays for that.
    pub restores: bool,
}

/// What a sent transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Transaction hash in hexadecimal.
    pub hash: String,
    /// The ledger that includes it.
    pub ledger: u32,
    /// What it cost, in stroops.
    pub fee_charged: i64,
}

impl<'w> Draft<'w> {
    pub(super) fn new(writer: &'w Writer, body: Result<OperationBody, WriteError>) -> Self {
        Self { writer, body, signers: Vec::new(), next_slots: NextSlots::None }
    }

    /// Another key whose authority the call needs.
    pub(super) fn signed_by(mut self, key: &SecretKey) -> Self {
        self.signers.push(key.clone());
        self
    }

    /// The call takes the next slot of a contract, which may be another one when it is executed.
    pub(super) fn padded(mut self, next_slots: NextSlots) -> Self {
        self.next_slots = next_slots;
        self
    }

    /// The operation; an argument that cannot be expressed is told here, where there is somebody to tell.
    pub(super) fn body(&self) -> Result<&OperationBody, WriteError> {
        match &self.body {
            Ok(body) => Ok(body),
            Err(WriteError::Argument(problem)) => Err(WriteError::Argument(problem.clone())),
            Err(error) => Err(WriteError::Argument(error.to_string())),
        }
    }

    /// What it would cost now, by simulation; nothing is sent. Tells also whether the contract would refuse it.
    pub async fn quote(&self) -> Result<Cost, WriteError> {
        let body = self.body()?;
        if !assemble::is_contract_call(body) {
            return Ok(Cost { fee: INCLUSION_FEE.into(), resource_fee: 0, restores: false });
        }
        let simulated = self.simulate(body).await?;
        let restoring =
            simulated.restore.as_ref().map_or(0, |restore| restore.fee() + u64::from(INCLUSION_FEE));
        let resource_fee = simulated.fee();
        Ok(Cost {
            fee: resource_fee + u64::from(INCLUSION_FEE) + restoring,
            resource_fee,
            restores: simulated.restores(),
        })
    }

    /// Simulates, signs, sends and waits until the ledger includes it: exactly once, whatever fails on the way.
    pub async fn send(&self) -> Result<Receipt, WriteError> {
        self.submit().await
    }
}
