//! The agreements of a reader as bytes: key tag and fields, floor, flag, and the value with its ledger.

use std::io;
use std::sync::Arc;

use tunnler_protocol::Address;

use super::bytes::{Cursor, invalid};
use crate::contract::Key;
use crate::reader::Agreement;
use crate::reader::cell::Value;

/// Appends `agreement` to `out`.
pub(super) fn encode(agreement: &Agreement, out: &mut Vec<u8>) {
    match &agreement.key {
        Key::RegistryConfig => out.push(0),
        Key::Zone => out.push(1),
        Key::Terms => out.push(2),
        Key::Publication => out.push(3),
        Key::RelaySlot(slot) => number(4, *slot, out),
        Key::Heartbeat(relay) => {
            out.push(5);
            out.extend(relay.as_bytes());
        }
        Key::Label(label) => {
            out.extend([6, u8::try_from(label.as_str().len()).expect("a label has at most 63 bytes")]);
            out.extend(label.as_str().as_bytes());
        }
        Key::NameSlot(slot) => number(7, *slot, out),
        Key::Domains(slot) => number(8, *slot, out),
    }
    out.extend(agreement.floor.to_be_bytes());
    out.push(u8::from(agreement.open));
    match &agreement.value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            out.extend(value.modified.to_be_bytes());
            out.extend(u32::try_from(value.bytes.len()).expect("entries have at most 64 KiB").to_be_bytes());
            out.extend(&*value.bytes);
        }
    }
}

fn number(tag: u8, number: u32, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend(number.to_be_bytes());
}

/// The next agreement.
pub(super) fn decode(bytes: &mut Cursor) -> io::Result<Agreement> {
    let key = match bytes.byte()? {
        0 => Key::RegistryConfig,
        1 => Key::Zone,
        2 => Key::Terms,
        3 => Key::Publication,
        4 => Key::RelaySlot(bytes.number()?),
        5 => Key::Heartbeat(Address::from_bytes(bytes.array()?).map_err(invalid)?),
        6 => {
            let length = usize::from(bytes.byte()?);
            let label = std::str::from_utf8(bytes.take(length)?).map_err(invalid)?;
            Key::Label(label.parse().map_err(invalid)?)
        }
        7 => Key::NameSlot(bytes.number()?),
        8 => Key::Domains(bytes.number()?),
        _ => return Err(invalid("unknown key")),
    };
    let floor = bytes.number()?;
    let open = bytes.byte()? != 0;
    let value = match bytes.byte()? {
        0 => None,
        _ => {
            let modified = bytes.number()?;
            let length = bytes.number()? as usize;
            Some(Value { modified, bytes: Arc::from(bytes.take(length)?) })
        }
    };
    Ok(Agreement { key, floor, value, open })
}
