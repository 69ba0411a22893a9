//! Signing answers, and remembering signatures: a record set is signed once per half life, whoever asks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::dnssec::TBS;
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG, SigInput};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use tunnler_protocol::time::UnixSeconds;

use super::keys::{ALGORITHM, KeyState, ZoneKey, ZoneKeys};
use crate::wire::Reply;

/// Signatures begin an hour ago, for validators whose clocks are behind.
const BACKDATED: u64 = 3600;
/// And hold for three days from now: longer than a weekend without this server, shorter than a stolen answer is of use.
const VALID: u64 = 3 * 86_400;
/// Made anew before half of that has passed.
const RENEWED_AFTER: u64 = VALID / 2;
/// Remembered signatures per shard and generation; 2 × 64 × 2048 × about 300 bytes = 80 MB at most.
const PER_GENERATION: usize = 2048;
const SHARDS: usize = 64;

/// Whether signatures may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// Only remembered ones may be used.
    Remembered,
    /// New ones may be made.
    Made,
}

/// A signature is missing that may not be made here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MustWait;

/// Signs, and remembers what it signed in two generations: the older is dropped when the younger is full.
#[derive(Debug)]
pub struct Signer {
    hash: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Box<[u8]>, Remembered>,
    old: HashMap<Box<[u8]>, Remembered>,
}

#[derive(Clone, Debug)]
struct Remembered {
    signature: Arc<RRSIG>,
    made: UnixSeconds,
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

impl Signer {
    /// A signer that remembers nothing.
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hash: RandomState::new(), shards }
    }

    /// Adds signatures to the answer and authority sections.
    pub fn sign(
        &self,
        reply: &mut Reply,
        keys: &ZoneKeys,
        zone: &Name,
        now: UnixSeconds,
        fresh: Fresh,
    ) -> Result<(), MustWait> {
        let cx = Signing { keys, zone, now, fresh };
        let answers = self.signatures(&reply.answers, &cx)?;
        let authorities = self.signatures(&reply.authorities, &cx)?;
        reply.answers.extend(answers);
        reply.authorities.extend(authorities);
        Ok(())
    }

    fn signatures(&self, section: &[Record], cx: &Signing<'_>) -> Result<Vec<Record>, MustWait> {
        let mut signatures = Vec::new();
        for set in section.chunk_by(|a, b| a.record_type() == b.record_type() && a.name == b.name) {
            let by =
                |key: &&ZoneKey| set[0].record_type() == RecordType::DNSKEY || key.state == KeyState::Active;
            for key in cx.keys.iter().filter(by) {
                let signature = self.signature(set, key, cx)?;
                let data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::clone(&signature)));
                signatures.push(Record::from_rdata(set[0].name.clone(), set[0].ttl, data));
            }
        }
        Ok(signatures)
    }

    fn signature(&self, set: &[Record], key: &ZoneKey, cx: &Signing<'_>) -> Result<Arc<RRSIG>, MustWait> {
        let what = fingerprint(set, key.tag);
        let shard = &self.shards[self.hash.hash_one(&what) as usize % SHARDS];
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).recall(&what, cx.now);
        if let Some(known) = known {
            return Ok(known);
        }
        if cx.fresh == Fresh::Remembered {
            return Err(MustWait);
        }
        let signature = Arc::new(make(set, key, cx).ok_or(MustWait)?);
        metrics::counter!("tunnler_dns_signatures_total").increment(1);
        let remembered = Remembered { signature: signature.clone(), made: cx.now };
        shard.lock().unwrap_or_else(PoisonError::into_inner).remember(what, remembered);
        Ok(signature)
    }
}

struct Signing<'a> {
    keys: &'a ZoneKeys,
    zone: &'a Name,
    now: UnixSeconds,
    fresh: Fresh,
}

impl Shard {
    /// A signature that is young enough, kept for another generation.
    fn recall(&mut self, what: &[u8], now: UnixSeconds) -> Option<Arc<RRSIG>> {
        let usable = |known: &&Remembered| now.0.abs_diff(known.made.0) < RENEWED_AFTER;
        if let Some(known) = self.young.get(what).filter(usable) {
            return Some(known.signature.clone());
        }
        let known = self.old.get(what).filter(usable).cloned()?;
        self.remember(what.into(), known.clone());
        Some(known.signature)
    }

    fn remember(&mut self, what: Box<[u8]>, remembered: Remembered) {
        if self.young.len() >= PER_GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(what, remembered);
    }
}

/// What is signed, in bytes: equal for every order of the records and every case of the name.
fn fingerprint(set: &[Record], tag: u16) -> Box<[u8]> {
    let first = &set[0];
    let mut written = Vec::with_capacity(256);
    let mut encoder = BinEncoder::new(&mut written);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    // Only what does not fit in 64 KiB fails, and no record of ours comes near.
    let _ = first.name.emit(&mut encoder);
    let head = encoder.offset();
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    let mut parts: Vec<Range<usize>> = Vec::with_capacity(set.len());
    for record in set {
        let start = encoder.offset();
        let _ = record.data.emit(&mut encoder);
        parts.push(start..encoder.offset());
    }
    parts.sort_unstable_by(|a, b| written[a.clone()].cmp(&written[b.clone()]));
    let mut bytes = Vec::with_capacity(written.len() + 8 + 4 * set.len());
    bytes.extend_from_slice(&written[..head]);
    bytes.extend_from_slice(&u16::from(first.record_type()).to_be_bytes());
    bytes.extend_from_slice(&first.ttl.to_be_bytes());
    bytes.extend_from_slice(&tag.to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&written[part]);
    }
    bytes.into()
}

fn make(set: &[Record], key: &ZoneKey, cx: &Signing<'_>) -> Option<RRSIG> {
    let first = &set[0];
    let input = SigInput {
        type_covered: first.record_type(),
        algorithm: ALGORITHM,
        num_labels: first.name.num_labels(),
        original_ttl: first.ttl,
        // Serial numbers wrap (RFC 4034, section 3.1.5).
        sig_expiration: SerialNumber::new((cx.now.0 + VALID) as u32),
        sig_inception: SerialNumber::new(cx.now.0.saturating_sub(BACKDATED) as u32),
        key_tag: key.tag,
        signer_name: cx.zone.clone(),
    };
    let signed = TBS::from_input(&first.name, DNSClass::IN, &input, set.iter()).ok()?;
    Some(RRSIG::from_sig(input, key.sign(&signed)?))
}
