//! Messages signed by the services that send them: the body is read whole, within bounds, and passed on only when its
//! signature is right and recent.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::proxy::body::Source;
use crate::proxy::refusal::Refusal;
use crate::proxy::request::Checked;

/// Most bytes of a signed message.
const MAX_MESSAGE: usize = 4 << 20;
/// Most bytes of messages being received for one service at a time.
const MAX_RECEIVED: usize = 32 << 20;
/// How long a message may take to arrive.
const DEADLINE: Duration = Duration::from_secs(30);
/// How far the time of a signature may be from now, either way.
const WINDOW: Duration = Duration::from_secs(300);

/// Whose way of signing is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `X-Hub-Signature-256`.
    GitHub,
    /// `X-Gitlab-Token`, which is the secret itself.
    GitLab,
    /// `X-Slack-Signature`, with its time.
    Slack,
    /// `Stripe-Signature`, with its time.
    Stripe,
    /// Standard Webhooks, also with Svix's header names, with its time.
    Standard,
}

/// A secret that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Too short to be one.
    #[error("a webhook's secret has at least 8 characters")]
    Short,
    /// Standard Webhooks' secrets are base64.
    #[error("a Standard Webhooks secret is whsec_ and base64")]
    NotBase64,
}

/// Verifies the messages of one provider.
#[derive(Clone)]
pub struct Webhook {
    provider: Provider,
    key: Arc<hmac::Key>,
    room: Arc<Semaphore>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({:?})", self.provider)
    }
}

impl Webhook {
    /// A verifier with the secret as the provider shows it.
    pub fn new(provider: Provider, secret: &str) -> Result<Self, WebhookError> {
        let secret = secret.trim();
        if secret.len() < 8 {
            return Err(WebhookError::Short);
        }
        let key = match provider {
            Provider::Standard => {
                let text = secret.strip_prefix("whsec_").unwrap_or(secret);
                STANDARD.decode(text).map_err(|_| WebhookError::NotBase64)?
            }
            _ => secret.as_bytes().to_vec(),
        };
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key));
        Ok(Self { provider, key, room: Arc::new(Semaphore::new(MAX_RECEIVED)) })
    }

    /// Reads the message and lets it in if it is signed.
    pub(super) async fn check(&self, checked: &mut Checked) -> Result<(), Refusal> {
        if checked.announced().is_some_and(|length| length > MAX_MESSAGE as u64) {
            return Err(Refusal::TooLarge);
        }
        // What lacks a signature is not worth reading.
        let claim = self.claim(checked.headers())?;
        let body = std::mem::replace(&mut checked.body, Source::Nothing);
        let message = tokio::time::timeout(DEADLINE, self.receive(body, checked.most)).await;
        let message = message.map_err(|_| Refusal::BodyTimeout)??;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.verify(&claim, &message, now.as_secs())?;
        checked.body = Source::Known(message);
        Ok(())
    }

    async fn receive(&self, body: Source, most: u64) -> Result<Bytes, Refusal> {
        let Source::Streamed(mut body) = body else { return Ok(Bytes::new()) };
        let (mut message, mut taken) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::Malformed("a body that broke off"))?;
            let Ok(part) = frame.into_data() else { continue };
            if message.len() + part.len() > MAX_MESSAGE.min(usize::try_from(most).unwrap_or(usize::MAX)) {
                return Err(Refusal::TooLarge);
            }
            // Counted in bytes that arrived: nobody takes room by announcing much.
            let room =
                self.room.clone().try_acquire_many_owned(part.len() as u32).map_err(|_| Refusal::Busy)?;
            match &mut taken {
                None => taken = Some(room),
                Some(taken) => taken.merge(room),
            }
            message.extend_from_slice(&part);
        }
        Ok(message.freeze())
    }

    /// What the headers claim, in one form for all providers.
    fn claim(&self, headers: &HeaderMap) -> Result<Claim, Refusal> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().and_then(|value| value.to_str().ok());
            value.filter(|_| values.next().is_none()).ok_or(Refusal::Unsigned("its signature is missing"))
        };
        match self.provider {
            Provider::GitLab => Ok(Claim::Secret(one("x-gitlab-token")?.to_owned())),
            Provider::GitHub => Ok(Claim::signed("", None, &["sha256="], [one("x-hub-signature-256")?])),
            Provider::Slack => {
                let time = one("x-slack-request-timestamp")?;
                Ok(Claim::signed(&format!("v0:{time}:"), Some(time), &["v0="], [one("x-slack-signature")?]))
            }
            Provider::Stripe => {
                let parts = one("stripe-signature")?.split(',').map(str::trim);
                let time = parts.clone().find_map(|part| part.strip_prefix("t=")).unwrap_or_default();
                Ok(Claim::signed(&format!("{time}."), Some(time), &["v1="], parts))
            }
            Provider::Standard => {
                let family = if headers.contains_key("svix-id") { "svix" } else { "webhook" };
                let id = one(&format!("{family}-id"))?;
                let time = one(&format!("{family}-timestamp"))?;
                let signatures = one(&format!("{family}-signature"))?.split(' ');
                Ok(Claim::signed(&format!("{id}.{time}."), Some(time), &["v1,"], signatures))
            }
        }
    }

    fn verify(&self, claim: &Claim, message: &[u8], now: u64) -> Result<(), Refusal> {
        const WRONG: Refusal = Refusal::Unsigned("its signature is wrong");
        match claim {
            // Compared as tags: what is compared has one length and says nothing of the secret.
            Claim::Secret(shown) => hmac::verify(
                &hmac::Key::new(hmac::HMAC_SHA256, shown.as_bytes()),
                b"same",
                hmac::sign(&self.key, b"same").as_ref(),
            )
            .map_err(|_| WRONG),
            Claim::Signed { prefix, time, tags } => {
                if time.is_some_and(|time| time.abs_diff(now) > WINDOW.as_secs()) {
                    return Err(Refusal::Unsigned("its signature is too old, or the clock is wrong"));
                }
                let mut context = hmac::Context::with_key(&self.key);
                context.update(prefix.as_bytes());
                context.update(message);
                let right = context.sign();
                let fits = |tag: &Vec<u8>| verify_slices_are_equal(tag, right.as_ref()).is_ok();
                if tags.iter().any(fits) { Ok(()) } else { Err(WRONG) }
            }
        }
    }
}

/// What a message's headers say for it.
enum Claim {
    /// The secret itself.
    Secret(String),
    /// Tags over a prefix and the message; one right tag is enough (keys are changed with two).
    Signed { prefix: String, time: Option<u64>, tags: Vec<Vec<u8>> },
}

impl Claim {
    /// Tags of the known kinds; unreadable ones are none. A time that is no number is none that fits.
    fn signed<'a>(
        prefix: &str,
        time: Option<&str>,
        kinds: &[&str],
        signatures: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let tag = |signature: &str| {
            let kind = kinds.iter().find(|kind| signature.starts_with(**kind))?;
            let text = &signature[kind.len()..];
            if kind.ends_with(',') { STANDARD.decode(text).ok() } else { unhex(text) }
        };
        let tags = signatures.into_iter().filter_map(tag).take(8).collect();
        let time = time.map(|time| time.parse().unwrap_or(0));
        Self::Signed { prefix: prefix.to_owned(), time, tags }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests;
