//! Which of a shard's two queues in the kernel a datagram waits in: all in one, or, while too many come, DISCOVERs apart.
//!
//! A server that has to refuse somebody refuses those to whom nothing was promised. Two sockets for each shard do that
//! where it costs the server nothing: the kernel drops what does not fit a queue, and the shard reads one queue before
//! the other. While nobody has to wait one queue is cheaper, because it is read by one call.
//!
//! A DISCOVER is known by option 53 right after the magic cookie, where every common client puts it. One that puts it
//! elsewhere, and whatever is no DHCP message, waits with the REQUESTs, and is decided all the same.

/// A queue; the order is that of reading.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Queue {
    /// REQUESTs, RELEASEs, DECLINEs, INFORMs and whatever else; DISCOVERs too, unless they are divided from them.
    Main,
    /// DISCOVERs, while they are divided from the others.
    Discovers,
}

/// Offset of the magic cookie in a DHCP message.
pub(super) const COOKIE_OFFSET: usize = 236;

/// The magic cookie (RFC 2131 §3).
pub(super) const COOKIE: u32 = 0x6382_5363;

/// Option 53 (message type) with one octet.
pub(super) const MESSAGE_TYPE: u16 = 0x3501;

/// DHCPDISCOVER.
pub(super) const DISCOVER: u8 = 1;

/// A shorter message shows no type.
pub(super) const TYPED_OCTETS_MIN: usize = COOKIE_OFFSET + 7;

impl Queue {
    /// Both, in the order of reading.
    pub const ALL: [Self; 2] = [Self::Main, Self::Discovers];

    /// The queue of a DHCP message while they are divided, as the kernel programs choose it.
    pub fn of_message(message: &[u8]) -> Self {
        let Some(typed) = message.get(COOKIE_OFFSET..TYPED_OCTETS_MIN) else { return Self::Main };
        let (cookie, option) = typed.split_at(4);
        let [code, length] = MESSAGE_TYPE.to_be_bytes();
        match cookie == COOKIE.to_be_bytes() && option == [code, length, DISCOVER] {
            true => Self::Discovers,
            false => Self::Main,
        }
    }

    /// Place of this queue's socket of `shard` in a group: the first queue of every shard, then the second.
    pub fn place(self, shard: u8, shards: u8) -> u8 {
        match self {
            Self::Main => shard,
            Self::Discovers => shards + shard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_discover_waits_apart() {
        let message = |tail: &[u8]| [&[0; COOKIE_OFFSET][..], tail].concat();
        let cookie = [0x63, 0x82, 0x53, 0x63];
        for (name, message, expected) in [
            ("DISCOVER", message(&[&cookie[..], &[53, 1, 1, 255]].concat()), Queue::Discovers),
            (
                "DISCOVER that ends with its type",
                message(&[&cookie[..], &[53, 1, 1]].concat()),
                Queue::Discovers,
            ),
            ("REQUEST", message(&[&cookie[..], &[53, 1, 3, 255]].concat()), Queue::Main),
            ("RELEASE", message(&[&cookie[..], &[53, 1, 7, 255]].concat()), Queue::Main),
            ("DISCOVER after a pad", message(&[&cookie[..], &[0, 53, 1, 1, 255]].concat()), Queue::Main),
            ("type of two octets", message(&[&cookie[..], &[53, 2, 1, 1, 255]].concat()), Queue::Main),
            ("another cookie", message(&[1, 2, 3, 4, 53, 1, 1, 255]), Queue::Main),
            ("no options", message(&cookie), Queue::Main),
            ("cut off in the type", message(&[&cookie[..], &[53, 1]].concat()), Queue::Main),
            ("empty", Vec::new(), Queue::Main),
        ] {
            assert_eq!(Queue::of_message(&message), expected, "{name}");
        }
    }

    #[test]
    fn every_queue_of_every_shard_has_its_own_place() {
        let mut places: Vec<u8> =
            Queue::ALL.iter().flat_map(|queue| (0..64).map(|shard| queue.place(shard, 64))).collect();
        places.sort_unstable();
        assert_eq!(places, (0..128).collect::<Vec<u8>>());
    }
}
