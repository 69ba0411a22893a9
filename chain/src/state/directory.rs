//! A directory as bytes, so that a large one is served a moment after the start. Keys were checked before they were
//! written, which would take longer than all the rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::Address;
use tunnler_protocol::directory::{AcmeIdentity, Directory, Heartbeat, NameRecord, Relay, RelayStatus};
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use super::bytes::{Cursor, invalid, put_count, put_maybe, put_text};

/// Fewer bytes than any name or relay takes.
const LEAST: usize = 32;
const STATUSES: [RelayStatus; 4] =
    [RelayStatus::Active, RelayStatus::Draining, RelayStatus::Unbonding, RelayStatus::Delisted];

/// All of `directory` but its ledger, which is told with it.
pub(super) fn encode(directory: &Directory) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(192 * (directory.names.len() + directory.relays.len()) + 4096);
    out.extend(directory.registry_revision.to_be_bytes());
    out.extend(directory.namespace_revision.to_be_bytes());
    out.extend(directory.heartbeat_ttl.as_secs().to_be_bytes());
    put_text(&serde_json::to_string(&directory.zone)?, &mut out);
    put_count(directory.relays.len(), &mut out);
    directory.relays.values().for_each(|relay| put_relay(relay, &mut out));
    put_count(directory.names.len(), &mut out);
    directory.names.values().for_each(|name| put_name(name, &mut out));
    Ok(out)
}

/// The directory at `ledger`.
pub(super) fn decode(bytes: &[u8], ledger: LedgerTime) -> io::Result<Directory> {
    let mut bytes = Cursor(bytes);
    let (registry_revision, namespace_revision) = (bytes.long()?, bytes.long()?);
    let heartbeat_ttl = Duration::from_secs(bytes.long()?);
    let zone = serde_json::from_str(bytes.text()?)?;
    let relays = bytes.list(LEAST, relay)?;
    let names = bytes.list(LEAST, |bytes| name(bytes).map(|name| (name.label.clone(), Arc::new(name))))?;
    Ok(Directory {
        ledger,
        registry_revision,
        namespace_revision,
        relays: relays.into_iter().map(|relay| (relay.address, Arc::new(relay))).collect(),
        names: names.into_iter().collect(),
        heartbeat_ttl,
        zone,
    })
}

fn put_relay(relay: &Relay, out: &mut Vec<u8>) {
    out.extend(relay.address.as_bytes());
    put_text(&relay.operator, out);
    put_maybe(relay.host.as_ref(), out, |host, out| put_text(host.as_str(), out));
    out.extend(relay.control_port.to_be_bytes());
    out.extend(relay.ingress_port.to_be_bytes());
    put_maybe(relay.ipv4, out, |address, out| out.extend(address.octets()));
    put_maybe(relay.ipv6, out, |address, out| out.extend(address.octets()));
    put_text(&relay.region, out);
    out.extend(relay.capacity.to_be_bytes());
    put_maybe(relay.acme.as_ref(), out, |acme, out| {
        put_text(&acme.issuer, out);
        put_text(&acme.account, out);
    });
    let status = STATUSES.iter().position(|status| *status == relay.status).expect("one of them");
    out.push(u8::try_from(status).expect("one of four"));
    put_maybe(relay.heartbeat, out, |beat, out| {
        out.extend(beat.at.0.to_be_bytes());
        out.extend(beat.load.to_be_bytes());
    });
    out.extend(relay.registered_at.0.to_be_bytes());
}

fn relay(bytes: &mut Cursor) -> io::Result<Relay> {
    Ok(Relay {
        address: address(bytes)?,
        operator: bytes.text()?.to_owned(),
        host: bytes.maybe(|bytes| bytes.text()?.parse().map_err(invalid))?,
        control_port: bytes.array().map(u16::from_be_bytes)?,
        ingress_port: bytes.array().map(u16::from_be_bytes)?,
        ipv4: bytes.maybe(|bytes| bytes.array::<4>().map(Into::into))?,
        ipv6: bytes.maybe(|bytes| bytes.array::<16>().map(Into::into))?,
        region: bytes.text()?.to_owned(),
        capacity: bytes.number()?,
        acme: bytes.maybe(|bytes| {
            Ok(AcmeIdentity { issuer: bytes.text()?.to_owned(), account: bytes.text()?.to_owned() })
        })?,
        status: *STATUSES.get(usize::from(bytes.byte()?)).ok_or_else(|| invalid("unknown status"))?,
        heartbeat: bytes
            .maybe(|bytes| Ok(Heartbeat { at: UnixSeconds(bytes.long()?), load: bytes.number()? }))?,
        registered_at: UnixSeconds(bytes.long()?),
    })
}

fn put_name(name: &NameRecord, out: &mut Vec<u8>) {
    put_text(name.label.as_str(), out);
    put_text(&name.owner, out);
    put_maybe(name.target, out, |target, out| out.extend(target.as_bytes()));
    put_count(name.relays.len(), out);
    name.relays.iter().for_each(|relay| out.extend(relay.as_bytes()));
    put_count(name.domains.len(), out);
    name.domains.iter().for_each(|domain| put_text(domain.as_str(), out));
    out.extend(name.registered_at.0.to_be_bytes());
    out.extend(name.expires_at.0.to_be_bytes());
    out.extend(name.grace.as_secs().to_be_bytes());
    out.push(u8::from(name.suspended));
    out.extend(name.serial.to_be_bytes());
}

fn name(bytes: &mut Cursor) -> io::Result<NameRecord> {
    Ok(NameRecord {
        label: bytes.text()?.parse().map_err(invalid)?,
        owner: bytes.text()?.to_owned(),
        target: bytes.maybe(address)?,
        relays: bytes.list(LEAST, address)?,
        domains: bytes.list(4, |bytes| bytes.text()?.parse().map_err(invalid))?,
        registered_at: UnixSeconds(bytes.long()?),
        expires_at: UnixSeconds(bytes.long()?),
        grace: Duration::from_secs(bytes.long()?),
        suspended: bytes.byte()? != 0,
        serial: bytes.long()?,
    })
}

fn address(bytes: &mut Cursor) -> io::Result<Address> {
    bytes.array().map(Address::from_checked_bytes)
}
