//! Walking options: code, length, payload; pad and end; overload (RFC 2132, RFC 3396).
//!
//! A walk never reads outside the bytes it is given. A last option that is cut off ends the walk silently
//! (PKT-22), and so does anything after the end option.

use std::net::Ipv4Addr;

use crate::wire::codes;

/// Walks the options of one area.
#[derive(Clone, Copy, Debug)]
pub struct OptionWalk<'a> {
    area: &'a [u8],
    at: usize,
}

/// One option as it stands in the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawOption<'a> {
    /// Option code, 1..=254.
    pub code: u8,
    /// Where its payload begins in the area.
    pub offset: usize,
    /// Its payload, 0..=255 octets.
    pub payload: &'a [u8],
}

impl<'a> OptionWalk<'a> {
    /// A walk from the start of `area`.
    pub const fn new(area: &'a [u8]) -> Self {
        Self { area, at: 0 }
    }
}

impl<'a> Iterator for OptionWalk<'a> {
    type Item = RawOption<'a>;

    fn next(&mut self) -> Option<RawOption<'a>> {
        loop {
            let code = *self.area.get(self.at)?;
            match code {
                codes::PAD => self.at += 1,
                codes::END => {
                    self.at = self.area.len();
                    return None;
                }
                code => {
                    let len = usize::from(*self.area.get(self.at + 1)?);
                    let offset = self.at + 2;
                    let Some(payload) = self.area.get(offset..offset + len) else {
                        self.at = self.area.len();
                        return None;
                    };
                    self.at = offset + len;
                    return Some(RawOption { code, offset, payload });
                }
            }
        }
    }
}

/// Walks the sub-options of an encapsulating option such as 82: as [`OptionWalk`], but 0 and 255 are codes
/// like any other (RFC 3046 section 2.0 knows neither pad nor end).
#[derive(Clone, Copy, Debug)]
pub struct SubOptionWalk<'a> {
    rest: &'a [u8],
}

impl<'a> SubOptionWalk<'a> {
    /// A walk from the start of `payload`.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }
}

impl<'a> Iterator for SubOptionWalk<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[code, len], rest) = self.rest.split_first_chunk::<2>()?;
        let (payload, rest) = rest.split_at_checked(usize::from(len))?;
        self.rest = rest;
        Some((code, payload))
    }
}

/// A payload of exactly four octets as an address.
pub fn read_address(payload: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(payload).ok().map(Ipv4Addr::from)
}

/// A payload of exactly four octets as a number.
pub fn read_u32(payload: &[u8]) -> Option<u32> {
    <[u8; 4]>::try_from(payload).ok().map(u32::from_be_bytes)
}

/// A payload of exactly two octets as a number.
pub fn read_u16(payload: &[u8]) -> Option<u16> {
    <[u8; 2]>::try_from(payload).ok().map(u16::from_be_bytes)
}

/// A set of option codes, such as a parameter request list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CodeSet([u64; 4]);

impl CodeSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; 4]);

    /// The set of `codes`.
    pub const fn of(codes: &[u8]) -> Self {
        let mut words = [0; 4];
        let mut at = 0;
        while at < codes.len() {
            words[(codes[at] >> 6) as usize] |= 1 << (codes[at] & 63);
            at += 1;
        }
        Self(words)
    }

    /// The codes of this set and of `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        self.words(other, |mine, theirs| mine | theirs)
    }

    /// The codes of this set that are in `other` too.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        self.words(other, |mine, theirs| mine & theirs)
    }

    /// The codes of this set that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self.words(other, |mine, theirs| mine & !theirs)
    }

    fn words(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        words.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine = each(*mine, theirs));
        Self(words)
    }

    /// Adds `code`.
    pub fn insert(&mut self, code: u8) {
        self.0[usize::from(code >> 6)] |= 1 << (code & 63);
    }

    /// Takes `code` out.
    pub fn remove(&mut self, code: u8) {
        self.0[usize::from(code >> 6)] &= !(1 << (code & 63));
    }

    /// Whether `code` is in the set.
    pub fn contains(&self, code: u8) -> bool {
        self.0[usize::from(code >> 6)] & (1 << (code & 63)) != 0
    }

    /// The codes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        let mut words = self.0;
        let mut word = 0;
        std::iter::from_fn(move || {
            while words[word] == 0 {
                if word + 1 == words.len() {
                    return None;
                }
                word += 1;
            }
            let bit = words[word].trailing_zeros() as u8;
            words[word] &= words[word] - 1;
            Some(word as u8 * 64 + bit)
        })
    }
}

impl FromIterator<u8> for CodeSet {
    fn from_iter<I: IntoIterator<Item = u8>>(codes: I) -> Self {
        let mut set = Self::EMPTY;
        codes.into_iter().for_each(|code| set.insert(code));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_stops_where_the_options_stop() {
        type Row<'a> = (&'a str, &'a [u8], &'a [(u8, &'a [u8])]);
        let table: &[Row] = &[
            ("nothing", &[], &[]),
            ("only pads", &[0, 0, 0], &[]),
            ("an end at once", &[255, 53, 1, 1], &[]),
            ("pads between", &[0, 53, 1, 1, 0, 0, 12, 2, 7, 8, 255], &[(53, &[1]), (12, &[7, 8])]),
            ("no end", &[53, 1, 1], &[(53, &[1])]),
            ("PKT-22: data after the end", &[53, 1, 1, 255, 12, 1, 9], &[(53, &[1])]),
            ("PKT-22: a code without length", &[53, 1, 1, 12], &[(53, &[1])]),
            ("PKT-22: a payload cut off", &[53, 1, 1, 12, 5, 1, 2], &[(53, &[1])]),
            ("an empty payload", &[80, 0, 53, 1, 3], &[(80, &[]), (53, &[3])]),
        ];
        for (case, area, expected) in table {
            let found: Vec<_> = OptionWalk::new(area).map(|option| (option.code, option.payload)).collect();
            assert_eq!(&found, expected, "{case}");
        }
    }

    #[test]
    fn a_sub_option_walk_knows_neither_pad_nor_end() {
        let found: Vec<_> = SubOptionWalk::new(&[0, 1, 9, 255, 0, 1, 2, 3, 4, 7, 9, 1]).collect();
        assert_eq!(found, [(0, &[9][..]), (255, &[]), (1, &[3, 4])]);
    }

    #[test]
    fn a_code_set_lists_its_codes_in_ascending_order() {
        let mut set: CodeSet = [255, 0, 63, 64, 53, 53].into_iter().collect();
        set.remove(64);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 53, 63, 255]);
        assert!(set.contains(63) && !set.contains(64));
        const OTHER: CodeSet = CodeSet::of(&[1, 63, 200]);
        let codes = |set: CodeSet| set.iter().collect::<Vec<_>>();
        assert_eq!(codes(set.with(OTHER)), [0, 1, 53, 63, 200, 255]);
        assert_eq!(codes(set.within(OTHER)), [63]);
        assert_eq!(codes(set.without(OTHER)), [0, 53, 255]);
    }
}
