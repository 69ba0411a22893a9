//! The feed of a relay: who is attached to it now, as text frames of a WebSocket at [`PATH`] (DESIGN §7).
//!
//! Order: `hello`, then the snapshot as `presence` and `attached` messages, `synced`, then changes as they happen and
//! a `heartbeat` each second. Sent by relays only, except `subscribe`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::control::{ControlError, message_type};
use crate::instance::{BootId, InstanceId};

/// Path of the feed on a relay's own host.
pub const PATH: &str = "/v1/feed";
/// WebSocket subprotocol of the feed.
pub const SUBPROTOCOL: &str = "tunnler.feed.v1";
/// How often a feed says something at least.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which a reader treats every session of the relay as unknown.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// After a new boot id, absence is not believed for this long: clients are still reconnecting.
pub const BOOT_GRACE: Duration = Duration::from_secs(10);

/// Messages of the feed, relay to reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// First message: who speaks, proven on this channel.
    Hello {
        /// The relay.
        relay: Address,
        /// Its process.
        boot: BootId,
        /// Signature over [`Statement::Feed`](crate::challenge::Statement), base64url.
        signature: String,
    },
    /// A presence this relay holds (its own verification does not count; readers verify).
    Presence {
        /// Compact JWS.
        presence: String,
    },
    /// A session of this instance is attached and takes visitors.
    Attached {
        /// The client.
        client: Address,
        /// Which running copy of it.
        ins: InstanceId,
    },
    /// The session is still there but takes no new visitors soon.
    Draining {
        /// The client.
        client: Address,
        /// Which running copy of it.
        ins: InstanceId,
    },
    /// The session is gone.
    Detached {
        /// The client.
        client: Address,
        /// Which running copy of it.
        ins: InstanceId,
    },
    /// The snapshot is complete: instances not named so far are absent.
    Synced,
    /// Nothing happened for [`HEARTBEAT`].
    Heartbeat,
    /// A type of a later version.
    #[serde(other)]
    Unknown,
}

/// Reader to relay, optional: claims one of the slots reserved for the zone's servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Proves a key that the Namespace configuration lists.
    Subscribe {
        /// The zone server's key.
        server: Address,
        /// Signature over [`Statement::Subscribe`](crate::challenge::Statement), base64url.
        signature: String,
    },
    /// A type of a later version.
    #[serde(other)]
    Unknown,
}

macro_rules! text_frame {
    ($type:ty) => {
        impl $type {
            /// Parses one text frame of at most 16 KiB without duplicate members.
            pub fn parse(text: &str) -> Result<Self, ControlError> {
                message_type(text)?;
                Ok(serde_json::from_str(text)?)
            }

            /// The text frame.
            pub fn to_text(&self) -> String {
                serde_json::to_string(self).expect("feed messages are plain JSON")
            }
        }
    };
}
text_frame!(Message);
text_frame!(Request);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_messages() {
        for (message, text) in [
            (Message::Synced, r#"{"type":"synced"}"#),
            (Message::Heartbeat, r#"{"type":"heartbeat"}"#),
            (Message::Presence { presence: "a.b.c".into() }, r#"{"type":"presence","presence":"a.b.c"}"#),
        ] {
            assert_eq!(message.to_text(), text);
            assert_eq!(Message::parse(text).unwrap(), message);
        }
        assert_eq!(Message::parse(r#"{"type":"dance","with":"me"}"#).unwrap(), Message::Unknown);
        Message::parse(r#"{"type":"synced","type":"heartbeat"}"#).unwrap_err();
        let ins = InstanceId([0; 16]);
        let client = crate::SecretKey::from_seed(&[1; 32]).address();
        let attached = Message::Attached { client, ins };
        assert_eq!(Message::parse(&attached.to_text()).unwrap(), attached);
    }
}
