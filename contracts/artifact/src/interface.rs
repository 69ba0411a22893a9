//! The interface of a contract (SEP-48), as its wasm carries it.

use std::collections::HashSet;

use anyhow::Result;
use soroban_spec::{read, shaking};
use stellar_xdr::{Limits, ScSpecEntry, ScSpecUdtUnionCaseV0, StringM, VecM, WriteXdr};

use crate::sections;

/// The custom section that holds the interface.
const SECTION: &str = "contractspecv0";

/// What of its interface a built contract uses, each entry once.
pub fn used(wasm: &[u8]) -> Result<Vec<ScSpecEntry>> {
    let marked = shaking::find_all(wasm);
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for entry in shaking::filter(read::from_wasm(wasm)?, &marked) {
        if seen.insert(entry.to_xdr(Limits::none())?) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// The same wasm with only that in its interface. Calls keep the first sentence of their explanation, which the stellar
/// CLI shows; all else is in `docs/contracts.md` and costs no rent.
pub fn shake(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut interface = Vec::new();
    for mut entry in used(wasm)? {
        quiet(&mut entry);
        interface.extend(entry.to_xdr(Limits::none())?);
    }
    sections::replace(wasm, SECTION, &interface)
}

/// Removes explanations, but for the first sentence of each call's.
fn quiet(entry: &mut ScSpecEntry) {
    match entry {
        ScSpecEntry::FunctionV0(call) => {
            let doc = call.doc.to_utf8_string_lossy();
            let sentence = doc.split_inclusive('.').next().unwrap_or_default();
            call.doc = sentence.try_into().expect("shorter than before");
            call.inputs = map(&call.inputs, |input| input.doc = none());
        }
        ScSpecEntry::UdtStructV0(record) => {
            record.doc = none();
            record.fields = map(&record.fields, |field| field.doc = none());
        }
        ScSpecEntry::UdtUnionV0(union) => {
            union.doc = none();
            union.cases = map(&union.cases, |case| match case {
                ScSpecUdtUnionCaseV0::VoidV0(case) => case.doc = none(),
                ScSpecUdtUnionCaseV0::TupleV0(case) => case.doc = none(),
            });
        }
        ScSpecEntry::UdtEnumV0(number) => {
            number.doc = none();
            number.cases = map(&number.cases, |case| case.doc = none());
        }
        ScSpecEntry::UdtErrorEnumV0(error) => {
            error.doc = none();
            error.cases = map(&error.cases, |case| case.doc = none());
        }
        ScSpecEntry::EventV0(event) => {
            event.doc = none();
            event.params = map(&event.params, |param| param.doc = none());
        }
    }
}

fn none<const MAX: u32>() -> StringM<MAX> {
    StringM::default()
}

fn map<T: Clone, const MAX: u32>(items: &VecM<T, MAX>, change: impl FnMut(&mut T)) -> VecM<T, MAX> {
    let mut items = items.to_vec();
    items.iter_mut().for_each(change);
    items.try_into().expect("as many as before")
}
