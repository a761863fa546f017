//! Who has how many connections to a listen executor: nobody can take all places.
//!
//! Strangers share a few, each peer has its share of the rest; a peer that opens thousands of connections keeps
//! neither the others out nor an operator at another host.

use std::collections::HashMap;

use crate::limits::{HA_CONNECTIONS_MAX, HA_FOREIGN_CONNECTIONS_MAX, HA_PEER_CONNECTIONS_MIN};

/// Connections of one listen executor.
#[derive(Debug, Default)]
pub struct Places {
    all: usize,
    /// By peer index; `None` is everybody else.
    of: HashMap<Option<usize>, usize>,
}

impl Places {
    /// Takes a place for a connection of the peer of index `peer`, one of `peers`; `None` is of somebody else. False
    /// where there is none.
    pub fn take(&mut self, peer: Option<usize>, peers: usize) -> bool {
        let most = match peer {
            None => HA_FOREIGN_CONNECTIONS_MAX,
            Some(_) => ((HA_CONNECTIONS_MAX - HA_FOREIGN_CONNECTIONS_MAX) / peers.max(1))
                .max(HA_PEER_CONNECTIONS_MIN),
        };
        let taken = self.of.entry(peer).or_default();
        if self.all >= HA_CONNECTIONS_MAX || *taken >= most {
            return false;
        }
        *taken += 1;
        self.all += 1;
        true
    }

    /// Gives a place back that was taken for the same peer.
    pub fn give_back(&mut self, peer: Option<usize>) {
        if let Some(taken) = self.of.get_mut(&peer) {
            *taken = taken.saturating_sub(1);
        }
        self.all = self.all.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_what_is_given_back_can_be_taken_again() {
        // How many peers, who opens connections, how many of a thousand get a place.
        let rows = [(1, None, 64), (1, Some(0), 192), (2, Some(1), 96), (3, Some(2), 64), (31, Some(30), 16)];
        for (peers, who, expected) in rows {
            let mut places = Places::default();
            let got = (0..1000).filter(|_| places.take(who, peers)).count();
            assert_eq!(got, expected, "{peers} {who:?}");
            places.give_back(who);
            assert!(places.take(who, peers) && !places.take(who, peers));
            let other = if who == Some(0) { None } else { Some(0) };
            assert!(places.take(other, peers), "{peers} {who:?}");
        }
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let mut places = Places::default();
        let got =
            (0..31).map(|peer| (0..1000).filter(|_| places.take(Some(peer), 31)).count()).sum::<usize>();
        assert_eq!(got, HA_CONNECTIONS_MAX);
    }
}
