//! Parameters as clients give them: JSON objects by name, hashes in hexadecimal, XDR in base64.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stellar_xdr::{Error, Hash, ReadXdr};

use super::RpcError;
use crate::codec;

/// Parameters by name; none at all are the same as an empty object, and null is the same as not given.
pub(super) fn parse<P: DeserializeOwned>(params: Value) -> Result<P, RpcError> {
    let mut params = match params {
        Value::Null => json!({}),
        Value::Array(values) if values.is_empty() => json!({}),
        other => other,
    };
    remove_nulls(&mut params);
    serde_json::from_value(params)
        .map_err(|error| RpcError::invalid_params(format!("invalid parameters: {error}")))
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// A hash of 64 hexadecimal digits.
pub(super) fn hash(text: &str) -> Result<Hash, RpcError> {
    if text.len() != 64 {
        return Err(RpcError::invalid_params(format!("unexpected hash length ({})", text.len())));
    }
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash)
        .map_err(|error| RpcError::invalid_params(format!("incorrect hash: {error}")))?;
    Ok(Hash(hash))
}

/// A value from base64.
pub(super) fn xdr<T: ReadXdr>(text: &str) -> Result<T, Error> {
    codec::decode_base64(text)
}
