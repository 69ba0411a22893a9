//! Reading and building contract values (`ScVal`) by field name, as soroban-sdk lays out `#[contracttype]`: a struct is
//! a map keyed by symbols and sorted, a missing `Option` field reads as `None`, unknown fields are ignored, an enum is a
//! vector that begins with the variant's symbol. Knows nothing of what the values mean.

use stellar_xdr::{
    AccountId, BytesM, ContractId, Hash, Limits, PublicKey, ReadXdr, ScAddress, ScBytes, ScMap, ScMapEntry,
    ScString, ScSymbol, ScVal, ScVec, StringM, Uint256, VecM, WriteXdr,
};
use tunnler_protocol::Address;

/// Depth within which values are decoded; soroban's own limit.
const DEPTH: u32 = 500;

/// A value that is not of the expected shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: missing or of another type")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A type that can be read from a contract value.
pub(crate) trait FromValue: Sized {
    /// Reads `value`, or tells which part of it is malformed.
    fn from_value(value: &ScVal) -> Result<Self, Malformed>;

    /// What an absent field reads as, if it may be absent.
    fn absent() -> Option<Self> {
        None
    }
}

/// The fields of a struct value.
pub(crate) struct Fields<'a>(&'a ScMap);

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a ScVal) -> Result<Self, Malformed> {
        match value {
            ScVal::Map(Some(map)) => Ok(Self(map)),
            _ => Err(Malformed("struct")),
        }
    }

    pub(crate) fn of_map(map: &'a ScMap) -> Self {
        Self(map)
    }

    /// Reads one field. Errors inside it are told by the name of the outermost field.
    pub(crate) fn field<T: FromValue>(&self, name: &'static str) -> Result<T, Malformed> {
        let is_named =
            |key: &ScVal| matches!(key, ScVal::Symbol(symbol) if symbol.as_slice() == name.as_bytes());
        match self.0.iter().find(|entry| is_named(&entry.key)) {
            Some(entry) => T::from_value(&entry.val).map_err(|_| Malformed(name)),
            None => T::absent().ok_or(Malformed(name)),
        }
    }

    /// The value under an enum key without payload, as instance storage is keyed.
    pub(crate) fn variant(&self, name: &str) -> Option<&'a ScVal> {
        self.0.iter().find(|entry| variant_name(&entry.key) == Some(name.as_bytes())).map(|entry| &entry.val)
    }
}

/// The variant symbol of an enum value.
pub(crate) fn variant_name(value: &ScVal) -> Option<&[u8]> {
    match value {
        ScVal::Vec(Some(items)) => match items.first() {
            Some(ScVal::Symbol(symbol)) => Some(symbol.as_slice()),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a value from its XDR.
pub(crate) fn from_xdr<T: FromValue>(bytes: &[u8]) -> Result<T, Malformed> {
    let limits = Limits { depth: DEPTH, len: bytes.len() };
    let value = ScVal::from_xdr(bytes, limits).map_err(|_| Malformed("XDR"))?;
    T::from_value(&value)
}

/// The XDR of a value that came from XDR or was built here, so within all limits.
pub(crate) fn to_xdr(value: &ScVal) -> Vec<u8> {
    value.to_xdr(Limits::depth(DEPTH)).expect("a decoded value encodes")
}

macro_rules! from_value {
    ($type:ty, $pattern:pat => $value:expr) => {
        impl FromValue for $type {
            fn from_value(value: &ScVal) -> Result<Self, Malformed> {
                match value {
                    $pattern => Ok($value),
                    _ => Err(Malformed(stringify!($type))),
                }
            }
        }
    };
}

from_value!(u32, ScVal::U32(value) => *value);
from_value!(u64, ScVal::U64(value) => *value);
from_value!(ScAddress, ScVal::Address(address) => address.clone());

impl FromValue for String {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        match value {
            ScVal::String(text) => Self::from_utf8(text.to_vec()).map_err(|_| Malformed("UTF-8")),
            _ => Err(Malformed("string")),
        }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        match value {
            ScVal::Bytes(bytes) => bytes.as_slice().try_into().map_err(|_| Malformed("length")),
            _ => Err(Malformed("bytes")),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        match value {
            ScVal::Void => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        match value {
            ScVal::Vec(Some(items)) => items.iter().map(T::from_value).collect(),
            _ => Err(Malformed("vector")),
        }
    }
}

/// The account behind an address, if it is one and its key is usable.
pub(crate) fn account(address: &ScAddress) -> Option<Address> {
    match address {
        ScAddress::Account(AccountId(PublicKey::PublicKeyTypeEd25519(Uint256(key)))) => {
            Address::from_bytes(*key).ok()
        }
        _ => None,
    }
}

pub(crate) fn account_id(address: &Address) -> AccountId {
    AccountId(PublicKey::PublicKeyTypeEd25519(Uint256(*address.as_bytes())))
}

pub(crate) fn sc_account(address: &Address) -> ScAddress {
    ScAddress::Account(account_id(address))
}

pub(crate) fn sc_contract(id: [u8; 32]) -> ScAddress {
    ScAddress::Contract(ContractId(Hash(id)))
}

pub(crate) fn address_value(address: &Address) -> ScVal {
    ScVal::Address(sc_account(address))
}

/// A symbol. Only for names written in this crate: at most 32 of `a-zA-Z0-9_`.
pub(crate) fn symbol(name: &str) -> ScSymbol {
    ScSymbol(StringM::try_from(name).expect("a symbol of this crate is short"))
}

/// A string. Texts of the ledger are bounded by transaction size, far below XDR's 4 GiB.
pub(crate) fn string(text: &str) -> ScVal {
    ScVal::String(ScString(StringM::try_from(text).expect("shorter than 4 GiB")))
}

pub(crate) fn bytes(bytes: &[u8]) -> ScVal {
    ScVal::Bytes(ScBytes(BytesM::try_from(bytes.to_vec()).expect("shorter than 4 GiB")))
}

pub(crate) fn optional(value: Option<ScVal>) -> ScVal {
    value.unwrap_or(ScVal::Void)
}

pub(crate) fn vector(items: impl IntoIterator<Item = ScVal>) -> ScVal {
    let items: Vec<ScVal> = items.into_iter().collect();
    ScVal::Vec(Some(ScVec(VecM::try_from(items).expect("fewer than 2^32 items"))))
}

/// A struct; the fields may come in any order.
pub(crate) fn structure<const N: usize>(fields: [(&str, ScVal); N]) -> ScVal {
    let mut entries: Vec<ScMapEntry> =
        fields.into_iter().map(|(name, val)| ScMapEntry { key: ScVal::Symbol(symbol(name)), val }).collect();
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    ScVal::Map(Some(ScMap(VecM::try_from(entries).expect("fewer than 2^32 fields"))))
}

/// An enum value: the variant and what it carries.
pub(crate) fn variant(name: &str, payload: impl IntoIterator<Item = ScVal>) -> ScVal {
    vector(std::iter::once(ScVal::Symbol(symbol(name))).chain(payload))
}
