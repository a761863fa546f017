//! Leases as JSON, in both dialects (ha-protocol 3.0).
//!
//! *Replication* (`lease4-update`, `lease4-del`) has `expire` and no `cltt`; *listing* (`lease4-get*`) has `cltt`
//! and no `expire`. Writing appends to a buffer and allocates nothing else: `lease4-update` is on the commit path.

use std::io::Write;
use std::net::Ipv4Addr;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use shards::{Lease, LeaseState, SmallBytes};

use super::command::{Envelope, Reply, ReplyError, result};
use super::json;
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

/// Appends the whole HTTP body that answers `lease4-get-page`. `arguments.leases` is always there: without it a
/// Kea process dies (ha-protocol 0.3 rule 3).
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
    let hide_released =
        lease.state == LeaseState::Released && matches!(shape, Shape::Listing(Listing::WithoutReleased));
    let (state, valid_lifetime) =
        if hide_released { (LeaseState::Default, 0) } else { (lease.state, lease.valid_lifetime) };
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
    let [a, b, c, d] = lease.address.octets();
    let _ = write!(output, "{a}.{b}.{c}.{d}\"");
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

/// A context that is no JSON map (it came from an edited lease file) is left out: the command around it must stay
/// readable.
fn write_user_context(context: &[u8], output: &mut Vec<u8>) {
    let is_map = context.trim_ascii_start().first() == Some(&b'{');
    if !is_map || serde_json::from_slice::<IgnoredAny>(context).is_err() {
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

fn write_number(number: u64, output: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(output, "{number}");
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
    /// Default lifetime in seconds of subnet `id`, and whether `address` lies in it; `None` for an unknown id.
    fn subnet(&self, id: u32, address: Ipv4Addr) -> Option<(u32, bool)>;
    /// Id of a subnet that contains `address`.
    fn subnet_of(&self, address: Ipv4Addr) -> Option<u32>;
}

impl SubnetDirectory for Snapshot {
    fn subnet(&self, id: u32, address: Ipv4Addr) -> Option<(u32, bool)> {
        let subnet = self.subnets.iter().find(|subnet| subnet.id == id)?;
        Some((subnet.valid_lifetime.default_s, subnet.contains(address)))
    }

    fn subnet_of(&self, address: Ipv4Addr) -> Option<u32> {
        self.subnets.iter().find(|subnet| subnet.contains(address)).map(|subnet| subnet.id)
    }
}

/// A partner's `lease4-update`, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseUpdate {
    /// The lease to store.
    pub lease: Lease,
    /// Create it where it is missing.
    pub force_create: bool,
}

impl LeaseUpdate {
    /// Reads the arguments of `lease4-update` received at `wall_s`. The error is the answer: 1 for a malformed
    /// field, 4 for a conflict with the configuration (ha-protocol 3.5).
    pub fn parse(envelope: &Envelope, wall_s: u64, subnets: &dyn SubnetDirectory) -> Result<Self, Reply> {
        let fields = Fields::of_arguments(envelope)?;
        Self::read(&fields, wall_s, subnets).map_err(|problem| match problem {
            Problem::Conflict(text) => Reply::new(result::CONFLICT, text),
            Problem::Malformed(text) => Reply::error(text),
        })
    }

    fn read(fields: &Fields<'_>, wall_s: u64, subnets: &dyn SubnetDirectory) -> Result<Self, Problem> {
        let address = fields.address()?;
        let subnet_id = match fields.integer("subnet-id", 1..=u64::from(u32::MAX))? {
            Some(id) => id as u32,
            None => subnets.subnet_of(address).ok_or_else(|| {
                Problem::Conflict(format!("subnet-id not specified and no subnet for {address} found"))
            })?,
        };
        let (default_lifetime, inside) = subnets.subnet(subnet_id, address).ok_or_else(|| {
            Problem::Conflict(format!(
                "Invalid subnet-id: No IPv4 subnet with subnet-id={subnet_id} currently configured."
            ))
        })?;
        if !inside {
            return Err(Problem::Conflict(format!(
                "The address {address} does not belong to the subnet with subnet-id={subnet_id}"
            )));
        }
        let valid_lifetime = fields
            .integer("valid-lft", 0..=u64::from(u32::MAX))?
            .map_or(default_lifetime, |lifetime| lifetime as u32);
        let cltt = match fields.integer("expire", 1..=i64::MAX as u64)? {
            None => wall_s,
            Some(expire) => expire.checked_sub(u64::from(valid_lifetime)).ok_or_else(|| {
                malformed(format!(
                    "expiration time {expire} must not be lower than the valid lifetime {valid_lifetime}"
                ))
            })?,
        };
        let lease = Lease {
            address,
            subnet_id,
            pool_id: fields.integer("pool-id", 0..=u64::from(u32::MAX))?.unwrap_or(0) as u32,
            hwaddr: fields.hwaddr()?,
            client_id: fields.client_id()?,
            valid_lifetime,
            cltt,
            state: fields.state()?.unwrap_or_default(),
            fqdn_fwd: fields.boolean("fqdn-fwd")?.unwrap_or(false),
            fqdn_rev: fields.boolean("fqdn-rev")?.unwrap_or(false),
            hostname: fields.hostname()?.unwrap_or_default(),
            user_context: fields.user_context()?,
        };
        if lease.hostname.is_empty() && (lease.fqdn_fwd || lease.fqdn_rev) {
            return Err(malformed(
                "No hostname specified and either forward or reverse fqdn was set to true.".into(),
            ));
        }
        require_identity(&lease)?;
        Ok(Self { lease, force_create: fields.boolean("force-create")?.unwrap_or(false) })
    }
}

/// Reads the address of a `lease4-del`; nothing else of it counts (ha-protocol 3.6).
pub fn parse_delete(envelope: &Envelope) -> Result<Ipv4Addr, Reply> {
    let fields = Fields::of_arguments(envelope)?;
    fields.address().map_err(|problem| match problem {
        Problem::Conflict(text) | Problem::Malformed(text) => Reply::error(text),
    })
}

/// One page of a synchronisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Leases that could be read, in order.
    pub leases: Vec<Lease>,
    /// How many the partner sent, malformed ones included: what `sync-page-limit` is compared with.
    pub received: usize,
    /// Why the others were skipped, at most [`Page::SKIPPED_MAX`] of them.
    pub skipped: Vec<String>,
    /// Greatest address on the page, of malformed leases too: where the next one starts.
    pub last: Option<Ipv4Addr>,
}

impl Page {
    /// Reasons kept per page; the count of skipped leases is `received - leases.len()`.
    pub const SKIPPED_MAX: usize = 16;

    /// Reads the answer to `lease4-get-page`; a lease that is malformed is skipped (ha-protocol 6.3).
    pub fn parse(body: &[u8]) -> Result<Self, ReplyError> {
        let reply = Reply::parse_success(body)?;
        let no_leases = || ReplyError::Malformed("no 'leases' in the answer to lease4-get-page".into());
        let arguments = reply.arguments.ok_or_else(no_leases)?;
        let items = arguments.get("leases").and_then(Value::as_array).ok_or_else(no_leases)?;
        let mut page = Self { received: items.len(), ..Self::default() };
        for item in items {
            let read = match item {
                Value::Object(members) => {
                    let fields = Fields(members);
                    page.last = page.last.max(fields.address().ok());
                    read_listed(&fields)
                }
                _ => Err(malformed("lease is not a map".into())),
            };
            match read {
                Ok(lease) => page.leases.push(lease),
                Err(Problem::Conflict(text) | Problem::Malformed(text)) => {
                    if page.skipped.len() < Self::SKIPPED_MAX {
                        page.skipped.push(text);
                    }
                }
            }
        }
        Ok(page)
    }
}

/// A lease of the listing dialect; its subnet is not checked (ha-protocol 3.0).
fn read_listed(fields: &Fields<'_>) -> Result<Lease, Problem> {
    let missing = |name: &str| malformed(format!("parameter '{name}' is missing"));
    let u32_max = u64::from(u32::MAX);
    let cltt = fields.integer("cltt", 1..=i64::MAX as u64)?.ok_or_else(|| missing("cltt"))?;
    let lease = Lease {
        address: fields.address()?,
        subnet_id: fields.integer("subnet-id", 1..=u32_max)?.ok_or_else(|| missing("subnet-id"))? as u32,
        pool_id: fields.integer("pool-id", 1..=u32_max)?.unwrap_or(0) as u32,
        hwaddr: fields.hwaddr()?,
        client_id: fields.client_id()?,
        valid_lifetime: fields.integer("valid-lft", 0..=u32_max)?.ok_or_else(|| missing("valid-lft"))? as u32,
        // Nothing later may overflow when a lifetime is added.
        cltt: cltt.min(i64::MAX as u64 - u32_max),
        state: fields.state()?.ok_or_else(|| missing("state"))?,
        fqdn_fwd: fields.boolean("fqdn-fwd")?.ok_or_else(|| missing("fqdn-fwd"))?,
        fqdn_rev: fields.boolean("fqdn-rev")?.ok_or_else(|| missing("fqdn-rev"))?,
        hostname: fields.hostname()?.ok_or_else(|| missing("hostname"))?,
        user_context: fields.user_context()?,
    };
    require_identity(&lease)?;
    Ok(lease)
}

enum Problem {
    Conflict(String),
    Malformed(String),
}

fn malformed(text: String) -> Problem {
    Problem::Malformed(text)
}

/// Only a declined lease may belong to nobody. A reclaimed or released one was somebody's.
fn require_identity(lease: &Lease) -> Result<(), Problem> {
    let nobody = lease.hwaddr.is_empty() && lease.client_id.is_empty();
    if nobody && lease.state != LeaseState::Declined {
        return Err(malformed(format!(
            "The lease {} has neither hardware address nor client id",
            lease.address
        )));
    }
    Ok(())
}

/// Typed reads of a lease's members.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of_arguments(envelope: &'a Envelope) -> Result<Self, Reply> {
        match &envelope.arguments {
            Some(Value::Object(members)) => Ok(Self(members)),
            _ => Err(Reply::error("Parameters missing or are not a map.")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(format!("'{name}' must be a string"))),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(malformed(format!("'{name}' must be a boolean"))),
        }
    }

    fn integer(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let integer = value.as_i64().ok_or_else(|| malformed(format!("'{name}' must be an integer")))?;
        match u64::try_from(integer) {
            Ok(integer) if range.contains(&integer) => Ok(Some(integer)),
            _ => Err(malformed(format!("'{name}' value {integer} is out of range"))),
        }
    }

    fn address(&self) -> Result<Ipv4Addr, Problem> {
        let text = self.text("ip-address")?.ok_or_else(|| malformed("'ip-address' is missing".into()))?;
        text.parse().map_err(|_| malformed("'ip-address' is not an IPv4 address".into()))
    }

    fn hwaddr(&self) -> Result<SmallBytes, Problem> {
        const HWADDR_OCTETS_MAX: usize = 20;
        let text = self.text("hw-address")?.ok_or_else(|| malformed("'hw-address' is missing".into()))?;
        if text.is_empty() {
            return Ok(SmallBytes::empty());
        }
        colon_hex(text)
            .filter(|octets| octets.len() <= HWADDR_OCTETS_MAX)
            .map(|octets| SmallBytes::new(&octets))
            .ok_or_else(|| malformed("'hw-address' is not a hardware address".into()))
    }

    fn client_id(&self) -> Result<SmallBytes, Problem> {
        const CLIENT_ID_OCTETS: std::ops::RangeInclusive<usize> = 2..=255;
        let Some(text) = self.text("client-id")? else { return Ok(SmallBytes::empty()) };
        let octets = if text.contains(':') { colon_hex(text) } else { plain_hex(text) };
        octets
            .filter(|octets| CLIENT_ID_OCTETS.contains(&octets.len()))
            .map(|octets| SmallBytes::new(&octets))
            .ok_or_else(|| malformed("'client-id' is not a client identifier".into()))
    }

    fn hostname(&self) -> Result<Option<SmallBytes>, Problem> {
        const HOSTNAME_OCTETS_MAX: usize = 255;
        let Some(text) = self.text("hostname")? else { return Ok(None) };
        let octets = json::bytes_of(text).to_ascii_lowercase();
        if octets.len() > HOSTNAME_OCTETS_MAX {
            return Err(malformed("'hostname' is too long".into()));
        }
        Ok(Some(SmallBytes::new(&octets)))
    }

    fn state(&self) -> Result<Option<LeaseState>, Problem> {
        Ok(match self.integer("state", 0..=3)? {
            None => None,
            Some(0) => Some(LeaseState::Default),
            Some(1) => Some(LeaseState::Declined),
            Some(2) => Some(LeaseState::ExpiredReclaimed),
            Some(_) => Some(LeaseState::Released),
        })
    }

    /// The context as text, a `comment` folded into it.
    fn user_context(&self) -> Result<Option<Box<[u8]>>, Problem> {
        let comment = self.text("comment")?;
        let mut context = match self.0.get("user-context") {
            None if comment.is_none() => return Ok(None),
            None => Map::new(),
            Some(Value::Object(members)) => members.clone(),
            Some(_) => return Err(malformed("'user-context' must be a map".into())),
        };
        if let Some(comment) = comment {
            context.insert("comment".into(), comment.into());
        }
        Ok(Some(json::to_vec(&Value::Object(context)).into_boxed_slice()))
    }
}

/// `1:a:0B`: one or two digits between colons.
fn colon_hex(text: &str) -> Option<Vec<u8>> {
    text.split(':')
        .map(|part| {
            let digits = (1..=2).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_hexdigit());
            if digits { u8::from_str_radix(part, 16).ok() } else { None }
        })
        .collect()
}

/// `010b`: pairs without separators.
fn plain_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
