//! TLS sessions that may be taken up again, at both ends: no longer than all is valid by which the peer was accepted.
//!
//! A session that is taken up again exchanges no certificates, and so nothing checks them. [`Lifetime`] is shared by what
//! verifies the peers of a configuration and by the store of its sessions: every chain that is accepted shortens it to
//! the earliest end among the certificates shown and the trust anchors in force. Once it is over the store has forgotten
//! everything and keeps nothing, so that the next handshake is a whole one, which checks all of it again.
//!
//! Invariant: no session is given out that began before the last time a lifetime was over.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

/// How long sessions may be taken up again.
#[derive(Debug)]
pub(super) struct Lifetime(Mutex<Period>);

/// Between two times at which everything has to be checked again.
#[derive(Clone, Copy, Debug)]
struct Period {
    number: u64,
    /// When it ends, seconds since the epoch.
    until_s: i64,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(Mutex::new(Period { number: 0, until_s: i64::MAX }))
    }
}

impl Lifetime {
    /// A peer was accepted at `now_s` by certificates of which the first ends at `until_s`.
    pub fn shorten(&self, now_s: i64, until_s: i64) {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if period.until_s < now_s {
            *period = Period { number: period.number + 1, until_s };
        } else {
            period.until_s = period.until_s.min(until_s);
        }
    }

    /// Which period `now_s` is in; `None` where nothing may be taken up again.
    fn period(&self, now_s: i64) -> Option<u64> {
        let period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (now_s <= period.until_s).then_some(period.number)
    }
}

/// Sessions of the period that it is.
struct Sessions<S> {
    lifetime: Arc<Lifetime>,
    make: fn() -> Arc<S>,
    kept: Mutex<(u64, Arc<S>)>,
}

impl<S> Sessions<S> {
    fn new(lifetime: Arc<Lifetime>, make: fn() -> Arc<S>) -> Self {
        Self { lifetime, make, kept: Mutex::new((0, make())) }
    }

    /// Those that may be used now.
    fn current(&self) -> Option<Arc<S>> {
        let now_s = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let period = self.lifetime.period(now_s)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != period {
            *kept = (period, (self.make)());
        }
        Some(kept.1.clone())
    }
}

impl<S> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Client sessions kept for resumption by a listener.
const SERVER_SESSIONS_MAX: usize = 1024;

/// Servers whose sessions a connecting end keeps; it has one.
const CLIENT_SESSIONS_MAX: usize = 8;

/// The store of a listening end whose clients are accepted for `lifetime`.
pub(super) fn of_server(lifetime: Arc<Lifetime>) -> Arc<dyn StoresServerSessions> {
    Arc::new(Sessions::new(lifetime, || ServerSessionMemoryCache::new(SERVER_SESSIONS_MAX)))
}

/// The store of a connecting end whose server is accepted for `lifetime`.
pub(super) fn of_client(lifetime: Arc<Lifetime>) -> Arc<dyn ClientSessionStore> {
    Arc::new(Sessions::new(lifetime, || Arc::new(ClientSessionMemoryCache::new(CLIENT_SESSIONS_MAX))))
}

impl StoresServerSessions for Sessions<ServerSessionMemoryCache> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.current().is_some_and(|sessions| sessions.put(key, value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current()?.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current()?.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl ClientSessionStore for Sessions<ClientSessionMemoryCache> {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        if let Some(sessions) = self.current() {
            sessions.set_kx_hint(server_name, group);
        }
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.current()?.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if let Some(sessions) = self.current() {
            sessions.set_tls12_session(server_name, value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.current()?.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        if let Some(sessions) = self.current() {
            sessions.remove_tls12_session(server_name);
        }
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Some(sessions) = self.current() {
            sessions.insert_tls13_ticket(server_name, value);
        }
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.current()?.take_tls13_ticket(server_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_ends_with_the_first_certificate_and_begins_with_the_next_peer_accepted() {
        let lifetime = Lifetime::default();
        assert_eq!(lifetime.period(5), Some(0), "nobody was accepted by a certificate");
        // When somebody is accepted and until when; then what periods the times are in.
        let rows: [(i64, i64, &[_]); 4] = [
            (10, 50, &[(50, Some(0)), (51, None)]),
            (20, 90, &[(50, Some(0)), (51, None)]),
            (60, 90, &[(90, Some(1)), (91, None)]),
            // A certificate beside the chain that has expired already: nothing is kept.
            (70, 65, &[(70, None)]),
        ];
        for (now_s, until_s, periods) in rows {
            lifetime.shorten(now_s, until_s);
            for (at_s, period) in periods {
                assert_eq!(lifetime.period(*at_s), *period, "{now_s} {until_s} {at_s}");
            }
        }
    }

    #[test]
    fn what_was_kept_in_one_period_is_gone_in_the_next() {
        let lifetime = Arc::new(Lifetime::default());
        let store = of_server(lifetime.clone());
        assert!(store.put(b"a".to_vec(), b"1".to_vec()));
        assert_eq!(store.get(b"a").as_deref(), Some(&b"1"[..]));
        lifetime.shorten(5, 9);
        assert!(store.get(b"a").is_none() && !store.put(b"b".to_vec(), b"2".to_vec()), "it is over");
        lifetime.shorten(10, i64::MAX);
        assert!(store.get(b"a").is_none() && store.take(b"b").is_none());
        assert!(store.put(b"c".to_vec(), b"3".to_vec()) && store.take(b"c").is_some());
    }
}
