//! Invariant 2, the other half: a lease is given by a server in a state that serves clients, and by no other
//! (ha-protocol 4.1). A reply that waited may leave after the state was left, a lane's time later at most.

use shards::Now;
use tandem::ha::{OwnState, Role};

use crate::sim::pair::links::host_of;

/// A view is in force on every shard this long after the state it follows from, nanoseconds.
const VIEW_WITHIN_NS: u64 = 100_000_000;

/// Whether each seat serves, and until when it did, by its own monotonic clock.
#[derive(Debug, Default)]
pub struct Serving([Served; crate::sim::pair::links::SEATS_MAX]);

#[derive(Clone, Copy, Debug, Default)]
struct Served {
    now: bool,
    until_ns: Option<u64>,
}

/// Whether a server of `role` gives leases in `state`.
pub fn serves(state: OwnState, role: Role) -> bool {
    match state {
        OwnState::CommunicationRecovery
        | OwnState::HotStandby
        | OwnState::LoadBalancing
        | OwnState::PassiveBackup
        | OwnState::Terminated => role != Role::Standby,
        OwnState::PartnerDown | OwnState::PartnerInMaintenance => true,
        OwnState::Backup
        | OwnState::InMaintenance
        | OwnState::Ready
        | OwnState::Syncing
        | OwnState::Waiting => false,
    }
}

impl Serving {
    /// A process has begun.
    pub fn started(&mut self, seat: usize) {
        self.0[seat] = Served::default();
    }

    /// The machine at `seat` is in `state`.
    pub fn note(&mut self, seat: usize, monotonic_ns: u64, serves: bool) {
        let served = &mut self.0[seat];
        if served.now && !serves {
            served.until_ns = Some(monotonic_ns);
        }
        served.now = serves;
    }

    /// Looks at a lease given now to a client whose REQUEST was first seen at `first`.
    pub fn gives(&self, seat: usize, first: Now) -> Result<(), String> {
        let served = self.0[seat];
        let in_time = served.until_ns.is_some_and(|until_ns| first.monotonic_ns <= until_ns + VIEW_WITHIN_NS);
        if served.now || in_time {
            return Ok(());
        }
        Err(format!("invariant 2: server{} gives a lease in a state that serves nobody", host_of(seat) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_of_a_server_that_does_not_serve_is_seen() {
        let at = |monotonic_ns| Now { monotonic_ns, wall_ms: 1 };
        let mut serving = Serving::default();
        assert!(serving.gives(0, at(1)).unwrap_err().starts_with("invariant 2"));
        serving.note(0, 5, true);
        assert_eq!(serving.gives(0, at(1)), Ok(()));
        serving.note(0, 9, false);
        assert_eq!(serving.gives(0, at(9)), Ok(()), "it was asked for in time");
        assert!(serving.gives(0, at(10 + VIEW_WITHIN_NS)).is_err());
        serving.note(0, 2 * VIEW_WITHIN_NS, true);
        serving.started(0);
        assert!(serving.gives(0, at(1)).is_err(), "a process that has just begun");
        assert!(!serves(OwnState::Waiting, Role::Primary) && !serves(OwnState::HotStandby, Role::Standby));
    }
}
