//! The login token against the published vectors of the Python package `hvym_stellar`, and against every way to
//! misspell one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tunnler_protocol::address::SecretKey;
use tunnler_protocol::token::{ChallengeRule, Claims, Expectation, Role, TokenError};
use tunnler_protocol::{Address, UnixSeconds};

const V1: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6IkdDRklSWTY1T1FFN0RGUDVLTE5TMlBGMkxWWk1VWllKWDRPWklFUTM2TjJJUUFOVUI1WFZZT0pSIn0.eyJpc3MiOiJodnltX3R1bm5sZXIiLCJzdWIiOiJHQ0ZJUlk2NU9RRTdERlA1S0xOUzJQRjJMVlpNVVpZSlg0T1pJRVEzNk4ySVFBTlVCNVhWWU9KUiIsImF1ZCI6IkdENlJPSkJZTEtRTU9XM0U3TjRNMllCUFVITVpEN1BMNjVWUkhSTU8yNEJPVlNCVjVIM0JRUlNMIiwiaWF0IjoxNzY3MjI1NjAwLCJzZXJ2aWNlcyI6WyJwaW50aGVvbiJdLCJleHAiOjE3NjcyMjkyMDAsImNoYWxsZW5nZSI6IlkyaGhiR3hsYm1kbExXWnBlR1ZrTFhabFkzUnZjaTB3TURBd01EQXdNREUifQ.-gUaA98gAj35AEZw18qRUYbx-ZxfZVyZVFVsqb0eI9RnmFDCP2-cfCHXb2o0Mrv6-oGIRwW0Ix8i5LI-uOr-Dw";
const V2: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6IkdBQjJDQjU3NlBIQkJQUTVPRE9SUloyTFlDTVdQWkdXR0NOMktESzdEWE9JTVpBU0tVWTNRWjZRIn0.eyJpc3MiOiJodnltX3R1bm5sZXIiLCJzdWIiOiJHQUIyQ0I1NzZQSEJCUFE1T0RPUlJaMkxZQ01XUFpHV0dDTjJLREs3RFhPSU1aQVNLVVkzUVo2USIsImF1ZCI6IkdENlJPSkJZTEtRTU9XM0U3TjRNMllCUFVITVpEN1BMNjVWUkhSTU8yNEJPVlNCVjVIM0JRUlNMIiwiaWF0IjoxNzY3MjI1NjAwLCJzZXJ2aWNlcyI6WyJwaW50aGVvbiIsImlwZnMiXSwiZXhwIjoyMDgyNTg1NjAwfQ.QvykOTN-MzBMnD0wbAhY0_lGoEZRl91q4JKR8-ZwKnpQI7hHPJC6rHdHrengMbv_H3YbvvUXHg0GRCzFyvlvDw";
const V3: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6IkdDRklSWTY1T1FFN0RGUDVLTE5TMlBGMkxWWk1VWllKWDRPWklFUTM2TjJJUUFOVUI1WFZZT0pSIn0.eyJpc3MiOiJodnltX3R1bm5sZXIiLCJzdWIiOiJHQ0ZJUlk2NU9RRTdERlA1S0xOUzJQRjJMVlpNVVpZSlg0T1pJRVEzNk4ySVFBTlVCNVhWWU9KUiIsImF1ZCI6IkdENlJPSkJZTEtRTU9XM0U3TjRNMllCUFVITVpEN1BMNjVWUkhSTU8yNEJPVlNCVjVIM0JRUlNMIiwiaWF0IjoxNzY3MjI1NjAwLCJzZXJ2aWNlcyI6WyJwaW50aGVvbiJdfQ.fOY-Mr26BRVWxJdcliS3i-S7iRQaWO01rTHSgNzmsQhCVKt9VlvantQmvB1kxEvnXaKj5V-842MgFhPpnT1qCA";
const CHALLENGE: &str = "Y2hhbGxlbmdlLWZpeGVkLXZlY3Rvci0wMDAwMDAwMDE";
const IAT: u64 = 1_767_225_600;

fn relay() -> Address {
    SecretKey::from_seed(&[9; 32]).address()
}

fn client() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn expect(now: u64) -> Expectation<'static> {
    Expectation { audience: relay(), challenge: ChallengeRule::Answers(CHALLENGE), now: UnixSeconds(now) }
}

fn verify(token: &str, now: u64) -> Result<Claims, TokenError> {
    Claims::verify(token, expect(now))
}

#[test]
fn vector_1_verifies_within_its_validity() {
    let claims = verify(V1, IAT + 60).unwrap();
    assert_eq!(claims.sub, client().address());
    assert_eq!(claims.services[0].as_str(), "pintheon");
    // Our own signer writes the very same bytes.
    assert_eq!(claims.sign(&client()), V1);
    verify(V1, IAT + 3660).unwrap();
    assert!(matches!(verify(V1, IAT + 3661), Err(TokenError::Expired)));
    verify(V1, IAT - 60).unwrap();
    assert!(matches!(verify(V1, IAT - 61), Err(TokenError::FromTheFuture)));
}

#[test]
fn vector_2_verifies_as_a_token_without_challenge() {
    let bearer = Expectation { challenge: ChallengeRule::Absent, ..expect(IAT + 60) };
    let claims = Claims::verify(V2, bearer).unwrap();
    assert_eq!(claims.services.len(), 2);
    assert!(matches!(verify(V2, IAT + 60), Err(TokenError::Challenge)));
    assert!(matches!(Claims::verify(V1, bearer), Err(TokenError::Challenge)));
}

#[test]
fn vector_3_without_expiry_is_refused() {
    let bearer = Expectation { challenge: ChallengeRule::Absent, ..expect(IAT + 60) };
    assert!(matches!(Claims::verify(V3, bearer), Err(TokenError::Jws(_))));
}

#[test]
fn a_token_for_another_relay_is_refused() {
    let other = Expectation { audience: client().address(), ..expect(IAT) };
    assert!(matches!(Claims::verify(V1, other), Err(TokenError::Audience(_))));
}

#[test]
fn the_role_is_signed_and_clients_do_not_name_it() {
    let client = verify(V1, IAT).unwrap();
    assert_eq!(client.role, Role::Client);
    let forwarder = Claims { role: Role::Forwarder, services: vec![], ..client };
    let token = forwarder.sign(&self::client());
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert!(String::from_utf8(payload).unwrap().ends_with(r#","role":"forwarder"}"#));
    assert_eq!(verify(&token, IAT).unwrap(), forwarder);
}

/// Signs whatever header and payload, as an attacker who owns the key could.
fn forge(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = client().sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn misspelt_and_hostile_tokens_are_refused() {
    let me = client().address();
    let relay = relay();
    let other = SecretKey::from_seed(&[7; 32]).address();
    let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{me}"}}"#);
    let payload = format!(
        r#"{{"iss":"hvym_tunnler","sub":"{me}","aud":"{relay}","iat":{IAT},"services":["web"],"exp":{},"challenge":"{CHALLENGE}"}}"#,
        IAT + 60
    );
    verify(&forge(&header, &payload), IAT).expect("the honest form passes");
    let headers = [
        header.replace("EdDSA", "none"),
        header.replace("EdDSA", "HS256"),
        header.replace("EdDSA", "eddsa"),
        header.replace("JWT", "tunnler-presence+jwt"),
        header.replace(&me.to_string(), &other.to_string()),
        header.replace("{", r#"{"alg":"EdDSA","#),
    ];
    for bad in headers {
        assert!(verify(&forge(&bad, &payload), IAT).is_err(), "{bad}");
    }
    let payloads = [
        payload.replace(r#""iss":"hvym_tunnler""#, r#""iss":"somebody""#),
        payload.replace(&format!(r#""sub":"{me}""#), &format!(r#""sub":"{other}""#)),
        payload.replace(r#""exp":"#, r#""exp":1,"exp":"#),
        payload.replace(&format!(r#""iat":{IAT}"#), &format!(r#""iat":"{IAT}""#)),
        payload.replace(&format!(r#""iat":{IAT}"#), &format!(r#""iat":{IAT}.5"#)),
        payload.replace(r#"["web"]"#, r#""web""#),
        payload.replace(r#"["web"]"#, r#"["We b"]"#),
        payload.replace(CHALLENGE, "x"),
        payload.replace(r#""exp":"#, r#""role":"admin","exp":"#),
        payload.replace(r#""exp":"#, r#""role":"forwarder","role":"client","exp":"#),
        payload.replace(&format!("{}", IAT + 60), &format!("{IAT}")),
    ];
    for bad in payloads {
        assert!(verify(&forge(&header, &bad), IAT).is_err(), "{bad}");
    }
    for spelling in
        [format!("{V1}="), format!("{V1}A"), V1.replacen('.', "..", 1), V1[..V1.len() - 1].to_owned() + "x"]
    {
        assert!(verify(&spelling, IAT).is_err(), "{spelling}");
    }
}
