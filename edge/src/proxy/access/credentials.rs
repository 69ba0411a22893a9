//! Names with passwords (RFC 7617) and tokens (RFC 6750). Kept and compared as digests, all of them each time: how long
//! a comparison takes tells nothing of what was nearly right.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};

use crate::proxy::refusal::{Challenge, Refusal};

/// Who may come in by what they know.
#[derive(Clone, Default)]
pub struct Credentials {
    logins: Vec<[u8; 32]>,
    tokens: Vec<[u8; 32]>,
}

/// Text that is no list of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A line without a colon or a name.
    #[error("line {0} is not NAME:PASSWORD")]
    NotALogin(usize),
    /// A token with characters that cannot be sent.
    #[error("line {0} is not a token: only visible ASCII without spaces")]
    NotAToken(usize),
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} logins, {} tokens)", self.logins.len(), self.tokens.len())
    }
}

impl Credentials {
    /// Adds logins, one `NAME:PASSWORD` a line.
    pub fn logins(mut self, text: &str) -> Result<Self, CredentialsError> {
        for (number, line) in lines(text)? {
            let named = line.split_once(':').is_some_and(|(name, _)| !name.is_empty());
            if !named {
                return Err(CredentialsError::NotALogin(number));
            }
            self.logins.push(sha256(line.as_bytes()));
        }
        Ok(self)
    }

    /// Adds tokens, one a line.
    pub fn tokens(mut self, text: &str) -> Result<Self, CredentialsError> {
        for (number, line) in lines(text)? {
            if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(CredentialsError::NotAToken(number));
            }
            self.tokens.push(sha256(line.as_bytes()));
        }
        Ok(self)
    }

    /// Looks at `Authorization` and takes it off when it is right: it was for the edge, not for the service.
    pub(super) fn check(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else { return Err(self.challenge()) };
        if !shown.to_str().is_ok_and(|shown| self.knows(shown)) {
            return Err(self.challenge());
        }
        headers.remove(AUTHORIZATION);
        Ok(())
    }

    fn knows(&self, shown: &str) -> bool {
        let Some((scheme, rest)) = shown.split_once(' ') else { return false };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            STANDARD.decode(rest).is_ok_and(|login| is_among(&login, &self.logins))
        } else {
            scheme.eq_ignore_ascii_case("bearer") && is_among(rest.as_bytes(), &self.tokens)
        }
    }

    fn challenge(&self) -> Refusal {
        Refusal::Unauthorized(match (self.logins.is_empty(), self.tokens.is_empty()) {
            (false, false) => Challenge::Either,
            (true, _) => Challenge::Bearer,
            (false, true) => Challenge::Basic,
        })
    }
}

/// Lines that are not empty, with their numbers.
fn lines(text: &str) -> Result<Vec<(usize, &str)>, CredentialsError> {
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim_end_matches('\r')));
    let lines: Vec<_> = numbered.filter(|(_, line)| !line.is_empty()).collect();
    if lines.is_empty() { Err(CredentialsError::Empty) } else { Ok(lines) }
}

fn is_among(shown: &[u8], known: &[[u8; 32]]) -> bool {
    let shown = sha256(shown);
    known.iter().fold(false, |found, known| verify_slices_are_equal(&shown, known).is_ok() | found)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(credentials: &Credentials, shown: &[&str]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for shown in shown {
            headers.append(AUTHORIZATION, HeaderValue::from_str(shown).unwrap());
        }
        let checked = credentials.check(&mut headers);
        assert_eq!(checked.is_ok(), !headers.contains_key(AUTHORIZATION) && !shown.is_empty());
        checked
    }

    #[test]
    fn only_what_is_listed_comes_in() {
        let both = Credentials::default();
        let both = both.logins("alice:pass:word\r\n\nbob:b\n").unwrap().tokens("s3cret\n").unwrap();
        let basic = |login: &str| format!("Basic {}", STANDARD.encode(login));
        for good in [&basic("alice:pass:word"), &basic("bob:b"), "Bearer s3cret", "bearer s3cret"] {
            assert_eq!(check(&both, &[good]), Ok(()), "{good}");
        }
        for bad in [
            &basic("alice:pass"),
            &basic("alice"),
            &basic(":b"),
            &basic(""),
            "Bearer s3cre",
            "Bearer s3crett",
            "Bearer alice:pass:word",
            "Basic s3cret",
            "Basic ???",
            "Basic",
            "Digest s3cret",
            "",
        ] {
            assert_eq!(check(&both, &[bad]), Err(Refusal::Unauthorized(Challenge::Either)), "{bad}");
        }
        assert!(check(&both, &[]).is_err());
        assert!(check(&both, &["Bearer s3cret", "Bearer s3cret"]).is_err());
        assert!(!format!("{both:?}").contains("s3cret"));
    }

    #[test]
    fn mistakes_in_lists_are_found_and_not_repeated() {
        let none = Credentials::default;
        for text in ["alice\n", ":x\n", "a:b\nhunter2"] {
            let error = none().logins(text).unwrap_err();
            assert!(
                matches!(error, CredentialsError::NotALogin(_)) && !error.to_string().contains("hunter2")
            );
        }
        assert_eq!(none().tokens("two words").unwrap_err(), CredentialsError::NotAToken(1));
        assert_eq!(none().tokens("\n").unwrap_err(), CredentialsError::Empty);
    }
}
