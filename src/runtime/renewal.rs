//! Keeps certificates and credentials current while the server runs.
//!
//! Files are read again when the configuration was, once an hour, and more often when a certificate is about to
//! expire. What has changed counts for connections from then on; those that are open stay, so the pair does not
//! notice. A certificate that nears its end is said by name ahead of time; files that cannot be used are said too, and
//! what was in force stays.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::Document;
use config::socket::{ControlSocket, TlsFiles as Written};
use rustls::ServerConfig;

use super::certificates::tls_files;
use super::clock;
use super::control_http::SharedTls;
use super::control_node::ControlNode;
use super::ha::ends::{Ends, EndsError};
use super::local::Inbox;
use super::tls::{self, TlsError};

const TARGET: &str = "kea-dhcp4.dhcp4";

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

/// When what is left of a certificate is said, seconds, falling. From the first one on the start says it too.
const SAID_AT_S: [i64; 5] = [30 * DAY_S, 7 * DAY_S, DAY_S, HOUR_S, 0];

/// The files behind everything that shows or checks a certificate.
pub struct Renewal {
    control: Rc<ControlNode>,
    /// Certificates of https control sockets, by their place in the document.
    sockets: Vec<(usize, SharedTls)>,
    /// What the files in force held.
    digest: RefCell<Vec<u8>>,
    /// For each certificate how many of [`SAID_AT_S`] have passed.
    said: RefCell<HashMap<String, usize>>,
    /// Files could not be used at the last look; said once.
    failing: Cell<bool>,
    wake: Inbox<()>,
}

/// What a look at the files found.
struct Look {
    digest: Vec<u8>,
    /// Each certificate by name, and when it ends, seconds since the epoch.
    ends: Vec<(String, i64)>,
    /// Of each relationship.
    high_availability: Vec<Ends>,
    sockets: HashMap<usize, Arc<ServerConfig>>,
}

impl Renewal {
    /// Starts to look after the files of the document in force, which have just been read.
    pub fn start(control: Rc<ControlNode>, sockets: Vec<(usize, SharedTls)>) -> Rc<Self> {
        let renewal = Rc::new(Self {
            control,
            sockets,
            digest: RefCell::default(),
            said: RefCell::default(),
            failing: Cell::new(false),
            wake: Inbox::default(),
        });
        glommio::spawn_local(renewal.clone().keep_looking()).detach();
        renewal
    }

    /// Looks at once: the configuration was read again.
    pub fn look_now(&self) {
        if self.wake.is_empty() {
            self.wake.push(());
        }
    }

    async fn keep_looking(self: Rc<Self>) {
        loop {
            let document = self.control.server().active().document;
            let found = glommio::executor().spawn_blocking(move || look(&document)).await;
            let within = self.take(found);
            let woken = async {
                self.wake.pop().await;
                Ok(())
            };
            let _ = glommio::timer::timeout(within, woken).await;
        }
    }

    /// Puts in force what has changed; when to look next.
    fn take(&self, found: Result<Look, EndsError>) -> Duration {
        let look = match found {
            Ok(look) => look,
            Err(error) => {
                if !self.failing.replace(true) {
                    log::error!(
                        target: TARGET,
                        "TANDEM_CERTIFICATES_UNUSABLE what was in force stays: {error}"
                    );
                }
                return next_look(None);
            }
        };
        self.failing.set(false);
        self.say(&look.ends);
        let left_s = look.ends.iter().map(|(_, ends)| ends.saturating_sub(wall_s())).min();
        // The first look finds what the start has read.
        let before = self.digest.replace(look.digest.clone());
        if !before.is_empty() && before != look.digest {
            for (shared, ends) in self.control.server().ha.iter().zip(look.high_availability) {
                shared.ends.replace(ends);
            }
            for (index, tls) in &self.sockets {
                if let Some(config) = look.sockets.get(index) {
                    *tls.borrow_mut() = Some(config.clone());
                }
            }
            log::info!(
                target: TARGET,
                "TANDEM_CERTIFICATES_REPLACED certificates or credentials have changed: new connections use them, open \
                 ones stay"
            );
        }
        next_look(left_s)
    }

    fn say(&self, ends: &[(String, i64)]) {
        let first = self.digest.borrow().is_empty();
        let mut before = self.said.take();
        let mut said = HashMap::new();
        for (name, ends_s) in ends {
            let left_s = ends_s.saturating_sub(wall_s());
            let stage = stage(left_s);
            // The warnings of the start have said what there was to say at the first look.
            let known = before.remove(name).unwrap_or(if first { stage } else { 0 });
            if stage > known {
                log::warn!(target: TARGET, "TANDEM_CERTIFICATE_EXPIRES {name} {}", remaining(left_s));
            }
            said.insert(name.clone(), stage);
        }
        self.said.replace(said);
    }
}

fn wall_s() -> i64 {
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

/// Reads every file that `document` names for TLS and credentials.
fn look(document: &Document) -> Result<Look, EndsError> {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut ends = Vec::new();
    let mut include = |files: &Written| -> Result<(), TlsError> {
        let files = tls_files(files);
        digest.update(&tls::contents(&files)?);
        for validity in tls::validities(&files)? {
            let entry = (validity.name(), validity.not_after_s);
            if !ends.contains(&entry) {
                ends.push(entry);
            }
        }
        Ok(())
    };
    let mut sockets = HashMap::new();
    for (index, socket) in document.control_sockets.iter().enumerate() {
        let ControlSocket::Http(http) = socket else { continue };
        let Some(files) = &http.tls else { continue };
        include(files)?;
        sockets.insert(index, tls::server_config(&tls_files(files), *http.cert_required)?);
    }
    for relationship in &document.hooks.high_availability {
        for files in relationship.peers().filter_map(|peer| peer.tls.as_ref()) {
            include(files)?;
        }
    }
    let mut high_availability = Vec::new();
    for relationship in &document.hooks.high_availability {
        let ends = Ends::load(relationship, &document.tandem)?;
        let (required, names) = (*relationship.require_client_certs, *document.tandem.check_partner_name);
        digest.update(format!("{required} {names}").as_bytes());
        digest.update(&ends.settings());
        high_availability.push(ends);
    }
    let digest = digest.finish().as_ref().to_vec();
    Ok(Look { digest, ends, high_availability, sockets })
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
}
