//! Makes what the HA executors start with from the configuration: files read, listener bound.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use config::Document;
use config::ha::{Relationship, Role};
use shards::runtime::NodeWaker;

use super::acceptor::{self, Accepted, Acceptor};
use super::backup::Standings;
use super::behind::{Behind, Who};
use super::ends::{Ends, EndsError, SharedEnds};
use super::listen::ListenContext;
use super::send::SendContext;
use crate::engine::rules::Rules;
use crate::runtime::refusals::Refusals;

/// Why HA cannot start. Every text names the file or the address.
#[derive(Debug, thiserror::Error)]
pub enum HaSetupError {
    /// A certificate, key, trust anchor or file with credentials is wrong.
    #[error(transparent)]
    Ends(#[from] EndsError),
    /// The own URL cannot be listened on.
    #[error("{position}: the HA listener cannot be opened on {address}: {source}")]
    Listen {
        /// Where the URL is.
        position: config::Position,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// What HA executors and the control node share.
#[derive(Clone, Debug)]
pub struct HaShared {
    /// Certificates and credentials in force.
    pub ends: SharedEnds,
    /// What is known of backups.
    pub standings: Standings,
}

/// Contexts of all HA executors, and the listener that will feed them.
pub struct HaSetup {
    /// One for each listen executor.
    pub listen: Vec<ListenContext>,
    /// The same for each send executor.
    pub send: SendContext,
    /// What the control node has of it.
    pub shared: HaShared,
    listener: Option<(TcpListener, Vec<rtrb::Producer<Accepted>>)>,
}

/// The servers that may lack changes made here: what each of them is, the name of this server, and theirs. A backup tells
/// nobody, and so no other one lacks anything of it.
pub fn who_may_lack(relationship: &Relationship) -> impl Iterator<Item = (Who, String, String)> {
    let tells = *relationship.own.role != Role::Backup;
    relationship.others.iter().filter(move |_| tells).map(|peer| {
        let who = if *peer.role == Role::Backup { Who::Backup } else { Who::Partner };
        (who, relationship.own.name.to_string(), peer.name.to_string())
    })
}

/// Reads the files of `relationship`, which stands at `place` in the list of `document`, and binds its listener where it
/// has one of its own, for `listeners` executors; `behind` knows which backups lacked updates before.
///
/// # Errors
/// [`HaSetupError`].
pub fn prepare(
    place: u8,
    relationship: &Relationship,
    document: &Document,
    listeners: u8,
    rules: &Arc<Rules>,
    behind: &Behind,
) -> Result<HaSetup, HaSetupError> {
    let ends = SharedEnds::new(Ends::load(relationship, &document.tandem)?);
    let peers = relationship.others.iter();
    let standings = Standings::new(peers.map(|peer| (peer.name.to_string(), *peer.role == Role::Backup)));
    let standings = match *relationship.own.role {
        Role::Backup => standings,
        _ => standings.kept_in(behind.clone(), relationship.own.name.to_string()),
    };
    let shared = HaShared { ends: ends.clone(), standings: standings.clone() };
    let mut listen = Vec::new();
    let mut bound = None;
    if relationship.multi_threading.has_dedicated_listener() {
        let address = relationship.own.url.address;
        let listener = acceptor::bind(address).map_err(|source| {
            let position = relationship.own.url.position.clone();
            HaSetupError::Listen { position, address, source }
        })?;
        let (producers, consumers) = acceptor::queues(usize::from(listeners));
        bound = Some((listener, producers));
        let refusals = Refusals::default();
        listen.extend(consumers.into_iter().map(|accepted| ListenContext {
            relationship: place,
            accepted,
            shared: shared.clone(),
            restrict_commands: *relationship.restrict_commands,
            rules: rules.clone(),
            refusals: refusals.clone(),
        }));
    }
    Ok(HaSetup {
        listen,
        send: SendContext { ends, standings, rules: rules.clone() },
        shared,
        listener: bound,
    })
}

impl HaSetup {
    /// Starts accepting for the listen executors, whose wakers are given in their order; `None` without a listener.
    ///
    /// # Errors
    /// No more threads.
    pub fn start_accepting(self, wakers: Vec<NodeWaker>) -> io::Result<Option<Acceptor>> {
        let Some((listener, producers)) = self.listener else { return Ok(None) };
        assert_eq!(producers.len(), wakers.len(), "one waker for each listen executor");
        Acceptor::spawn(listener, producers.into_iter().zip(wakers).collect()).map(Some)
    }
}
