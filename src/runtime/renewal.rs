//! Keeps certificates and credentials current while the server runs.
//!
//! Files are read again when the configuration was, once an hour, and more often when a certificate is about to
//! expire. What has changed counts for connections from then on; those that are open stay, so the pair does not
//! notice. A certificate that nears its end is said by name ahead of time; files that cannot be used are said too, and
//! what was in force of them stays: each control socket and each relationship stands for itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::Document;
use config::ha::Relationship;
use config::socket::ControlSocket;
use config::tandem::Tandem;
use rustls::ServerConfig;

use super::certificate_looks::{Contents, Known, Look, look_at_listener, wall_s};
use super::control_http::SharedTls;
use super::control_node::ControlNode;
use super::ha::ends::{Ends, EndsError};
use super::local::Inbox;

const TARGET: &str = "kea-dhcp4.dhcp4";

/// Something with certificates and credentials of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Part {
    /// The relationship at this place of the list.
    Relationship(usize),
    /// The control socket at this place of the document.
    Socket(usize),
}

/// The files behind everything that shows or checks a certificate.
pub struct Renewal {
    control: Rc<ControlNode>,
    /// Certificates of https control sockets, by their place in the document.
    sockets: Vec<(usize, SharedTls)>,
    known: RefCell<Known<Part>>,
    wake: Inbox<()>,
}

/// What the files of a part hold, ready to be put in force.
enum Found {
    Relationship(Ends),
    Socket(Arc<ServerConfig>),
}

impl Renewal {
    /// Starts to look after the files of the document in force, which were read a moment ago.
    pub fn start(control: Rc<ControlNode>, sockets: Vec<(usize, SharedTls)>) -> Rc<Self> {
        let renewal = Rc::new(Self { control, sockets, known: RefCell::default(), wake: Inbox::default() });
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
            let looks = glommio::executor().spawn_blocking(move || look(&document)).await;
            let within = self.take(looks);
            let woken = async {
                self.wake.pop().await;
                Ok(())
            };
            let _ = glommio::timer::timeout(within, woken).await;
        }
    }

    /// Puts in force what has changed; when to look next.
    fn take(&self, looks: Vec<(Part, Result<Look<Found>, String>)>) -> Duration {
        let news = self.known.borrow_mut().take(looks, wall_s());
        news.say(TARGET);
        news.found.into_iter().for_each(|(part, found)| self.put_in_force(part, found));
        news.within
    }

    fn put_in_force(&self, part: Part, found: Found) {
        match (part, found) {
            (Part::Relationship(place), Found::Relationship(ends)) => {
                if let Some(shared) = self.control.server().ha.get(place) {
                    shared.ends.replace(ends);
                }
            }
            (Part::Socket(index), Found::Socket(config)) => {
                if let Some((_, tls)) = self.sockets.iter().find(|(socket, _)| *socket == index) {
                    *tls.borrow_mut() = Some(config);
                }
            }
            // What a look finds is of its part.
            (Part::Relationship(_), Found::Socket(_)) | (Part::Socket(_), Found::Relationship(_)) => {}
        }
    }
}

/// Reads every file that `document` names for TLS and credentials.
fn look(document: &Document) -> Vec<(Part, Result<Look<Found>, String>)> {
    let mut looks = Vec::new();
    for (index, socket) in document.control_sockets.iter().enumerate() {
        if let ControlSocket::Http(http) = socket
            && let Some(files) = &http.tls
        {
            let look = look_at_listener(files, *http.cert_required);
            let look = look.map(|look| look.map(Found::Socket)).map_err(|error| error.to_string());
            looks.push((Part::Socket(index), look));
        }
    }
    for (place, relationship) in document.hooks.high_availability.iter().enumerate() {
        let look = look_at_relationship(relationship, &document.tandem).map_err(|error| error.to_string());
        looks.push((Part::Relationship(place), look));
    }
    looks
}

fn look_at_relationship(relationship: &Relationship, tandem: &Tandem) -> Result<Look<Found>, EndsError> {
    let mut contents = Contents::new();
    for files in relationship.peers().filter_map(|peer| peer.tls.as_ref()) {
        contents.include(files)?;
    }
    // Read after what it is told by: a change in between is one more change at the next look.
    let ends = Ends::load(relationship, tandem)?;
    let (required, names) = (*relationship.require_client_certs, *tandem.check_partner_name);
    contents.digest.update(format!("{required} {names}").as_bytes());
    contents.digest.update(&ends.settings());
    Ok(contents.look(Found::Relationship(ends)))
}
