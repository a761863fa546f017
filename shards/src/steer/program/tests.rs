//! The steering programs, run by a small interpreter against the hash they are built from.

use proptest::prelude::*;

use super::*;

/// What the kernel knows of a frame beside its octets.
#[derive(Clone, Copy)]
struct Facts {
    vlan: bool,
    ifindex: u32,
    packet_type: u32,
}

const IFINDEX: u32 = 3;
const BROADCAST: Facts = Facts { vlan: false, ifindex: IFINDEX, packet_type: 1 };

/// Runs a program as the kernel does: a load beyond the packet ends it with 0. Panics on what the kernel's
/// checker refuses: unknown operations, jumps out of the program, scratch words read before they are written.
fn run(program: &[Instruction], packet: &[u8], facts: Facts) -> u32 {
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut scratch = [None; 16];
    let mut at = 0;
    let load = |offset: u32, size: usize| -> Option<u32> {
        let octets = packet.get(offset as usize..)?.get(..size)?;
        Some(octets.iter().fold(0, |value, &octet| value << 8 | u32::from(octet)))
    };
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let loaded = match code {
            LD_W_ABS if k == VLAN_TAG_PRESENT => Some(Some(u32::from(facts.vlan))),
            LD_W_ABS if k == INTERFACE => Some(Some(facts.ifindex)),
            LD_W_ABS if k == PACKET_TYPE => Some(Some(facts.packet_type)),
            LD_W_ABS => Some(load(k, 4)),
            LD_H_ABS => Some(load(k, 2)),
            LD_B_ABS => Some(load(k, 1)),
            LD_W_IND => Some(x.checked_add(k).and_then(|offset| load(offset, 4))),
            LD_H_IND => Some(x.checked_add(k).and_then(|offset| load(offset, 2))),
            LD_B_IND => Some(x.checked_add(k).and_then(|offset| load(offset, 1))),
            _ => None,
        };
        let condition = match code {
            JMP_JEQ_K => Some(a == k),
            JMP_JGE_K => Some(a >= k),
            JMP_JGT_K => Some(a > k),
            JMP_JSET_K => Some(a & k != 0),
            _ => None,
        };
        match (code, loaded, condition) {
            (_, Some(Some(value)), _) => a = value,
            (_, Some(None), _) => return 0,
            (_, _, Some(condition)) => at += usize::from(if condition { jt } else { jf }),
            (LD_IMM, ..) => a = k,
            (LD_LEN, ..) => a = packet.len() as u32,
            (LD_MEM, ..) => a = scratch[k as usize].expect("written before"),
            (LDX_MEM, ..) => x = scratch[k as usize].expect("written before"),
            (LDX_MSH, ..) => match load(k, 1) {
                Some(octet) => x = (octet & 0x0f) * 4,
                None => return 0,
            },
            (ST, ..) => scratch[k as usize] = Some(a),
            (ALU_ADD_K, ..) => a = a.wrapping_add(k),
            (ALU_ADD_X, ..) => a = a.wrapping_add(x),
            (ALU_AND_K, ..) => a &= k,
            (ALU_LSH_K, ..) => a <<= k,
            (ALU_LSH_X, ..) => a = a.checked_shl(x).expect("shift below 32"),
            (ALU_MOD_K, ..) => a %= k,
            (ALU_MUL_K, ..) => a = a.wrapping_mul(k),
            (ALU_RSH_K, ..) => a >>= k,
            (ALU_RSH_X, ..) => a = a.checked_shr(x).expect("shift below 32"),
            (ALU_SUB_X, ..) => a = a.wrapping_sub(x),
            (ALU_XOR_X, ..) => a ^= x,
            (JMP_JA, ..) => at += k as usize,
            (MISC_TAX, ..) => x = a,
            (MISC_TXA, ..) => a = x,
            (RET_A, ..) => return a,
            (RET_K, ..) => return k,
            _ => panic!("unknown operation {code:#x}"),
        }
    }
}

/// An IP header of `words` × 4 octets and a UDP header to `port` before `message`.
fn packet(words: u8, port: u16, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xaa; usize::from(words) * 4];
    packet[0] = 0x40 | words;
    packet[6..10].copy_from_slice(&[0x40, 0, 64, 17]);
    packet[16..20].copy_from_slice(&[255; 4]);
    packet.extend_from_slice(&[0, 68]);
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&[1, 2, 3, 4]);
    packet.extend_from_slice(message);
    packet
}

#[test]
fn programs_are_short_and_their_jumps_stay_inside() {
    let hash = SteerHash::new(7, 64);
    let many = [Ipv4Addr::LOCALHOST; DESTINATIONS_MAX];
    for program in [
        reuseport(&hash, false),
        reuseport(&hash, true),
        socket_filter(&hash, 3),
        fanout(&hash, false),
        fanout(&hash, true),
        raw_filter(IFINDEX, 67, &many),
        raw_filter(IFINDEX, 67, &[]),
    ] {
        assert!(program.len() <= 200, "{}", program.len());
        for (at, instruction) in program.iter().enumerate() {
            let far = match instruction.code {
                JMP_JA => instruction.k as usize,
                _ => usize::from(instruction.jt.max(instruction.jf)),
            };
            assert!(at + 1 + far < program.len() || matches!(instruction.code, RET_A | RET_K), "{at}");
        }
    }
    assert_eq!(size_of::<Instruction>(), 8);
}

#[test]
fn the_raw_filter_takes_dhcp_and_nothing_else() {
    let good = packet(5, 67, &[0; 300]);
    let changed = |at: usize, octets: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + octets.len()].copy_from_slice(octets);
        packet
    };
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let tagged = Facts { vlan: true, ..BROADCAST };
    let vlan_interface = Facts { ifindex: IFINDEX + 1, ..BROADCAST };
    let foreign = Facts { packet_type: OTHER_HOST, ..BROADCAST };
    for (name, packet, facts, expected) in [
        ("broadcast", good.clone(), BROADCAST, true),
        ("to us", changed(16, &own.octets()), Facts { packet_type: 0, ..BROADCAST }, true),
        ("to another", changed(16, &[192, 0, 2, 2]), BROADCAST, false),
        ("directed broadcast", changed(16, &[192, 0, 2, 255]), BROADCAST, false),
        ("may be fragmented", changed(6, &[0, 0]), BROADCAST, true),
        ("first fragment", changed(6, &[0x20, 0]), BROADCAST, false),
        ("later fragment", changed(6, &[0, 1]), BROADCAST, false),
        ("TCP", changed(9, &[6]), BROADCAST, false),
        ("IP version 6", changed(0, &[0x65]), BROADCAST, false),
        ("other port", changed(22, &[0, 68]), BROADCAST, false),
        ("VLAN tag", good.clone(), tagged, false),
        ("of a VLAN's interface", good.clone(), vlan_interface, false),
        ("of a VLAN that is not here", good.clone(), foreign, false),
        ("options", packet(9, 67, &[0; 300]), BROADCAST, true),
        ("cut off", good[..23].to_vec(), BROADCAST, false),
        ("empty", Vec::new(), BROADCAST, false),
    ] {
        for (ethernet_type, accepts) in [([8, 0], true), ([0x86, 0xdd], false)] {
            let frame = [&[2; 12][..], &ethernet_type, &packet].concat();
            let accepted = run(&raw_filter(IFINDEX, 67, &[own]), &frame, facts) > 0;
            assert_eq!(accepted, expected && accepts, "{name} {ethernet_type:?}");
        }
    }
    let elsewhere = [&[2; 12][..], &[8, 0], &changed(16, &[192, 0, 2, 2])].concat();
    assert!(run(&raw_filter(IFINDEX, 67, &[]), &elsewhere, BROADCAST) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn programs_and_hash_agree_for_every_packet(
        seed in any::<u64>(), shards in 1..=64_u8, words in 5..=15_u8, hlen in prop_oneof![0..=18_u8, any::<u8>()],
        mut message in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            proptest::collection::vec(any::<u8>(), 236..300),
        ],
        options in prop_oneof![
            Just(vec![0x63, 0x82, 0x53, 0x63, 53, 1, 1]),
            (any::<usize>(), any::<u8>()).prop_map(|(at, octet)| {
                let mut options = vec![0x63, 0x82, 0x53, 0x63, 53, 1, 1];
                options[at % 7] = octet;
                options
            }),
        ],
    ) {
        if let Some(octet) = message.get_mut(HLEN_OFFSET) {
            *octet = hlen;
        }
        for (octet, option) in message.iter_mut().skip(queue::COOKIE_OFFSET).zip(options) {
            *octet = option;
        }
        let hash = SteerHash::new(seed, shards);
        let shard = hash.shard_of_message(&message);
        let packet = packet(words, 67, &message);
        let header = usize::from(words) * 4;
        for (divided, queue) in [(false, Queue::Main), (true, Queue::of_message(&message))] {
            let place = u32::from(queue.place(shard, shards));
            prop_assert_eq!(run(&reuseport(&hash, divided), &message, BROADCAST), place);
            prop_assert_eq!(run(&fanout(&hash, divided), &packet, BROADCAST), place);
        }
        let accepting =
            (0..shards).filter(|&own| run(&socket_filter(&hash, own), &packet[header..], BROADCAST) > 0);
        prop_assert_eq!(accepting.map(u32::from).collect::<Vec<_>>(), vec![u32::from(shard)]);
    }

    #[test]
    fn any_octets_give_a_place_that_exists(octets in proptest::collection::vec(any::<u8>(), 0..120), shards in 1..=64_u8) {
        let hash = SteerHash::new(1, shards);
        for (divided, queues) in [(false, 1), (true, 2)] {
            prop_assert!(run(&fanout(&hash, divided), &octets, BROADCAST) < queues * u32::from(shards));
            prop_assert!(run(&reuseport(&hash, divided), &octets, BROADCAST) < queues * u32::from(shards));
        }
        run(&raw_filter(IFINDEX, 67, &[Ipv4Addr::LOCALHOST]), &octets, BROADCAST);
    }
}
