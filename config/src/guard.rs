//! Class guards of subnets and pools: who is served from them (ALC-6).
//!
//! The only classes built are those that high availability puts queries into, `HA_` and the name of a configured
//! peer (ha-protocol 5.10). A guard that names any other class is refused, for everyone would be served there.

use crate::document::Hooks;
use crate::ha::{Peer, Relationship};
use crate::reader::{Reader, quoted};
use crate::subnet::Subnet;
use crate::value::Located;

/// What stands before the name of a server in the name of its class.
const PREFIX: &str = "HA_";

/// Classes of which a query has to be in one; every query is let in where there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// Names in file order.
    pub classes: Vec<Located<String>>,
    /// How the file spells the key.
    pub key: &'static str,
}

impl Guard {
    /// Reads `client-class` (2.2) or `client-classes`, of which the tables let only one be there.
    pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Self {
        if let Some(class) = reader.nonempty_text("client-class") {
            return Self { classes: vec![class], key: "client-class" };
        }
        let key = "client-classes";
        let listed = reader.items(key).iter().filter_map(|item| reader.text_of(item, key));
        Self { classes: listed.collect(), key }
    }

    /// Refuses classes that nobody is put into.
    fn check(&self, map: &str, hooks: &Hooks, reader: &mut Reader<'_, '_>) {
        for class in &self.classes {
            if peer_of_class(class, hooks.high_availability.iter()).is_none() {
                let (key, class_name) = (self.key, quoted(&**class));
                let message = format!(
                    "{class_name} in \"{key}\" in the {map} map needs what is not built yet: guards by classes \
                     other than {PREFIX} and the name of an HA peer; everyone would be served here"
                );
                reader.error(&class.position, key, message);
            }
        }
    }
}

/// The peer whose class `class` is, and its relationship (ha-protocol 5.10).
pub fn peer_of_class<'r>(
    class: &str,
    mut relationships: impl Iterator<Item = &'r Relationship>,
) -> Option<(&'r Relationship, &'r Peer)> {
    let name = class.strip_prefix(PREFIX)?;
    relationships.find_map(|relationship| {
        let peer = relationship.peers().find(|peer| *peer.name == name)?;
        Some((relationship, peer))
    })
}

/// Checks the guards of `subnets` and of their pools.
pub(crate) fn check_all(subnets: &[Subnet], hooks: &Hooks, reader: &mut Reader<'_, '_>) {
    for subnet in subnets {
        subnet.guard.check("subnet4", hooks, reader);
        subnet.pools.iter().for_each(|pool| pool.guard.check("pools", hooks, reader));
    }
}
