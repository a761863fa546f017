//! Settings that a subnet inherits from the file's global scope.

use std::net::Ipv4Addr;

use crate::reader::Reader;
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

/// Octets of `sname` less its terminating zero.
const SERVER_HOSTNAME_OCTETS_MAX: usize = 63;

/// Octets of `file` less its terminating zero.
const BOOT_FILE_NAME_OCTETS_MAX: usize = 127;

/// Where nothing is said (f.4).
const VALID_LIFETIME_S: u32 = 7200;

impl Scope {
    /// Reads the settings of one map.
    pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Scope {
        let scope = Scope {
            valid_lifetime_s: reader.optional_number("valid-lifetime"),
            min_valid_lifetime_s: reader.optional_number("min-valid-lifetime"),
            max_valid_lifetime_s: reader.optional_number("max-valid-lifetime"),
            renew_timer_s: reader.optional_number("renew-timer"),
            rebind_timer_s: reader.optional_number("rebind-timer"),
            calculate_tee_times: reader.optional_bool("calculate-tee-times"),
            t1_percent: reader.optional_float("t1-percent"),
            t2_percent: reader.optional_float("t2-percent"),
            cache_threshold: reader.optional_float("cache-threshold"),
            cache_max_age_s: reader.optional_number("cache-max-age"),
            store_extended_info: reader.optional_bool("store-extended-info"),
            offer_lifetime_s: reader.optional_number("offer-lifetime"),
            match_client_id: reader.optional_bool("match-client-id"),
            authoritative: reader.optional_bool("authoritative"),
            next_server: read_next_server(reader),
            server_hostname: read_field(reader, "server-hostname", SERVER_HOSTNAME_OCTETS_MAX),
            boot_file_name: read_field(reader, "boot-file-name", BOOT_FILE_NAME_OCTETS_MAX),
        };
        reader.check_share("t1-percent", &scope.t1_percent, false);
        reader.check_share("t2-percent", &scope.t2_percent, false);
        reader.check_share("cache-threshold", &scope.cache_threshold, true);
        scope
    }

    /// Checks what applies to a map once everything is inherited. `own` is what the map itself says: a
    /// conflict that lies in the parent alone is reported there.
    pub(crate) fn check(&self, own: &Scope, reader: &mut Reader<'_, '_>) {
        if own.valid_lifetime_s.is_some()
            || own.min_valid_lifetime_s.is_some()
            || own.max_valid_lifetime_s.is_some()
        {
            self.check_lifetimes(reader);
        }
        if own.t1_percent.is_some() || own.t2_percent.is_some() {
            let t1 = self.t1_percent.as_ref().map_or(0.5, |share| **share);
            let t2 = self.t2_percent.as_ref().map_or(0.875, |share| **share);
            let place = own.t1_percent.as_ref().or(own.t2_percent.as_ref());
            if let Some(place) = place.filter(|_| t1 >= t2) {
                let message = format!("t1-percent:  {t1} is invalid, it must be less than t2-percent: {t2}");
                reader.error(&place.position, "t1-percent", message);
            }
        }
        let place = own.renew_timer_s.as_ref().or(own.rebind_timer_s.as_ref());
        if let (Some(place), Some(t1), Some(t2)) = (place, &self.renew_timer_s, &self.rebind_timer_s)
            && **t1 > **t2
        {
            let message =
                format!("renew-timer ({}) is greater than rebind-timer ({}): it is not sent", **t1, **t2);
            reader.warn(&place.position, "renew-timer", message);
        }
    }

    fn check_lifetimes(&self, reader: &mut Reader<'_, '_>) {
        let valid = self.valid_lifetime_s.as_ref().map_or(VALID_LIFETIME_S, |lifetime| **lifetime);
        if let Some(min) = self.min_valid_lifetime_s.as_ref().filter(|min| ***min > valid) {
            let message = format!(
                "the value of min-valid-lifetime ({}) is not less than (default) valid-lifetime ({valid})",
                **min
            );
            reader.error(&min.position, "min-valid-lifetime", message);
        }
        if let Some(max) = self.max_valid_lifetime_s.as_ref().filter(|max| ***max < valid) {
            let message = format!(
                "the value of (default) valid-lifetime ({valid}) is not less than max-valid-lifetime ({})",
                **max
            );
            reader.error(&max.position, "max-valid-lifetime", message);
        }
    }
}

fn read_next_server(reader: &mut Reader<'_, '_>) -> Option<Located<Ipv4Addr>> {
    let value = reader.get("next-server")?;
    if value.as_bytes().is_some_and(<[u8]>::is_empty) {
        return None;
    }
    reader.address_of(value, "next-server").filter(|address| !address.is_unspecified())
}

fn read_field(reader: &mut Reader<'_, '_>, key: &str, octets_max: usize) -> Option<Located<Vec<u8>>> {
    let field = reader.nonempty_bytes(key)?;
    if field.len() > octets_max {
        let message = format!("{key} must be at most {octets_max} octets in length, it is {}", field.len());
        reader.error(&field.position, key, message);
    }
    Some(field)
}
