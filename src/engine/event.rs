//! Log events of the packet path: fixed-size values, formatted by the log thread.
//!
//! The packet path never formats text. It pushes an [`Event`] into `Actions.events`; the log thread filters by
//! [`Event::severity`] and [`Event::logger`] and writes [`Event::id`], a space and the `Display` text, which is
//! the text Kea's operators' tools match (PKT-16).

use std::fmt;
use std::net::Ipv4Addr;

/// Octets of a client identifier kept for the log; a longer one is cut and ends in `..`.
pub const CLIENT_ID_OCTETS_MAX: usize = 64;

/// How loud an event is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// At the debug level given (0..=99).
    Debug(u8),
    /// Normal operation.
    Info,
    /// Something an operator should know.
    Warn,
    /// Something an operator should act on.
    Error,
}

/// Who a query is from, as the log shows it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct ClientLabel {
    /// Hardware type.
    pub htype: u8,
    /// Octets of `hwaddr` in use.
    pub hlen: u8,
    /// chaddr.
    pub hwaddr: [u8; 16],
    /// Length of the client identifier, 0 when the client sent none.
    pub client_id_octets: u8,
    /// Its first octets.
    pub client_id: [u8; CLIENT_ID_OCTETS_MAX],
    /// Transaction id.
    pub xid: u32,
}

impl ClientLabel {
    /// The label of a client; longer byte strings are cut.
    pub fn new(htype: u8, hwaddr: &[u8], client_id: &[u8], xid: u32) -> Self {
        let mut label = Self {
            htype,
            hlen: hwaddr.len().min(16) as u8,
            hwaddr: [0; 16],
            client_id_octets: client_id.len().min(255) as u8,
            client_id: [0; CLIENT_ID_OCTETS_MAX],
            xid,
        };
        for (to, from) in label.hwaddr.iter_mut().zip(hwaddr) {
            *to = *from;
        }
        for (to, from) in label.client_id.iter_mut().zip(client_id) {
            *to = *from;
        }
        label
    }

    /// The hardware address.
    pub fn hwaddr(&self) -> &[u8] {
        &self.hwaddr[..usize::from(self.hlen)]
    }

    /// The client identifier, as far as it is kept; empty when the client sent none.
    pub fn client_id(&self) -> &[u8] {
        &self.client_id[..usize::from(self.client_id_octets).min(CLIENT_ID_OCTETS_MAX)]
    }
}

impl fmt::Display for ClientLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[hwtype={} ", self.htype)?;
        write_hex(f, self.hwaddr())?;
        f.write_str("], cid=[")?;
        if self.client_id_octets == 0 {
            f.write_str("no info")?;
        } else {
            write_hex(f, self.client_id())?;
            if self.client_id().len() < usize::from(self.client_id_octets) {
                f.write_str("..")?;
            }
        }
        write!(f, "], tid=0x{:x}", self.xid)
    }
}

impl fmt::Debug for ClientLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// No address found; `attempts` were looked at.
    AllocFail {
        /// Addresses looked at.
        attempts: u32,
    },
    /// … and the client has classes (every client has `ALL`).
    AllocFailClasses,
    /// … because no pool was available.
    AllocFailNoPools,
    /// … in a subnet.
    AllocFailSubnet {
        /// Its id.
        subnet_id: u32,
    },
    /// An address was declined.
    DeclineLease {
        /// The address.
        address: Ipv4Addr,
        /// Probation period.
        seconds: u32,
    },
    /// DECLINE for the lease of another client, or one that is not in force.
    DeclineLeaseMismatch {
        /// The address.
        address: Ipv4Addr,
    },
    /// DECLINE for an address without lease.
    DeclineLeaseNotFound {
        /// The address.
        address: Ipv4Addr,
    },
    /// Dropped as the retransmission of a query that is parked.
    DropDuplicate,
    /// Dropped because it could not be processed.
    DropProcessingFailed,
    /// Dropped because a limit is reached.
    DropQueueFull,
    /// Dropped: foreign server identifier.
    DropServerIdentifier,
    /// Dropped: the service is off.
    DropServiceDisabled,
    /// Dropped: no subnet for it.
    DropNoSubnet,
    /// Dropped: it breaks the RFC.
    DropRfcViolation,
    /// Dropped: it could not be read. The name says what is wrong.
    DropUnpack {
        /// Name of the fault.
        fault: &'static str,
    },
    /// Dropped: several relationships, and the `ha-server-name` of its subnet is no peer's.
    HaNoRelationship,
    /// Dropped: several relationships, and its subnet has no `ha-server-name`.
    HaNoServerName,
    /// Dropped: several relationships, and there is no subnet to tell whose it is.
    HaNoSubnet,
    /// Dropped: in the partner's scope.
    HaNotForUs,
    /// Dropped: several relationships, and the `ha-server-name` of its subnet is no name.
    HaServerNameInvalid,
    /// A client in INIT-REBOOT asks for its address.
    InitReboot {
        /// The address.
        address: Ipv4Addr,
    },
    /// A lease was given or renewed.
    LeaseAlloc {
        /// The address.
        address: Ipv4Addr,
        /// Lifetime.
        seconds: u32,
    },
    /// A lease is offered.
    LeaseOffer {
        /// The address.
        address: Ipv4Addr,
    },
    /// A lease was given again unchanged (ALC-52).
    LeaseReuse {
        /// The address.
        address: Ipv4Addr,
        /// Remaining lifetime.
        seconds: u32,
    },
    /// NAK: no subnet.
    NakNoSubnet,
    /// NAK: INIT-REBOOT with a wrong address.
    NakInitReboot {
        /// The address.
        address: Ipv4Addr,
    },
    /// NAK: the lease cannot be given.
    NakNoLease {
        /// ciaddr.
        ciaddr: Ipv4Addr,
        /// Option 50, 0.0.0.0 when absent.
        requested: Ipv4Addr,
    },
    /// A lease was released.
    Release {
        /// The address.
        address: Ipv4Addr,
    },
    /// … and kept for affinity.
    ReleaseExpired {
        /// The address.
        address: Ipv4Addr,
    },
    /// … and deleted.
    ReleaseDeleted {
        /// The address.
        address: Ipv4Addr,
    },
    /// RELEASE of an address without lease.
    ReleaseNoLease {
        /// The address.
        address: Ipv4Addr,
    },
    /// RELEASE of the lease of another client.
    ReleaseWrongClient {
        /// The address.
        address: Ipv4Addr,
    },
    /// The wall clock, by which leases are timed, was set.
    ClockStep {
        /// Seconds forward; back where negative.
        seconds: i64,
    },
    /// Expired leases are left after several reclaim cycles.
    ReclaimLeftovers {
        /// Cycles.
        cycles: u32,
    },
    /// The client's lease of an address that two clients hold, one by each server; another event follows or goes before,
    /// of the other lease.
    LeaseConflict {
        /// The address.
        address: Ipv4Addr,
        /// Seconds since the epoch: since when the client has it.
        cltt: u64,
        /// For how long.
        seconds: u32,
        /// Which of the two leases it is.
        side: ConflictSide,
    },
    /// More of such addresses than are told one by one.
    LeaseConflicts {
        /// How many since the last such message.
        count: u64,
    },
    /// A partner would have a lease of another relationship changed, and was refused.
    ForeignUpdate {
        /// The address.
        address: Ipv4Addr,
        /// How many more there were since the last such message.
        untold: u64,
    },
    /// A parked reply was dropped: the partner refused or did not take the update.
    ParkedDropped {
        /// The address of the lease.
        address: Ipv4Addr,
    },
}

/// A lease of an address that two clients hold, when an update of the partner shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConflictSide {
    /// Ours, which is overwritten.
    OursGivesWay,
    /// Ours, and the update is refused.
    OursStays,
    /// The partner's, which is refused.
    TheirsRefused,
    /// The partner's, which is written.
    TheirsTaken,
}

impl ConflictSide {
    /// Whose lease it is, and what becomes of it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::OursGivesWay => ("our", "gives way to the partner's, which is another client's"),
            Self::OursStays => ("our", "stays, and the partner's, which is another client's, is refused"),
            Self::TheirsRefused => ("the partner's", "is refused, because ours stays"),
            Self::TheirsTaken => ("the partner's", "is written in the place of ours"),
        }
    }
}

/// One log event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event {
    /// Who it is about; empty for events of no client.
    pub client: ClientLabel,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// Kea's message id.
    pub fn id(&self) -> &'static str {
        use EventKind as K;
        match self.kind {
            K::AllocFail { .. } => "ALLOC_ENGINE_V4_ALLOC_FAIL",
            K::AllocFailClasses => "ALLOC_ENGINE_V4_ALLOC_FAIL_CLASSES",
            K::AllocFailNoPools => "ALLOC_ENGINE_V4_ALLOC_FAIL_NO_POOLS",
            K::AllocFailSubnet { .. } => "ALLOC_ENGINE_V4_ALLOC_FAIL_SUBNET",
            K::DeclineLease { .. } => "DHCP4_DECLINE_LEASE",
            K::DeclineLeaseMismatch { .. } => "DHCP4_DECLINE_LEASE_MISMATCH",
            K::DeclineLeaseNotFound { .. } => "DHCP4_DECLINE_LEASE_NOT_FOUND",
            K::DropDuplicate => "DHCP4_PACKET_DROP_0011",
            K::DropProcessingFailed => "DHCP4_PACKET_DROP_0007",
            K::DropQueueFull => "DHCP4_PACKET_QUEUE_FULL",
            K::DropServerIdentifier => "DHCP4_PACKET_DROP_0003",
            K::DropServiceDisabled => "DHCP4_PACKET_DROP_0008",
            K::DropNoSubnet => "DHCP4_PACKET_DROP_0002",
            K::DropRfcViolation => "DHCP4_PACKET_DROP_0005",
            K::DropUnpack { .. } => "DHCP4_PACKET_DROP_0001",
            K::HaNoRelationship => "HA_SUBNET4_SELECT_NO_RELATIONSHIP_FOR_SUBNET",
            K::HaNoServerName => "HA_SUBNET4_SELECT_NO_RELATIONSHIP_SELECTOR_FOR_SUBNET",
            K::HaNoSubnet => "HA_SUBNET4_SELECT_NO_SUBNET_SELECTED",
            K::HaNotForUs => "HA_BUFFER4_RECEIVE_NOT_FOR_US",
            K::HaServerNameInvalid => "HA_SUBNET4_SELECT_INVALID_HA_SERVER_NAME",
            K::InitReboot { .. } => "DHCP4_INIT_REBOOT",
            K::LeaseAlloc { .. } => "DHCP4_LEASE_ALLOC",
            K::LeaseOffer { .. } => "DHCP4_LEASE_OFFER",
            K::LeaseReuse { .. } => "DHCP4_LEASE_REUSE",
            K::NakNoSubnet => "DHCP4_PACKET_NAK_0001",
            K::NakInitReboot { .. } => "DHCP4_PACKET_NAK_0002",
            K::NakNoLease { .. } => "DHCP4_PACKET_NAK_0004",
            K::Release { .. } => "DHCP4_RELEASE",
            K::ReleaseExpired { .. } => "DHCP4_RELEASE_EXPIRED",
            K::ReleaseDeleted { .. } => "DHCP4_RELEASE_DELETED",
            K::ReleaseNoLease { .. } => "DHCP4_RELEASE_FAIL_NO_LEASE",
            K::ReleaseWrongClient { .. } => "DHCP4_RELEASE_FAIL_WRONG_CLIENT",
            K::ClockStep { .. } => "TANDEM_CLOCK_STEP",
            K::ReclaimLeftovers { .. } => "ALLOC_ENGINE_V4_LEASES_RECLAMATION_SLOW",
            K::LeaseConflict { .. } => "TANDEM_HA_LEASE_CONFLICT",
            K::LeaseConflicts { .. } => "TANDEM_HA_LEASE_CONFLICTS",
            K::ForeignUpdate { .. } => "TANDEM_HA_FOREIGN_UPDATE",
            K::ParkedDropped { .. } => "HA_LEASE_UPDATE_REPLY_DROPPED",
        }
    }

    /// How loud it is in Kea.
    pub fn severity(&self) -> Severity {
        use EventKind as K;
        match self.kind {
            K::AllocFail { .. }
            | K::AllocFailClasses
            | K::AllocFailNoPools
            | K::AllocFailSubnet { .. }
            | K::DeclineLeaseMismatch { .. }
            | K::DeclineLeaseNotFound { .. }
            | K::ClockStep { .. }
            | K::ForeignUpdate { .. }
            | K::LeaseConflict { .. }
            | K::LeaseConflicts { .. }
            | K::ReclaimLeftovers { .. } => Severity::Warn,
            K::DeclineLease { .. }
            | K::InitReboot { .. }
            | K::LeaseAlloc { .. }
            | K::LeaseOffer { .. }
            | K::LeaseReuse { .. }
            | K::Release { .. }
            | K::ReleaseExpired { .. }
            | K::ReleaseDeleted { .. } => Severity::Info,
            K::HaServerNameInvalid => Severity::Error,
            K::ParkedDropped { .. }
            | K::HaNoRelationship
            | K::HaNoServerName
            | K::HaNoSubnet
            | K::HaNotForUs => Severity::Debug(40),
            K::ReleaseNoLease { .. } | K::ReleaseWrongClient { .. } => Severity::Debug(50),
            K::DropDuplicate
            | K::DropProcessingFailed
            | K::DropQueueFull
            | K::DropServerIdentifier
            | K::DropServiceDisabled
            | K::DropNoSubnet
            | K::DropRfcViolation
            | K::DropUnpack { .. }
            | K::NakNoSubnet
            | K::NakInitReboot { .. }
            | K::NakNoLease { .. } => Severity::Debug(15),
        }
    }

    /// Kea's logger.
    pub fn logger(&self) -> &'static str {
        use EventKind as K;
        match self.kind {
            K::AllocFail { .. }
            | K::AllocFailClasses
            | K::AllocFailNoPools
            | K::AllocFailSubnet { .. }
            | K::ClockStep { .. }
            | K::ReclaimLeftovers { .. } => "kea-dhcp4.alloc-engine",
            K::ForeignUpdate { .. }
            | K::HaNoRelationship
            | K::HaNoServerName
            | K::HaNoSubnet
            | K::HaNotForUs
            | K::HaServerNameInvalid
            | K::LeaseConflict { .. }
            | K::LeaseConflicts { .. }
            | K::ParkedDropped { .. } => "kea-dhcp4.ha-hooks",
            K::DropDuplicate
            | K::DropProcessingFailed
            | K::DropServerIdentifier
            | K::DropServiceDisabled
            | K::DropNoSubnet
            | K::DropRfcViolation
            | K::DropUnpack { .. }
            | K::NakNoSubnet
            | K::NakInitReboot { .. }
            | K::NakNoLease { .. } => "kea-dhcp4.bad-packets",
            K::DropQueueFull => "kea-dhcp4.packets",
            K::DeclineLease { .. }
            | K::DeclineLeaseMismatch { .. }
            | K::DeclineLeaseNotFound { .. }
            | K::InitReboot { .. }
            | K::LeaseAlloc { .. }
            | K::LeaseOffer { .. }
            | K::LeaseReuse { .. }
            | K::Release { .. }
            | K::ReleaseExpired { .. }
            | K::ReleaseDeleted { .. }
            | K::ReleaseNoLease { .. }
            | K::ReleaseWrongClient { .. } => "kea-dhcp4.leases",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use EventKind as K;
        let client = self.client;
        match self.kind {
            K::DeclineLease { address, seconds } => write!(
                f,
                "Received DHCPDECLINE for addr {address} from client {client}. \
                 The lease will be unavailable for {seconds} seconds."
            ),
            K::DeclineLeaseMismatch { address } => write!(
                f,
                "Received DHCPDECLINE for addr {address} from client {client}, but the data doesn't match"
            ),
            K::DeclineLeaseNotFound { address } => write!(
                f,
                "Received DHCPDECLINE for addr {address} from client {client}, but no such lease found."
            ),
            K::DropDuplicate => {
                write!(f, "dropped as sent by the same client as a packet being processed: {client}")
            }
            K::DropUnpack { fault } => write!(f, "failed to parse incoming packet: {fault}"),
            K::ClockStep { seconds } => {
                let direction = if seconds < 0 { "back" } else { "forward" };
                let by_s = seconds.unsigned_abs();
                write!(f, "the clock was set {direction} by {by_s} s; leases run out by the new time")
            }
            K::ReclaimLeftovers { cycles } => {
                write!(f, "expired leases still exist after {cycles} reclamations")
            }
            K::ForeignUpdate { address, untold } => write!(
                f,
                "a partner's change of {address} is refused, its subnet is of another relationship \
                 ({untold} more since the last such message)"
            ),
            K::LeaseConflicts { count } => write!(
                f,
                "{count} further addresses were held by two clients each, or were to be by the partner's updates"
            ),
            about_client => {
                write!(f, "{client}: ")?;
                write_about_client(f, about_client)
            }
        }
    }
}

/// What is said of a client after its label.
fn write_about_client(f: &mut fmt::Formatter<'_>, kind: EventKind) -> fmt::Result {
    use EventKind as K;
    match kind {
        K::AllocFail { attempts } => {
            write!(f, "failed to allocate an IPv4 address after {attempts} attempt(s)")
        }
        K::AllocFailClasses => {
            f.write_str("Failed to allocate an IPv4 address for client with classes: ALL, UNKNOWN")
        }
        K::AllocFailNoPools => f.write_str("no pools were available for the address allocation"),
        K::AllocFailSubnet { subnet_id } => {
            write!(f, "failed to allocate an IPv4 lease in the subnet-id {subnet_id}")
        }
        K::DropNoSubnet => f.write_str("no suitable subnet configured for a direct client"),
        K::DropProcessingFailed => f.write_str("failed to process packet"),
        K::DropQueueFull => f.write_str("a limit is reached, the query is dropped"),
        K::DropRfcViolation => f.write_str("it does not conform to RFC 2131"),
        K::DropServerIdentifier => f.write_str("it contains a foreign server identifier"),
        K::DropServiceDisabled => f.write_str("DHCP service is globally disabled"),
        K::HaNoRelationship => {
            f.write_str("the ha-server-name of its subnet matches no peer of a relationship")
        }
        K::HaNoServerName => f.write_str("its subnet has no ha-server-name, so it is of no relationship"),
        K::HaNoSubnet => f.write_str("no subnet was selected, so it is of no relationship"),
        K::HaNotForUs => f.write_str("dropping query to be processed by another server"),
        K::HaServerNameInvalid => f.write_str("the ha-server-name of its subnet is not a name"),
        K::InitReboot { address } => {
            write!(f, "client is in INIT-REBOOT state and requests address {address}")
        }
        K::LeaseAlloc { address, seconds } => {
            write!(f, "lease {address} has been allocated for {seconds} seconds")
        }
        K::LeaseOffer { address } => write!(f, "lease {address} will be offered"),
        K::LeaseReuse { address, seconds } => {
            write!(f, "lease {address} has been reused for {seconds} seconds")
        }
        K::LeaseConflict { address, cltt, seconds, side } => {
            let (whose, what) = side.words();
            write!(f, "{whose} lease of {address} since {cltt} for {seconds} s {what}")
        }
        K::NakInitReboot { address } => write!(f, "invalid address {address} requested by INIT-REBOOT"),
        K::NakNoLease { ciaddr, requested } => write!(
            f,
            "failed to grant a lease, client sent ciaddr {ciaddr}, requested-ip-address {requested}"
        ),
        K::NakNoSubnet => f.write_str("failed to select a subnet for incoming packet"),
        K::ParkedDropped { address } => {
            write!(f, "the reply for {address} is dropped, the partner did not take the lease update")
        }
        K::Release { address } => write!(f, "address {address} was released properly."),
        K::ReleaseDeleted { address } => write!(f, "address {address} was deleted on release"),
        K::ReleaseExpired { address } => write!(f, "address {address} expired on release"),
        K::ReleaseNoLease { address } => {
            write!(f, "client is trying to release non-existing lease {address}")
        }
        K::ReleaseWrongClient { address } => {
            write!(f, "client is trying to release the lease {address} which belongs to a different client")
        }
        K::DeclineLease { .. }
        | K::DeclineLeaseMismatch { .. }
        | K::DeclineLeaseNotFound { .. }
        | K::DropDuplicate
        | K::DropUnpack { .. }
        | K::ClockStep { .. }
        | K::ForeignUpdate { .. }
        | K::LeaseConflicts { .. }
        | K::ReclaimLeftovers { .. } => Ok(()),
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    for (index, octet) in octets.iter().enumerate() {
        if index > 0 {
            f.write_str(":")?;
        }
        write!(f, "{octet:02x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_as_in_kea() {
        let rows: [(&[u8], &[u8], &str); 3] = [
            (&[2, 0, 0, 0, 0, 1], &[], "[hwtype=1 02:00:00:00:00:01], cid=[no info], tid=0x1234"),
            (&[2, 0, 0, 0, 0, 1], &[1, 2], "[hwtype=1 02:00:00:00:00:01], cid=[01:02], tid=0x1234"),
            (&[], &[1, 2], "[hwtype=1 ], cid=[01:02], tid=0x1234"),
        ];
        for (hwaddr, client_id, text) in rows {
            assert_eq!(ClientLabel::new(1, hwaddr, client_id, 0x1234).to_string(), text);
        }
        let long = ClientLabel::new(1, &[0; 20], &[7; 255], 1).to_string();
        assert!(long.contains("07.."), "{long}");
    }

    #[test]
    fn a_lease_event_has_id_logger_severity_and_text() {
        let client = ClientLabel::new(1, &[2, 0, 0, 0, 0, 1], &[], 1);
        let kind = EventKind::LeaseAlloc { address: Ipv4Addr::new(192, 0, 2, 9), seconds: 600 };
        let event = Event { client, kind };
        assert_eq!(event.id(), "DHCP4_LEASE_ALLOC");
        assert_eq!(event.logger(), "kea-dhcp4.leases");
        assert_eq!(event.severity(), Severity::Info);
        assert_eq!(
            event.to_string(),
            "[hwtype=1 02:00:00:00:00:01], cid=[no info], tid=0x1: lease 192.0.2.9 has been allocated for 600 seconds"
        );
    }

    #[test]
    fn an_address_of_two_clients_is_told_with_whose_lease_stays() {
        let client = ClientLabel::new(1, &[2, 0, 0, 0, 0, 1], &[], 0);
        let address = Ipv4Addr::new(192, 0, 2, 9);
        for (side, text) in [
            (
                ConflictSide::OursGivesWay,
                "our lease of 192.0.2.9 since 1000 for 60 s gives way to the partner's",
            ),
            (ConflictSide::OursStays, "our lease of 192.0.2.9 since 1000 for 60 s stays"),
            (ConflictSide::TheirsRefused, "the partner's lease of 192.0.2.9 since 1000 for 60 s is refused"),
            (ConflictSide::TheirsTaken, "the partner's lease of 192.0.2.9 since 1000 for 60 s is written"),
        ] {
            let kind = EventKind::LeaseConflict { address, cltt: 1_000, seconds: 60, side };
            let event = Event { client, kind };
            assert_eq!((event.id(), event.severity()), ("TANDEM_HA_LEASE_CONFLICT", Severity::Warn));
            assert!(
                event
                    .to_string()
                    .contains(&format!("[hwtype=1 02:00:00:00:00:01], cid=[no info], tid=0x0: {text}"))
            );
        }
    }
}
