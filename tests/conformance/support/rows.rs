//! Lease stores as they lie on the disk, row by row: the last row of each address counts, as at a start.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// One lease as its row says, with the columns that both servers write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    pub hwaddr: String,
    pub client_id: String,
    pub valid_lifetime: String,
    pub expire: u64,
    pub subnet_id: String,
    pub fqdn: (String, String),
    pub hostname: String,
    pub state: String,
    pub user_context: String,
}

/// Reads a lease file. A row with a lifetime of 0 takes the lease of its address away, unless it says that the lease was
/// released or reclaimed.
pub fn read(file: &Path) -> BTreeMap<Ipv4Addr, Row> {
    // Host names are octets; each stands for the character of its number here.
    let octets = std::fs::read(file).unwrap_or_default();
    let text: String = octets.iter().map(|octet| char::from(*octet)).collect();
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let mut rows = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |name: &str| {
            let field = column(name).and_then(|at| fields.get(at));
            field.map_or_else(String::new, |field| (*field).to_owned())
        };
        // The last row may be half a row while the server lives.
        let (Ok(address), Ok(expire)) = (field("address").parse::<Ipv4Addr>(), field("expire").parse())
        else {
            continue;
        };
        let row = Row {
            hwaddr: field("hwaddr"),
            client_id: field("client_id"),
            valid_lifetime: field("valid_lifetime"),
            expire,
            subnet_id: field("subnet_id"),
            fqdn: (field("fqdn_fwd"), field("fqdn_rev")),
            hostname: unescape(&field("hostname")),
            state: field("state"),
            user_context: unescape(&field("user_context")),
        };
        if row.valid_lifetime == "0" && row.state == "0" {
            rows.remove(&address);
        } else {
            rows.insert(address, row);
        }
    }
    rows
}

/// `&#x2c` is a comma: servers may choose which octets they write so.
fn unescape(field: &str) -> String {
    let mut parts = field.split("&#x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(octet) => {
                text.push(char::from(octet));
                text += &part[2..];
            }
            None => text = text + "&#x" + part,
        }
    }
    text
}

/// What two stores disagree on, with a line for each address; empty when they hold the same.
pub fn differences(
    one: &BTreeMap<Ipv4Addr, Row>,
    other: &BTreeMap<Ipv4Addr, Row>,
) -> BTreeMap<Ipv4Addr, String> {
    let all: std::collections::BTreeSet<&Ipv4Addr> = one.keys().chain(other.keys()).collect();
    let differ = all.into_iter().filter(|address| one.get(address) != other.get(address));
    differ.map(|at| (*at, format!("{at}: {:?} | {:?}", one.get(at), other.get(at)))).collect()
}
