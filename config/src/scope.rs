//! Settings that a subnet inherits from the file's global scope.

use std::net::Ipv4Addr;

use crate::value::Located;

/// Settings of one scope. `None` is "not said here".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// `valid-lifetime`, seconds; 7200 where nothing is said.
    pub valid_lifetime_s: Option<Located<u32>>,
    /// `min-valid-lifetime`, seconds; the valid lifetime where nothing is said.
    pub min_valid_lifetime_s: Option<Located<u32>>,
    /// `max-valid-lifetime`, seconds; the valid lifetime where nothing is said.
    pub max_valid_lifetime_s: Option<Located<u32>>,
    /// `renew-timer`, seconds (T1).
    pub renew_timer_s: Option<Located<u32>>,
    /// `rebind-timer`, seconds (T2).
    pub rebind_timer_s: Option<Located<u32>>,
    /// `calculate-tee-times`; false where nothing is said (PKT-57).
    pub calculate_tee_times: Option<Located<bool>>,
    /// `t1-percent`, 0 < t1 < 1; 0.5 where nothing is said.
    pub t1_percent: Option<Located<f64>>,
    /// `t2-percent`, 0 < t2 < 1; 0.875 where nothing is said.
    pub t2_percent: Option<Located<f64>>,
    /// `cache-threshold`, 0 ≤ t < 1; 0.25 where nothing is said; 0 turns caching off (ALC-51).
    pub cache_threshold: Option<Located<f64>>,
    /// `cache-max-age`, seconds; 0 turns caching off.
    pub cache_max_age_s: Option<Located<u32>>,
    /// `store-extended-info`; false where nothing is said (PKT-92).
    pub store_extended_info: Option<Located<bool>>,
    /// `offer-lifetime`, seconds; 0 where nothing is said (PKT-94).
    pub offer_lifetime_s: Option<Located<u32>>,
    /// `match-client-id`; true where nothing is said (ALC-10).
    pub match_client_id: Option<Located<bool>>,
    /// `authoritative`; false where nothing is said (PKT-75).
    pub authoritative: Option<Located<bool>>,
    /// `next-server`; `None` also for "" and 0.0.0.0, which mean unset (PKT-60).
    pub next_server: Option<Located<Ipv4Addr>>,
    /// `server-hostname`, at most 63 octets; `None` also for "".
    pub server_hostname: Option<Located<Vec<u8>>>,
    /// `boot-file-name`, at most 127 octets (the field is zero-terminated); `None` also for "".
    pub boot_file_name: Option<Located<Vec<u8>>>,
}

impl Scope {
    /// These settings, and those of `parent` where nothing is said.
    ///
    /// The three lifetimes are inherited one by one, as in Kea: a subnet that only says `valid-lifetime`
    /// keeps the bounds of its parent.
    pub fn inherit(&self, parent: &Scope) -> Scope {
        fn pick<T: Clone>(own: &Option<Located<T>>, parent: &Option<Located<T>>) -> Option<Located<T>> {
            own.clone().or_else(|| parent.clone())
        }
        Scope {
            valid_lifetime_s: pick(&self.valid_lifetime_s, &parent.valid_lifetime_s),
            min_valid_lifetime_s: pick(&self.min_valid_lifetime_s, &parent.min_valid_lifetime_s),
            max_valid_lifetime_s: pick(&self.max_valid_lifetime_s, &parent.max_valid_lifetime_s),
            renew_timer_s: pick(&self.renew_timer_s, &parent.renew_timer_s),
            rebind_timer_s: pick(&self.rebind_timer_s, &parent.rebind_timer_s),
            calculate_tee_times: pick(&self.calculate_tee_times, &parent.calculate_tee_times),
            t1_percent: pick(&self.t1_percent, &parent.t1_percent),
            t2_percent: pick(&self.t2_percent, &parent.t2_percent),
            cache_threshold: pick(&self.cache_threshold, &parent.cache_threshold),
            cache_max_age_s: pick(&self.cache_max_age_s, &parent.cache_max_age_s),
            store_extended_info: pick(&self.store_extended_info, &parent.store_extended_info),
            offer_lifetime_s: pick(&self.offer_lifetime_s, &parent.offer_lifetime_s),
            match_client_id: pick(&self.match_client_id, &parent.match_client_id),
            authoritative: pick(&self.authoritative, &parent.authoritative),
            next_server: pick(&self.next_server, &parent.next_server),
            server_hostname: pick(&self.server_hostname, &parent.server_hostname),
            boot_file_name: pick(&self.boot_file_name, &parent.boot_file_name),
        }
    }
}
