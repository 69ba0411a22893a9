//! One submitted envelope, in whichever of the three forms it came, seen as one transaction.
//!
//! It computes hashes and sizes; it judges nothing.

use stellar_xdr::{
    AccountId, DecoratedSignature, FeeBumpTransactionInnerTx, Hash, MuxedAccount, Operation, OperationBody,
    Preconditions, PreconditionsV2, PublicKey, SorobanTransactionData, Transaction, TransactionEnvelope,
    TransactionExt,
};

use crate::codec;

/// A decoded envelope with its hashes.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// The envelope as received.
    pub envelope: TransactionEnvelope,
    /// The hash by which the network knows it (for a fee bump, the outer one).
    pub hash: Hash,
    /// The hash of the transaction that runs (for a fee bump, the inner one).
    pub inner_hash: Hash,
    /// The transaction that runs.
    pub transaction: Transaction,
    /// Its signatures.
    pub signatures: Vec<DecoratedSignature>,
    /// Who pays, where that is another account.
    pub fee_bump: Option<FeeBump>,
    /// Length of the inner envelope in bytes.
    pub size: u32,
}

/// The outer part of a fee bump.
#[derive(Clone, Debug)]
pub(crate) struct FeeBump {
    pub source: AccountId,
    pub fee: i64,
    pub signatures: Vec<DecoratedSignature>,
}

impl Envelope {
    /// Sees an envelope as a transaction of the network with this id.
    pub(crate) fn new(envelope: TransactionEnvelope, network_id: &Hash) -> Self {
        let hash_within_limits = "an envelope that was decoded can be encoded";
        match &envelope {
            TransactionEnvelope::TxV0(v0) => {
                let transaction = Transaction::from(&v0.tx);
                let hash = Hash(transaction.hash(network_id.0).expect(hash_within_limits));
                Self {
                    hash: hash.clone(),
                    inner_hash: hash,
                    transaction,
                    signatures: v0.signatures.to_vec(),
                    fee_bump: None,
                    size: size_of(&envelope),
                    envelope,
                }
            }
            TransactionEnvelope::Tx(v1) => {
                let hash = Hash(v1.tx.hash(network_id.0).expect(hash_within_limits));
                Self {
                    hash: hash.clone(),
                    inner_hash: hash,
                    transaction: v1.tx.clone(),
                    signatures: v1.signatures.to_vec(),
                    fee_bump: None,
                    size: size_of(&envelope),
                    envelope,
                }
            }
            TransactionEnvelope::TxFeeBump(bump) => {
                let FeeBumpTransactionInnerTx::Tx(inner) = &bump.tx.inner_tx;
                Self {
                    hash: Hash(bump.tx.hash(network_id.0).expect(hash_within_limits)),
                    inner_hash: Hash(inner.tx.hash(network_id.0).expect(hash_within_limits)),
                    transaction: inner.tx.clone(),
                    signatures: inner.signatures.to_vec(),
                    fee_bump: Some(FeeBump {
                        source: account_id(&bump.tx.fee_source),
                        fee: bump.tx.fee,
                        signatures: bump.signatures.to_vec(),
                    }),
                    size: size_of(&TransactionEnvelope::Tx(inner.clone())),
                    envelope,
                }
            }
        }
    }

    /// The account whose sequence number the transaction consumes.
    pub(crate) fn source(&self) -> AccountId {
        account_id(&self.transaction.source_account)
    }

    /// The account that pays.
    pub(crate) fn fee_source(&self) -> AccountId {
        self.fee_bump.as_ref().map_or_else(|| self.source(), |bump| bump.source.clone())
    }

    /// The most the payer is ready to pay.
    pub(crate) fn full_fee(&self) -> i64 {
        self.fee_bump.as_ref().map_or(i64::from(self.transaction.fee), |bump| bump.fee)
    }

    /// Operations that the inclusion fee counts: a fee bump is one more.
    pub(crate) fn charged_operations(&self) -> i64 {
        self.transaction.operations.len() as i64 + i64::from(self.fee_bump.is_some())
    }

    /// The resources declared by a contract transaction.
    pub(crate) fn soroban_data(&self) -> Option<&SorobanTransactionData> {
        match &self.transaction.ext {
            TransactionExt::V1(data) => Some(data),
            TransactionExt::V0 => None,
        }
    }

    /// Whether any operation is one of the three that touch contracts.
    pub(crate) fn is_soroban(&self) -> bool {
        self.transaction.operations.iter().any(is_soroban)
    }

    /// Resource fee declared, 0 for a classic transaction.
    pub(crate) fn resource_fee(&self) -> i64 {
        self.soroban_data().map_or(0, |data| data.resource_fee)
    }

    /// What is left for inclusion once the resource fee is set aside.
    pub(crate) fn inclusion_fee(&self) -> i64 {
        self.full_fee().saturating_sub(self.resource_fee())
    }

    /// The preconditions, in their most general form.
    pub(crate) fn preconditions(&self) -> PreconditionsV2 {
        match &self.transaction.cond {
            Preconditions::V2(general) => general.clone(),
            Preconditions::Time(bounds) => {
                PreconditionsV2 { time_bounds: Some(bounds.clone()), ..PreconditionsV2::default() }
            }
            Preconditions::None => PreconditionsV2::default(),
        }
    }

    /// The account an operation acts for.
    pub(crate) fn operation_source(&self, operation: &Operation) -> AccountId {
        operation.source_account.as_ref().map_or_else(|| self.source(), account_id)
    }
}

/// Whether an operation is one of the three that touch contracts.
pub(crate) fn is_soroban(operation: &Operation) -> bool {
    matches!(
        operation.body,
        OperationBody::InvokeHostFunction(_)
            | OperationBody::ExtendFootprintTtl(_)
            | OperationBody::RestoreFootprint(_)
    )
}

/// The account behind a possibly multiplexed address.
pub(crate) fn account_id(account: &MuxedAccount) -> AccountId {
    let key = match account {
        MuxedAccount::Ed25519(key) => key.clone(),
        MuxedAccount::MuxedEd25519(muxed) => muxed.ed25519.clone(),
    };
    AccountId(PublicKey::PublicKeyTypeEd25519(key))
}

fn size_of(envelope: &TransactionEnvelope) -> u32 {
    codec::encode(envelope).len() as u32
}
