//! The members of a lease in JSON, with their types (ha-protocol 3.0).
//!
//! A copy from a Kea brings a million leases, so each is read where it stands in the text: numbers and truth values as
//! such, strings without a copy of them where they have no escapes, and what is no member of a lease not at all. A
//! member of a wrong type is no error before somebody asks for it, because a malformed lease must not spoil the page
//! around it (ha-protocol 6.3).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use shards::{LeaseState, SmallBytes};

use super::{identifier, json};

const HOSTNAME_OCTETS_MAX: usize = 255;

/// Why a lease cannot be taken.
#[derive(Debug)]
pub(super) enum Problem {
    /// It contradicts the configuration.
    Conflict(String),
    /// It is no lease.
    Malformed(String),
}

pub(super) fn malformed(text: String) -> Problem {
    Problem::Malformed(text)
}

fn wrong_type(field: Field) -> Problem {
    malformed(format!("invalid type specified for parameter '{}'", field.name()))
}

fn missing(field: Field) -> Problem {
    malformed(format!("missing parameter '{}'", field.name()))
}

/// A member that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Field {
    ClientId,
    Cltt,
    Comment,
    Expire,
    ForceCreate,
    FqdnFwd,
    FqdnRev,
    Hostname,
    HwAddress,
    IpAddress,
    PoolId,
    State,
    SubnetId,
    UserContext,
    ValidLft,
}

impl Field {
    /// In the order of the variants.
    const ALL: [(Self, &str); 15] = [
        (Self::ClientId, "client-id"),
        (Self::Cltt, "cltt"),
        (Self::Comment, "comment"),
        (Self::Expire, "expire"),
        (Self::ForceCreate, "force-create"),
        (Self::FqdnFwd, "fqdn-fwd"),
        (Self::FqdnRev, "fqdn-rev"),
        (Self::Hostname, "hostname"),
        (Self::HwAddress, "hw-address"),
        (Self::IpAddress, "ip-address"),
        (Self::PoolId, "pool-id"),
        (Self::State, "state"),
        (Self::SubnetId, "subnet-id"),
        (Self::UserContext, "user-context"),
        (Self::ValidLft, "valid-lft"),
    ];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(field, _)| *field)
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The value of a member.
#[derive(Clone, Debug, Default)]
enum Member<'a> {
    #[default]
    Absent,
    Boolean(bool),
    Integer(i64),
    Map(Map<String, Value>),
    /// Nothing that any member of a lease may be.
    Other,
    Text(Cow<'a, str>),
}

/// The members of one lease.
#[derive(Debug, Default)]
pub(super) struct Members<'a>([Member<'a>; Field::ALL.len()]);

impl<'a> Members<'a> {
    /// Those among `values`.
    pub fn of(values: &'a Map<String, Value>) -> Self {
        let mut members = Self::default();
        for (name, value) in values {
            if let Some(field) = Field::of(name) {
                members.0[field as usize] = Member::of(value);
            }
        }
        members
    }

    pub fn text(&self, field: Field) -> Result<Option<&str>, Problem> {
        match &self.0[field as usize] {
            Member::Absent => Ok(None),
            Member::Text(text) if json::is_bytes(text) => Ok(Some(text)),
            Member::Text(_) => Err(malformed(format!("'{}' has a character that is no byte", field.name()))),
            _ => Err(wrong_type(field)),
        }
    }

    pub fn boolean(&self, field: Field) -> Result<Option<bool>, Problem> {
        match &self.0[field as usize] {
            Member::Absent => Ok(None),
            Member::Boolean(value) => Ok(Some(*value)),
            _ => Err(wrong_type(field)),
        }
    }

    pub fn integer(&self, field: Field, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let integer = match &self.0[field as usize] {
            Member::Absent => return Ok(None),
            Member::Integer(integer) => *integer,
            _ => return Err(wrong_type(field)),
        };
        match u64::try_from(integer) {
            Ok(integer) if range.contains(&integer) => Ok(Some(integer)),
            _ => Err(malformed(format!(
                "out of range value ({integer}) specified for parameter '{}'",
                field.name()
            ))),
        }
    }

    /// When the lease of `address` ends, seconds since 1970.
    pub fn expire(&self, address: Ipv4Addr) -> Result<Option<u64>, Problem> {
        if let Member::Integer(..=0) = self.0[Field::Expire as usize] {
            return Err(malformed(format!("expiration time must be positive for address {address}")));
        }
        self.integer(Field::Expire, 1..=i64::MAX as u64)
    }

    pub fn address(&self) -> Result<Ipv4Addr, Problem> {
        let text = self.text(Field::IpAddress)?.ok_or_else(|| missing(Field::IpAddress))?;
        text.parse().map_err(|_| {
            malformed(match text.parse::<Ipv6Addr>() {
                Ok(_) => format!("Non-IPv4 address specified: {text}"),
                Err(_) => format!(
                    "Failed to convert '{text}' to address: Failed to convert string to address '{text}': Invalid \
                     argument"
                ),
            })
        })
    }

    pub fn hwaddr(&self) -> Result<SmallBytes, Problem> {
        let text = self.text(Field::HwAddress)?.ok_or_else(|| missing(Field::HwAddress))?;
        identifier::hwaddr(text).map_err(malformed)
    }

    pub fn client_id(&self) -> Result<SmallBytes, Problem> {
        let Some(text) = self.text(Field::ClientId)? else { return Ok(SmallBytes::empty()) };
        identifier::client_id(text).map_err(malformed)
    }

    pub fn hostname(&self) -> Result<Option<SmallBytes>, Problem> {
        let Some(text) = self.text(Field::Hostname)? else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some(SmallBytes::empty()));
        }
        let octets = json::bytes_of(text).to_ascii_lowercase();
        if octets.len() > HOSTNAME_OCTETS_MAX {
            return Err(malformed("'hostname' is too long".into()));
        }
        Ok(Some(SmallBytes::new(&octets)))
    }

    pub fn state(&self) -> Result<Option<LeaseState>, Problem> {
        Ok(match self.integer(Field::State, 0..=u64::from(u32::MAX))? {
            None => None,
            Some(0) => Some(LeaseState::Default),
            Some(1) => Some(LeaseState::Declined),
            Some(2) => Some(LeaseState::ExpiredReclaimed),
            Some(3) => Some(LeaseState::Released),
            Some(other) => {
                return Err(malformed(format!(
                    "Invalid state value: {other}, supported values are: 0 (default), 1 (declined), 2 \
                     (expired-reclaimed) and 3 (released)"
                )));
            }
        })
    }

    /// The context as text, a `comment` folded into it.
    pub fn user_context(&self) -> Result<Option<Box<[u8]>>, Problem> {
        let comment = self.text(Field::Comment)?;
        let mut context = match &self.0[Field::UserContext as usize] {
            Member::Absent if comment.is_none() => return Ok(None),
            Member::Absent => Map::new(),
            Member::Map(members) => members.clone(),
            _ => return Err(malformed("'user-context' must be a map".into())),
        };
        if let Some(comment) = comment {
            context.insert("comment".into(), comment.into());
        }
        let context = Value::Object(context);
        if !json::holds_only_bytes(&context) {
            return Err(malformed("'user-context' has a character that is no byte".into()));
        }
        Ok(Some(json::to_vec(&context).into_boxed_slice()))
    }
}

impl<'a> Member<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Boolean(*value),
            Value::Number(number) => number.as_i64().map_or(Self::Other, Self::Integer),
            Value::Object(members) => Self::Map(members.clone()),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(_) | Value::Null => Self::Other,
        }
    }
}

// ---- from the text ----------------------------------------------------------------------------------------

/// An element of a list of leases; `None` is no map.
pub(super) struct Element<'a>(pub Option<Members<'a>>);

/// Visits one value, whatever it is, as a `T`.
struct Any<T>(PhantomData<T>);

impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Self>(PhantomData))
    }
}

impl<'de> Visitor<'de> for Any<Element<'de>> {
    type Value = Element<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a lease")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(Name(field)) = map.next_key()? {
            match field {
                Some(field) => members.0[field as usize] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Element(Some(members)))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Element(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Element(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Element(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Element(None))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Element(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Element(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Element(None))
    }
}

/// The name of a member; `None` is none that is read.
struct Name(Option<Field>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Any::<Self>(PhantomData))
    }
}

impl Visitor<'_> for Any<Name> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Field::of(name)))
    }
}

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Self>(PhantomData))
    }
}

impl<'de> Visitor<'de> for Any<Member<'de>> {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of a lease")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Member::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Member::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Member::Other, Member::Integer))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Map::deserialize(MapAccessDeserializer::new(map)).map(Member::Map)
    }
}
