//! Presence and stream header: round trips, limits and garbage.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use tunnler_protocol::address::SecretKey;
use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::presence::{Claims, Presence, PresenceError, Service, ServiceKind, TlsMode};
use tunnler_protocol::stream::{MAX_LEN, Payload, StreamHeader, StreamHeaderError};
use tunnler_protocol::{UnixMillis, UnixSeconds};

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn claims() -> Claims {
    Claims {
        iss: key().address(),
        ins: InstanceId([7; 16]),
        seq: NOW,
        exp: UnixSeconds(NOW.seconds().0 + 3600),
        names: vec!["mynode".parse().unwrap(), "www.example.com".parse().unwrap()],
        relays: vec![SecretKey::from_seed(&[2; 32]).address()],
        services: vec![Service {
            name: "web".parse().unwrap(),
            kind: ServiceKind::Http,
            tls: TlsMode::Pass,
            port: None,
        }],
        acme: vec![AcmeIdentity { issuer: "pebble.test".into(), account: "https://ca.test/acct/1".into() }],
        txt: BTreeMap::from([("mynode.tun.test".parse().unwrap(), vec!["x".repeat(43)])]),
    }
}

#[test]
fn a_presence_verifies_and_keeps_its_bytes() {
    let presence = claims().sign(&key()).unwrap();
    let read = Presence::verify(presence.text(), NOW).unwrap();
    assert_eq!(read, presence);
    assert_eq!(read.claims(), &claims());
    assert!(matches!(
        Presence::verify(presence.text(), UnixMillis(NOW.0 - 60_001)),
        Err(PresenceError::Ahead)
    ));
    assert!(matches!(
        Presence::verify(presence.text(), UnixMillis(NOW.0 + 3_600_000)),
        Err(PresenceError::Expired)
    ));
    let mut tampered = presence.text().to_string();
    let middle = tampered.len() / 2;
    tampered.replace_range(middle..middle + 1, if &tampered[middle..middle + 1] == "A" { "B" } else { "A" });
    assert!(Presence::verify(&tampered, NOW).is_err());
}

#[test]
fn a_login_token_is_not_a_presence() {
    let relay = SecretKey::from_seed(&[9; 32]).address();
    let token = tunnler_protocol::token::Claims {
        iss: "hvym_tunnler".into(),
        sub: key().address(),
        aud: relay,
        iat: NOW.seconds(),
        services: vec![],
        exp: UnixSeconds(NOW.seconds().0 + 60),
        challenge: None,
        role: Default::default(),
    };
    assert!(matches!(Presence::verify(&token.sign(&key()), NOW), Err(PresenceError::Jws(_))));
}

#[test]
fn a_malformed_presence_cannot_be_signed_or_read() {
    type Spoil = fn(&mut Claims);
    let table: [(&str, Spoil); 8] = [
        ("lifetime", |c| c.exp = UnixSeconds(c.exp.0 + 1)),
        ("ends before it begins", |c| c.exp = c.seq.seconds()),
        ("another's", |c| c.iss = SecretKey::from_seed(&[3; 32]).address()),
        ("same name twice", |c| c.names = vec!["mynode".parse().unwrap(); 2]),
        ("same relay twice", |c| c.relays = vec![c.relays[0]; 2]),
        ("17 names", |c| c.names = (100..117).map(|i| format!("n{i}").parse().unwrap()).collect()),
        ("short value", |c| c.txt = BTreeMap::from([("a.b".parse().unwrap(), vec!["x".repeat(42)])])),
        ("CAA injection", |c| c.acme[0].account = "https://ca.test/1;validationmethods=http-01".into()),
    ];
    for (what, spoil) in table {
        let mut claims = claims();
        spoil(&mut claims);
        assert!(claims.sign(&key()).is_err(), "{what}");
    }
}

fn header() -> impl Strategy<Value = StreamHeader> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
        .prop_map(|(a, p, b, q)| (SocketAddr::from((a, p)), SocketAddr::from((b, q))));
    let v6 = any::<([u16; 8], u16, [u16; 8], u16)>()
        .prop_map(|(a, p, b, q)| (SocketAddr::from((a, p)), SocketAddr::from((b, q))));
    let kind = prop_oneof![Just(ServiceKind::Http), Just(ServiceKind::Tcp), Just(ServiceKind::Udp)];
    let host = proptest::option::of("[a-z]{1,20}\\.[a-z]{1,20}");
    let payload = prop_oneof![Just(Payload::Untouched), Just(Payload::Http1), Just(Payload::Http2)];
    (prop_oneof![v4, v6], kind, host, "[a-z0-9]{1,63}", proptest::option::of(1u8..), payload).prop_map(
        |((visitor, ingress), kind, host, service, forwarder, payload)| StreamHeader {
            visitor,
            ingress,
            host: host.map(|host| host.parse().unwrap()),
            service: service.parse().unwrap(),
            kind,
            forwarder: forwarder.map(|seed| SecretKey::from_seed(&[seed; 32]).address()),
            payload,
        },
    )
}

proptest! {
    #[test]
    fn stream_headers_round_trip(header in header(), tail in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = header.encode();
        prop_assert!(bytes.len() <= MAX_LEN);
        for cut in 0..bytes.len() {
            let wants_more = matches!(
                StreamHeader::decode(&bytes[..cut]),
                Err(StreamHeaderError::Incomplete { needed }) if needed > cut
            );
            prop_assert!(wants_more);
        }
        let length = bytes.len();
        bytes.extend(tail);
        prop_assert_eq!(StreamHeader::decode(&bytes), Ok((header, length)));
    }

    #[test]
    fn a_tlv_that_comes_twice_is_refused(header in header(), which in 0_usize..5) {
        let mut bytes = header.encode();
        let fixed = if header.visitor.is_ipv4() { 16 + 12 } else { 16 + 36 };
        let mut tlvs = Vec::new();
        let mut at = fixed;
        while at < bytes.len() {
            let len = 3 + usize::from(u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]));
            tlvs.push(bytes[at..at + len].to_vec());
            at += len;
        }
        bytes.extend(&tlvs[which % tlvs.len()]);
        let len = u16::try_from(bytes.len() - 16).unwrap();
        bytes[14..16].copy_from_slice(&len.to_be_bytes());
        prop_assert_eq!(StreamHeader::decode(&bytes), Err(StreamHeaderError::Tlv));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let _ = StreamHeader::decode(&bytes);
        let mut prefixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        prefixed.extend(&bytes);
        let _ = StreamHeader::decode(&prefixed);
        let _ = Presence::verify(&text, NOW);
        let _ = tunnler_protocol::control::ToClient::parse(&text);
        let _ = tunnler_protocol::control::ToRelay::parse(&text);
        let _ = tunnler_protocol::feed::Message::parse(&text);
        let _ = text.parse::<tunnler_protocol::HostName>();
    }
}
