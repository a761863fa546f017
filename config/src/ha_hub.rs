//! Several relationships in one server, a hub and its spokes (ha-protocol 1.9): what they must not share, and which
//! subnet is whose.
//!
//! A subnet says whose it is by the name of any peer of its relationship, under `ha-server-name` of its user context.
//! With one relationship the key may be missing, for every subnet is that one's; with several, queries of a subnet
//! without it are dropped, which is warned of here.

use crate::document::Hooks;
use crate::ha::{Mode, Relationship};
use crate::reader::{Reader, quoted};
use crate::subnet::Subnet;
use crate::value::{Kind, Located, Position, Value};

/// Relationships of one server: each takes an executor for its listener and one for its senders at least.
const RELATIONSHIPS_MAX: usize = 32;

/// The key that names the relationship of a subnet.
const KEY: &str = "ha-server-name";

/// What `ha-server-name` of a subnet says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum HaServerName {
    /// Nothing.
    #[default]
    Absent,
    /// What is no name: it is not a string, or an empty one.
    Invalid(Position),
    /// The name of a peer.
    Named(Located<String>),
}

impl HaServerName {
    /// Reads it from the user context of a subnet.
    pub(crate) fn read(reader: &Reader<'_, '_>) -> Self {
        let Some(value) = reader.get("user-context").and_then(|context| context.get(KEY)) else {
            return Self::Absent;
        };
        match value.as_text().filter(|name| !name.is_empty()) {
            Some(name) => Self::Named(Located::written(name.to_owned(), value.position.clone())),
            None => Self::Invalid(value.position.clone()),
        }
    }
}

/// Whose a subnet is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attachment {
    /// The relationship's at this place of the list.
    Of(u8),
    /// Nobody's: there is no `ha-server-name`.
    Unnamed,
    /// Nobody's: `ha-server-name` is the name of no peer.
    Stranger,
    /// Nobody's: `ha-server-name` is no name.
    Invalid,
}

impl Hooks {
    /// Whose a subnet with this name is. With one relationship, or none, every subnet is that one's.
    pub fn attachment(&self, name: &HaServerName) -> Attachment {
        if self.high_availability.len() <= 1 {
            return Attachment::Of(0);
        }
        match name {
            HaServerName::Absent => Attachment::Unnamed,
            HaServerName::Invalid(_) => Attachment::Invalid,
            HaServerName::Named(name) => self.named(name).map_or(Attachment::Stranger, Attachment::Of),
        }
    }

    /// The place of the relationship that has a peer of this name.
    pub fn named(&self, name: &str) -> Option<u8> {
        let has_peer = |relationship: &Relationship| relationship.peers().any(|peer| *peer.name == name);
        // There are at most 32 of them.
        (0..).zip(&self.high_availability).find(|(_, one)| has_peer(one)).map(|(place, _)| place)
    }
}

/// Reads the list; empty after an error.
pub(crate) fn read_list<'v>(
    reader: &mut Reader<'v, '_>,
    list: &'v Value,
    read: impl Fn(&mut Reader<'v, '_>) -> Option<Relationship>,
) -> Vec<Relationship> {
    let blocks = list.items();
    if !matches!(list.kind, Kind::List(_)) {
        reader.error(&list.position, "high-availability", "HA configuration must be a list");
    } else if blocks.is_empty() {
        let message = "'high-availability' must be a list with at least one relationship";
        reader.error(&list.position, "high-availability", message);
    }
    if let Some(beyond) = blocks.get(RELATIONSHIPS_MAX) {
        let message =
            format!("there are {} relationships, and {RELATIONSHIPS_MAX} is the most", blocks.len());
        reader.error(&beyond.position, "high-availability", message);
        return Vec::new();
    }
    let mut relationships = Vec::with_capacity(blocks.len());
    for block in blocks {
        relationships.extend(read(&mut reader.inside(block)));
    }
    if relationships.len() > 1 {
        check_together(&relationships, reader);
    }
    relationships
}

/// What several relationships must not share.
fn check_together(relationships: &[Relationship], reader: &mut Reader<'_, '_>) {
    for (place, relationship) in relationships.iter().enumerate() {
        if *relationship.mode != Mode::HotStandby {
            let message = "multiple HA relationships are only supported for 'hot-standby' mode";
            reader.error(&relationship.mode.position, "mode", message);
        }
        if !relationship.multi_threading.has_dedicated_listener() {
            let message = "with several relationships each needs its dedicated listener, for it tells whose command it \
                           is: 'enable-multi-threading' and 'http-dedicated-listener' must not be false";
            reader.error(&relationship.position, "multi-threading", message);
        }
        let before = &relationships[..place];
        for peer in relationship.peers() {
            let same = |known: &&Relationship| known.peers().any(|one| *one.name == *peer.name);
            if before.iter().any(|known| same(&known)) {
                let message = format!("a relationship {} already exists", quoted(&*peer.name));
                reader.error(&peer.name.position, "name", message);
            }
        }
        let own = &relationship.own.url;
        if let Some(known) = before.iter().find(|known| known.own.url.address == own.address) {
            let (one, other) = (&*known.own.name, &*relationship.own.name);
            let message = format!(
                "servers {one} and {other} have the same url: every relationship has a listener of its own"
            );
            reader.error(&own.position, "url", message);
        }
    }
}

/// Warns of subnets that no relationship serves, and of a name that has no effect.
pub(crate) fn check_subnets(subnets: &[Subnet], hooks: &Hooks, reader: &mut Reader<'_, '_>) {
    let several = match hooks.high_availability.len() {
        0 => return,
        1 => false,
        _ => true,
    };
    let consequence = match several {
        true => "queries of this subnet are dropped",
        false => "it has no effect",
    };
    for subnet in subnets {
        let (position, what) = match &subnet.ha_server_name {
            HaServerName::Absent if several => {
                (&subnet.position, "there is no 'ha-server-name' in the user context".to_owned())
            }
            HaServerName::Absent => continue,
            HaServerName::Invalid(position) => {
                (position, "'ha-server-name' must be a string with at least one character".to_owned())
            }
            HaServerName::Named(name) if hooks.named(name).is_none() => {
                (&name.position, format!("{} matches no peer of a relationship", quoted(&**name)))
            }
            HaServerName::Named(_) => continue,
        };
        reader.warn(position, KEY, format!("{what}: {consequence}"));
    }
}
