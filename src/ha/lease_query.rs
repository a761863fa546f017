//! Which lease a command is about: by its address, or by its subnet and the client's identifier (ha-protocol 3.6).
//!
//! `lease4-get` and `lease4-del` say it the same way; what is wrong is answered in Kea's words.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};
use shards::{Lease, SmallBytes};

use super::command::{Envelope, Reply};
use super::identifier;

/// The lease that a command is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LeaseQuery {
    /// That of an address, whosever it is.
    Address(Ipv4Addr),
    /// That of a client in a subnet.
    Client(ClientQuery),
}

/// The lease of a client in a subnet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientQuery {
    /// Whether `identity` is a client identifier; else it is a hardware address.
    pub by_client_id: bool,
    /// The client's.
    pub identity: SmallBytes,
    /// In which subnet.
    pub subnet_id: u32,
}

impl ClientQuery {
    /// Whether this is the lease.
    pub fn is(&self, lease: &Lease) -> bool {
        let identity = if self.by_client_id { &lease.client_id } else { &lease.hwaddr };
        lease.subnet_id == self.subnet_id && *identity == self.identity
    }
}

impl LeaseQuery {
    /// Reads the arguments of a command; `what` is the word for what it does with the lease of a DUID, which no lease
    /// of DHCPv4 has.
    ///
    /// # Errors
    /// The answer.
    pub fn parse(envelope: &Envelope, what: &str) -> Result<Self, Reply> {
        let Some(Value::Object(members)) = &envelope.arguments else {
            return Err(Reply::error("Parameters missing or are not a map."));
        };
        if members.get("update-ddns").is_some_and(|value| !value.is_boolean()) {
            return Err(Reply::error("'update-ddns' is not a boolean"));
        }
        match members.get("ip-address") {
            Some(Value::String(text)) => address(text).map(Self::Address),
            Some(_) => Err(Reply::error("'ip-address' is not a string.")),
            None => by_identifier(members, what),
        }
    }
}

fn address(text: &str) -> Result<Ipv4Addr, Reply> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(Reply::error(format!("Invalid IPv4 address specified: {text}"))),
        Err(_) => {
            Err(Reply::error(format!("Failed to convert string to address '{text}': Invalid argument")))
        }
    }
}

fn by_identifier(members: &Map<String, Value>, what: &str) -> Result<LeaseQuery, Reply> {
    let text = |name: &str| {
        members.get(name).and_then(Value::as_str).ok_or_else(|| {
            Reply::error(format!("No 'ip-address' provided and '{name}' is either missing or not a string."))
        })
    };
    let subnet_id = match members.get("subnet-id") {
        None => return Err(Reply::error("Mandatory 'subnet-id' parameter missing.")),
        Some(Value::Number(number)) if !number.is_f64() => number.as_u64(),
        Some(_) => return Err(Reply::error("'subnet-id' parameter is not integer.")),
    };
    let (of, identifier) = (text("identifier-type")?, text("identifier")?);
    let identity = match of {
        "hw-address" => identifier::hwaddr(identifier),
        "client-id" => identifier::client_id(identifier),
        "duid" => Err(format!("{what} by duid is not allowed in v4.")),
        // The address would have been named by itself.
        "address" => return Ok(LeaseQuery::Address(Ipv4Addr::UNSPECIFIED)),
        other => Err(format!(
            "Incorrect identifier type: {other}, the only supported values are: address, hw-address, duid"
        )),
    };
    let identity = identity.map_err(Reply::error)?;
    // No subnet has any other number, nor 0.
    let subnet_id = subnet_id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    Ok(LeaseQuery::Client(ClientQuery { by_client_id: of == "client-id", identity, subnet_id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<LeaseQuery, String> {
        let body = format!(r#"{{"command":"lease4-del","arguments":{arguments}}}"#);
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        LeaseQuery::parse(&envelope, "Delete").map_err(|reply| reply.text.unwrap_or_default())
    }

    #[test]
    fn a_lease_is_named_by_its_address_or_by_subnet_and_identifier() {
        let client = |by_client_id, identity: &[u8], subnet_id| {
            let identity = SmallBytes::new(identity);
            Ok(LeaseQuery::Client(ClientQuery { by_client_id, identity, subnet_id }))
        };
        let rows = [
            (
                r#"{"ip-address":"192.0.2.1","subnet-id":"x"}"#,
                Ok(LeaseQuery::Address(Ipv4Addr::new(192, 0, 2, 1))),
            ),
            (
                r#"{"subnet-id":7,"identifier-type":"hw-address","identifier":"1:2"}"#,
                client(false, &[1, 2], 7),
            ),
            (
                r#"{"subnet-id":7,"identifier-type":"client-id","identifier":"0102"}"#,
                client(true, &[1, 2], 7),
            ),
            (r#"{"subnet-id":-1,"identifier-type":"hw-address","identifier":""}"#, client(false, &[], 0)),
            (
                r#"{"subnet-id":1,"identifier-type":"address","identifier":"192.0.2.1"}"#,
                Ok(LeaseQuery::Address(Ipv4Addr::UNSPECIFIED)),
            ),
        ];
        for (arguments, expected) in rows {
            assert_eq!(parse(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn what_names_no_lease_is_refused_in_keas_words() {
        const NO_TYPE: &str =
            "No 'ip-address' provided and 'identifier-type' is either missing or not a string.";
        const NO_IDENTIFIER: &str =
            "No 'ip-address' provided and 'identifier' is either missing or not a string.";
        let rows = [
            ("null", "Parameters missing or are not a map."),
            ("[]", "Parameters missing or are not a map."),
            ("{}", "Mandatory 'subnet-id' parameter missing."),
            (r#"{"update-ddns":1}"#, "'update-ddns' is not a boolean"),
            (r#"{"ip-address":1}"#, "'ip-address' is not a string."),
            (r#"{"ip-address":"::1"}"#, "Invalid IPv4 address specified: ::1"),
            (r#"{"ip-address":"x"}"#, "Failed to convert string to address 'x': Invalid argument"),
            (r#"{"subnet-id":"1"}"#, "'subnet-id' parameter is not integer."),
            (r#"{"subnet-id":1.0}"#, "'subnet-id' parameter is not integer."),
            (r#"{"subnet-id":1}"#, NO_TYPE),
            (r#"{"subnet-id":1,"identifier-type":1,"identifier":"01"}"#, NO_TYPE),
            (r#"{"subnet-id":1,"identifier-type":"hw-address"}"#, NO_IDENTIFIER),
            (
                r#"{"subnet-id":1,"identifier-type":"duid","identifier":"01"}"#,
                "Delete by duid is not allowed in v4.",
            ),
            (
                r#"{"subnet-id":1,"identifier-type":"foo","identifier":"01"}"#,
                "Incorrect identifier type: foo, the only supported values are: address, hw-address, duid",
            ),
            (
                r#"{"subnet-id":1,"identifier-type":"client-id","identifier":""}"#,
                "Empty DUIDs are not allowed",
            ),
        ];
        for (arguments, expected) in rows {
            assert_eq!(parse(arguments), Err(expected.to_owned()), "{arguments}");
        }
    }
}
