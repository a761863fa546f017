//! Which lease updates come too late: an extension of the protocol between two Tandem servers.
//!
//! A request that was given up after its time may still lie in the network or in the peer's buffers, and be carried out
//! after a later one with a newer update of the same address, which went over another connection. So every request
//! with updates bears a [`Stamp`], and the shard that owns an address refuses what is older than what it has seen.
//!
//! A stamp is of one *life* of its server (a process), of a *generation* in that life, and has a number within its
//! *stream*. A stream is what sends updates of one address one after the other: a sender, or the flush of a backlog.
//! The generation rises whenever updates stop being sent, and whenever one way of sending them is given up for another:
//! what was sent before is not wanted any more, whichever stream it came by. Answers to `ha-heartbeat` tell life and
//! generation ([`ANNOUNCEMENT`]), so that a server knows them before it copies; Kea ignores the member, and a server that
//! names none gets no stamps.
//!
//! Invariants: of one stream numbers never fall; of lives what a heartbeat newly tells counts, whatever stamps have come:
//! a peer that has begun anew is believed once it is heard, also where its clock was set back.

use std::collections::BTreeMap;

/// Member of the answer to `ha-heartbeat`: life and generation, each sixteen hexadecimal digits.
pub const ANNOUNCEMENT: &str = "tandem-fence";

/// The stream of a backlog that is flushed. Senders have those from 0 on.
pub const BACKLOG_STREAM: u8 = u8::MAX;

/// Octets of a stamp.
const STAMP_OCTETS: usize = 25;

/// Lives of the peer that are remembered as over. It has a new one for each start.
const FORMER_LIVES_MAX: usize = 8;

/// From where on updates count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fence {
    /// The process: when it began, milliseconds since the epoch.
    pub life: u64,
    /// Epoch of the view that ended what was sent before.
    pub generation: u64,
}

impl Fence {
    /// As the heartbeat tells it.
    pub fn to_text(self) -> String {
        format!("{:016x}{:016x}", self.life, self.generation)
    }

    /// Reads what [`Fence::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        let number = |part: &str| u64::from_str_radix(part, 16).ok();
        if !digits {
            return None;
        }
        let (life, generation) = text.split_at(16);
        Some(Self { life: number(life)?, generation: number(generation)? })
    }
}

/// What a request with updates bears.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// What was in force when it was sent.
    pub fence: Fence,
    /// By whom.
    pub stream: u8,
    /// Rises with every request of the stream.
    pub number: u64,
}

impl Stamp {
    /// Appends it.
    pub fn write(self, output: &mut Vec<u8>) {
        for number in [self.fence.life, self.fence.generation, self.number] {
            output.extend_from_slice(&number.to_be_bytes());
        }
        output.push(self.stream);
    }

    /// Takes one from the front of `input`.
    pub fn read(input: &mut &[u8]) -> Option<Self> {
        let (octets, rest) = input.split_first_chunk::<STAMP_OCTETS>()?;
        let (numbers, _) = octets.as_chunks::<8>();
        let [life, generation, number] = numbers else { return None };
        let [life, generation, number] = [life, generation, number].map(|octets| u64::from_be_bytes(*octets));
        *input = rest;
        Some(Self { fence: Fence { life, generation }, stream: octets[STAMP_OCTETS - 1], number })
    }
}

/// What has been seen of one peer.
#[derive(Debug, Default)]
pub struct Seen {
    fence: Fence,
    /// Last number of each stream of this life.
    numbers: BTreeMap<u8, u64>,
    former: Vec<u64>,
}

impl Seen {
    /// The peer has told its fence in an answer to a heartbeat.
    pub fn hear(&mut self, fence: Fence) {
        if fence.life != self.fence.life {
            self.begin(fence.life);
        }
        self.fence.generation = self.fence.generation.max(fence.generation);
    }

    /// Another process of the peer is the one that counts.
    fn begin(&mut self, life: u64) {
        self.former.retain(|former| *former != life);
        if self.former.len() == FORMER_LIVES_MAX {
            self.former.remove(0);
        }
        self.former.push(self.fence.life);
        (self.fence, self.numbers) = (Fence { life, generation: 0 }, BTreeMap::new());
    }

    /// Whether a request with this stamp may be carried out: nothing later was seen of its stream, its generation or
    /// its peer.
    pub fn admits(&mut self, stamp: Stamp) -> bool {
        // A new process may be heard of by its updates first.
        if stamp.fence.life > self.fence.life && !self.former.contains(&stamp.fence.life) {
            self.begin(stamp.fence.life);
        }
        if stamp.fence.life == self.fence.life {
            self.fence.generation = self.fence.generation.max(stamp.fence.generation);
        }
        let last = self.numbers.get(&stamp.stream).copied().unwrap_or(0);
        let is_current = stamp.fence == self.fence && stamp.number >= last;
        if is_current {
            self.numbers.insert(stamp.stream, stamp.number);
        }
        is_current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(life: u64, generation: u64, stream: u8, number: u64) -> Stamp {
        Stamp { fence: Fence { life, generation }, stream, number }
    }

    #[test]
    fn what_is_older_than_what_was_seen_is_refused() {
        let mut seen = Seen::default();
        for (case, stamp, admitted) in [
            ("the first", stamp(7, 1, 0, 5), true),
            ("sent once more on another connection", stamp(7, 1, 0, 5), true),
            ("the next", stamp(7, 1, 0, 6), true),
            ("one that was given up", stamp(7, 1, 0, 5), false),
            ("another stream has numbers of its own", stamp(7, 1, 1, 2), true),
            ("a later generation", stamp(7, 3, BACKLOG_STREAM, 1), true),
            ("any stream of an earlier generation", stamp(7, 2, 1, 3), false),
            ("numbers go on", stamp(7, 3, 0, 5), false),
            ("numbers go on", stamp(7, 3, 0, 7), true),
            ("a new process", stamp(8, 1, 0, 1), true),
            ("the process before it", stamp(7, 9, 0, 9), false),
            ("a process that nobody has heard of", stamp(6, 9, 0, 9), false),
        ] {
            assert_eq!(seen.admits(stamp), admitted, "{case}");
        }
    }

    #[test]
    fn a_heartbeat_ends_what_was_sent_before() {
        let mut seen = Seen::default();
        seen.hear(Fence { life: 7, generation: 4 });
        assert!(!seen.admits(stamp(7, 3, 0, 1)) && seen.admits(stamp(7, 4, 0, 1)));
        seen.hear(Fence { life: 7, generation: 3 });
        assert!(seen.admits(stamp(7, 4, 0, 1)), "an old answer changes nothing");
        seen.hear(Fence { life: 6, generation: 1 });
        assert!(!seen.admits(stamp(7, 9, 0, 2)), "of the life before one whose clock was set back");
        assert!(seen.admits(stamp(6, 1, 0, 1)));
        assert!(seen.admits(stamp(9, 1, 0, 1)), "of a process that is gone and that nobody has heard of");
        assert!(!seen.admits(stamp(6, 1, 0, 2)));
        seen.hear(Fence { life: 6, generation: 2 });
        assert!(seen.admits(stamp(6, 2, 0, 3)), "the heartbeat puts it right");
        for life in 100..200 {
            seen.hear(Fence { life, generation: 1 });
        }
        assert!(seen.former.len() <= FORMER_LIVES_MAX);
    }

    #[test]
    fn fences_and_stamps_are_read_as_they_were_written_or_not_at_all() {
        let stamp = stamp(u64::MAX, 1, 9, 1 << 40);
        let mut octets = Vec::new();
        stamp.write(&mut octets);
        for len in 0..octets.len() {
            assert_eq!(Stamp::read(&mut &octets[..len]), None, "{len}");
        }
        octets.push(1);
        let mut input = &octets[..];
        assert_eq!((Stamp::read(&mut input), input), (Some(stamp), &[1][..]));
        let text = stamp.fence.to_text();
        assert_eq!(Fence::from_text(&text), Some(stamp.fence));
        for wrong in ["", "1", &text[1..], &text.replacen('f', "+", 1), &text.replacen('f', "é", 1)] {
            assert_eq!(Fence::from_text(wrong), None, "{wrong}");
        }
    }
}
