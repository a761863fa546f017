//! Makes what the HA executors start with from the configuration: certificates read, listener bound.
//!
//! Whose identity is whose (ha-protocol 1.6): the own peer entry describes the own listener; the partner's entry
//! describes the certificate shown to the partner.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use shards::Topology;
use shards::runtime::NodeWaker;

use super::acceptor::{self, Accepted, Acceptor};
use super::ha_listen::ListenContext;
use super::ha_send::SendContext;
use super::refusals::Refusals;
use super::tls::{self, TlsError, TlsFiles};
use crate::engine::rules::Rules;
use crate::http::client::Target;

/// Why HA cannot start. Every text names the file or the address.
#[derive(Debug, thiserror::Error)]
pub enum HaSetupError {
    /// The own URL cannot be listened on.
    #[error("the HA listener cannot be opened on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate, key or trust anchor is wrong.
    #[error("HA peer '{peer}': {source}")]
    Tls {
        /// Whose entry.
        peer: String,
        /// What is wrong.
        source: TlsError,
    },
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

/// Reads the files of `relationship` and binds its listener. Certificates that a partner will refuse are warned of.
///
/// # Errors
/// [`HaSetupError`].
pub fn prepare(
    relationship: &config::ha::Relationship,
    check_partner_name: bool,
    topology: Topology,
    rules: &Arc<Rules>,
) -> Result<HaSetup, HaSetupError> {
    let (server_tls, client_tls) = configurations(relationship, check_partner_name)?;
    let address = relationship.own.url.address;
    let listener = acceptor::bind(address).map_err(|source| HaSetupError::Listen { address, source })?;
    let (producers, consumers) = acceptor::queues(usize::from(topology.listeners));
    let refusals = Refusals::default();
    let listen = consumers
        .into_iter()
        .map(|accepted| ListenContext {
            accepted,
            tls: server_tls.clone(),
            auth: None,
            restrict_commands: *relationship.restrict_commands,
            rules: rules.clone(),
            refusals: refusals.clone(),
        })
        .collect();
    let partner = relationship.partner.url.address;
    let target = Target { host: partner.ip().to_string(), auth: None };
    Ok(HaSetup { listen, send: SendContext { partner, tls: client_tls, target }, listener, producers })
}

/// Whether the files of `relationship` are good, for `-t`: nothing is bound.
///
/// # Errors
/// [`HaSetupError::Tls`].
pub fn check(relationship: &config::ha::Relationship, check_partner_name: bool) -> Result<(), HaSetupError> {
    configurations(relationship, check_partner_name).map(drop)
}

/// The files of a TLS end as paths.
pub fn tls_files(files: &config::socket::TlsFiles) -> TlsFiles {
    TlsFiles {
        trust_anchor: PathBuf::from(files.trust_anchor.as_str()),
        cert_file: PathBuf::from(files.cert_file.as_str()),
        key_file: PathBuf::from(files.key_file.as_str()),
    }
}

/// Logs what is about to be wrong with certificates that can be loaded.
///
/// # Errors
/// A file cannot be read.
pub fn warn_of_certificates(files: &TlsFiles) -> Result<(), TlsError> {
    for warning in tls::warnings(files)? {
        log::warn!(target: "kea-dhcp4.http", "TANDEM_CERTIFICATE_WARNING {warning}");
    }
    Ok(())
}

type Configurations = (Option<Arc<rustls::ServerConfig>>, Option<Arc<rustls::ClientConfig>>);

fn configurations(
    relationship: &config::ha::Relationship,
    check_partner_name: bool,
) -> Result<Configurations, HaSetupError> {
    let of = |peer: &config::ha::Peer| {
        let peer = peer.name.to_string();
        move |source| HaSetupError::Tls { peer, source }
    };
    let server = match &relationship.own.tls {
        None => None,
        Some(files) => {
            let files = tls_files(files);
            warn_of_certificates(&files).map_err(of(&relationship.own))?;
            let required = *relationship.require_client_certs;
            Some(tls::server_config(&files, required).map_err(of(&relationship.own))?)
        }
    };
    let client = match &relationship.partner.tls {
        None => None,
        Some(files) => {
            let files = tls_files(files);
            warn_of_certificates(&files).map_err(of(&relationship.partner))?;
            Some(tls::client_config(&files, check_partner_name).map_err(of(&relationship.partner))?)
        }
    };
    Ok((server, client))
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
