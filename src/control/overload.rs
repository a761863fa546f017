//! When the server is beyond its capacity, as operators are told: one line when it begins and one when it is over.
//!
//! An episode begins with a dropped query and is over when nothing was dropped for [`CALM_MS`]. Pure: sums of counters
//! and `now` go in.

/// An episode is over when nothing was dropped for this long, milliseconds: clients that were dropped come back after
/// 4 s, give or take one (RFC 2131 §4.1).
pub const CALM_MS: u64 = 6_000;

/// Queries dropped before an engine saw them, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OverloadDrops {
    /// Did not fit the queue of DISCOVERs.
    pub discovers: u64,
    /// Did not fit the main queue.
    pub main: u64,
    /// Had waited too long.
    pub stale: u64,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverloadNotice {
    /// Queries are being dropped.
    Begun,
    /// No more.
    Ended {
        /// What was dropped.
        drops: OverloadDrops,
        /// From the first drop seen to the last, milliseconds.
        lasted_ms: u64,
    },
}

/// Watches the sums.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OverloadWatch {
    seen: OverloadDrops,
    episode: Option<Episode>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Episode {
    before: OverloadDrops,
    began_ms: u64,
    last_ms: u64,
}

impl OverloadDrops {
    /// All of them.
    pub fn total(self) -> u64 {
        self.discovers + self.main + self.stale
    }

    fn since(self, before: Self) -> Self {
        Self {
            discovers: self.discovers - before.discovers,
            main: self.main - before.main,
            stale: self.stale - before.stale,
        }
    }
}

impl OverloadWatch {
    /// The sums as they are at `now_ms`, on the monotonic clock. They never fall.
    pub fn handle_drops(&mut self, now_ms: u64, drops: OverloadDrops) -> Option<OverloadNotice> {
        let before = std::mem::replace(&mut self.seen, drops);
        let more = drops != before;
        match &mut self.episode {
            None if more => {
                self.episode = Some(Episode { before, began_ms: now_ms, last_ms: now_ms });
                Some(OverloadNotice::Begun)
            }
            Some(episode) if more => {
                episode.last_ms = now_ms;
                None
            }
            Some(episode) if now_ms.saturating_sub(episode.last_ms) >= CALM_MS => {
                let (drops, lasted_ms) = (drops.since(episode.before), episode.last_ms - episode.began_ms);
                self.episode = None;
                Some(OverloadNotice::Ended { drops, lasted_ms })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let drops = |discovers, main, stale| OverloadDrops { discovers, main, stale };
        let ended = |drops, lasted_ms| Some(OverloadNotice::Ended { drops, lasted_ms });
        let mut watch = OverloadWatch::default();
        for (now_ms, sums, expected) in [
            (0, drops(0, 0, 0), None),
            (1_000, drops(0, 0, 0), None),
            (2_000, drops(70, 5, 0), Some(OverloadNotice::Begun)),
            (3_000, drops(90, 5, 2), None),
            (8_000, drops(90, 5, 2), None),
            (8_999, drops(91, 5, 2), None),
            (14_998, drops(91, 5, 2), None),
            (14_999, drops(91, 5, 2), ended(drops(91, 5, 2), 6_999)),
            (60_000, drops(91, 5, 2), None),
            (61_000, drops(91, 6, 2), Some(OverloadNotice::Begun)),
            (70_000, drops(91, 6, 2), ended(drops(0, 1, 0), 0)),
        ] {
            assert_eq!(watch.handle_drops(now_ms, sums), expected, "{now_ms}");
        }
    }
}
