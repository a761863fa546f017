//! Makes what the HA executors start with from the configuration: certificates read, listener bound.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use shards::Topology;
use shards::runtime::NodeWaker;

use super::acceptor::{self, Accepted, Acceptor};
use super::listen::ListenContext;
use super::send::SendContext;
use crate::engine::rules::Rules;
use crate::http::client::Target;
use crate::runtime::certificates;
use crate::runtime::refusals::Refusals;
use crate::runtime::tls::TlsError;

/// Why HA cannot start. Every text names the file or the address.
#[derive(Debug, thiserror::Error)]
pub enum HaSetupError {
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
    /// A certificate, key or trust anchor is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Contexts of all HA executors, and the listener that will feed them.
pub struct HaSetup {
    /// One for each listen executor.
    pub listen: Vec<ListenContext>,
    /// The same for each send executor.
    pub send: SendContext,
    listener: TcpListener,
    producers: Vec<rtrb::Producer<Accepted>>,
}

/// Reads the files of `relationship` and binds its listener.
///
/// # Errors
/// [`HaSetupError`].
pub fn prepare(
    relationship: &config::ha::Relationship,
    check_partner_name: bool,
    topology: Topology,
    rules: &Arc<Rules>,
) -> Result<HaSetup, HaSetupError> {
    let tls = certificates::load_ha(relationship, check_partner_name)?;
    let address = relationship.own.url.address;
    let listener = acceptor::bind(address).map_err(|source| {
        let position = relationship.own.url.position.clone();
        HaSetupError::Listen { position, address, source }
    })?;
    let (producers, consumers) = acceptor::queues(usize::from(topology.listeners));
    let refusals = Refusals::default();
    // The policy refuses every mode without a partner.
    let partner = relationship.partner().unwrap_or(&relationship.own).url.address;
    let listen = consumers
        .into_iter()
        .map(|accepted| ListenContext {
            accepted,
            tls: tls.listen.clone(),
            partner: partner.ip(),
            auth: None,
            restrict_commands: *relationship.restrict_commands,
            rules: rules.clone(),
            refusals: refusals.clone(),
        })
        .collect();
    let target = Target { host: partner.ip().to_string(), auth: None };
    Ok(HaSetup { listen, send: SendContext { partner, tls: tls.send, target }, listener, producers })
}

impl HaSetup {
    /// Starts accepting for the listen executors, whose wakers are given in their order.
    ///
    /// # Errors
    /// No more threads.
    pub fn start_accepting(self, wakers: Vec<NodeWaker>) -> io::Result<Acceptor> {
        assert_eq!(self.producers.len(), wakers.len(), "one waker for each listen executor");
        Acceptor::spawn(self.listener, self.producers.into_iter().zip(wakers).collect())
    }
}
