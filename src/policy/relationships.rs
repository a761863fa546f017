//! Which subnet is whose where a server has several HA relationships (ha-protocol 1.9), and which leases a copy takes
//! (6.7).

use std::sync::Arc;

use config::Document;
pub use config::ha_hub::Attachment;
use config::ha_hub::HaServerName;

/// Subnets by id: those of a relationship, or all there are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SubnetFilter(Option<Arc<[u32]>>);

impl SubnetFilter {
    /// Every subnet, and leases in none that is configured.
    pub const ALL: Self = Self(None);

    /// The subnets with these ids alone.
    pub fn only(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_unstable();
        Self(Some(ids.into()))
    }

    /// Whether the subnet with `id` is among them.
    pub fn admits(&self, id: u32) -> bool {
        self.0.as_ref().is_none_or(|ids| ids.binary_search(&id).is_ok())
    }

    /// Their ids, ascending; `None` is all.
    pub fn ids(&self) -> Option<&[u32]> {
        self.0.as_deref()
    }
}

/// The relationships of a configuration, as far as subnets go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Relationships {
    /// What a copy takes, for each relationship.
    copied: Vec<SubnetFilter>,
}

impl Relationships {
    /// Those of `document`. With several, a relationship is concerned with its own subnets alone; a single one with all
    /// of them, but where the file names some.
    pub fn of(document: &Document) -> Self {
        let hooks = &document.hooks;
        let several = hooks.high_availability.len() > 1;
        let filter = |place: u8| {
            let named = |name: &HaServerName| match name {
                HaServerName::Named(name) => hooks.named(name) == Some(place),
                HaServerName::Absent | HaServerName::Invalid(_) => false,
            };
            let subnets = document.subnets.iter().filter(|subnet| named(&subnet.ha_server_name));
            let ids: Vec<u32> = subnets.map(|subnet| *subnet.id).collect();
            if ids.is_empty() && !several { SubnetFilter::ALL } else { SubnetFilter::only(ids) }
        };
        Self { copied: (0u8..).zip(&hooks.high_availability).map(|(place, _)| filter(place)).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.copied.len()
    }

    /// Whether there are several, so that a query is somebody's only once its subnet is known.
    pub fn are_several(&self) -> bool {
        self.copied.len() > 1
    }

    /// Leases of which subnets the relationship takes over when it copies from its partner.
    pub fn copied(&self, relationship: u8) -> SubnetFilter {
        self.copied.get(usize::from(relationship)).cloned().unwrap_or_default()
    }

    /// Leases of which subnets the partner is given when it copies: all, as Kea does it, but those of other spokes, which
    /// a partner that does not know better would keep for good.
    pub fn given(&self, relationship: u8) -> SubnetFilter {
        if self.are_several() { self.copied(relationship) } else { SubnetFilter::ALL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relationships with the peers `p0` and `s0`, `p1` and `s1`, …; subnets 1, 2, … with these user contexts.
    fn of(relationships: usize, contexts: &[&str]) -> (Document, Relationships) {
        let relationship = |index: usize| {
            format!(
                r#"{{"this-server-name": "p{index}", "mode": "hot-standby", "peers": [
                {{"name": "p{index}", "role": "primary", "url": "http://192.0.2.1:{}/"}},
                {{"name": "s{index}", "role": "standby", "url": "http://192.0.2.2:{}/"}}]}}"#,
                8000 + index,
                8100 + index
            )
        };
        let subnet = |(index, context): (usize, &&str)| {
            format!(
                r#"{{"id": {}, "subnet": "10.0.{index}.0/24", "user-context": {{{context}}}}}"#,
                index + 1
            )
        };
        let list: Vec<String> = (0..relationships).map(relationship).collect();
        let subnets: Vec<String> = contexts.iter().enumerate().map(subnet).collect();
        let text = format!(
            r#"{{"Dhcp4": {{"hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library":
            "libdhcp_ha.so", "parameters": {{"high-availability": [{}]}}}}], "subnet4": [{}]}}}}"#,
            list.join(", "),
            subnets.join(", ")
        );
        let document = config::parse_dhcp4(text.as_bytes(), "f").unwrap().document;
        let relationships = Relationships::of(&document);
        (document, relationships)
    }

    const P0: &str = r#""ha-server-name": "p0""#;
    const S0: &str = r#""ha-server-name": "s0""#;
    const P1: &str = r#""ha-server-name": "p1""#;
    const X: &str = r#""ha-server-name": "x""#;
    const NO_TEXT: &str = r#""ha-server-name": 7"#;

    #[test]
    fn a_subnet_belongs_to_whoever_has_a_peer_of_its_name() {
        let (document, relationships) = of(2, &[P0, S0, P1, X, NO_TEXT, ""]);
        let whose: Vec<Attachment> =
            document.subnets.iter().map(|subnet| document.hooks.attachment(&subnet.ha_server_name)).collect();
        use Attachment::{Invalid, Of, Stranger, Unnamed};
        assert_eq!(whose, [Of(0), Of(0), Of(1), Stranger, Invalid, Unnamed]);
        assert!(relationships.are_several());
        let ids = |filter: SubnetFilter| filter.ids().map(<[u32]>::to_vec);
        for (relationship, expected) in [(0, vec![1, 2]), (1, vec![3])] {
            assert_eq!(ids(relationships.copied(relationship)), Some(expected.clone()), "{relationship}");
            assert_eq!(ids(relationships.given(relationship)), Some(expected), "{relationship}");
        }
        let (_, relationships) = of(2, &[P0]);
        assert_eq!(ids(relationships.copied(1)), Some(vec![]), "a spoke without a subnet has no lease");
    }

    #[test]
    fn a_single_relationship_has_every_subnet_and_copies_those_it_names() {
        let (document, relationships) = of(1, &[P0, "", X]);
        let whose = document.subnets.iter().map(|subnet| document.hooks.attachment(&subnet.ha_server_name));
        assert!(whose.into_iter().all(|whose| whose == Attachment::Of(0)));
        assert_eq!(relationships.copied(0).ids(), Some([1].as_slice()));
        assert_eq!(relationships.given(0), SubnetFilter::ALL);
        let (_, relationships) = of(1, &["", X]);
        assert_eq!(relationships.copied(0), SubnetFilter::ALL);
        assert!(relationships.copied(0).admits(7) && !SubnetFilter::only([1, 3]).admits(2));
        let none = Relationships::default();
        assert_eq!((none.count(), none.copied(0)), (0, SubnetFilter::ALL));
    }
}
