//! The hash that decides which shard a client arrives at, the same in the kernel and here.
//!
//! Words of four octets are mixed in by multiply and shift, and the high bits of the product is taken modulo
//! the shards: all of it exists in classic BPF. The multiplier comes from the installation's secret, so that
//! an outsider cannot choose addresses that all land on one core, and a restart keeps the mapping. Octets of
//! `chaddr` beyond `hlen` do not count: some clients leave rubbish there.

/// `chaddr` has this many octets, whatever `hlen` says (RFC 2131 §2).
pub const CHADDR_OCTETS: usize = 16;

/// Offset of `hlen` in a DHCP message.
pub const HLEN_OFFSET: usize = 2;

/// Offset of `chaddr` in a DHCP message.
pub const CHADDR_OFFSET: usize = 28;

/// A shorter message has no `chaddr` and is shard 0's, which counts it.
pub const MESSAGE_OCTETS_MIN: usize = CHADDR_OFFSET + CHADDR_OCTETS;

/// Bits a mixed word is shifted down by.
pub(super) const MIX_SHIFT: u32 = 15;

/// Bits the last product is shifted down by.
pub(super) const FINAL_SHIFT: u32 = 20;

/// Spreads hardware addresses and client identifiers over the shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SteerHash {
    multiplier: u32,
    shards: u8,
}

impl SteerHash {
    /// A hash over `shards` shards; `seed` is the installation's secret.
    ///
    /// # Panics
    /// When `shards` is not 1..=64.
    pub fn new(seed: u64, shards: u8) -> Self {
        assert!((1..=64).contains(&shards), "shard count {shards} is not 1..=64");
        let mut state = seed;
        loop {
            // A number with few or with many bits set would leave words almost as they are.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let multiplier = ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32) as u32 | 1;
            if (12..=20).contains(&multiplier.count_ones()) {
                return Self { multiplier, shards };
            }
        }
    }

    /// Shard of a hardware address, `chaddr[..hlen]`, or of a client identifier.
    pub fn shard_of(&self, identity: &[u8]) -> u8 {
        let mut hash = identity.len() as u32;
        for chunk in identity.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u32::from_be_bytes(word)).wrapping_mul(self.multiplier);
            hash ^= hash >> MIX_SHIFT;
        }
        // Once more, so that a short identity is mixed as well as a long one.
        hash = hash.wrapping_mul(self.multiplier);
        hash ^= hash >> MIX_SHIFT;
        let product = hash.wrapping_mul(self.multiplier);
        ((product >> FINAL_SHIFT) % u32::from(self.shards)) as u8
    }

    /// Shard the kernel gives a DHCP message to: that of its hardware address, 0 when it is too short. An
    /// `hlen` above 16 counts as 16.
    pub fn shard_of_message(&self, message: &[u8]) -> u8 {
        if message.len() < MESSAGE_OCTETS_MIN {
            return 0;
        }
        let hlen = usize::from(message[HLEN_OFFSET]).min(CHADDR_OCTETS);
        self.shard_of(&message[CHADDR_OFFSET..CHADDR_OFFSET + hlen])
    }

    /// The multiplier, odd.
    pub fn multiplier(&self) -> u32 {
        self.multiplier
    }

    /// How many shards there are.
    pub fn shards(&self) -> u8 {
        self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1,000 addresses of `hlen` octets that differ only in the last ones, how many each of four shards
    /// gets.
    fn spread(seed: u64, hlen: usize, step: u32) -> [u32; 4] {
        let hash = SteerHash::new(seed, 4);
        let mut spread = [0; 4];
        for index in 0..1000_u32 {
            let mut chaddr = [0x52; CHADDR_OCTETS];
            chaddr[hlen - 2..hlen].copy_from_slice(&((index * step) as u16).to_be_bytes());
            spread[usize::from(hash.shard_of(&chaddr[..hlen]))] += 1;
        }
        spread
    }

    #[test]
    fn addresses_that_differ_only_in_their_last_octets_spread_evenly() {
        for seed in 0..100 {
            for hlen in [2, 3, 4, 5, 6, 7, 8, 12, 16] {
                // Chance alone spreads 1,000 addresses by more than 50 in one of some thousand cases.
                for step in [1, 4, 16, 64] {
                    let allowed = if (hlen, step) == (6, 1) { 200..=300 } else { 150..=350 };
                    let spread = spread(seed, hlen, step);
                    assert!(
                        spread.iter().all(|count| allowed.contains(count)),
                        "seed {seed}, hlen {hlen}, step {step}: {spread:?}"
                    );
                }
            }
        }
    }

    /// What the client of a number is known by.
    type Identity = fn(u32) -> Vec<u8>;

    /// Hardware addresses as networks have them, and identifiers made from them.
    const POPULATIONS: [(&str, Identity); 9] = [
        ("one vendor, in order", |n| mac([0x00, 0x1b, 0x21], n)),
        ("one vendor, every other", |n| mac([0x00, 0x1b, 0x21], n * 2)),
        ("one vendor, every 16th", |n| mac([0x00, 0x1b, 0x21], n * 16)),
        ("one vendor, every 256th", |n| mac([0x00, 0x1b, 0x21], n << 8)),
        ("eight vendors, in order", |n| mac([0x00, 0x50, (n % 8) as u8 * 3], 0x4000 + n / 8)),
        ("containers", |n| [&[0x02, 0x42][..], &(0xac11_0002 + n).to_be_bytes()].concat()),
        ("virtual machines", |n| mac([0x52, 0x54, 0x00], scatter(n) & 0xff_ffff)),
        ("private addresses of telephones", |n| {
            let [a, b, c, d] = scatter(n).to_be_bytes();
            vec![a & 0xfc | 2, b, c, d, (scatter(!n) >> 8) as u8, scatter(!n) as u8]
        }),
        ("identifiers of RFC 4361", |n| {
            [&[255, 0, 0, 0, 1, 0, 3, 0, 1][..], &mac([0x00, 0x1b, 0x21], n)].concat()
        }),
    ];

    fn mac(vendor: [u8; 3], number: u32) -> Vec<u8> {
        [&vendor[..], &number.to_be_bytes()[1..]].concat()
    }

    /// Numbers without an order, each once.
    fn scatter(number: u32) -> u32 {
        let mixed = number.wrapping_mul(0x9e37_79b1);
        (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca6b)
    }

    #[test]
    fn ten_thousand_clients_are_shared_within_a_tenth() {
        for (name, identity) in POPULATIONS {
            let identities: Vec<Vec<u8>> = (0..10_000).map(identity).collect();
            for (shards, seed) in (2..=8).flat_map(|shards| (0..8).map(move |seed| (shards, seed))) {
                let hash = SteerHash::new(seed, shards);
                let mut shares = vec![0; usize::from(shards)];
                identities.iter().for_each(|identity| shares[usize::from(hash.shard_of(identity))] += 1);
                let mean = 10_000 / i32::from(shards);
                assert!(
                    shares.iter().all(|share: &i32| (share - mean).abs() <= mean / 10),
                    "{name}, {shards} shards, seed {seed}: {shares:?}"
                );
            }
        }
    }

    #[test]
    fn octets_beyond_hlen_do_not_count_and_the_seed_does() {
        let hash = SteerHash::new(1, 64);
        let mut message = [0; MESSAGE_OCTETS_MIN];
        message[HLEN_OFFSET] = 6;
        message[CHADDR_OFFSET..CHADDR_OFFSET + 6].copy_from_slice(&[2, 0, 0, 1, 2, 3]);
        let shard = hash.shard_of_message(&message);
        assert_eq!(shard, hash.shard_of(&[2, 0, 0, 1, 2, 3]));
        message[CHADDR_OFFSET + 6] = 0xff;
        assert_eq!(hash.shard_of_message(&message), shard);
        assert_eq!(hash.shard_of_message(&message[..MESSAGE_OCTETS_MIN - 1]), 0);
        let differ =
            (0..100).filter(|&seed| SteerHash::new(seed, 64).shard_of_message(&message) != shard).count();
        assert!(differ > 90, "{differ}");
    }
}
