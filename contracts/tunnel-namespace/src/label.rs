//! Which labels can be registered: the on-chain half of the rules whose cases are in `protocol/tests/data/labels.tsv`.
//!
//! Pure. A label that passes is a DNS label in lower case that no software gives a special meaning, and that cannot be
//! read as the address of an account (those hosts belong to their keys).

use soroban_sdk::String;
use tunnel_text_rules::{ADDRESS_LEN, Text, is_ldh};

use crate::error::Error;

const MIN: usize = 3;
const MAX: usize = 63;

/// Labels that mean something to browsers, mail software, certificate authorities or the zone itself.
const RESERVED: [&[u8]; 9] =
    [b"www", b"api", b"mail", b"relay", b"admin", b"wpad", b"autoconfig", b"psl", b"acme"];

/// Checks a label as it came from outside.
pub fn check(label: &String) -> Result<(), Error> {
    if label.len() as usize > MAX {
        return Err(Error::LabelTooLong);
    }
    check_bytes(&Text::read(label, MAX))
}

fn check_bytes(label: &[u8]) -> Result<(), Error> {
    if !label.iter().all(|b| is_ldh(*b)) {
        return Err(Error::LabelCharacter);
    }
    // Doubled hyphens would admit punycode, and with it look-alikes of other scripts.
    let doubled = label.windows(2).any(|pair| pair == b"--");
    if label.first() == Some(&b'-') || label.last() == Some(&b'-') || doubled {
        return Err(Error::LabelHyphen);
    }
    if RESERVED.contains(&label) || is_name_server(label) {
        return Err(Error::LabelReserved);
    }
    if label.len() < MIN {
        return Err(Error::LabelTooShort);
    }
    if is_address_shaped(label) {
        return Err(Error::LabelAddress);
    }
    Ok(())
}

/// `ns` and `ns1`, but not `nsa`.
fn is_name_server(label: &[u8]) -> bool {
    label.strip_prefix(b"ns").is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
}

/// Base32 of the length and first letter of an account's strkey. The checksum is left aside: what only looks like an
/// address deceives as well as one, and the check stays cheap.
fn is_address_shaped(label: &[u8]) -> bool {
    label.len() == ADDRESS_LEN
        && label[0] == b'g'
        && label.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use soroban_sdk::Env;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_shared_with_the_host_crate_holds() {
        let env = Env::default();
        let mut kinds = BTreeSet::new();
        for line in include_str!("../../../protocol/tests/data/labels.tsv").lines() {
            let Some((label, expected)) = line.split_once('\t') else { continue };
            let found = match check(&String::from_str(&env, label)) {
                Ok(()) => "ok",
                Err(Error::LabelTooShort) => "too-short",
                Err(Error::LabelTooLong) => "too-long",
                Err(Error::LabelCharacter) => "character",
                Err(Error::LabelHyphen) => "hyphen",
                Err(Error::LabelAddress) => "address",
                Err(Error::LabelReserved) => "reserved",
                Err(other) => panic!("{label:?}: {other:?} is not about labels"),
            };
            assert_eq!(found, expected, "{label:?}");
            kinds.insert(expected);
        }
        assert_eq!(kinds.len(), 7, "the table has a case of every kind");
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let env = Env::default();
        for bytes in [b"abc\0".as_slice(), b"\xff\xfe\xfd", b"ab\x80"] {
            assert_eq!(check(&String::from_bytes(&env, bytes)), Err(Error::LabelCharacter));
        }
    }
}
