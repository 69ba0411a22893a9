//! `SetOptions`: home domain, signers, weights, thresholds, flags.

use stellar_xdr::{
    AccountEntry, AccountEntryExt, AccountEntryExtensionV1Ext, AccountId, OperationResultTr, PublicKey,
    SetOptionsOp, SetOptionsResult, Signer, SignerKey, SponsorshipDescriptor,
};

use super::Applied;
use crate::genesis;
use crate::ledger::entries::{self, Overlay};
use crate::transaction::signatures::Threshold;

const AUTH_IMMUTABLE: u32 = 0x4;
const AUTH_REVOCABLE: u32 = 0x2;
const AUTH_CLAWBACK: u32 = 0x8;
const ALL_FLAGS: u32 = 0xF;
const MAX_SIGNERS: usize = 20;

pub(super) fn threshold(op: &SetOptionsOp) -> Threshold {
    let changes_power = op.master_weight.is_some()
        || op.low_threshold.is_some()
        || op.med_threshold.is_some()
        || op.high_threshold.is_some()
        || op.signer.is_some();
    if changes_power { Threshold::High } else { Threshold::Medium }
}

pub(super) fn malformed(op: &SetOptionsOp, source: &AccountId) -> Option<SetOptionsResult> {
    let (set, clear) = (op.set_flags.unwrap_or(0), op.clear_flags.unwrap_or(0));
    if (set | clear) & !ALL_FLAGS != 0 {
        return Some(SetOptionsResult::UnknownFlag);
    }
    if set & clear != 0 {
        return Some(SetOptionsResult::BadFlags);
    }
    let weights = [op.master_weight, op.low_threshold, op.med_threshold, op.high_threshold];
    if weights.iter().flatten().any(|weight| *weight > 255) {
        return Some(SetOptionsResult::ThresholdOutOfRange);
    }
    if let Some(Signer { key, weight }) = &op.signer {
        let AccountId(PublicKey::PublicKeyTypeEd25519(own)) = source;
        let is_self = matches!(key, SignerKey::Ed25519(key) if key == own);
        let empty_payload =
            matches!(key, SignerKey::Ed25519SignedPayload(signed) if signed.payload.is_empty());
        if is_self || empty_payload || *weight > 255 {
            return Some(SetOptionsResult::BadSigner);
        }
    }
    let printable = |domain: &[u8]| domain.iter().all(|byte| (0x20..0x7f).contains(byte));
    if op.home_domain.as_ref().is_some_and(|domain| !printable(&domain.0)) {
        return Some(SetOptionsResult::InvalidHomeDomain);
    }
    None
}

pub(super) fn apply(op: &SetOptionsOp, mut source: AccountEntry, overlay: &mut Overlay<'_>) -> Applied {
    match change(op, &mut source, overlay) {
        Ok(()) => {
            overlay.put_account(source);
            Applied::success(OperationResultTr::SetOptions(SetOptionsResult::Success))
        }
        Err(result) => Applied::failure(OperationResultTr::SetOptions(result)),
    }
}

fn change(
    op: &SetOptionsOp,
    account: &mut AccountEntry,
    overlay: &Overlay<'_>,
) -> Result<(), SetOptionsResult> {
    if let Some(destination) = &op.inflation_dest {
        if entries::account(overlay, destination).is_none() {
            return Err(SetOptionsResult::InvalidInflation);
        }
        account.inflation_dest = Some(destination.clone());
    }
    let (set, clear) = (op.set_flags.unwrap_or(0), op.clear_flags.unwrap_or(0));
    if set | clear != 0 {
        if account.flags & AUTH_IMMUTABLE != 0 {
            return Err(SetOptionsResult::CantChange);
        }
        account.flags = (account.flags & !clear) | set;
        if account.flags & AUTH_CLAWBACK != 0 && account.flags & AUTH_REVOCABLE == 0 {
            return Err(SetOptionsResult::AuthRevocableRequired);
        }
    }
    let weights = [op.master_weight, op.low_threshold, op.med_threshold, op.high_threshold];
    for (slot, weight) in account.thresholds.0.iter_mut().zip(weights) {
        if let Some(weight) = weight {
            *slot = u8::try_from(weight).map_err(|_| SetOptionsResult::ThresholdOutOfRange)?;
        }
    }
    if let Some(domain) = &op.home_domain {
        account.home_domain = domain.clone();
    }
    if let Some(signer) = &op.signer {
        change_signer(signer, account)?;
    }
    Ok(())
}

fn change_signer(signer: &Signer, account: &mut AccountEntry) -> Result<(), SetOptionsResult> {
    let mut signers = account.signers.to_vec();
    let mut sponsors = sponsors(account);
    match signers.iter().position(|known| known.key == signer.key) {
        Some(position) if signer.weight == 0 => {
            signers.remove(position);
            if position < sponsors.len() {
                sponsors.remove(position);
            }
            account.num_sub_entries -= 1;
        }
        Some(position) => signers[position].weight = signer.weight,
        None if signer.weight == 0 => {}
        None if signers.len() == MAX_SIGNERS => return Err(SetOptionsResult::TooManySigners),
        None => {
            if super::spendable(account) < i64::from(genesis::BASE_RESERVE) {
                return Err(SetOptionsResult::LowReserve);
            }
            // Signers are kept sorted, and their sponsors (here always none) in the same order.
            let position = signers.partition_point(|known| known.key < signer.key);
            signers.insert(position, signer.clone());
            sponsors.insert(position.min(sponsors.len()), SponsorshipDescriptor(None));
            account.num_sub_entries += 1;
        }
    }
    account.signers = signers.try_into().map_err(|_| SetOptionsResult::TooManySigners)?;
    if let AccountEntryExt::V1(v1) = &mut account.ext
        && let AccountEntryExtensionV1Ext::V2(v2) = &mut v1.ext
    {
        v2.signer_sponsoring_i_ds = sponsors.try_into().map_err(|_| SetOptionsResult::TooManySigners)?;
    }
    Ok(())
}

fn sponsors(account: &AccountEntry) -> Vec<SponsorshipDescriptor> {
    if let AccountEntryExt::V1(v1) = &account.ext
        && let AccountEntryExtensionV1Ext::V2(v2) = &v1.ext
    {
        return v2.signer_sponsoring_i_ds.to_vec();
    }
    Vec::new()
}
