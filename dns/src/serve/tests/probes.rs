//! Raw packets after RFC 8906, section 8, and what abuse may not get.

use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use tokio::net::UdpSocket;

use super::*;
use crate::dnssec::Fresh;
use crate::serve::responder::Outcome;

fn query(owner: &str, wanted: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(owner).unwrap(), wanted));
    message
}

fn with_edns(mut message: Message, change: impl FnOnce(&mut Edns)) -> Message {
    let mut edns = Edns::new();
    change(&mut edns);
    message.set_edns(edns);
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn responder(keys: ZoneKeys) -> Responder {
    let shared = Arc::new(ArcSwap::from_pointee(fixture::showcase(clock::unix_now(), keys)));
    Responder::new(shared, Rate::Unlimited)
}

/// The answer over UDP, parsed strictly: nothing may follow the message.
fn ask(responder: &Responder, packet: &[u8]) -> Option<Message> {
    match responder.udp(packet, Fresh::Made) {
        Outcome::Send(answer) => {
            let message = Message::from_vec(&answer).expect("answers parse");
            assert_eq!(message.to_vec().unwrap().len(), answer.len(), "nothing follows the message");
            assert!(answer.len() <= 1232 && answer.len() <= 10 * packet.len(), "{} bytes", answer.len());
            Some(message)
        }
        Outcome::Silence => None,
        Outcome::MustSign => panic!("signing was allowed"),
    }
}

/// What is sent, and the code and number of records that come back.
type Probe = (&'static str, Vec<u8>, Option<(ResponseCode, usize)>);

const SOA: RecordType = RecordType::SOA;
const APEX: &str = "tunnel.example.";

#[test]
fn oddities_get_the_answers_of_rfc_8906() {
    use ResponseCode::{BADVERS, FormErr, NoError, NotImp, Refused};
    let plain = query(APEX, SOA);
    let raw = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = bytes(&plain);
        change(&mut packet);
        packet
    };
    let opcode = |code: u8| raw(&|packet| packet[2] = code << 3);
    let class = |class| {
        let mut message = plain.clone();
        message.queries[0].query_class = class;
        bytes(&message)
    };
    let edns = |change: &dyn Fn(&mut Edns)| bytes(&with_edns(plain.clone(), |edns| change(edns)));
    let mut two_opts = edns(&|_| {});
    let opt = two_opts[two_opts.len() - 11..].to_vec();
    two_opts.extend_from_slice(&opt);
    two_opts[11] = 2;
    // Option 100, which nobody has defined, with four bytes.
    let mut unknown_option = edns(&|_| {});
    let length = unknown_option.len();
    unknown_option[length - 1] = 8;
    unknown_option.extend_from_slice(&[0, 100, 0, 4, 1, 2, 3, 4]);
    let table: Vec<Probe> = vec![
        ("plain", bytes(&plain), Some((NoError, 1))),
        ("unknown type", bytes(&query(APEX, RecordType::Unknown(1000))), Some((NoError, 0))),
        ("reserved header bit", raw(&|packet| packet[3] |= 0x40), Some((NoError, 1))),
        ("AD", raw(&|packet| packet[3] |= 0x20), Some((NoError, 1))),
        ("CD", raw(&|packet| packet[3] |= 0x10), Some((NoError, 1))),
        ("RD", raw(&|packet| packet[2] |= 1), Some((NoError, 1))),
        ("opcode 15", opcode(15), Some((NotImp, 0))),
        ("IQUERY", opcode(1), Some((NotImp, 0))),
        ("STATUS", opcode(2), Some((NotImp, 0))),
        ("NOTIFY", opcode(4), Some((Refused, 0))),
        ("UPDATE", opcode(5), Some((Refused, 0))),
        ("EDNS", edns(&|_| {}), Some((NoError, 1))),
        (
            "EDNS 1",
            edns(&|edns| {
                edns.set_version(1);
            }),
            Some((BADVERS, 0)),
        ),
        ("EDNS flag", edns(&|edns| edns.flags_mut().z = 0x40), Some((NoError, 1))),
        ("EDNS option", unknown_option, Some((NoError, 1))),
        ("two OPT", two_opts, Some((FormErr, 0))),
        ("CHAOS", class(DNSClass::CH), Some((Refused, 0))),
        ("class ANY", class(DNSClass::ANY), Some((Refused, 0))),
        ("AXFR", bytes(&query(APEX, RecordType::AXFR)), Some((Refused, 0))),
        ("IXFR", bytes(&query(APEX, RecordType::IXFR)), Some((Refused, 0))),
        ("ANY", bytes(&query(APEX, RecordType::ANY)), Some((NoError, 1))),
        ("NXNAME", bytes(&query(APEX, RecordType::Unknown(128))), Some((FormErr, 0))),
        ("out of zone", bytes(&query("example.org.", SOA)), Some((Refused, 0))),
        ("root", bytes(&query(".", RecordType::NS)), Some((Refused, 0))),
        (
            "no question",
            raw(&|packet| {
                packet.truncate(12);
                packet[5] = 0;
            }),
            Some((FormErr, 0)),
        ),
        ("two questions", raw(&|packet| packet[5] = 2), Some((FormErr, 0))),
        ("an answer in a query", raw(&|packet| packet[7] = 1), Some((FormErr, 0))),
        ("many additionals", raw(&|packet| packet[10] = 0xff), Some((FormErr, 0))),
        ("cut short", raw(&|packet| packet.truncate(20)), Some((FormErr, 0))),
        ("trailing bytes", raw(&|packet| packet.push(0)), Some((FormErr, 0))),
        ("header cut short", raw(&|packet| packet.truncate(11)), None),
        ("a response", raw(&|packet| packet[2] |= 0x80), None),
        ("nothing", Vec::new(), None),
    ];
    let responder = responder(ZoneKeys::default());
    for (what, packet, expected) in table {
        let answer = ask(&responder, &packet);
        let code = |code: ResponseCode| u16::from(code);
        let got = answer.as_ref().map(|answer| (code(answer.metadata.response_code), answer.answers.len()));
        let expected = expected.map(|(expected, records)| (code(expected), records));
        assert_eq!(got, expected, "{what}");
        let Some(answer) = answer else { continue };
        assert_eq!(answer.metadata.id, 0x1234, "{what}");
        assert!(
            answer.metadata.message_type == MessageType::Response && !answer.metadata.recursion_available
        );
        if what.starts_with("EDNS") {
            let edns = answer.edns.as_ref().expect("EDNS is answered with EDNS");
            assert_eq!((edns.version(), edns.flags().z, edns.options().options.len()), (0, 0, 0), "{what}");
        } else {
            assert!(answer.edns.is_none(), "{what}: EDNS only for those who speak it");
        }
        if what == "RD" || what == "CD" {
            assert!(
                answer.metadata.recursion_desired || answer.metadata.checking_disabled,
                "{what} is echoed"
            );
        }
    }
}

#[test]
fn no_answer_outgrows_1232_bytes_or_ten_times_its_question() {
    let responder = responder(ZoneKeys::ephemeral());
    let mut truncated = 0;
    for owner in
        [APEX, "mynode.tunnel.example.", "_acme-challenge.mynode.tunnel.example.", "x.tunnel.example."]
    {
        for wanted in (0..=300).map(RecordType::from) {
            for payload in [0, 512, 1232, 4096, 65_535] {
                for dnssec_ok in [false, true] {
                    let message = with_edns(query(owner, wanted), |edns| {
                        edns.set_dnssec_ok(dnssec_ok);
                        edns.set_max_payload(payload);
                    });
                    let answer = ask(&responder, &bytes(&message)).unwrap();
                    if answer.metadata.truncation {
                        truncated += 1;
                        assert_eq!(answer.queries.len(), 1);
                        assert!(
                            answer.edns.is_some()
                                && answer.answers.is_empty()
                                && answer.authorities.is_empty()
                        );
                    }
                }
            }
        }
    }
    assert!(truncated > 0, "the table must contain something that does not fit");
}

#[test]
fn a_name_that_is_not_there_is_told_to_each_asker_as_it_understands() {
    let responder = responder(ZoneKeys::ephemeral());
    let code = |change: &dyn Fn(&mut Edns)| {
        let packet = bytes(&with_edns(query("nobody.tunnel.example.", RecordType::A), |edns| change(edns)));
        let answer = ask(&responder, &packet).unwrap();
        (answer.metadata.response_code, answer.authorities.len())
    };
    assert_eq!(code(&|_| {}), (ResponseCode::NXDomain, 1));
    assert_eq!(
        code(&|edns| {
            edns.set_dnssec_ok(true);
        }),
        (ResponseCode::NoError, 4)
    );
    let compact_ok = code(&|edns| {
        edns.set_dnssec_ok(true);
        edns.flags_mut().z = 0x4000;
    });
    assert_eq!(compact_ok, (ResponseCode::NXDomain, 4));
}

#[test]
fn what_was_signed_once_is_not_signed_again() {
    let responder = responder(ZoneKeys::ephemeral());
    let signed = |owner: &str, fresh| {
        let message = with_edns(query(owner, RecordType::A), |edns| {
            edns.set_dnssec_ok(true);
        });
        matches!(responder.udp(&bytes(&message), fresh), Outcome::Send(_))
    };
    assert!(!signed("mynode.tunnel.example.", Fresh::Remembered));
    assert!(signed("mynode.tunnel.example.", Fresh::Made));
    // Whatever the order of addresses and the case of the name.
    for owner in ["mynode.tunnel.example.", "mynode.tunnel.example.", "MyNoDe.tunnel.EXAMPLE."] {
        assert!(signed(owner, Fresh::Remembered), "{owner}");
    }
    assert!(signed("x.tunnel.example.", Fresh::Made));
    assert!(signed("X.tunnel.example.", Fresh::Remembered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_names_cannot_buy_signatures_and_cached_answers_go_on() {
    let served = serve(ZoneKeys::ephemeral(), Rate::Unlimited).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(served.address).await.unwrap();
    let exchange = async |message: &Message| {
        let mut buffer = [0; 2048];
        socket.send(&bytes(message)).await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await;
        Message::from_vec(&buffer[..received.expect("an answer").unwrap()]).unwrap()
    };
    let secure = |owner: &str| {
        with_edns(query(owner, RecordType::A), |edns| {
            edns.set_dnssec_ok(true);
        })
    };
    assert!(!exchange(&secure("mynode.tunnel.example.")).await.metadata.truncation);
    let (mut bought, start) = (0, Instant::now());
    for n in 0..600 {
        let answer = exchange(&secure(&format!("random{n}.tunnel.example."))).await;
        bought += u32::from(!answer.metadata.truncation);
    }
    // A second's worth at once, and then what time brings.
    let most = 102.0 + 100.0 * start.elapsed().as_secs_f64();
    assert!(f64::from(bought) <= most, "{bought} signatures for 600 names, at most {most}");
    assert!(!exchange(&secure("mynode.tunnel.example.")).await.metadata.truncation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_over_the_rate_is_sent_to_tcp() {
    let served = serve(ZoneKeys::default(), Rate::PerSecond(10)).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(served.address).await.unwrap();
    let start = Instant::now();
    for _ in 0..60 {
        socket.send(&bytes(&query(APEX, SOA))).await.unwrap();
    }
    let (mut whole, mut truncated, mut buffer) = (0, 0, [0; 2048]);
    while let Ok(received) = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await
    {
        let message = Message::from_vec(&buffer[..received.unwrap()]).unwrap();
        if message.metadata.truncation { truncated += 1 } else { whole += 1 }
    }
    let most = 12.0 + 10.0 * start.elapsed().as_secs_f64();
    assert!(whole >= 10 && f64::from(whole) <= most, "{whole} answered, at most {most}");
    let over: i32 = 60 - whole;
    assert!((over / 2 - 1..=over / 2 + 1).contains(&truncated), "{truncated} of {over} truncated");
}
