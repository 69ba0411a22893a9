//! Errors of the interface, and XDR values in the form that a client asked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stellar_xdr::WriteXdr;

use crate::codec;

/// A JSON-RPC error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub code: i32,
    pub message: String,
}

impl RpcError {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(-32600, message)
    }

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(-32603, message)
    }
}

/// How XDR values appear in replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Base64, in fields named `…Xdr`.
    #[default]
    #[serde(alias = "")]
    Base64,
    /// JSON (SEP-51), in fields named `…Json`.
    Json,
}

impl Format {
    /// A field's name: `header` becomes `headerXdr` or `headerJson`.
    pub(crate) fn field(self, name: &str) -> String {
        match self {
            Self::Base64 => format!("{name}Xdr"),
            Self::Json => format!("{name}Json"),
        }
    }

    /// A value in this form.
    pub(crate) fn value<T: WriteXdr + Serialize>(self, value: &T) -> Value {
        match self {
            Self::Base64 => Value::String(codec::encode_base64(value)),
            Self::Json => serde_json::to_value(value).unwrap_or(Value::Null),
        }
    }

    /// Many values in this form.
    pub(crate) fn values<'a, T: WriteXdr + Serialize + 'a>(
        self,
        values: impl IntoIterator<Item = &'a T>,
    ) -> Value {
        Value::Array(values.into_iter().map(|value| self.value(value)).collect())
    }

    /// Puts a value into a reply under its field's name.
    pub(crate) fn put<T: WriteXdr + Serialize>(self, reply: &mut Map<String, Value>, name: &str, value: &T) {
        reply.insert(self.field(name), self.value(value));
    }
}

/// XDR that is encoded already, as base64.
pub(super) fn base64(encoded: &[u8]) -> Value {
    Value::String(STANDARD.encode(encoded))
}
