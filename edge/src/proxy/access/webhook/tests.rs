//! Messages signed as their providers sign them, and as they do not.

use super::*;
use http::{HeaderName, HeaderValue};

/// Provider, secret, headers, message, time of a message that is signed well.
type Signed = (Provider, &'static str, Vec<(&'static str, String)>, &'static [u8], u64);

fn verify(provider: Provider, secret: &str, headers: &[(&str, String)], message: &[u8], now: u64) -> bool {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let webhook = Webhook::new(provider, secret).unwrap();
    webhook.claim(&map).and_then(|claim| webhook.verify(&claim, message, now)).is_ok()
}

fn tag(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first two are the providers' published examples.
fn signed() -> Vec<Signed> {
    let slack = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
        https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let stripe = hex(&tag(b"whsec_test_secret", b"1700000000.{}"));
    let standard = STANDARD.encode(tag(b"0123456789abcdef", b"msg_1.1700000000.{}"));
    let standard_headers = |family: [&'static str; 3]| {
        let [id, time, signature] = family;
        let values = ["msg_1".into(), "1700000000".into(), format!("v1a,AAAA v1,AAAA v1,{standard}")];
        [id, time, signature].into_iter().zip(values).collect::<Vec<_>>()
    };
    let key = "whsec_MDEyMzQ1Njc4OWFiY2RlZg==";
    vec![
        (
            Provider::GitHub,
            "It's a Secret to Everybody",
            vec![(
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".into(),
            )],
            b"Hello, World!",
            0,
        ),
        (
            Provider::Slack,
            "8f742231b10e8888abcd99yyyzzz85a5",
            vec![
                ("x-slack-request-timestamp", "1531420618".into()),
                (
                    "x-slack-signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503".into(),
                ),
            ],
            slack,
            1531420618,
        ),
        (
            Provider::Stripe,
            "whsec_test_secret",
            vec![("stripe-signature", format!("t=1700000000,v1={},v1={stripe},v0=ff", "0".repeat(64)))],
            b"{}",
            1700000000,
        ),
        (
            Provider::Standard,
            key,
            standard_headers(["webhook-id", "webhook-timestamp", "webhook-signature"]),
            b"{}",
            1700000000,
        ),
        (
            Provider::Standard,
            key,
            standard_headers(["svix-id", "svix-timestamp", "svix-signature"]),
            b"{}",
            1700000000,
        ),
        (Provider::GitLab, "a shared token", vec![("x-gitlab-token", "a shared token".into())], b"{}", 0),
    ]
}

#[test]
fn a_message_passes_as_signed_and_not_otherwise() {
    for (provider, secret, headers, message, time) in signed() {
        let what = format!("{provider:?}");
        assert!(verify(provider, secret, &headers, message, time), "{what}");
        assert!(!verify(provider, "YW5vdGhlciBzZWNyZXQ=", &headers, message, time), "{what}");
        for i in 0..headers.len() {
            let (mut without, mut twice, mut changed) = (headers.clone(), headers.clone(), headers.clone());
            without.remove(i);
            twice.push(headers[i].clone());
            changed[i].1 = changed[i].1.replace(['0', '1', 'a'], "2");
            for (how, headers) in [("without", without), ("twice", twice), ("changed", changed)] {
                assert!(!verify(provider, secret, &headers, message, time), "{what} {how} {}", headers.len());
            }
        }
        if provider != Provider::GitLab {
            assert!(!verify(provider, secret, &headers, b"[]", time), "{what}: another message");
        }
        if time > 0 {
            for wrong in [time - 301, time + 301] {
                assert!(!verify(provider, secret, &headers, message, wrong), "{what} at {wrong}");
            }
            assert!(verify(provider, secret, &headers, message, time + 299), "{what}");
        }
    }
}

#[test]
fn secrets_are_checked_and_not_shown() {
    assert_eq!(Webhook::new(Provider::GitHub, "short").unwrap_err(), WebhookError::Short);
    assert_eq!(Webhook::new(Provider::Standard, "whsec_?????????").unwrap_err(), WebhookError::NotBase64);
    let webhook = Webhook::new(Provider::GitHub, "hunter2hunter2").unwrap();
    assert!(!format!("{webhook:?}").contains("hunter2"));
}
