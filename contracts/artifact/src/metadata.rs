//! Notes that a contract carries about itself (SEP-46), such as its source repository (SEP-55).

use anyhow::{Context, Result};
use stellar_xdr::{Limits, ScMetaEntry, ScMetaV0, WriteXdr};

use crate::sections;

/// The custom section that holds the notes.
const SECTION: &str = "contractmetav0";

/// The same wasm with notes of the form `KEY=VALUE` after those it has.
pub fn append(wasm: &[u8], notes: &[&str]) -> Result<Vec<u8>> {
    if notes.is_empty() {
        return Ok(wasm.to_vec());
    }
    let mut all = sections::contents(wasm, SECTION)?.to_vec();
    for note in notes {
        let (key, value) = note.split_once('=').context("a note is KEY=VALUE")?;
        let note = ScMetaEntry::ScMetaV0(ScMetaV0 { key: key.try_into()?, val: value.try_into()? });
        all.extend(note.to_xdr(Limits::none())?);
    }
    sections::replace(wasm, SECTION, &all)
}
