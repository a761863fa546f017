//! Whose a query is where two servers share the clients (RFC 3074, ha-protocol 5.8).
//!
//! Both servers hash what the client is known by and come to the same answer without a word between them. The
//! server identifier, the relay and the message type play no part: a REQUEST that names one server and hashes to
//! the other is the other's.

use crate::policy::Scope;

/// The permutation of RFC 3074 section 6.
const PERMUTATION: [u8; 256] = [
    251, 175, 119, 215, 81, 14, 79, 191, 103, 49, 181, 143, 186, 157, 0, 232, 31, 32, 55, 60, 152, 58, 17,
    237, 174, 70, 160, 144, 220, 90, 57, 223, 59, 3, 18, 140, 111, 166, 203, 196, 134, 243, 124, 95, 222,
    179, 197, 65, 180, 48, 36, 15, 107, 46, 233, 130, 165, 30, 123, 161, 209, 23, 97, 16, 40, 91, 219, 61,
    100, 10, 210, 109, 250, 127, 22, 138, 29, 108, 244, 67, 207, 9, 178, 204, 74, 98, 126, 249, 167, 116, 34,
    77, 193, 200, 121, 5, 20, 113, 71, 35, 128, 13, 182, 94, 25, 226, 227, 199, 75, 27, 41, 245, 230, 224,
    43, 225, 177, 26, 155, 150, 212, 142, 218, 115, 241, 73, 88, 105, 39, 114, 62, 255, 192, 201, 145, 214,
    168, 158, 221, 148, 154, 122, 12, 84, 82, 163, 44, 139, 228, 236, 205, 242, 217, 11, 187, 146, 159, 64,
    86, 239, 195, 42, 106, 198, 118, 112, 184, 172, 87, 2, 173, 117, 176, 229, 247, 253, 137, 185, 99, 164,
    102, 147, 45, 66, 231, 52, 141, 211, 194, 206, 246, 238, 56, 110, 78, 248, 63, 240, 189, 93, 92, 51, 53,
    183, 19, 171, 72, 50, 33, 104, 101, 69, 8, 252, 83, 120, 76, 135, 85, 54, 202, 125, 188, 213, 96, 235,
    136, 208, 162, 129, 190, 132, 156, 38, 47, 1, 7, 254, 24, 4, 216, 131, 89, 21, 28, 133, 37, 153, 149, 80,
    170, 68, 6, 169, 234, 151,
];

/// Hash of what a client is known by (RFC 3074 section 6): from the last octet to the first.
pub fn hash(key: &[u8]) -> u8 {
    let start = key.len() as u8;
    key.iter().rev().fold(start, |hash, octet| PERMUTATION[usize::from(hash ^ octet)])
}

/// Whose the client is of two servers: an even bucket is the primary's. The key is the client identifier, if there
/// is one with at least an octet, and else the hardware address; without either the client is nobody's.
pub fn bucket(client_id: &[u8], chaddr: &[u8]) -> Option<Scope> {
    let key = if client_id.is_empty() { chaddr } else { client_id };
    if key.is_empty() {
        return None;
    }
    Some(if hash(key).is_multiple_of(2) { Scope::Primary } else { Scope::Secondary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_permutation_names_every_octet_once() {
        let mut seen = PERMUTATION;
        seen.sort_unstable();
        assert!(seen.iter().enumerate().all(|(index, octet)| index == usize::from(*octet)));
    }

    /// The vectors of ha-protocol 5.8, the last ones counted up from 0.
    #[test]
    fn keys_hash_as_in_a_live_pair() {
        use Scope::{Primary, Secondary};
        let vectors = [
            ("00", 175, Secondary),
            ("0000", 150, Primary),
            ("01", 251, Secondary),
            ("0001", 120, Primary),
            ("ff", 234, Primary),
            ("0100", 155, Secondary),
            ("000000000000", 254, Primary),
            ("ff00", 168, Primary),
            ("ffffffffffff", 79, Secondary),
            ("aabbccddeeff", 57, Secondary),
            ("001122334455", 135, Secondary),
            ("01001122334455", 223, Secondary),
            ("525400123456", 156, Primary),
            ("01525400123456", 253, Secondary),
            ("020000000001", 133, Secondary),
            ("01020000000001", 14, Primary),
            ("020000000002", 45, Secondary),
            ("01020000000002", 66, Primary),
            ("ff56505d980002000000", 75, Secondary),
            ("ff0000000100012a3b4c5d525400123456", 99, Secondary),
        ];
        let written = vectors.iter().map(|(hex, hash, scope)| (octets(hex), *hash, *scope));
        let counted =
            [(0x0f, 155, Secondary), (0x3f, 110, Primary), (0x7f, 220, Primary), (0xfe, 188, Primary)];
        let counted = counted.map(|(last, hash, scope)| ((0..=last).collect(), hash, scope));
        for (key, expected, scope) in written.chain(counted) {
            assert_eq!((hash(&key), bucket(&key, &[])), (expected, Some(scope)), "{key:02x?}");
        }
    }

    #[test]
    fn neighbours_are_shared_out_evenly() {
        let primary = |last: &u8| bucket(&[], &[0x52, 0x54, 0, 0, 0, *last]) == Some(Scope::Primary);
        assert_eq!((0..=255).filter(primary).count(), 128);
    }

    #[test]
    fn a_client_identifier_with_octets_comes_before_the_hardware_address() {
        let chaddr = octets("020000000001");
        type Row<'a> = (&'a str, &'a [u8], &'a [u8], Option<Scope>);
        let rows: [Row; 4] = [
            ("client identifier", &[1, 2, 0, 0, 0, 0, 1], &chaddr, Some(Scope::Primary)),
            ("empty client identifier", &[], &chaddr, Some(Scope::Secondary)),
            ("client identifier alone", &[0, 0], &[], Some(Scope::Primary)),
            ("nothing", &[], &[], None),
        ];
        for (case, client_id, chaddr, scope) in rows {
            assert_eq!(bucket(client_id, chaddr), scope, "{case}");
        }
    }
}
