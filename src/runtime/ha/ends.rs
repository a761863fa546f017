//! What both ends of the HA channel are made of: certificates, credentials, addresses.
//!
//! Read from a relationship at the start, and again when the configuration is read again or a certificate is about
//! to expire. [`SharedEnds`] is asked once for each new connection, so that a change counts from the next one on;
//! connections that are open stay as they are.
//!
//! Whose identity is whose (ha-protocol 1.6): the own peer entry describes the own listener; the entry of another
//! peer the certificate and the credentials shown to it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use config::ha::{Peer, Relationship, Secret};
use config::tandem::Tandem;
use rustls::ServerConfig;

use crate::http::auth::BasicAuth;
use crate::http::client::Target;
use crate::runtime::certificates::tls_files;
use crate::runtime::tls::{self, ClientConfigs, TlsError};

/// Longest first line of a file with a user or a password, octets.
const SECRET_OCTETS_MAX: u64 = 4096;

/// The listening end and one connecting end for each peer.
#[derive(Debug)]
pub struct Ends {
    /// The own listener.
    pub listen: ListenEnd,
    /// Other servers, by peer index.
    pub peers: Vec<PeerEnd>,
}

/// The own listener.
#[derive(Debug, Default)]
pub struct ListenEnd {
    /// Own certificate and whom to accept; `None` is plain TCP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Credentials that are demanded, if any.
    pub auth: Option<BasicAuth>,
    /// Whether a peer that sends no credentials at all is let in all the same
    /// (`accept-unauthenticated-partners`).
    pub lenient: bool,
}

/// The connecting end towards one peer.
#[derive(Debug)]
pub struct PeerEnd {
    /// The peer's name, for the log.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate shown to it and whom to accept; `None` is plain TCP.
    pub tls: Option<ClientConfigs>,
    /// Host and credentials of requests.
    pub target: Target,
}

/// What of the ends cannot be used. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum EndsError {
    /// A file with a user or a password.
    #[error("{position}: \"{key}\": {path}: {why}")]
    Secret {
        /// Where the file is named.
        position: config::Position,
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate, key or trust anchor.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Ends {
    /// Reads the files that `relationship` names.
    ///
    /// # Errors
    /// [`EndsError`].
    pub fn load(relationship: &Relationship, tandem: &Tandem) -> Result<Self, EndsError> {
        let own = &relationship.own;
        let required = *relationship.require_client_certs;
        let tls = own.tls.as_ref().map(|files| tls::server_config(&tls_files(files), required));
        let listen = ListenEnd {
            tls: tls.transpose()?,
            auth: credentials(own)?,
            lenient: *tandem.accept_unauthenticated_partners,
        };
        let check_names = *tandem.check_partner_name;
        let peers = relationship.others.iter().map(|peer| PeerEnd::load(peer, check_names));
        Ok(Self { listen, peers: peers.collect::<Result<_, _>>()? })
    }

    /// Credentials and addresses, to tell whether they have changed; certificates are told by their files.
    pub fn settings(&self) -> Vec<u8> {
        let auth = |auth: &Option<BasicAuth>| auth.as_ref().map(|auth| auth.header().to_owned());
        let peers: Vec<_> =
            self.peers.iter().map(|peer| (&peer.name, peer.address, auth(&peer.target.auth))).collect();
        let listen = (auth(&self.listen.auth), self.listen.lenient, self.listen.tls.is_some());
        format!("{listen:?} {peers:?}").into_bytes()
    }

    /// The peer index of the first peer at `address`.
    pub fn peer_at(&self, address: IpAddr) -> Option<usize> {
        self.peers.iter().position(|peer| peer.address.ip() == address)
    }
}

impl ListenEnd {
    /// Whether a request with this `Authorization` header is answered; `known` is one from the address of a peer.
    pub fn permits(&self, known: bool, authorization: Option<&[u8]>) -> bool {
        match (&self.auth, authorization) {
            (None, _) => true,
            (Some(_), None) => self.lenient && known,
            (Some(auth), Some(_)) => auth.permits(authorization),
        }
    }
}

impl PeerEnd {
    fn load(peer: &Peer, check_names: bool) -> Result<Self, EndsError> {
        let address = peer.url.address;
        let tls = match &peer.tls {
            None => None,
            Some(files) => {
                let files = tls_files(files);
                Some(tls::client_configs(&files, check_names.then_some(peer.name.as_str()))?)
            }
        };
        let target = Target { host: address.ip().to_string(), auth: credentials(peer)? };
        Ok(Self { name: peer.name.to_string(), address, tls, target })
    }
}

/// Checks that the files with credentials of `relationship` can be used.
///
/// # Errors
/// The first that cannot.
pub fn check_credentials(relationship: &Relationship) -> Result<(), EndsError> {
    std::iter::once(&relationship.own).chain(&relationship.others).try_for_each(|peer| {
        credentials(peer)?;
        Ok(())
    })
}

fn credentials(peer: &Peer) -> Result<Option<BasicAuth>, EndsError> {
    let Some(auth) = &peer.basic_auth else { return Ok(None) };
    let user = text(&auth.user, "basic-auth-user-file")?;
    let password = text(&auth.password, "basic-auth-password-file")?;
    if user.contains(':')
        && let Secret::File(path) = &auth.user
    {
        let why = format!("the user must not contain a ':' in peer '{}'", *peer.name);
        return Err(secret_error(path, "basic-auth-user-file", why));
    }
    Ok(Some(BasicAuth::new(&user, &password)))
}

fn text(secret: &Secret, key: &'static str) -> Result<String, EndsError> {
    match secret {
        Secret::Text(text) => Ok(text.value.clone()),
        Secret::File(path) => {
            first_line(Path::new(path.as_str())).map_err(|why| secret_error(path, key, why))
        }
    }
}

fn secret_error(path: &config::Located<String>, key: &'static str, why: String) -> EndsError {
    EndsError::Secret { position: path.position.clone(), key, path: path.value.clone(), why }
}

/// The first line of a file, without its end.
fn first_line(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut octets = Vec::new();
    file.take(SECRET_OCTETS_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err("its first line is empty".to_owned());
    }
    if line.len() as u64 > SECRET_OCTETS_MAX {
        return Err(format!("its first line is longer than {SECRET_OCTETS_MAX} octets"));
    }
    String::from_utf8(line.to_vec()).map_err(|_| "its first line is not UTF-8".to_owned())
}

/// The ends in force, shared by all HA executors and the control node. Its lock is taken once per connection, never on
/// the packet path.
#[derive(Clone, Debug)]
pub struct SharedEnds(Arc<Mutex<Arc<Ends>>>);

impl SharedEnds {
    /// Puts `ends` in force.
    pub fn new(ends: Ends) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(ends))))
    }

    /// What the next connection is made of.
    pub fn current(&self) -> Arc<Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts `ends` in force for connections from now on.
    pub fn replace(&self, ends: Ends) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let long = "x".repeat(5000);
        let rows: [(&[u8], Result<&str, &str>); 8] = [
            (b"secret", Ok("secret")),
            (b"secret\n", Ok("secret")),
            (b"secret\r\nmore\n", Ok("secret")),
            (b" a b \n", Ok(" a b ")),
            (b"", Err("its first line is empty")),
            (b"\nsecret", Err("its first line is empty")),
            (b"\xff\n", Err("its first line is not UTF-8")),
            (long.as_bytes(), Err("its first line is longer than 4096 octets")),
        ];
        for (content, expected) in rows {
            std::fs::write(&path, content).unwrap();
            assert_eq!(first_line(&path), expected.map(str::to_owned).map_err(str::to_owned), "{content:?}");
        }
        let missing = first_line(&folder.path().join("none")).unwrap_err();
        assert!(missing.starts_with("cannot be read: "), "{missing}");
    }

    #[test]
    fn credentials_are_demanded_where_they_are_configured() {
        let demanded = || Some(BasicAuth::new("u", "p"));
        let (right, wrong) = (BasicAuth::new("u", "p"), BasicAuth::new("u", "q"));
        let (right, wrong) = (Some(right.header().as_bytes()), Some(wrong.header().as_bytes()));
        // What is demanded, whether leniently, from the address of a peer, what is sent, whether it is answered.
        let rows = [
            (None, false, false, None, true),
            (None, false, false, wrong, true),
            (demanded(), false, true, right, true),
            (demanded(), false, true, wrong, false),
            (demanded(), false, true, None, false),
            (demanded(), true, true, right, true),
            (demanded(), true, true, wrong, false),
            (demanded(), true, true, None, true),
            (demanded(), true, false, None, false),
        ];
        for (auth, lenient, known, sent, expected) in rows {
            let end = ListenEnd { tls: None, auth, lenient };
            assert_eq!(end.permits(known, sent), expected, "{end:?} {known} {sent:?}");
        }
    }

    #[test]
    fn ends_come_from_the_entries_they_are_named_by() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("user"), "filed\n").unwrap();
        let text = format!(
            r#"{{"Dhcp4": {{ "user-context": {{"tandem": {{"accept-unauthenticated-partners": true}}}},
            "hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library": "libdhcp_ha.so",
            "parameters": {{"high-availability": [{{"this-server-name": "s2", "mode": "hot-standby", "peers": [
            {{"name": "b", "role": "backup", "url": "http://[2001:db8::9]:8005/", "basic-auth-user-file": "{}"}},
            {{"name": "s1", "role": "primary", "url": "http://192.0.2.1:8005/", "basic-auth-user": "sent",
              "basic-auth-password": "one"}},
            {{"name": "s2", "role": "standby", "url": "http://192.0.2.2:8005/", "basic-auth-user": "demanded",
              "basic-auth-password": "two"}}]}}]}}}}]}}}}"#,
            folder.path().join("user").display()
        );
        let document = config::parse_dhcp4(text.as_bytes(), "f").unwrap().document;
        let relationship = &document.hooks.high_availability[0];
        let ends = Ends::load(relationship, &document.tandem).unwrap();
        assert_eq!(ends.listen.auth, Some(BasicAuth::new("demanded", "two")));
        assert!(ends.listen.lenient && ends.listen.tls.is_none());
        let peers: Vec<_> = ends
            .peers
            .iter()
            .map(|peer| (peer.name.as_str(), peer.target.clone(), peer.address.port()))
            .collect();
        let target = |host: &str, auth: BasicAuth| Target { host: host.to_owned(), auth: Some(auth) };
        assert_eq!(
            peers,
            [
                ("s1", target("192.0.2.1", BasicAuth::new("sent", "one")), 8005),
                // An IPv6 literal has no brackets in the Host header.
                ("b", target("2001:db8::9", BasicAuth::new("filed", "")), 8005),
            ]
        );
        assert_eq!(ends.peer_at("192.0.2.2".parse().unwrap()), None);
        assert_eq!(ends.peer_at("2001:db8::9".parse().unwrap()), Some(1));
        std::fs::write(folder.path().join("user"), "a:b\n").unwrap();
        let error = check_credentials(relationship).unwrap_err().to_string();
        assert!(
            error.starts_with("f:4.") && error.ends_with("user: the user must not contain a ':' in peer 'b'"),
            "{error}"
        );
    }
}
