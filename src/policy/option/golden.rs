//! Payloads of options as a Kea 2.2 server sends them, taken from its replies; newer options from their RFCs.

use std::borrow::Cow;

use super::definitions::{DefinitionText, Definitions};
use super::scope::{OptionText, OptionWarning, compile_scope};
use super::{SPACE_DHCP4, SPACE_VENDOR_ENCAPSULATED};
use crate::policy::option_set::OptionSet;

/// Custom definitions the rows use: name, code, type, array, record types, space, space of sub-options.
#[rustfmt::skip]
const DEFINITIONS: &[(&str, u8, &str, bool, &str, &str, &str)] = &[
    ("i8", 224, "int8", false, "", "dhcp4", ""),
    ("i16", 225, "int16", false, "", "dhcp4", ""),
    ("p6", 226, "ipv6-prefix", false, "", "dhcp4", ""),
    ("p6z", 227, "ipv6-prefix", false, "", "dhcp4", ""),
    ("psid", 228, "psid", false, "", "dhcp4", ""),
    ("tup", 229, "tuple", true, "", "dhcp4", ""),
    ("a6", 230, "ipv6-address", true, "", "dhcp4", ""),
    ("rec", 231, "record", false, "uint8, uint16, binary", "dhcp4", ""),
    ("str", 233, "string", false, "", "dhcp4", ""),
    ("hexopt", 234, "binary", false, "", "dhcp4", ""),
    ("arrt", 235, "record", false, "tuple, tuple", "dhcp4", ""),
    ("fq", 236, "fqdn", false, "", "dhcp4", ""),
    ("contint", 237, "uint8", false, "", "dhcp4", "s237"),
    ("bools", 238, "boolean", true, "", "dhcp4", ""),
    ("sub1", 1, "ipv4-address", false, "", "s237", ""),
    ("sub2", 2, "string", false, "", "s237", ""),
    ("v7", 7, "uint16", false, "", "vendor-encapsulated-options-space", ""),
    ("v9", 9, "string", false, "", "vendor-encapsulated-options-space", ""),
];

/// Code, whether the data is text, data, payload in hexadecimal digits: as Kea 2.2 sent it.
#[rustfmt::skip]
const CAPTURED: &[(u8, bool, &str, &str)] = &[
    (2, true, "-25200", "ffff9d90"),
    (3, true, "192.0.2.2, 192.0.2.3", "c0000202c0000203"),
    (4, true, "192.0.2.4, 192.0.2.5", "c0000204c0000205"),
    (5, true, "192.0.2.6, 192.0.2.7", "c0000206c0000207"),
    (6, true, "192.0.2.8, 192.0.2.9", "c0000208c0000209"),
    (7, true, "192.0.2.10, 192.0.2.11", "c000020ac000020b"),
    (8, true, "192.0.2.12, 192.0.2.13", "c000020cc000020d"),
    (9, true, "192.0.2.14, 192.0.2.15", "c000020ec000020f"),
    (10, true, "192.0.2.16, 192.0.2.17", "c0000210c0000211"),
    (11, true, "192.0.2.18, 192.0.2.19", "c0000212c0000213"),
    (13, true, "1024", "0400"),
    (14, true, "/etc/crash-dump.img", "2f6574632f63726173682d64756d702e696d67"),
    (15, true, "my.example.org", "6d792e6578616d706c652e6f7267"),
    (16, true, "192.0.2.20", "c0000214"),
    (17, true, "/path/to/root", "2f706174682f746f2f726f6f74"),
    (18, true, "/path/to/extensions", "2f706174682f746f2f657874656e73696f6e73"),
    (19, true, "true", "01"),
    (20, true, "true", "01"),
    (21, true, "10.229.0.128, 255.255.255.128, 10.27.129.0, 255.255.255.0",
     "0ae50080ffffff800a1b8100ffffff00"),
    (22, true, "2048", "0800"),
    (23, true, "248", "f8"),
    (24, true, "131072", "00020000"),
    (25, true, "3072, 4096", "0c001000"),
    (26, true, "5120", "1400"),
    (27, true, "true", "01"),
    (28, true, "192.0.2.255", "c00002ff"),
    (29, true, "true", "01"),
    (30, true, "true", "01"),
    (31, true, "true", "01"),
    (32, true, "192.0.2.23", "c0000217"),
    (33, true, "192.0.2.24, 192.0.2.25", "c0000218c0000219"),
    (34, true, "true", "01"),
    (35, true, "196608", "00030000"),
    (36, true, "true", "01"),
    (37, true, "124", "7c"),
    (38, true, "262144", "00040000"),
    (39, true, "true", "01"),
    (40, true, "nis.example.org", "6e69732e6578616d706c652e6f7267"),
    (41, true, "192.0.2.26, 192.0.2.27", "c000021ac000021b"),
    (42, true, "192.0.2.28, 192.0.2.29", "c000021cc000021d"),
    (44, true, "192.0.2.30, 192.0.2.31", "c000021ec000021f"),
    (45, true, "192.0.2.32, 192.0.2.33", "c0000220c0000221"),
    (46, true, "0x1", "01"),
    (47, true, "scope42", "73636f70653432"),
    (48, true, "192.0.2.34, 192.0.2.35", "c0000222c0000223"),
    (49, true, "192.0.2.36, 192.0.2.37", "c0000224c0000225"),
    (54, true, "192.0.2.39", "c0000227"),
    (56, true, "Error: here is a DHCPNAK!", "4572726f723a2068657265206973206120444843504e414b21"),
    (60, true, "ISC", "495343"),
    (62, true, "nwip.example.org", "6e7769702e6578616d706c652e6f7267"),
    (63, true, "1A BB AD AB BA D0 00 00 00 00 00 00 00 00 CA FE", "1abbadabbad00000000000000000cafe"),
    (64, true, "nisplus.example.org", "6e6973706c75732e6578616d706c652e6f7267"),
    (65, true, "192.0.2.40", "c0000228"),
    (66, true, "tftp.example.org", "746674702e6578616d706c652e6f7267"),
    (67, true, "boot-file.img", "626f6f742d66696c652e696d67"),
    (68, true, "192.0.2.41, 192.0.2.42", "c0000229c000022a"),
    (69, true, "192.0.2.43, 192.0.2.44", "c000022bc000022c"),
    (70, true, "192.0.2.45, 192.0.2.46", "c000022dc000022e"),
    (71, true, "192.0.2.47, 192.0.2.48", "c000022fc0000230"),
    (72, true, "192.0.2.49, 192.0.2.50", "c0000231c0000232"),
    (73, true, "192.0.2.51, 192.0.2.52", "c0000233c0000234"),
    (74, true, "192.0.2.53, 192.0.2.54", "c0000235c0000236"),
    (75, true, "192.0.2.55, 192.0.2.56", "c0000237c0000238"),
    (76, true, "192.0.2.57, 192.0.2.58", "c0000239c000023a"),
    (77, true, "1A BB AD AB BA D0 00 00 00 00 00 00 00 00 CA FE", "1abbadabbad00000000000000000cafe"),
    (78, true, "true, 192.0.2.59, 192.0.2.60", "01c000023bc000023c"),
    (79, true, "true, slp-scope", "01736c702d73636f7065"),
    (85, true, "192.0.2.61, 192.0.2.62", "c000023dc000023e"),
    (86, true, "my-tree", "6d792d74726565"),
    (87, true, "context", "636f6e74657874"),
    (88, true, "bcms-controller.example.org",
     "0f62636d732d636f6e74726f6c6c6572076578616d706c65036f726700"),
    (89, true, "192.0.2.63", "c000023f"),
    (93, true, "6144, 7168", "18001c00"),
    (94, true, "0, 1, 0", "000100"),
    (97, true, "0, 1A BB AD AB BA D0 00 00 00 00 00 00 00 00 CA FE", "001abbadabbad00000000000000000cafe"),
    (98, true, "uap1.example.org uap2.example.org",
     "756170312e6578616d706c652e6f726720756170322e6578616d706c652e6f7267"),
    (99, true, "1A BB AD AB BA D0 00 00 00 00 00 00 00 00 CA FE", "1abbadabbad00000000000000000cafe"),
    (100, true, "EST5EDT4\\,M3.2.0/02:00\\,M11.1.0/02:00",
     "45535435454454342c4d332e322e302f30323a30302c4d31312e312e302f30323a3030"),
    (101, true, "Europe/Zurich", "4575726f70652f5a7572696368"),
    (108, true, "3600", "00000e10"),
    (112, true, "192.0.2.63, 192.0.2.64", "c000023fc0000240"),
    (113, true, "server1", "73657276657231"),
    (114, true, "https://default.example.org", "68747470733a2f2f64656661756c742e6578616d706c652e6f7267"),
    (116, true, "1", "01"),
    (117, true, "6, 41, 44, 65", "00060029002c0041"),
    (119, true, "example.com, example.org", "076578616d706c6503636f6d00076578616d706c65036f726700"),
    (124, true, "4491, 0f BA AD AB BA D0 00 00 00 00 00 00 00 00 CA FE",
     "0000118b0fbaadabbad00000000000000000cafe"),
    (136, true, "192.0.2.66, 192.0.2.67", "c0000242c0000243"),
    (137, true, "lost.example.org", "046c6f7374076578616d706c65036f726700"),
    (138, true, "192.0.2.68, 192.0.2.69", "c0000244c0000245"),
    (141, true, "example.com, example.org", "076578616d706c6503636f6d00076578616d706c65036f726700"),
    (146, true, "1, 192.0.2.70, 192.0.2.71, example.com, example.org",
     "01c0000246c0000247076578616d706c6503636f6d00076578616d706c65036f726700"),
    (159, true, "2, 3/4", "02043000"),
    (212, true, "24, 96, 2001:db8::f001, 192.0.2.72, 192.0.2.73",
     "186020010db800000000000000000000f001c0000248c0000249"),
    (213, true, "example.org", "076578616d706c65036f726700"),
    (224, true, "-5", "fb"),
    (225, true, "-300", "fed4"),
    (226, true, "2001:db8:ffff::/33", "2120010db880"),
    (227, true, "::/0", "00"),
    (228, true, "5/16", "100005"),
    (229, true, "hello, world", "0568656c6c6f05776f726c64"),
    (231, true, "1, 0x10, AB CD", "010010abcd"),
    (233, true, "a\\,b", "612c62"),
    (234, false, "0x0102030405", "0102030405"),
    (235, true, "one, two", "036f6e650374776f"),
    (236, true, "host.example.org.", "04686f7374076578616d706c65036f726700"),
    (238, true, "true, 0, 1, false", "01000100"),
];

/// The same for what Kea 2.2 cannot send: RFC 3442, RFC 8572, RFC 9463, and addresses of RFC 4291.
#[rustfmt::skip]
const BY_RFC: &[(u8, bool, &str, &str)] = &[
    (121, true, "10.229.0.128/25 - 10.229.0.1, 10.198.122.47/32 - 10.198.122.1",
     "190ae500800ae5000120 0ac67a2f0ac67a01"),
    (121, true, "0.0.0.0/0 - 192.0.2.1", "00c0000201"),
    (121, true, "10.255.0.0/8 - 192.0.2.1", "080ac0000201"),
    (121, false, "00 C0 00 02 01", "00c0000201"),
    (143, true, "ab, c", "00026162 000163"),
    (162, true, "3, a.example.", "000e 0003 0b 0161076578616d706c6500"),
    (162, true, "1, a.b., 10.2.3.4 10.0.4.5, port=8530 alpn=dot\\,h3",
     "0022 0001 05 01610162 00 08 0a020304 0a000405 0001 0007 03646f74 026833 0003 0002 2152"),
    (162, true, "1, a., 10.0.0.1 | 2, b., 10.0.0.2",
     "000b 0001 03 016100 04 0a000001 000b 0002 03 016200 04 0a000002"),
    (230, true, "2001:db8::1, ::1",
     "20010db8000000000000000000000001 00000000000000000000000000000001"),
];

fn definitions() -> Definitions {
    let mut definitions = Definitions::default();
    for (name, code, kind, array, record_types, space, encapsulate) in DEFINITIONS {
        let record_types = record_types.split(", ").filter(|word| !word.is_empty()).collect();
        let text =
            DefinitionText { name, code: *code, kind, array: *array, record_types, space, encapsulate };
        definitions.add(&text).expect(name);
    }
    definitions
}

fn entry(code: u8, space: &'static str, textual: bool, data: &'static str) -> OptionText<'static> {
    let (always_send, never_send) = (false, false);
    let data = Cow::Borrowed(data);
    OptionText {
        name: None,
        code: Some(code),
        space,
        data,
        csv_format: Some(textual),
        always_send,
        never_send,
    }
}

fn compile(list: &[OptionText<'_>]) -> OptionSet {
    let scope = compile_scope(list, &definitions()).expect("the entries are sound");
    let unexpected = scope.warnings.iter().find(|(_, warning)| *warning != OptionWarning::V6OnlyPreferred);
    assert_eq!(unexpected, None);
    scope.options
}

fn digits(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn payloads_are_those_that_kea_sends() {
    assert!(CAPTURED.len() > 90);
    for (code, textual, data, payload) in CAPTURED.iter().chain(BY_RFC) {
        let set = compile(&[entry(*code, SPACE_DHCP4, *textual, data)]);
        let got = set.get(*code).map(|option| digits(&option.payload));
        assert_eq!(Some(payload.replace(' ', "")), got, "option {code} from {data:?}");
    }
}

#[test]
fn sub_options_stand_behind_the_value_of_their_container_in_ascending_code() {
    let set = compile(&[
        entry(2, "s237", true, "hi"),
        entry(1, "s237", true, "1.2.3.4"),
        entry(237, SPACE_DHCP4, true, "7"),
        entry(9, SPACE_VENDOR_ENCAPSULATED, true, "zz"),
        entry(7, SPACE_VENDOR_ENCAPSULATED, true, "9"),
        entry(43, SPACE_DHCP4, true, ""),
    ]);
    // Both captured from Kea as well.
    assert_eq!(Some("0701040102030402026869".to_owned()), set.get(237).map(|option| digits(&option.payload)));
    assert_eq!(Some("0702000909027a7a".to_owned()), set.get(43).map(|option| digits(&option.payload)));
}

#[test]
fn sub_option_longer_than_255_octets_becomes_two_of_its_code() {
    let long: &'static str = "x".repeat(300).leak();
    let set = compile(&[entry(43, SPACE_DHCP4, true, ""), entry(9, SPACE_VENDOR_ENCAPSULATED, true, long)]);
    let payload = &set.get(43).expect("configured").payload;
    assert_eq!(
        (304, [9, 255], [9, 45]),
        (payload.len(), [payload[0], payload[1]], [payload[257], payload[258]])
    );
}

#[test]
fn vendor_options_are_kept_by_enterprise_and_vendor_classes_joined() {
    let set = compile(&[
        entry(125, SPACE_DHCP4, true, "4491"),
        entry(125, SPACE_DHCP4, true, "10"),
        entry(2, "vendor-4491", true, "192.0.2.1"),
        entry(1, "vendor-3561", false, "0102"),
        entry(124, SPACE_DHCP4, true, "4491, 01aa"),
        entry(124, SPACE_DHCP4, true, "10, 01bb"),
    ]);
    let vendors: Vec<(u32, bool, usize)> = set
        .vendors()
        .iter()
        .map(|vendor| (vendor.enterprise, vendor.container, vendor.options.len()))
        .collect();
    assert_eq!(vec![(10, true, 0), (3561, false, 1), (4491, true, 1)], vendors);
    assert_eq!("c0000201", digits(&set.vendors()[2].options[0].payload));
    assert_eq!(None, set.get(125));
    assert_eq!(
        Some("0000118b01aa0000000a01bb".to_owned()),
        set.get(124).map(|option| digits(&option.payload))
    );
}
