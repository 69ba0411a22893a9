//! Text frames of a session's WebSocket: the handshake and the control channel (DESIGN §6).
//!
//! One JSON object a frame, at most [`MAX_LEN`] bytes, member `type` first by convention. Unknown types are ignored,
//! unknown members too, duplicate members are refused.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::address::Address;
use crate::instance::{InstanceId, SessionId};
use crate::json;
use crate::name::{HostName, ServiceName};
use crate::time::{UnixMillis, UnixSeconds};

/// Path of the session endpoint on a relay's own host.
pub const CONNECT_PATH: &str = "/connect";
/// WebSocket subprotocol (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "tunnler.v1";
/// Longest text frame in bytes.
pub const MAX_LEN: usize = 16 * 1024;

/// A text frame that is not a control message.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Longer than [`MAX_LEN`].
    #[error("control message longer than 16 KiB")]
    TooLong,
    /// Not an object of the expected form.
    #[error("malformed control message: {0}")]
    Json(#[from] serde_json::Error),
}

/// First message of a connection, relay to client; again whenever the relay wants fresh authority.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthChallenge {
    /// 32 random bytes in base64url, to be returned verbatim in the token.
    pub challenge: String,
    /// The relay.
    pub server_address: Address,
    /// [`Limits`] as JSON; kept as text because its hash is signed.
    pub limits: Box<RawValue>,
    /// The relay's signature over [`Statement::Challenge`](crate::challenge::Statement), base64url.
    pub signature: String,
}

/// What a relay grants one session. Absent members of later versions are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most streams open at once in one connection.
    pub streams: u32,
    /// Most connections that may join one session (1–4).
    pub connections: u32,
    /// Most visitors of the client at once, over all its sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visitors: Option<u32>,
    /// Most new visitors of the client a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visits_per_second: Option<u32>,
    /// Most bytes of the client a second, both ways together; absent is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

/// The client's answer to a challenge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthResponse {
    /// The login token ([`crate::token`]).
    pub jwt: String,
    /// Which running copy of the client.
    pub ins: InstanceId,
    /// Which process of it; connections with the same one form one session.
    pub session: SessionId,
    /// Its presence; absent means attached but not routed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<String>,
}

/// The relay accepted the login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthOk {
    /// The relay.
    pub server_address: Address,
    /// Hosts at which this session is routed now.
    pub endpoints: Vec<HostName>,
    /// Ports of TCP services that this relay grants.
    #[serde(default)]
    pub ports: Vec<PortGrant>,
    /// What the session may use.
    pub limits: Limits,
    /// When the session's authority ends unless renewed.
    pub expires: UnixSeconds,
}

/// The relay refused the login; it closes the connection after this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthFailed {
    /// Machine-readable reason.
    pub code: AuthFailure,
    /// The same in words.
    pub error: String,
}

/// Why a login is refused, and what the client may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthFailure {
    /// The token is malformed, not for this relay, expired or badly signed: retrying the same way cannot help.
    BadToken,
    /// The presence is malformed, badly signed or expired.
    BadPresence,
    /// Token, presence and message disagree about client or instance.
    Mismatch,
    /// The token was used before.
    Replayed,
    /// Too many failed logins from this address or key: retry later.
    RateLimited,
    /// No room: try another relay.
    Full,
    /// The relay is draining: try another relay.
    Draining,
    /// No answer within the handshake deadline.
    Timeout,
    /// A code of a later version.
    #[serde(other)]
    Unknown,
}

/// A port of a TCP service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGrant {
    /// The service.
    pub service: ServiceName,
    /// The port that visitors use.
    pub port: u16,
}

/// Why a relay ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseCode {
    /// Another process of the same instance logged in.
    Superseded,
    /// Token expired, or the chain no longer grants what the session relied on.
    AuthorityLost,
    /// The drain deadline passed.
    Drained,
    /// The client broke the protocol.
    Violation,
    /// The session used more than its share.
    Overloaded,
    /// The relay stops.
    ShuttingDown,
    /// A code of a later version.
    #[serde(other)]
    Unknown,
}

/// Messages from relay to client after the handshake's first.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is the wire message of that name, described on its struct")]
pub enum ToClient {
    AuthChallenge(AuthChallenge),
    AuthOk(AuthOk),
    AuthFailed(AuthFailed),
    Reset(Reset),
    PresenceOk(PresenceOk),
    PresenceStale(PresenceStale),
    AcmeValue(AcmeValue),
    Draining(Draining),
    Limits(Limits),
    Closing(Closing),
}

/// Messages from client to relay.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is the wire message of that name, described on its struct")]
pub enum ToRelay {
    AuthResponse(AuthResponse),
    Reset(Reset),
    Presence(PresenceUpdate),
    Ports(Ports),
    Leaving(Leaving),
}

/// Either side: the stream ended abnormally, and no end of data seen on it is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// yamux stream identifier.
    pub stream: u32,
}

/// The relay took over this presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceOk {
    /// The instance it is about.
    pub ins: InstanceId,
    /// Its sequence number.
    pub seq: UnixMillis,
}

/// The relay knows a newer presence of this instance; sign one later than `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceStale {
    /// The newest sequence number the relay knows.
    pub seq: UnixMillis,
}

/// Term mode: a DNS-01 value the relay asks the client to sign into its presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeValue {
    /// The host to validate.
    pub name: HostName,
    /// The challenge value, 43 characters.
    pub value: String,
    /// When it may be dropped again.
    pub until: UnixSeconds,
}

/// The relay stops taking visitors for this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// When it will close.
    pub deadline: UnixSeconds,
}

/// Last message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Machine-readable reason.
    pub code: CloseCode,
    /// The same in words.
    pub text: String,
}

/// A new presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceUpdate {
    /// Compact JWS.
    pub presence: String,
}

/// Ports the client asks for, one per TCP service, first choice first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Wanted ports.
    pub ports: Vec<PortGrant>,
}

/// The client is about to close; visitors should go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {}

impl ToClient {
    /// Parses one text frame; `None` for a type this version does not know.
    pub fn parse(text: &str) -> Result<Option<Self>, ControlError> {
        let kind = message_type(text)?;
        Ok(Some(match kind.as_str() {
            // Parsed from the text itself: the hash of `limits` covers its exact spelling.
            "auth_challenge" => Self::AuthChallenge(serde_json::from_str(text)?),
            "auth_ok" => Self::AuthOk(body(text)?),
            "auth_failed" => Self::AuthFailed(body(text)?),
            "reset" => Self::Reset(body(text)?),
            "presence_ok" => Self::PresenceOk(body(text)?),
            "presence_stale" => Self::PresenceStale(body(text)?),
            "acme_value" => Self::AcmeValue(body(text)?),
            "draining" => Self::Draining(body(text)?),
            "limits" => Self::Limits(body(text)?),
            "closing" => Self::Closing(body(text)?),
            _ => return Ok(None),
        }))
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("control messages are plain JSON")
    }
}

impl ToRelay {
    /// Parses one text frame; `None` for a type this version does not know.
    pub fn parse(text: &str) -> Result<Option<Self>, ControlError> {
        let kind = message_type(text)?;
        Ok(Some(match kind.as_str() {
            "auth_response" => Self::AuthResponse(body(text)?),
            "reset" => Self::Reset(body(text)?),
            "presence" => Self::Presence(body(text)?),
            "ports" => Self::Ports(body(text)?),
            "leaving" => Self::Leaving(body(text)?),
            _ => return Ok(None),
        }))
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("control messages are plain JSON")
    }
}

#[derive(Deserialize)]
struct TypeOnly {
    #[serde(rename = "type")]
    kind: String,
}

/// Checks size and duplicate members, and reads `type`.
pub(crate) fn message_type(text: &str) -> Result<String, ControlError> {
    if text.len() > MAX_LEN {
        return Err(ControlError::TooLong);
    }
    Ok(json::from_slice::<TypeOnly>(text.as_bytes())?.kind)
}

fn body<T: DeserializeOwned>(text: &str) -> Result<T, ControlError> {
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_keeps_the_spelling_of_its_limits() {
        let text = r#"{"type":"auth_challenge","challenge":"x","server_address":"GD6ROJBYLKQMOW3E7N4M2YBPUHMZD7PL65VRHRMO24BOVSBV5H3BQRSL","limits":{ "connections":4,"streams": 256},"signature":"s"}"#;
        let Some(ToClient::AuthChallenge(challenge)) = ToClient::parse(text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(challenge.limits.get(), r#"{ "connections":4,"streams": 256}"#);
        assert_eq!(ToClient::AuthChallenge(challenge).to_text(), text);
    }

    #[test]
    fn unknown_types_and_members_are_ignored_and_duplicates_refused() {
        assert!(ToRelay::parse(r#"{"type":"dance"}"#).unwrap().is_none());
        let Some(ToRelay::Reset(reset)) = ToRelay::parse(r#"{"type":"reset","stream":7,"x":1}"#).unwrap()
        else {
            panic!()
        };
        assert_eq!(reset.stream, 7);
        ToRelay::parse(r#"{"type":"reset","stream":7,"stream":8}"#).unwrap_err();
        ToRelay::parse(r#"{"type":"reset","stream":-1}"#).unwrap_err();
        ToRelay::parse(r#"{"stream":7}"#).unwrap_err();
        ToRelay::parse(&format!(r#"{{"type":"reset","pad":"{}"}}"#, "x".repeat(MAX_LEN))).unwrap_err();
        let closing = r#"{"type":"closing","code":"from_the_future","text":""}"#;
        let Some(ToClient::Closing(closing)) = ToClient::parse(closing).unwrap() else { panic!() };
        assert_eq!(closing.code, CloseCode::Unknown);
    }

    #[test]
    fn golden_messages() {
        assert_eq!(ToRelay::Leaving(Leaving {}).to_text(), r#"{"type":"leaving"}"#);
        assert_eq!(ToRelay::Reset(Reset { stream: 3 }).to_text(), r#"{"type":"reset","stream":3}"#);
        let closing = Closing { code: CloseCode::Superseded, text: "newer".into() };
        let text = r#"{"type":"closing","code":"superseded","text":"newer"}"#;
        assert_eq!(ToClient::Closing(closing).to_text(), text);
    }
}
