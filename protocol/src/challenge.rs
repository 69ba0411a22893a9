//! The bytes that relay and client sign to authenticate a TLS channel (DESIGN §6, §7; RFC 9266 exporters).
//!
//! Each kind begins with its own domain tag and a zero byte, so that no signature serves for another purpose, and
//! none is exactly 32 bytes long, so that none is a Stellar transaction hash.

use sha2::{Digest, Sha256};

use crate::address::{Address, BadSignature, SecretKey};
use crate::instance::BootId;

/// Label of the TLS exporter (RFC 9266, section 4.2), taken with no context and 32 bytes long.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

const CHALLENGE_TAG: &[u8] = b"tunnler/v1/challenge\0";
const FEED_TAG: &[u8] = b"tunnler/v1/feed\0";
const SUBSCRIBE_TAG: &[u8] = b"tunnler/v1/subscribe\0";
const INFO_TAG: &[u8] = b"tunnler/v1/info\0";

/// Keying material exported from one TLS connection: equal on both ends, unknown to anybody between two connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exporter(pub [u8; 32]);

/// What one party signs about one TLS channel.
#[derive(Clone, Copy, Debug)]
pub enum Statement<'a> {
    /// The relay's proof before a client logs in; `limits` is the JSON text exactly as sent.
    Challenge {
        /// 32 random bytes.
        challenge: &'a [u8; 32],
        /// The signing relay.
        relay: Address,
        /// The text of the `limits` member.
        limits: &'a str,
    },
    /// The relay's proof at the beginning of its feed.
    Feed {
        /// The signing relay.
        relay: Address,
        /// Its process.
        boot: BootId,
    },
    /// A zone server's proof that it may use one of the feed's reserved slots.
    Subscribe {
        /// The signing zone server.
        server: Address,
        /// The relay whose feed it reads.
        relay: Address,
    },
    /// The relay's proof at `/info`.
    Info {
        /// The signing relay.
        relay: Address,
        /// The text of the signed member, exactly as sent.
        text: &'a str,
    },
}

impl Statement<'_> {
    /// The exact bytes that are signed.
    pub fn bytes(&self, exporter: &Exporter) -> Vec<u8> {
        let parts: [&[u8]; 4] = match self {
            Self::Challenge { challenge, relay, limits } => {
                let limits = Sha256::digest(limits.as_bytes());
                return [CHALLENGE_TAG, *challenge, relay.as_bytes(), &exporter.0, &limits].concat();
            }
            Self::Feed { relay, boot } => [FEED_TAG, relay.as_bytes(), &boot.0, &exporter.0],
            Self::Subscribe { server, relay } => {
                [SUBSCRIBE_TAG, server.as_bytes(), relay.as_bytes(), &exporter.0]
            }
            Self::Info { relay, text } => {
                let text = Sha256::digest(text.as_bytes());
                return [INFO_TAG, relay.as_bytes(), &exporter.0, &text].concat();
            }
        };
        parts.concat()
    }

    /// Signs the statement for the channel that `exporter` belongs to.
    pub fn sign(&self, key: &SecretKey, exporter: &Exporter) -> [u8; 64] {
        key.sign(&self.bytes(exporter))
    }

    /// Verifies a signature made by the party that the statement names.
    pub fn verify(&self, exporter: &Exporter, signature: &[u8; 64]) -> Result<(), BadSignature> {
        let signer = match self {
            Self::Challenge { relay, .. } | Self::Feed { relay, .. } | Self::Info { relay, .. } => relay,
            Self::Subscribe { server, .. } => server,
        };
        signer.verify(&self.bytes(exporter), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let relay = SecretKey::from_seed(&[9; 32]).address();
        let exporter = Exporter([2; 32]);
        let bytes = Statement::Challenge { challenge: &[1; 32], relay, limits: "{}" }.bytes(&exporter);
        assert_eq!(bytes.len(), 21 + 4 * 32);
        assert_eq!(&bytes[..21], b"tunnler/v1/challenge\0");
        assert_eq!(&bytes[21..53], [1; 32]);
        assert_eq!(&bytes[53..85], relay.as_bytes());
        assert_eq!(&bytes[85..117], [2; 32]);
        assert_eq!(&bytes[117..121], [0x44, 0x13, 0x6f, 0xa3], "SHA-256 of {{}}");
        let feed = Statement::Feed { relay, boot: BootId([3; 16]) }.bytes(&exporter);
        assert_eq!(&feed[..16], b"tunnler/v1/feed\0");
        assert_eq!(feed.len(), 16 + 32 + 16 + 32);
    }

    #[test]
    fn a_proof_is_bound_to_channel_purpose_and_signer() {
        let key = SecretKey::from_seed(&[9; 32]);
        let relay = key.address();
        let other = SecretKey::from_seed(&[8; 32]).address();
        let statement = Statement::Challenge { challenge: &[1; 32], relay, limits: "{}" };
        let signature = statement.sign(&key, &Exporter([2; 32]));
        statement.verify(&Exporter([2; 32]), &signature).unwrap();
        statement.verify(&Exporter([3; 32]), &signature).unwrap_err();
        let wrong = [
            Statement::Challenge { challenge: &[0; 32], relay, limits: "{}" },
            Statement::Challenge { challenge: &[1; 32], relay: other, limits: "{}" },
            Statement::Challenge { challenge: &[1; 32], relay, limits: "{ }" },
            Statement::Feed { relay, boot: BootId([1; 16]) },
            Statement::Subscribe { server: relay, relay },
        ];
        for statement in wrong {
            statement.verify(&Exporter([2; 32]), &signature).unwrap_err();
        }
    }
}
