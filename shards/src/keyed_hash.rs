//! A cheap keyed hash for maps whose keys are numbers that an outsider can choose: addresses, keys of identities.
//!
//! A multiplication whose halves are folded together mixes every bit of the key into every bit of the hash; a second
//! one follows, because the high bits of neighbours' products lie in clusters under one multiplier in some hundred. Both
//! operands are secret and drawn anew for each map, and no hash ever leaves the process, so that nobody can choose
//! numbers that collide. The standard library's SipHash does the same for strings of any length, at several times
//! the price of a look-up.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes the hashers of one map.
#[derive(Clone, Copy, Debug)]
pub struct KeyedState {
    seed: u64,
    multiplier: u64,
}

/// Hashes one key.
#[derive(Clone, Copy, Debug)]
pub struct KeyedHasher {
    hash: u64,
    multiplier: u64,
}

impl Default for KeyedState {
    /// With secrets of its own.
    fn default() -> Self {
        let random = RandomState::new();
        // An odd multiplier maps no two numbers to one.
        Self { seed: random.hash_one(0), multiplier: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { hash: self.seed, multiplier: self.multiplier }
    }
}

impl Hasher for KeyedHasher {
    fn finish(&self) -> u64 {
        fold(self.hash, self.multiplier.rotate_left(32) | 1)
    }

    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.hash = fold(self.hash ^ number, self.multiplier);
    }
}

fn fold(number: u64, multiplier: u64) -> u64 {
    let product = u128::from(number) * u128::from(multiplier);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_spread_over_low_and_high_bits_and_the_secret_counts() {
        // Multipliers that cluster are rare: each run looks at as many as show one.
        (0..400).for_each(|_| spread(KeyedState::default(), KeyedState::default()));
    }

    fn spread(one: KeyedState, other: KeyedState) {
        let hashes = |state: KeyedState| (0..4096_u32).map(move |number| state.hash_one(number));
        for step in [0, 25, 57] {
            let mut counts = [0; 128];
            hashes(one).for_each(|hash| counts[(hash >> step & 127) as usize] += 1);
            // 32 in each by chance alone; more than 80 would be twice in a universe.
            assert!(counts.iter().all(|count| *count < 80), "bits from {step}: {counts:?}");
        }
        assert!(hashes(one).zip(hashes(other)).all(|(one, other)| one != other));
    }

    #[test]
    fn octets_are_hashed_in_words() {
        let state = KeyedState::default();
        let hash = |octets: &[u8]| {
            let mut hasher = state.build_hasher();
            hasher.write(octets);
            hasher.finish()
        };
        assert_eq!(hash(&7_u64.to_le_bytes()), state.hash_one(7_u64));
        assert_ne!(hash(b"12345678a"), hash(b"12345678b"));
    }
}
