//! SipHash-1-3 of octets that are there at once: the hash of the standard library's maps, without the state that it
//! keeps in order to take its input in pieces.

/// The hash of `octets` under the key (`k0`, `k1`) (Aumasson and Bernstein, 2012).
pub fn sip_hash(k0: u64, k1: u64, octets: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = octets.as_chunks();
    for word in words {
        compress(&mut state, u64::from_le_bytes(*word));
    }
    // The last word has what is left over, and in its highest octet the length.
    let mut last = (octets.len() as u64) << 56;
    for (index, octet) in rest.iter().enumerate() {
        last |= u64::from(*octet) << (8 * index);
    }
    compress(&mut state, last);
    state[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn compress(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline]
fn round(state: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v1);
    v0 = v0.wrapping_add(v3);
    v1 = v1.rotate_left(17) ^ v2;
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.rotate_left(32);
    *state = [v0, v1, v2, v3];
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn it_is_the_hash_of_the_standard_library() {
        let octets: Vec<u8> = (0..64).map(|octet: u8| octet.wrapping_mul(37)).collect();
        for len in 0..octets.len() {
            // The standard library's default hasher is SipHash-1-3 with the key (0, 0).
            let mut hasher = DefaultHasher::new();
            hasher.write(&octets[..len]);
            assert_eq!(sip_hash(0, 0, &octets[..len]), hasher.finish(), "{len} octets");
        }
        assert_ne!(sip_hash(1, 0, &octets), sip_hash(0, 1, &octets));
    }
}
