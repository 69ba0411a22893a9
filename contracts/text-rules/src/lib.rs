//! Which characters a text on chain may consist of, for both contracts: what is stored there ends up in DNS answers,
//! CAA records, logs and terminals of strangers, so it is checked where it enters.
//!
//! Only says yes or no, and never reads more than the given maximum.
#![no_std]

use core::ops::Deref;

use soroban_sdk::{Address, String};

/// Longest DNS name without trailing dot (RFC 1035, section 3.1).
pub const DOMAIN_MAX: usize = 253;
/// Characters of a strkey (SEP-23).
pub const ADDRESS_LEN: usize = 56;
/// Longest CAA issuer domain accepted.
pub const ISSUER_MAX: usize = 24;
/// Longest reason for a suspension or delisting.
pub const REASON_MAX: usize = 32;

/// A DNS name of at least two labels in lower case, at most `max` bytes, that nobody could take for an IPv4 address.
pub fn is_domain(text: &String, max: usize) -> bool {
    let bytes = &Text::read(text, max);
    // A last label of digits makes a URL parser read the whole as an IPv4 address (WHATWG URL, section 3.5).
    let last = bytes.rsplit(|b| *b == b'.').next().unwrap_or_default();
    last.len() < bytes.len() && last.iter().any(|b| !b.is_ascii_digit()) && is_dotted(bytes)
}

/// An issuer domain name of CAA (RFC 8659, section 4.2) in lower case; one label is enough.
pub fn is_issuer(text: &String) -> bool {
    is_dotted(&Text::read(text, ISSUER_MAX))
}

/// An `https` URI of at most `max` bytes that can stand in a CAA parameter (RFC 8657): the characters of RFC 3986
/// without `;`, which would begin another parameter, and without `'`.
pub fn is_https_uri(text: &String, max: usize) -> bool {
    Text::read(text, max).strip_prefix(b"https://").is_some_and(|rest| {
        rest.first().is_some_and(u8::is_ascii_alphanumeric) && rest.iter().all(|b| is_uri_byte(*b))
    })
}

/// 1 to `max` of `a-z`, `0-9` and `-`.
pub fn is_word(text: &String, max: usize) -> bool {
    let bytes = &Text::read(text, max);
    !bytes.is_empty() && bytes.iter().all(|b| is_ldh(*b))
}

/// 1 to 32 printable ASCII characters, for people to read.
pub fn is_reason(text: &String) -> bool {
    let bytes = &Text::read(text, REASON_MAX);
    !bytes.is_empty() && bytes.iter().all(|b| matches!(b, b' '..=b'~'))
}

/// Whether an address is an Ed25519 account (G…) and not a contract, told by its strkey (SEP-23).
pub fn is_account(address: &Address) -> bool {
    Text::read(&address.to_string(), ADDRESS_LEN).first() == Some(&b'G')
}

/// The bytes of a text in the contract's own memory, where looking at one costs no host call.
pub struct Text {
    buffer: [u8; DOMAIN_MAX],
    len: usize,
}

impl Text {
    /// Fetches a text of at most `max` bytes, itself at most 253. A longer one reads as empty, which no rule accepts.
    #[inline(never)]
    pub fn read(text: &String, max: usize) -> Self {
        let mut buffer = [0; DOMAIN_MAX];
        let len = text.len() as usize;
        if len > max || len > DOMAIN_MAX {
            return Self { buffer, len: 0 };
        }
        text.copy_into_slice(&mut buffer[..len]);
        Self { buffer, len }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// Lower-case letters, digits, hyphen.
pub fn is_ldh(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

#[inline(never)]
fn is_dotted(bytes: &[u8]) -> bool {
    bytes.split(|b| *b == b'.').all(|label| {
        matches!(label.len(), 1..=63)
            && label.iter().all(|b| is_ldh(*b))
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    })
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&()*+,=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use soroban_sdk::{Env, testutils::Address as _};

    use super::*;

    fn check(rule: impl Fn(&String) -> bool, good: &[&str], bad: &[&str]) {
        let env = Env::default();
        for (texts, verdict) in [(good, true), (bad, false)] {
            for text in texts {
                assert_eq!(rule(&String::from_str(&env, text)), verdict, "{text:?}");
            }
        }
    }

    #[test]
    fn domains() {
        let long = ["a"; 127].join(".");
        check(
            |text| is_domain(text, DOMAIN_MAX),
            &["a.b", "tunnel.example.org", "xn--caf-dma.example", "1.2.3.x4", &long],
            &[
                "",
                "a",
                ".a",
                "a.",
                "a..b",
                "A.b",
                "a_b.c",
                "-a.b",
                "a-.b",
                "1.2.3.4",
                "a.5",
                "é.org",
                "a b.c",
                &std::format!("{}.org", "x".repeat(64)),
                &std::format!("{long}.a"),
            ],
        );
        check(|text| is_domain(text, 5), &["ab.cd"], &["abc.de"]);
    }

    #[test]
    fn issuers() {
        check(
            is_issuer,
            &["letsencrypt.org", "pebble", "pki.goog"],
            &["", "le.org;accounturi=x", "le.org ", "LE.org", "\"le.org\"", &"x".repeat(25)],
        );
    }

    #[test]
    fn uris_cannot_smuggle_caa_parameters() {
        check(
            |text| is_https_uri(text, 64),
            &["https://acme.example/acct/1", "https://localhost:14000/my-account/2?x=%20", "https://a"],
            &[
                "",
                "https://",
                "http://a/1",
                "https:///1",
                "https://a/1; validationmethods=http-01",
                "https://a/1;x",
                "https://a/\"",
                "https://a/'",
                "https://a/\\",
                "https://a/ 1",
                "https://a/\n",
                "https://a/é",
                "https://a/<",
                &std::format!("https://{}", "a".repeat(57)),
            ],
        );
    }

    #[test]
    fn words_and_reasons() {
        check(|text| is_word(text, 4), &["eu", "us-1"], &["", "EU", "e u", "eu-10", "eü"]);
        check(
            is_reason,
            &["phishing (case 12)", &"x".repeat(32)],
            &["", "a\nb", "\u{1b}[2J", "é", &"x".repeat(33)],
        );
    }

    #[test]
    fn accounts_are_told_from_contracts() {
        let env = Env::default();
        let account = "GCFIRY65OQE7DFP5KLNS2PF2LVZMUZYJX4OZIEQ36N2IQANUB5XVYOJR";
        assert!(is_account(&Address::from_str(&env, account)));
        assert!(!is_account(&Address::generate(&env)));
    }
}
