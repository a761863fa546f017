//! Beyond the seven: what happens in one relationship of a hub changes no lease of another, and does not stop its service.
//!
//! Each client lives on one link and has leases of its subnet alone, so a lease of anybody else there came by another
//! relationship. Where only one spoke suffers, the servers of the other relationship stay in the normal state and serve.

use shards::Lease;
use tandem::ha::OwnState;
use tandem::ha::view::HaView;

/// Somebody is given a lease within this time on a link where nothing goes wrong, nanoseconds: clients renew every 20 s.
const SERVED_WITHIN_NS: u64 = 60 * 1_000_000_000;

/// What is seen of the relationship in which nothing goes wrong, if there is one.
#[derive(Debug, Default)]
pub struct Apart {
    unharmed: Option<usize>,
    /// Its servers have met, and when somebody was last given a lease there since.
    served_ns: Option<u64>,
    violation: Option<String>,
}

/// Looks at the leases of a server: the subnet is that of the address, and the client of its link. So many clients are on
/// each link.
pub fn leases<'a>(clients: u32, leases: impl IntoIterator<Item = &'a Lease>) -> Result<(), String> {
    let is_elsewhere = |lease: &&Lease| {
        let link = u32::from(lease.address.octets()[2]) - 2;
        let number = lease.hwaddr.last_chunk().map(|octets| u32::from_be_bytes(*octets));
        let lives_there = number.is_some_and(|number| number / clients == link);
        lease.subnet_id != link + 1 || !lease.hwaddr.is_empty() && !lives_there
    };
    match leases.into_iter().find(is_elsewhere) {
        None => Ok(()),
        Some(lease) => Err(format!("relationships apart: {lease:?} is of another link")),
    }
}

impl Apart {
    pub fn new(unharmed: Option<usize>) -> Self {
        Self { unharmed, ..Self::default() }
    }

    /// Both servers of a relationship are in the normal state.
    pub fn united(&mut self, link: usize, now_ns: u64) {
        if self.unharmed == Some(link) {
            self.served_ns.get_or_insert(now_ns);
        }
    }

    /// Whether this is the relationship in which nothing goes wrong, and its servers have met.
    fn is_to_serve(&self, link: usize) -> bool {
        self.unharmed == Some(link) && self.served_ns.is_some()
    }

    /// A machine has entered `state`.
    pub fn entered(&mut self, link: usize, state: OwnState) {
        if self.is_to_serve(link) && state != OwnState::HotStandby {
            self.fail(format!("a server of link {link}, where nothing goes wrong, is {}", state.name()));
        }
    }

    /// A machine has published its word.
    pub fn published(&mut self, link: usize, view: &HaView) {
        if self.is_to_serve(link) && (!view.service_on || view.interrupted) {
            self.fail(format!("the service of link {link}, where nothing goes wrong, is off: {view:?}"));
        }
    }

    /// Somebody is given a lease.
    pub fn served(&mut self, link: usize, now_ns: u64) {
        if self.is_to_serve(link) {
            self.look(now_ns);
            self.served_ns = Some(now_ns);
        }
    }

    /// Whether somebody was served lately.
    pub fn look(&mut self, now_ns: u64) {
        if self.served_ns.is_some_and(|served_ns| now_ns > served_ns + SERVED_WITHIN_NS) {
            self.fail("nobody is served on the link where nothing goes wrong".to_owned());
        }
    }

    /// From now on everything works, everywhere.
    pub fn end(&mut self, now_ns: u64) {
        self.look(now_ns);
        self.unharmed = None;
    }

    fn fail(&mut self, what: String) {
        self.violation.get_or_insert(format!("relationships apart: {what}"));
    }

    pub fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;

    use super::*;
    use crate::sim::checks::tests::lease;

    #[test]
    fn a_lease_of_a_client_of_another_link_is_seen() {
        let on = |third: u8, subnet_id, client: u8| {
            let [.., last] = lease(1, 9).address.octets();
            let hwaddr = SmallBytes::new(&[2, 0xc0, 0, 0, 0, client]);
            Lease { address: [192, 0, third, last].into(), subnet_id, hwaddr, ..lease(1, 9) }
        };
        for (lease, is_apart) in [
            (on(2, 1, 2), true),
            (on(3, 2, 3), true),
            (on(2, 1, 3), false),
            (on(3, 2, 2), false),
            (on(3, 1, 3), false),
        ] {
            assert_eq!(leases(3, [&lease]).is_ok(), is_apart, "{lease:?}");
        }
    }

    #[test]
    fn a_server_that_leaves_its_normal_state_and_a_link_without_service_are_seen_where_nothing_goes_wrong() {
        let off = HaView { service_on: false, ..HaView::default() };
        let late_ns = SERVED_WITHIN_NS + 2;
        let sees = |unharmed, what: &dyn Fn(&mut Apart)| {
            let mut apart = Apart::new(unharmed);
            apart.entered(1, OwnState::Waiting);
            apart.published(1, &off);
            apart.united(1, 1);
            what(&mut apart);
            apart.take_violation().is_some_and(|what| what.starts_with("relationships apart"))
        };
        let cases: [&dyn Fn(&mut Apart); 4] = [
            &|apart| apart.entered(1, OwnState::PartnerDown),
            &|apart| apart.published(1, &off),
            &|apart| apart.served(1, late_ns),
            &|apart| apart.end(late_ns),
        ];
        for case in cases {
            assert!(sees(Some(1), case) && !sees(Some(0), case) && !sees(None, case));
        }
        let well = |apart: &mut Apart| {
            apart.served(1, 2);
            apart.entered(1, OwnState::HotStandby);
            apart.end(late_ns);
        };
        assert!(!sees(Some(1), &well));
    }
}
