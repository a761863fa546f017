//! A byte string that lives inline while it is short.
//!
//! Hardware addresses and almost all client identifiers fit inline, so taking a copy of one does not
//! allocate; a longer one (a client identifier has up to 255 octets) lives on the heap.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Octets kept inline: with the length and the tag this makes 24 bytes.
pub const INLINE_OCTETS_MAX: usize = 22;

/// An immutable byte string of up to 2^32 octets.
#[derive(Clone)]
pub struct SmallBytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, octets: [u8; INLINE_OCTETS_MAX] },
    Heap(Box<[u8]>),
}

impl SmallBytes {
    /// The empty string.
    pub const fn empty() -> Self {
        Self(Repr::Inline { len: 0, octets: [0; INLINE_OCTETS_MAX] })
    }

    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_OCTETS_MAX {
            let mut octets = [0; INLINE_OCTETS_MAX];
            octets[..bytes.len()].copy_from_slice(bytes);
            return Self(Repr::Inline { len: bytes.len() as u8, octets });
        }
        Self(Repr::Heap(bytes.into()))
    }

    /// The octets.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, octets } => &octets[..usize::from(*len)],
            Repr::Heap(octets) => octets,
        }
    }

    /// Whether there are no octets.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// How many octets there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl Default for SmallBytes {
    fn default() -> Self {
        Self::empty()
    }
}

impl std::ops::Deref for SmallBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for SmallBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl PartialEq for SmallBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SmallBytes {}

impl Hash for SmallBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.as_slice().iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_keeps_its_octets_on_both_sides_of_the_inline_limit() {
        for len in [0, 1, 6, INLINE_OCTETS_MAX, INLINE_OCTETS_MAX + 1, 255] {
            let octets: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let bytes = SmallBytes::new(&octets);
            assert_eq!(bytes.as_slice(), &octets[..]);
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes, SmallBytes::from(&octets[..]));
        }
        assert_eq!(size_of::<SmallBytes>(), 24);
    }
}
