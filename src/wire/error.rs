//! Every way in which a received message can be malformed.

use thiserror::Error;

/// Why a datagram is not a DHCPv4 message that can be served. Each variant has a counter of its own; all of
/// them count as Kea's `pkt4-parse-failed` and `pkt4-receive-drop`.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
pub enum WireError {
    /// The magic cookie is not 99.130.83.99 (PKT-20).
    #[error("the magic cookie is wrong")]
    BadCookie,
    /// Option 61 is there and does not have 2 to 255 octets (PKT-25).
    #[error("the client identifier does not have 2 to 255 octets")]
    ClientIdLength,
    /// hlen is larger than the chaddr field has octets; Kea was seen to drop such a message.
    #[error("the hardware address is longer than its field")]
    HardwareAddressLength,
    /// The instances of repeated options join to more than `limits::JOINED_OPTION_OCTETS_MAX` octets.
    #[error("options repeated in the message join to too many octets")]
    JoinedTooLong,
    /// Option 53 does not have exactly one octet.
    #[error("the message type does not have one octet")]
    MessageTypeLength,
    /// The fixed header is complete and the magic cookie is not (PKT-20).
    #[error("the magic cookie is missing")]
    MissingCookie,
    /// The datagram is longer than any UDP payload.
    #[error("the message is longer than a UDP payload can be")]
    TooLong,
    /// More options than `limits::OPTION_INSTANCES_MAX`, or more different ones than `limits::OPTIONS_MAX`.
    #[error("too many options")]
    TooManyOptions,
    /// Fewer than the 236 octets of the fixed header (PKT-20).
    #[error("the fixed header is incomplete")]
    TooShort,
}

impl WireError {
    /// All variants, in the order of [`WireError::index`].
    pub const ALL: [Self; 9] = [
        Self::BadCookie,
        Self::ClientIdLength,
        Self::HardwareAddressLength,
        Self::JoinedTooLong,
        Self::MessageTypeLength,
        Self::MissingCookie,
        Self::TooLong,
        Self::TooManyOptions,
        Self::TooShort,
    ];

    /// Place in a table of counters, 0..`ALL.len()`.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name of its counter.
    pub const fn counter_name(self) -> &'static str {
        match self {
            Self::BadCookie => "tandem-malformed-bad-cookie",
            Self::ClientIdLength => "tandem-malformed-client-id-length",
            Self::HardwareAddressLength => "tandem-malformed-hardware-address-length",
            Self::JoinedTooLong => "tandem-malformed-joined-too-long",
            Self::MessageTypeLength => "tandem-malformed-message-type-length",
            Self::MissingCookie => "tandem-malformed-missing-cookie",
            Self::TooLong => "tandem-malformed-too-long",
            Self::TooManyOptions => "tandem-malformed-too-many-options",
            Self::TooShort => "tandem-malformed-too-short",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_has_its_own_place_and_counter() {
        let mut names = std::collections::BTreeSet::new();
        for (place, error) in WireError::ALL.into_iter().enumerate() {
            assert_eq!(error.index(), place);
            assert!(names.insert(error.counter_name()), "{} is used twice", error.counter_name());
        }
    }
}
