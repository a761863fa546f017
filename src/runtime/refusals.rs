//! Which peers were refused, so that each is logged once and not at every attempt.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Peers remembered; beyond it all are forgotten and may be logged once more.
const PEERS_MAX: usize = 1024;

/// How long it is before requests of a peer without the right credentials are logged again.
const UNAUTHORIZED_AGAIN_NS: u64 = 60_000_000_000;

/// Reasons logged for a peer; beyond it the peer is known for trouble and nothing more is said.
const REASONS_MAX: usize = 8;

/// Shared by the listen executors. Its lock is taken once per connection, never on the packet path.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// What each was refused for.
    peers: Arc<Mutex<HashMap<IpAddr, HashSet<String>>>>,
    /// When each was last logged for its credentials, in monotonic nanoseconds.
    unauthorized: Arc<Mutex<HashMap<IpAddr, u64>>>,
}

impl Refusals {
    /// A connection from `peer` was refused; logs it unless the same was logged before.
    pub fn refused(&self, peer: IpAddr, reason: &str) {
        if self.is_news(peer, reason) {
            log::warn!(
                target: "kea-dhcp4.http",
                "HTTP_CONNECTION_HANDSHAKE_FAILED handshake with {peer} failed: {reason}"
            );
        }
    }

    /// A connection from `peer` was accepted; its next refusal is news again.
    pub fn accepted(&self, peer: IpAddr) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    /// A request from `peer` had no credentials, or wrong ones; logs it once a minute.
    pub fn unauthorized(&self, peer: IpAddr, now_ns: u64, has_credentials: bool) {
        if self.is_unauthorized_news(peer, now_ns) {
            let reason = if has_credentials { "wrong" } else { "no" };
            log::warn!(
                target: "kea-dhcp4.http",
                "HTTP_CLIENT_REQUEST_NOT_AUTHORIZED requests of {peer} are answered with 401: {reason} credentials"
            );
        }
    }

    fn is_unauthorized_news(&self, peer: IpAddr, now_ns: u64) -> bool {
        let mut said = self.unauthorized.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= PEERS_MAX && !said.contains_key(&peer) {
            said.clear();
        }
        let last_ns = said.get(&peer).copied();
        let is_news = last_ns.is_none_or(|last_ns| now_ns.saturating_sub(last_ns) >= UNAUTHORIZED_AGAIN_NS);
        if is_news {
            said.insert(peer, now_ns);
        }
        is_news
    }

    fn is_news(&self, peer: IpAddr, reason: &str) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            peers.clear();
        }
        let reasons = peers.entry(peer).or_default();
        if reasons.len() >= REASONS_MAX {
            return false;
        }
        reasons.insert(reason.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_news_once_until_it_was_accepted_or_fails_otherwise() {
        let refusals = Refusals::default();
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(refusals.is_news(one, "expired"));
        assert!(!refusals.is_news(one, "expired"));
        assert!(refusals.is_news(two, "expired"));
        assert!(refusals.is_news(one, "unknown CA"));
        assert!(!refusals.is_news(one, "expired"));
        refusals.accepted(two);
        assert!(refusals.is_news(two, "expired"));
        assert!(!refusals.is_news(one, "unknown CA"));
    }

    #[test]
    fn wrong_credentials_are_news_once_a_minute() {
        let refusals = Refusals::default();
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let second = 1_000_000_000;
        assert!(refusals.is_unauthorized_news(one, 5 * second));
        assert!(!refusals.is_unauthorized_news(one, 64 * second));
        assert!(refusals.is_unauthorized_news(two, 64 * second));
        assert!(refusals.is_unauthorized_news(one, 65 * second));
        assert!(!refusals.is_unauthorized_news(one, 66 * second));
    }
}
