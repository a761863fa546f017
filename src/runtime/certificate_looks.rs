//! What is found when certificate files are looked at again, what of it is news, and when to look next.
//!
//! The same for the server and for the control agent. A part is something with certificates of its own and stands for
//! itself: where its files cannot be used, what was in force of them stays.
//!
//! Files are read by whoever calls [`look_at_listener`] or uses [`Contents`]; nothing is put in force here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use config::socket::TlsFiles as Written;
use rustls::ServerConfig;

use super::certificates::tls_files;
use super::clock;
use super::tls::{self, TlsError};

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

/// When what is left of a certificate is said, seconds, falling. From the first one on the start says it too.
const SAID_AT_S: [i64; 5] = [30 * DAY_S, 7 * DAY_S, DAY_S, HOUR_S, 0];

/// What earlier looks have found.
pub(super) struct Known<P> {
    /// What the files in force held, for each part that was looked at.
    digests: HashMap<P, Vec<u8>>,
    /// For each certificate how many of [`SAID_AT_S`] have passed; nothing before the first look.
    said: Option<HashMap<String, usize>>,
    /// What could not be used at the last look, in words.
    failing: HashMap<P, String>,
}

/// What is to be done after a look.
pub(super) struct News<P, F> {
    /// What is to be put in force.
    pub found: Vec<(P, F)>,
    /// Whether something in force has changed.
    replaced: bool,
    /// What cannot be used, where it is news.
    unusable: Vec<String>,
    /// Certificates that have come closer to their end.
    expiring: Vec<String>,
    /// When to look next.
    pub within: Duration,
}

/// What a look at the files of one part found.
pub(super) struct Look<F> {
    digest: Vec<u8>,
    /// Each certificate by name, and when it ends, seconds since the epoch.
    ends: Vec<(String, i64)>,
    found: F,
}

impl<P> Default for Known<P> {
    fn default() -> Self {
        Self { digests: HashMap::new(), said: None, failing: HashMap::new() }
    }
}

impl<P: Copy + Eq + Hash> Known<P> {
    /// Takes in what was found at `wall_s`, seconds since the epoch.
    pub fn take<F>(&mut self, looks: Vec<(P, Result<Look<F>, String>)>, wall_s: i64) -> News<P, F> {
        let (mut found, mut replaced, mut unusable) = (Vec::new(), false, Vec::new());
        let (mut ends, mut failing) = (Vec::new(), HashMap::new());
        for (part, look) in looks {
            match look {
                Ok(look) => {
                    ends.extend(look.ends);
                    let before = self.digests.insert(part, look.digest.clone());
                    replaced |= before.as_ref().is_some_and(|before| *before != look.digest);
                    // At the first look files may be others already than those the server was started with.
                    if before.is_none_or(|before| before != look.digest) {
                        found.push((part, look.found));
                    }
                }
                Err(error) => {
                    if self.failing.get(&part) != Some(&error) {
                        unusable.push(error.clone());
                    }
                    failing.insert(part, error);
                }
            }
        }
        ends.sort();
        ends.dedup();
        let left_s = ends.iter().map(|(_, ends_s)| ends_s.saturating_sub(wall_s)).min();
        let within = next_look(left_s.filter(|_| failing.is_empty()));
        self.failing = failing;
        News { found, replaced, unusable, expiring: self.expiring(&ends, wall_s), within }
    }

    /// What is to be said of certificates, each with its end.
    fn expiring(&mut self, ends: &[(String, i64)], wall_s: i64) -> Vec<String> {
        let first = self.said.is_none();
        let said = self.said.get_or_insert_default();
        let mut expiring = Vec::new();
        for (name, ends_s) in ends {
            let left_s = ends_s.saturating_sub(wall_s);
            let stage = stage(left_s);
            // The warnings of the start have said what there was to say at the first look.
            let known = said.insert(name.clone(), stage).unwrap_or(if first { stage } else { 0 });
            if stage > known {
                expiring.push(format!("{name} {}", remaining(left_s)));
            }
        }
        expiring
    }
}

impl<P, F> News<P, F> {
    /// Says in the log of `target` what there is to say.
    pub fn say(&self, target: &str) {
        for error in &self.unusable {
            log::error!(target: target, "TANDEM_CERTIFICATES_UNUSABLE what was in force stays: {error}");
        }
        for certificate in &self.expiring {
            log::warn!(target: target, "TANDEM_CERTIFICATE_EXPIRES {certificate}");
        }
        if self.replaced {
            log::info!(
                target: target,
                "TANDEM_CERTIFICATES_REPLACED certificates or credentials have changed: new connections use them, open \
                 ones stay"
            );
        }
    }
}

impl<F> Look<F> {
    /// The same with what `change` makes of what was found.
    pub fn map<T>(self, change: impl FnOnce(F) -> T) -> Look<T> {
        Look { digest: self.digest, ends: self.ends, found: change(self.found) }
    }
}

/// Now, seconds since the epoch.
pub(super) fn wall_s() -> i64 {
    i64::try_from(clock::wall_s()).unwrap_or(i64::MAX)
}

/// How many of [`SAID_AT_S`] have passed for a certificate that ends in `left_s` seconds.
fn stage(left_s: i64) -> usize {
    SAID_AT_S.iter().filter(|at| left_s <= **at).count()
}

/// What is left, for people.
fn remaining(left_s: i64) -> String {
    match left_s {
        ..=0 => "has expired: no new connection is made with it".to_owned(),
        1..HOUR_S => format!("expires in {} minutes", (left_s / 60).max(1)),
        HOUR_S..DAY_S => format!("expires in {} hours", left_s / HOUR_S),
        _ => format!("expires in {} days", left_s / DAY_S),
    }
}

/// When to look again, where the first certificate ends in `left_s` seconds: often enough that one put in its place
/// comes in force before, and soon where one has expired already or files are no good. `None` is without a certificate
/// that could be read.
fn next_look(left_s: Option<i64>) -> Duration {
    let within_s = match left_s {
        None | Some(..=0) => 10,
        Some(left_s) => (left_s / 4).clamp(1, HOUR_S),
    };
    Duration::from_secs(within_s.unsigned_abs())
}

/// Looks at the files of a listener; with `required` its clients have to show certificates.
///
/// # Errors
/// A file that cannot be used.
pub(super) fn look_at_listener(files: &Written, required: bool) -> Result<Look<Arc<ServerConfig>>, TlsError> {
    let mut contents = Contents::new();
    contents.include(files)?;
    let config = tls::server_config(&tls_files(files), required)?;
    Ok(contents.look(config))
}

/// What the files of a part hold, as far as it was read.
pub(super) struct Contents {
    pub digest: ring::digest::Context,
    ends: Vec<(String, i64)>,
}

impl Contents {
    /// Nothing was read yet.
    pub fn new() -> Self {
        Self { digest: ring::digest::Context::new(&ring::digest::SHA256), ends: Vec::new() }
    }

    /// Reads these files as well.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none.
    pub fn include(&mut self, files: &Written) -> Result<(), TlsError> {
        let files = tls_files(files);
        self.digest.update(&tls::contents(&files)?);
        for validity in tls::validities(&files)? {
            let entry = (validity.name(), validity.not_after_s);
            if !self.ends.contains(&entry) {
                self.ends.push(entry);
            }
        }
        Ok(())
    }

    /// With what was `found` in it.
    pub fn look<F>(self, found: F) -> Look<F> {
        Look { digest: self.digest.finish().as_ref().to_vec(), ends: self.ends, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_closer_as_the_end_does() {
        let rows = [
            (Some(365 * DAY_S), 3600),
            (Some(4 * HOUR_S), 3600),
            (Some(HOUR_S), 900),
            (Some(8), 2),
            (Some(1), 1),
            (Some(0), 10),
            (Some(-DAY_S), 10),
            (None, 10),
        ];
        for (left_s, expected) in rows {
            assert_eq!(next_look(left_s).as_secs(), expected, "{left_s:?}");
        }
    }

    #[test]
    fn each_stage_is_said_with_what_is_left() {
        let rows = [
            (31 * DAY_S, 0, "expires in 31 days"),
            (30 * DAY_S, 1, "expires in 30 days"),
            (2 * DAY_S, 2, "expires in 2 days"),
            (DAY_S, 3, "expires in 1 days"),
            (2 * HOUR_S, 3, "expires in 2 hours"),
            (HOUR_S - 1, 4, "expires in 59 minutes"),
            (5, 4, "expires in 1 minutes"),
            (0, 5, "has expired: no new connection is made with it"),
        ];
        for (left_s, expected, text) in rows {
            assert_eq!((stage(left_s), remaining(left_s).as_str()), (expected, text), "{left_s}");
        }
    }

    /// A look that found files with this content, and a certificate that ends in so many seconds.
    fn seen(content: u8, left_s: i64) -> Result<Look<()>, String> {
        Ok(Look { digest: vec![content], ends: vec![("cert".to_owned(), left_s)], found: () })
    }

    fn broken(why: &str) -> Result<Look<()>, String> {
        Err(format!("cert.pem: {why}"))
    }

    #[test]
    fn what_is_found_is_put_in_force_part_by_part_and_said_once() {
        let (one, two) = (0, 1);
        let mut known = Known::default();
        // What a look finds of the two; what is put in force, whether that replaces something, what is unusable, when to
        // look again.
        let rows: [(_, _, &[usize], bool, &[&str], u64); 8] = [
            // A change may have come after the start has read the files.
            (seen(1, DAY_S), broken("half"), &[one], false, &["cert.pem: half"], 10),
            (seen(1, DAY_S), broken("half"), &[], false, &[], 10),
            (seen(2, DAY_S), broken("other"), &[one], true, &["cert.pem: other"], 10),
            (seen(2, DAY_S), seen(7, DAY_S), &[two], false, &[], 3600),
            (seen(2, DAY_S), seen(7, DAY_S), &[], false, &[], 3600),
            (broken("half"), seen(8, 400), &[two], true, &["cert.pem: half"], 10),
            (seen(2, DAY_S), seen(8, 400), &[], false, &[], 100),
            (broken("half"), broken("half"), &[], false, &["cert.pem: half", "cert.pem: half"], 10),
        ];
        for (index, (first, second, in_force, replaced, unusable, within_s)) in rows.into_iter().enumerate() {
            let news = known.take(vec![(one, first), (two, second)], 0);
            let parts: Vec<usize> = news.found.iter().map(|(part, _)| *part).collect();
            assert_eq!((parts.as_slice(), news.replaced), (in_force, replaced), "{index}");
            assert_eq!(
                (news.unusable, news.within.as_secs()),
                (unusable.iter().map(|text| (*text).to_owned()).collect(), within_s),
                "{index}"
            );
        }
    }

    #[test]
    fn a_certificate_that_several_parts_have_is_said_once_at_each_stage() {
        let parts = || 0..3;
        let mut known = Known::default();
        let rows = [(2 * DAY_S, 0, 0), (2 * DAY_S, 3600, 0), (2 * DAY_S, 90_000, 1), (2 * DAY_S, 90_001, 0)];
        for (ends_s, wall_s, said) in rows {
            let news = known.take(parts().map(|part| (part, seen(1, ends_s))).collect(), wall_s);
            assert_eq!(news.expiring.len(), said, "at {wall_s}: {:?}", news.expiring);
        }
        let news = known.take(vec![(9, broken("half"))], 90_002);
        assert!(news.expiring.is_empty());
        let news = known.take(parts().map(|part| (part, seen(1, 2 * DAY_S))).collect(), 90_003);
        assert!(news.expiring.is_empty(), "{:?}", news.expiring);
    }
}
