//! Leases as JSON, in both dialects (ha-protocol 3.0).
//!
//! *Replication* (`lease4-update`, `lease4-del`) has `expire` and no `cltt`; *listing* (`lease4-get*`) has
//! `cltt` and no `expire`. Writing appends to a buffer and allocates nothing else: `lease4-update` is on the
//! commit path.

use std::io::Write;
use std::net::Ipv4Addr;

use serde_json::Value;
use shards::{Lease, LeaseState};

use super::command::{Envelope, Reply, result};
use super::json;
use super::lease_fields::{Field, Members, Problem, malformed};
use super::lease_rows;
use crate::engine::message::UpdateKind;
use crate::policy::Snapshot;

/// What a listed lease looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listing {
    /// As stored.
    AsStored,
    /// For a partner that does not know state 3: a released lease is listed as expired (ha-protocol 6.4).
    WithoutReleased,
}

/// Appends `lease` in the listing dialect.
pub fn write_listing(lease: &Lease, listing: Listing, output: &mut Vec<u8>) {
    write_lease(lease, Shape::Listing(listing), output);
}

/// `lease` in the listing dialect, as a value of [`json`].
pub fn listing_value(lease: &Lease) -> Value {
    let mut text = Vec::new();
    write_listing(lease, Listing::AsStored, &mut text);
    // The writer emits JSON of this dialect by construction; null would be visible, not silent.
    json::decode(&text).unwrap_or(Value::Null)
}

/// Appends the body of a `lease4-update` or `lease4-del` request in the dialect of release 3.0.
pub fn write_update_request(kind: UpdateKind, lease: &Lease, output: &mut Vec<u8>) {
    output.extend_from_slice(b"{ \"arguments\": ");
    write_lease(lease, Shape::Replication(kind), output);
    let command: &[u8] = match kind {
        UpdateKind::Delete => b", \"command\": \"lease4-del\"",
        UpdateKind::Update => b", \"command\": \"lease4-update\"",
    };
    output.extend_from_slice(command);
    output.extend_from_slice(b", \"service\": [ \"dhcp4\" ] }");
}

/// Appends the whole HTTP body that answers `lease4-get-page`. `arguments.leases` is always there: without it
/// a Kea process dies (ha-protocol 0.3 rule 3).
pub fn write_page_reply<'a>(
    leases: impl ExactSizeIterator<Item = &'a Lease>,
    listing: Listing,
    output: &mut Vec<u8>,
) {
    let count = leases.len();
    output.extend_from_slice(b"[ { \"arguments\": { \"count\": ");
    write_number(count as u64, output);
    output.extend_from_slice(b", \"leases\": [ ");
    for (index, lease) in leases.enumerate() {
        if index > 0 {
            output.extend_from_slice(b", ");
        }
        write_listing(lease, listing, output);
    }
    let code = if count == 0 { result::EMPTY } else { result::SUCCESS };
    output.extend_from_slice(b" ] }, \"result\": ");
    write_number(code.unsigned_abs(), output);
    output.extend_from_slice(b", \"text\": \"");
    write_number(count as u64, output);
    output.extend_from_slice(b" IPv4 lease(s) found.\" } ]");
}

#[derive(Clone, Copy)]
enum Shape {
    Listing(Listing),
    Replication(UpdateKind),
}

/// Keys in alphabetical order, as Kea emits them.
fn write_lease(lease: &Lease, shape: Shape, output: &mut Vec<u8>) {
    let released = lease.state == LeaseState::Released;
    // Where state 3 is not understood, a released lease is an expired one; a deletion never needs to say it.
    let (state, valid_lifetime) = match shape {
        Shape::Listing(Listing::WithoutReleased) if released => (LeaseState::Default, 0),
        Shape::Replication(UpdateKind::Delete) if released => (LeaseState::Default, lease.valid_lifetime),
        Shape::Listing(_) | Shape::Replication(_) => (lease.state, lease.valid_lifetime),
    };
    output.extend_from_slice(b"{ ");
    if !lease.client_id.is_empty() {
        output.extend_from_slice(b"\"client-id\": ");
        write_hex(&lease.client_id, output);
        output.extend_from_slice(b", ");
    }
    match shape {
        Shape::Listing(_) => {
            output.extend_from_slice(b"\"cltt\": ");
            write_number(lease.cltt, output);
        }
        Shape::Replication(kind) => {
            output.extend_from_slice(b"\"expire\": ");
            write_number(lease.expire(), output);
            if kind == UpdateKind::Update {
                output.extend_from_slice(b", \"force-create\": true");
            }
        }
    }
    output.extend_from_slice(b", \"fqdn-fwd\": ");
    write_bool(lease.fqdn_fwd, output);
    output.extend_from_slice(b", \"fqdn-rev\": ");
    write_bool(lease.fqdn_rev, output);
    output.extend_from_slice(b", \"hostname\": ");
    json::encode_octets(&lease.hostname, output);
    output.extend_from_slice(b", \"hw-address\": ");
    write_hex(&lease.hwaddr, output);
    output.extend_from_slice(b", \"ip-address\": \"");
    for (index, octet) in lease.address.octets().into_iter().enumerate() {
        if index > 0 {
            output.push(b'.');
        }
        write_number(u64::from(octet), output);
    }
    output.push(b'"');
    if matches!(shape, Shape::Replication(_)) {
        output.extend_from_slice(b", \"origin\": \"ha-partner\"");
    }
    if lease.pool_id != 0 {
        output.extend_from_slice(b", \"pool-id\": ");
        write_number(u64::from(lease.pool_id), output);
    }
    output.extend_from_slice(b", \"state\": ");
    write_number(u64::from(state as u8), output);
    output.extend_from_slice(b", \"subnet-id\": ");
    write_number(u64::from(lease.subnet_id), output);
    if let Some(context) = &lease.user_context {
        write_user_context(context, output);
    }
    output.extend_from_slice(b", \"valid-lft\": ");
    write_number(u64::from(valid_lifetime), output);
    output.extend_from_slice(b" }");
}

/// A context that is no JSON map is left out.
fn write_user_context(context: &[u8], output: &mut Vec<u8>) {
    if !lease_rows::is_map(context) {
        return;
    }
    output.extend_from_slice(b", \"user-context\": ");
    for octet in context {
        match octet {
            // Bytes above ASCII can only be inside strings of a valid text.
            0x7f..=0xff => {
                let _ = write!(output, "\\u00{octet:02x}");
            }
            b'\n' | b'\r' => output.push(b' '),
            _ => output.push(*octet),
        }
    }
}

/// By hand: a lease has nine of them, and formatting costs half of writing it.
fn write_number(mut number: u64, output: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return output.extend_from_slice(&digits[at..]);
        }
    }
}

fn write_bool(value: bool, output: &mut Vec<u8>) {
    let text: &[u8] = if value { b"true" } else { b"false" };
    output.extend_from_slice(text);
}

/// Hexadecimal pairs with colons, quoted.
fn write_hex(octets: &[u8], output: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    output.push(b'"');
    for (index, octet) in octets.iter().enumerate() {
        if index > 0 {
            output.push(b':');
        }
        output.push(DIGITS[usize::from(octet >> 4)]);
        output.push(DIGITS[usize::from(octet & 15)]);
    }
    output.push(b'"');
}

/// What the receiver of an update must know of subnets.
pub trait SubnetDirectory {
    /// Default lifetime in seconds of subnet `id`, and whether `address` lies in it; `None` for an unknown
    /// id.
    fn subnet(&self, id: u32, address: Ipv4Addr) -> Option<(u32, bool)>;
    /// Id of a subnet that contains `address`.
    fn subnet_of(&self, address: Ipv4Addr) -> Option<u32>;
    /// Prefix of subnet `id`, as text for people.
    fn prefix(&self, id: u32) -> String;
}

impl SubnetDirectory for Snapshot {
    fn subnet(&self, id: u32, address: Ipv4Addr) -> Option<(u32, bool)> {
        let subnet = self.subnets.with_id(id)?;
        Some((subnet.valid_lifetime.default_s, subnet.contains(address)))
    }

    fn subnet_of(&self, address: Ipv4Addr) -> Option<u32> {
        self.subnets.containing_for_any(address).map(|subnet| subnet.id)
    }

    fn prefix(&self, id: u32) -> String {
        self.subnets
            .with_id(id)
            .map_or_else(String::new, |subnet| format!("{}/{}", subnet.prefix, subnet.prefix_len))
    }
}

/// A partner's `lease4-update`, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseUpdate {
    /// The lease to store.
    pub lease: Lease,
    /// Create it where it is missing.
    pub force_create: bool,
    /// It has what every partner sends and hardly an administrator: `force-create`, and `expire`. Through a control
    /// agent both come the same way.
    pub replicates: bool,
}

impl LeaseUpdate {
    /// Reads the arguments of `lease4-update` received at `wall_s`. The error is the answer: 1 for a
    /// malformed field, 4 for a conflict with the configuration (ha-protocol 3.5).
    pub fn parse(envelope: &Envelope, wall_s: u64, subnets: &dyn SubnetDirectory) -> Result<Self, Reply> {
        let fields = members_of(envelope)?;
        Self::read(&fields, wall_s, subnets).map_err(|problem| match problem {
            Problem::Conflict(text) => Reply::new(result::CONFLICT, text),
            Problem::Malformed(text) => Reply::error(text),
        })
    }

    fn read(fields: &Members<'_>, wall_s: u64, subnets: &dyn SubnetDirectory) -> Result<Self, Problem> {
        let address = fields.address()?;
        let subnet_id = fields.integer(Field::SubnetId, 0..=u64::from(u32::MAX))?;
        let hwaddr = fields.hwaddr()?;
        let subnet_id = match subnet_id {
            Some(id @ 1..) => id as u32,
            // No subnet has the number 0.
            Some(0) | None => subnets.subnet_of(address).ok_or_else(|| {
                Problem::Conflict(format!(
                    "subnet-id not specified and failed to find a subnet for address {address}"
                ))
            })?,
        };
        let (default_lifetime, inside) = subnets.subnet(subnet_id, address).ok_or_else(|| {
            Problem::Conflict(format!(
                "Invalid subnet-id: No IPv4 subnet with subnet-id={subnet_id} currently configured."
            ))
        })?;
        if !inside {
            return Err(Problem::Conflict(other_subnet(address, subnet_id, subnets)));
        }
        let valid_lifetime = fields
            .integer(Field::ValidLft, 0..=u64::from(u32::MAX))?
            .map_or(default_lifetime, |lifetime| lifetime as u32);
        let cltt = match fields.expire(address)? {
            None => wall_s,
            Some(expire) => expire.checked_sub(u64::from(valid_lifetime)).ok_or_else(|| {
                malformed(format!(
                    "expiration time must be greater than valid lifetime for address {address}"
                ))
            })?,
        };
        let lease = Lease {
            address,
            subnet_id,
            pool_id: fields.integer(Field::PoolId, 0..=u64::from(u32::MAX))?.unwrap_or(0) as u32,
            hwaddr,
            client_id: fields.client_id()?,
            valid_lifetime,
            // No listing and no row may say 0 (ha-protocol 3.0).
            cltt: cltt.max(1),
            state: fields.state()?.unwrap_or_default(),
            fqdn_fwd: fields.boolean(Field::FqdnFwd)?.unwrap_or(false),
            fqdn_rev: fields.boolean(Field::FqdnRev)?.unwrap_or(false),
            hostname: fields.hostname()?.unwrap_or_default(),
            user_context: fields.user_context()?,
        };
        if lease.hostname.is_empty() && (lease.fqdn_fwd || lease.fqdn_rev) {
            return Err(malformed(
                "No hostname specified and either forward or reverse fqdn was set to true.".into(),
            ));
        }
        require_identity(&lease)?;
        let force_create = fields.boolean(Field::ForceCreate)?.unwrap_or(false);
        let replicates = force_create && fields.integer(Field::Expire, 1..=i64::MAX as u64)?.is_some();
        Ok(Self { lease, force_create, replicates })
    }

    /// The lease that a partner's `lease4-del` was sent of, as it had it. Nothing where the command says less: the address
    /// alone counts then (ha-protocol 3.6).
    pub fn deleted(envelope: &Envelope, wall_s: u64, subnets: &dyn SubnetDirectory) -> Option<Lease> {
        let fields = members_of(envelope).ok()?;
        fields.integer(Field::Expire, 1..=i64::MAX as u64).ok()??;
        Self::read(&fields, wall_s, subnets).ok().map(|update| update.lease)
    }
}

/// What `lease4-update` checks of a lease beyond its own fields, for one that came another way (ha-protocol 3.5).
///
/// # Errors
/// The answer to give.
pub fn check_placed(lease: &Lease, subnets: &dyn SubnetDirectory) -> Result<(), Reply> {
    let (address, subnet_id) = (lease.address, lease.subnet_id);
    let problem = match subnets.subnet(subnet_id, address) {
        Some((_, true)) => return Ok(()),
        Some((_, false)) => other_subnet(address, subnet_id, subnets),
        None => {
            format!("Invalid subnet-id: No IPv4 subnet with subnet-id={subnet_id} currently configured.")
        }
    };
    Err(Reply::new(result::CONFLICT, problem))
}

fn other_subnet(address: Ipv4Addr, subnet_id: u32, subnets: &dyn SubnetDirectory) -> String {
    format!(
        "The address {address} does not belong to subnet {}, subnet-id={subnet_id}",
        subnets.prefix(subnet_id)
    )
}

/// The members of the lease that a command is about.
fn members_of(envelope: &Envelope) -> Result<Members<'_>, Reply> {
    match &envelope.arguments {
        Some(Value::Object(members)) => Ok(Members::of(members)),
        None if envelope.command == "lease4-add" => {
            Err(Reply::error("no parameters specified for the command"))
        }
        None => Err(Reply::error(format!("no parameters specified for {} command", envelope.command))),
        Some(_) => Err(Reply::error("Parameters missing or are not a map.")),
    }
}

/// Only a declined lease may belong to nobody. A reclaimed or released one was somebody's.
pub(super) fn require_identity(lease: &Lease) -> Result<(), Problem> {
    let nobody = lease.hwaddr.is_empty() && lease.client_id.is_empty();
    if nobody && lease.state != LeaseState::Declined {
        let state = match lease.state {
            LeaseState::Declined => "declined",
            LeaseState::Default => "default",
            LeaseState::ExpiredReclaimed => "expired-reclaimed",
            LeaseState::Released => "released",
        };
        return Err(malformed(format!(
            "Lease4: {}, state: {state} has neither hardware address or client id",
            lease.address
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shards::SmallBytes;

    use super::super::lease_page::Page;
    use super::*;

    /// Subnet 1 is 10.99.1.0/24 with a lifetime of 600 s.
    struct OneSubnet;

    impl SubnetDirectory for OneSubnet {
        fn subnet(&self, id: u32, address: Ipv4Addr) -> Option<(u32, bool)> {
            (id == 1).then(|| (600, address.octets()[..3] == [10, 99, 1]))
        }

        fn subnet_of(&self, address: Ipv4Addr) -> Option<u32> {
            (address.octets()[..3] == [10, 99, 1]).then_some(1)
        }

        fn prefix(&self, _: u32) -> String {
            "10.99.1.0/24".into()
        }
    }

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 99, 1, 1),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 2]),
            client_id: SmallBytes::new(&[1, 2, 0, 0, 0, 0, 2]),
            valid_lifetime: 600,
            cltt: 1_795_334_552,
            state: LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::new(b"myhost"),
            user_context: None,
        }
    }

    fn request(kind: UpdateKind, lease: &Lease) -> String {
        let mut output = Vec::new();
        write_update_request(kind, lease, &mut output);
        String::from_utf8(output).unwrap()
    }

    fn update(body: &str) -> Result<LeaseUpdate, Reply> {
        LeaseUpdate::parse(&Envelope::parse(body.as_bytes()).unwrap(), 1_000_000, &OneSubnet)
    }

    #[test]
    fn updates_and_deletions_are_the_requests_kea_sends() {
        assert_eq!(
            request(UpdateKind::Update, &lease()),
            r#"{ "arguments": { "client-id": "01:02:00:00:00:00:02", "expire": 1795335152, "force-create": true, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "myhost", "hw-address": "02:00:00:00:00:02", "ip-address": "10.99.1.1", "origin": "ha-partner", "state": 0, "subnet-id": 1, "valid-lft": 600 }, "command": "lease4-update", "service": [ "dhcp4" ] }"#
        );
        let declined = Lease {
            hwaddr: SmallBytes::empty(),
            client_id: SmallBytes::empty(),
            hostname: SmallBytes::empty(),
            state: LeaseState::Declined,
            pool_id: 9,
            ..lease()
        };
        assert_eq!(
            request(UpdateKind::Delete, &declined),
            r#"{ "arguments": { "expire": 1795335152, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "", "hw-address": "", "ip-address": "10.99.1.1", "origin": "ha-partner", "pool-id": 9, "state": 1, "subnet-id": 1, "valid-lft": 600 }, "command": "lease4-del", "service": [ "dhcp4" ] }"#
        );
    }

    #[test]
    fn a_page_is_the_answer_kea_gives() {
        let page = |leases: &[Lease], listing| {
            let mut output = Vec::new();
            write_page_reply(leases.iter(), listing, &mut output);
            String::from_utf8(output).unwrap()
        };
        assert_eq!(
            page(&[], Listing::AsStored),
            r#"[ { "arguments": { "count": 0, "leases": [  ] }, "result": 3, "text": "0 IPv4 lease(s) found." } ]"#
        );
        let released = Lease { state: LeaseState::Released, client_id: SmallBytes::empty(), ..lease() };
        let one = |state, lifetime| {
            format!(
                r#"[ {{ "arguments": {{ "count": 1, "leases": [ {{ "cltt": 1795334552, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "myhost", "hw-address": "02:00:00:00:00:02", "ip-address": "10.99.1.1", "state": {state}, "subnet-id": 1, "valid-lft": {lifetime} }} ] }}, "result": 0, "text": "1 IPv4 lease(s) found." }} ]"#
            )
        };
        assert_eq!(page(std::slice::from_ref(&released), Listing::AsStored), one(3, 600));
        assert_eq!(
            page(&[released], Listing::WithoutReleased),
            one(0, 0),
            "6.4: expired for an older partner"
        );
    }

    #[test]
    fn byte_strings_and_contexts_come_back_unchanged() {
        let mut sent = lease();
        sent.hostname = SmallBytes::new(b"\xc3\xa9\"x");
        sent.user_context = Some(br#"{ "ISC": { "a": "\"\u00c3" } }"#.to_vec().into_boxed_slice());
        sent.valid_lifetime = shards::partition::lease::INFINITE_LIFETIME;
        let text = request(UpdateKind::Update, &sent);
        assert!(text.is_ascii() && text.contains(r"\u00c3\u00a9\"));
        assert_eq!(update(&text), Ok(LeaseUpdate { lease: sent, force_create: true, replicates: true }));
    }

    #[test]
    fn a_context_that_is_no_map_is_left_out() {
        for context in [&b"{"[..], b"[1]", b"{} x", b"", b"\xff"] {
            let broken = Lease { user_context: Some(context.into()), ..lease() };
            assert_eq!(request(UpdateKind::Update, &broken), request(UpdateKind::Update, &lease()));
        }
        let raw = Lease { user_context: Some(b"{ \"a\": \"\xe9\" }".to_vec().into()), ..lease() };
        assert!(request(UpdateKind::Update, &raw).contains(r#""user-context": { "a": "\u00e9" }"#));
    }

    /// D4 and 3.0: (what is changed in a good update, result code, or `None` where it is taken).
    #[test]
    fn updates_are_checked_field_by_field() {
        let good = request(UpdateKind::Update, &lease());
        for (from, to, result) in [
            ("", "", None),
            (r#""state": 0"#, r#""state": 3"#, None),
            (r#""state": 0"#, r#""state": 4"#, Some(1)),
            (r#""state": 0"#, r#""state": 9"#, Some(1)),
            (r#""hw-address": "02:00:00:00:00:02", "#, "", Some(1)),
            (r#""02:00:00:00:00:02""#, r#""2:0:0:0:0:F""#, None),
            (r#""02:00:00:00:00:02""#, r#""02-00-00-00-00-02""#, Some(1)),
            (r#""02:00:00:00:00:02""#, r#""""#, None),
            (r#""01:02:00:00:00:00:02""#, r#""0102""#, None),
            (r#""01:02:00:00:00:00:02""#, r#""01""#, Some(1)),
            (r#""01:02:00:00:00:00:02""#, r#""""#, Some(1)),
            (r#""expire": 1795335152"#, r#""expire": 0"#, Some(1)),
            (r#""expire": 1795335152"#, r#""expire": 599"#, Some(1)),
            (r#""expire": 1795335152"#, r#""expire": 601"#, None),
            (r#""expire": 1795335152"#, r#""expire": 1.5"#, Some(1)),
            (r#""expire": 1795335152, "#, "", None),
            (r#""subnet-id": 1"#, r#""subnet-id": 7"#, Some(4)),
            (r#""subnet-id": 1, "#, "", None),
            (r#""10.99.1.1""#, r#""10.98.1.1""#, Some(4)),
            (r#""10.99.1.1""#, r#""::1""#, Some(1)),
            (r#""fqdn-fwd": false"#, r#""fqdn-fwd": 0"#, Some(1)),
            (r#""hostname": "myhost""#, r#""hostname": "", "user-context": []"#, Some(1)),
            (r#""fqdn-rev": false, "hostname": "myhost""#, r#""fqdn-rev": true, "hostname": """#, Some(1)),
            (r#""valid-lft": 600"#, r#""valid-lft": 4294967296"#, Some(1)),
            (r#""origin": "ha-partner""#, r#""unheard": [1]"#, None),
        ] {
            let body = good.replace(from, to);
            assert!(from.is_empty() || body != good, "{from}");
            assert_eq!(update(&body).err().map(|reply| reply.result), result, "{to}");
        }
        let nobody = good
            .replace(r#""01:02:00:00:00:00:02""#, r#""0102""#)
            .replace(r#""client-id": "0102", "#, "")
            .replace(r#""02:00:00:00:00:02""#, r#""""#);
        assert_eq!(update(&nobody).unwrap_err().result, 1);
        assert!(update(&nobody.replace(r#""state": 0"#, r#""state": 1"#)).is_ok());
        // A lease that began with the epoch could not be listed, nor copied.
        let began = update(&good.replace("1795335152", "600")).unwrap().lease;
        assert_eq!((began.cltt, began.valid_lifetime), (1, 600));
    }

    #[test]
    fn defaults_of_an_update_are_the_subnet_s_and_now() {
        let body = r#"{ "command": "lease4-update", "arguments": { "ip-address": "10.99.1.5", "hw-address": "02:00:00:00:00:05", "hostname": "UPPER.Example.", "comment": "hand made" } }"#;
        let LeaseUpdate { lease, force_create, replicates } = update(body).unwrap();
        assert_eq!(
            (lease.subnet_id, lease.valid_lifetime, lease.cltt, force_create, replicates),
            (1, 600, 1_000_000, false, false)
        );
        assert_eq!(lease.hostname.as_slice(), b"upper.example.");
        assert_eq!(lease.user_context.as_deref(), Some(&br#"{ "comment": "hand made" }"#[..]));
    }

    #[test]
    fn a_malformed_lease_of_a_page_is_skipped_and_still_moves_the_page_on() {
        let good = r#"{ "cltt": 5, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "", "hw-address": "02:00:00:00:00:06", "ip-address": "10.0.0.1", "state": 0, "subnet-id": 99, "valid-lft": 600 }"#;
        for (from, to) in [
            (r#""cltt": 5"#, r#""cltt": 0"#),
            (r#""cltt": 5, "#, ""),
            (r#""fqdn-rev": false, "#, ""),
            (r#""hostname": "", "#, ""),
            (r#""state": 0, "#, ""),
            (r#""subnet-id": 99"#, r#""subnet-id": 0"#),
            (r#""valid-lft": 600"#, r#""valid-lft": "600""#),
            (r#""state": 0"#, r#""state": 4"#),
            (r#""valid-lft": 600"#, r#""pool-id": 0, "valid-lft": 600"#),
        ] {
            let bad = good.replace(from, to).replace("10.0.0.1", "10.0.0.2");
            let body = format!(r#"[ {{ "arguments": {{ "leases": [ {good}, {bad}, 7 ] }}, "result": 0 }} ]"#);
            let page = Page::parse(body.as_bytes()).unwrap();
            assert_eq!((page.leases.len(), page.received, page.skipped.len()), (1, 3, 2), "{to}");
            assert_eq!(page.last, Some(Ipv4Addr::new(10, 0, 0, 2)), "{to}");
            assert_eq!(page.leases[0].subnet_id, 99, "an unknown subnet is not checked");
        }
        for body in [r#"[ { "result": 0 } ]"#, r#"[ { "result": 3, "arguments": { "count": 0 } } ]"#, "[]"] {
            assert!(Page::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    fn any_lease() -> impl Strategy<Value = Lease> {
        let identity =
            (proptest::collection::vec(any::<u8>(), 1..20), proptest::collection::vec(any::<u8>(), 2..40));
        (any::<u8>(), identity, any::<u32>(), 1u64..1 << 40, 0u32..4, "[a-z0-9.\\-]{0,30}").prop_map(
            |(host, (hwaddr, client_id), valid_lifetime, cltt, state, hostname)| Lease {
                address: Ipv4Addr::new(10, 99, 1, host),
                hwaddr: SmallBytes::new(&hwaddr),
                client_id: SmallBytes::new(&client_id),
                valid_lifetime,
                cltt,
                state: [
                    LeaseState::Default,
                    LeaseState::Declined,
                    LeaseState::ExpiredReclaimed,
                    LeaseState::Released,
                ][state as usize],
                hostname: SmallBytes::new(hostname.as_bytes()),
                ..lease()
            },
        )
    }

    proptest! {
        #[test]
        fn every_lease_comes_back_in_both_dialects(lease in any_lease()) {
            let sent = LeaseUpdate { lease: lease.clone(), force_create: true, replicates: true };
            prop_assert_eq!(update(&request(UpdateKind::Update, &lease)), Ok(sent));
            let mut page = Vec::new();
            write_page_reply([&lease].into_iter(), Listing::AsStored, &mut page);
            prop_assert_eq!(Page::parse(&page).unwrap().leases, [lease.clone()]);
            prop_assert_eq!(&listing_value(&lease)["ip-address"], &Value::from(lease.address.to_string()));
        }

        #[test]
        fn a_damaged_page_never_panics(lease in any_lease(), at in 0usize..400, octet in any::<u8>()) {
            let mut page = Vec::new();
            write_page_reply([&lease, &lease].into_iter(), Listing::WithoutReleased, &mut page);
            if let Some(place) = page.get_mut(at) {
                *place = octet;
            }
            let _ = Page::parse(&page);
        }
    }
}
