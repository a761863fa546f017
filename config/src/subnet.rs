//! Subnets and pools as written.
//!
//! Invariants of what the reader lets through: ids are unique and 1..=4294967294; prefixes are unique; a
//! pool lies in its subnet's prefix and overlaps no other pool of it.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use crate::guard::Guard;
use crate::ha_hub::HaServerName;
use crate::option::OptionData;
use crate::reader::Reader;
use crate::scope::Scope;
use crate::value::{Located, Position, Value};

/// One entry of `subnet4`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subnet {
    /// Where the entry starts.
    pub position: Position,
    /// `id`; numbered from 1 in file order where the file gives none or 0 (CFG-31), `written` is false then.
    pub id: Located<u32>,
    /// `subnet`.
    pub prefix: Located<Prefix>,
    /// `interface`: its direct clients are there. `None` also for "".
    pub interface: Option<Located<String>>,
    /// `relay.ip-addresses`, or the one of `relay.ip-address` (ALC-3).
    pub relays: Vec<Located<Ipv4Addr>>,
    /// `pools` in file order.
    pub pools: Vec<Pool>,
    /// `client-class` or `client-classes`.
    pub guard: Guard,
    /// `option-data`.
    pub options: Vec<OptionData>,
    /// What the subnet itself says; `scope.inherit(&document.scope)` gives what applies.
    pub scope: Scope,
    /// `ha-server-name` of the user context: whose the subnet is where there are several HA relationships.
    pub ha_server_name: HaServerName,
    /// `user-context`.
    pub user_context: Option<Value>,
}

/// A network prefix. The address is kept as written: Kea shows and compares it so.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    /// Address, host bits included if the file has some.
    pub address: Ipv4Addr,
    /// Prefix length, 1..=32.
    pub len: u8,
}

impl Prefix {
    /// Network mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0))
    }

    /// First address of the network.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & u32::from(self.mask()))
    }

    /// Last address of the network.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !u32::from(self.mask()))
    }

    /// Whether `address` is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.network() <= address && address <= self.last()
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.address, self.len)
    }
}

/// One entry of `pools`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Where the entry starts.
    pub position: Position,
    /// `pool`: first and last address, inclusive, first ≤ last.
    pub range: Located<(Ipv4Addr, Ipv4Addr)>,
    /// `pool-id`, 0 by default.
    pub pool_id: Located<u32>,
    /// `client-class` or `client-classes`.
    pub guard: Guard,
    /// `option-data`.
    pub options: Vec<OptionData>,
    /// `user-context`.
    pub user_context: Option<Value>,
}

impl Subnet {
    /// Reads `subnet4`: numbers, checks and sorts it by id.
    pub(crate) fn read_all(reader: &mut Reader<'_, '_>, global: &Scope) -> Vec<Subnet> {
        let mut next_id: u32 = 1;
        let mut numbered = String::new();
        let mut ids = HashSet::new();
        let mut prefixes = HashSet::new();
        let mut subnets = Vec::new();
        for item in reader.items("subnet4") {
            let mut inside = reader.inside(item);
            let Some(subnet) = Self::read(&mut inside, global, &mut next_id) else { continue };
            if !subnet.id.written {
                // One text for all of them, so that a long file warns once.
                if numbered.is_empty() {
                    numbered = format!(
                        "subnet {} has no \"id\" and gets {}, by its place in the file: leases belong to \
                         ids, so write the id before subnets are added, moved or removed",
                        *subnet.prefix, *subnet.id
                    );
                }
                inside.warn(&subnet.position, "id", numbered.clone());
            }
            if !ids.insert(*subnet.id) {
                let message = format!("ID of the new IPv4 subnet '{}' is already in use", *subnet.id);
                inside.error(&subnet.id.position, "id", message);
            }
            if !prefixes.insert(*subnet.prefix) {
                let message = format!("subnet with the prefix of '{}' already exists", *subnet.prefix);
                inside.error(&subnet.prefix.position, "subnet", message);
            }
            subnets.push(subnet);
        }
        subnets.sort_by_key(|subnet| *subnet.id);
        subnets
    }

    fn read(reader: &mut Reader<'_, '_>, global: &Scope, next_id: &mut u32) -> Option<Subnet> {
        let id = match reader.optional_number::<u32>("id").filter(|id| **id != 0) {
            Some(id) => id,
            None => {
                let id = reader.default(*next_id);
                *next_id = next_id.saturating_add(1);
                id
            }
        };
        let prefix = read_prefix(reader)?;
        let scope = Scope::read(reader);
        scope.inherit(global).check(&scope, reader);
        let subnet = Subnet {
            position: reader.map.position.clone(),
            id,
            prefix,
            interface: reader.nonempty_text("interface"),
            relays: read_relays(reader),
            pools: read_pools(reader),
            guard: Guard::read(reader),
            options: OptionData::read_all(reader),
            scope,
            ha_server_name: HaServerName::read(reader),
            user_context: reader.user_context(),
        };
        subnet.check_pools(reader);
        Some(subnet)
    }

    fn check_pools(&self, reader: &mut Reader<'_, '_>) {
        let mut pools: Vec<&Pool> = self.pools.iter().collect();
        for pool in &pools {
            let (first, last) = *pool.range;
            if !self.prefix.contains(first) || !self.prefix.contains(last) {
                let message = format!(
                    "subnet configuration failed: a pool of type V4, with the following address range: \
                     {first}-{last} does not match the prefix of a subnet: {} to which it is being added",
                    *self.prefix
                );
                reader.error(&pool.range.position, "pool", message);
            }
        }
        pools.sort_by_key(|pool| *pool.range);
        for pair in pools.windows(2) {
            let [one, other] = pair else { continue };
            if other.range.0 <= one.range.1 {
                let later = if one.position.byte > other.position.byte { one } else { other };
                let (first, last) = *later.range;
                let message = format!(
                    "subnet configuration failed: a pool of type V4, with the following address range: \
                     {first}-{last} overlaps with an existing pool in the subnet: {} to which it is being \
                     added",
                    *self.prefix
                );
                reader.error(&later.range.position, "pool", message);
            }
        }
    }
}

fn read_prefix(reader: &mut Reader<'_, '_>) -> Option<Located<Prefix>> {
    let text = reader.optional_text("subnet")?;
    match parse_prefix(&text) {
        Ok(prefix) => Some(Located::written(prefix, text.position)),
        Err(why) => {
            reader.error(&text.position, "subnet", format!("subnet configuration failed: {why}"));
            None
        }
    }
}

/// Reads `a.b.c.d/len`, blanks ignored.
fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let squeezed: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let syntax = || format!("Invalid subnet syntax (prefix/len expected):{}", shorten(text));
    let (address, len) = squeezed.split_once('/').ok_or_else(syntax)?;
    let address: Ipv4Addr = address.parse().map_err(|_| syntax())?;
    if len.is_empty() || !len.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(syntax());
    }
    match len.parse() {
        Ok(len @ 1..=32) => Ok(Prefix { address, len }),
        _ => Err(format!("Invalid prefix length specified for subnet: {}, expected 1..32", shorten(len))),
    }
}

fn read_relays(reader: &mut Reader<'_, '_>) -> Vec<Located<Ipv4Addr>> {
    let Some(relay) = reader.get("relay") else { return Vec::new() };
    let mut inside = reader.inside(relay);
    if let Some(single) = inside.get("ip-address") {
        // The old single form; "" and 0.0.0.0 mean none.
        let unset = matches!(single.as_bytes(), Some(b"" | b"0.0.0.0"));
        let address = if unset { None } else { inside.address_of(single, "ip-address") };
        return address.into_iter().collect();
    }
    let items = inside.items("ip-addresses");
    items.iter().filter_map(|item| inside.address_of(item, "ip-addresses")).collect()
}

fn read_pools(reader: &mut Reader<'_, '_>) -> Vec<Pool> {
    let items = reader.items("pools");
    items.iter().filter_map(|item| read_pool(&mut reader.inside(item))).collect()
}

fn read_pool(reader: &mut Reader<'_, '_>) -> Option<Pool> {
    let text = reader.optional_text("pool")?;
    let range = match parse_range(&text) {
        Ok(range) => Located::written(range, text.position),
        Err(why) => {
            reader.error(&text.position, "pool", why);
            return None;
        }
    };
    Some(Pool {
        position: reader.map.position.clone(),
        range,
        pool_id: reader.number("pool-id", 0),
        guard: Guard::read(reader),
        options: OptionData::read_all(reader),
        user_context: reader.user_context(),
    })
}

/// Reads `first-last` or `prefix/len`, blanks ignored.
fn parse_range(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let squeezed: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let failed = |cause: &str| format!("Failed to create pool defined by: {}: {cause}", shorten(text));
    let misspelt = || failed("expected <min address-max address> or <prefix/len>");
    if squeezed.contains('/') {
        let prefix = parse_prefix(&squeezed).map_err(|_| misspelt())?;
        return Ok((prefix.network(), prefix.last()));
    }
    let Some((first, last)) = squeezed.split_once('-') else {
        return Err(format!(
            "invalid pool definition: {}. There are two acceptable formats <min address-max address> or \
             <prefix/len>",
            shorten(text)
        ));
    };
    let first: Ipv4Addr = first.parse().map_err(|_| misspelt())?;
    let last: Ipv4Addr = last.parse().map_err(|_| misspelt())?;
    if first > last {
        return Err(failed("the first address is above the last"));
    }
    Ok((first, last))
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
