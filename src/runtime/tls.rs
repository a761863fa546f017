//! TLS for the HA channel, the control socket and the control agent: files in, rustls configurations out.
//!
//! rustls with `ring`, versions 1.2 and 1.3, no server name indication, no ALPN. A listening end resumes sessions, a
//! connecting one only with [`ClientConfigs::resuming`]; for how long, [`super::tls_resumption`] knows. The handshake
//! itself runs over byte buffers in [`super::tls_session`]; who is accepted is decided in [`super::tls_verify`]. This file
//! reads the three PEM files Kea names (`trust-anchor`, `cert-file`, `key-file`) and says which of them is wrong, and how.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::tls_resumption;
use super::tls_verify::ChainVerifier;

/// The three files of one end of a connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TlsFiles {
    /// PEM file of one or more certificate authorities, or a folder with hashed names (`openssl rehash`).
    pub trust_anchor: PathBuf,
    /// PEM file of the certificate, followed by intermediates if there are any.
    pub cert_file: PathBuf,
    /// PEM file of the private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key_file: PathBuf,
}

/// What is wrong with a file. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file does not hold what it should.
    #[error("{path}: {why}")]
    Bad {
        /// File.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key is not the one the certificate was made for.
    #[error("{key}: this private key does not belong to the certificate in {certificate}")]
    KeyMismatch {
        /// Certificate file.
        certificate: String,
        /// Key file.
        key: String,
    },
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// File or folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

impl TlsError {
    fn bad(path: &Path, why: impl Into<String>) -> Self {
        Self::Bad { path: path.display().to_string(), why: why.into() }
    }

    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.display().to_string(), source }
    }

    /// The file it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Bad { path, .. } | Self::Read { path, .. } => path,
            Self::KeyMismatch { key, .. } => key,
        }
    }
}

/// A connecting end in two forms, for peers of different kinds.
#[derive(Clone, Debug)]
pub struct ClientConfigs {
    /// Every handshake is a whole one: for any peer that may be a Kea.
    pub full: Arc<ClientConfig>,
    /// Sessions are taken up again: for a peer that is known to allow it, as every Tandem does.
    pub resuming: Arc<ClientConfig>,
}

/// Configurations of the connecting end: presents the certificate of `files`, accepts a server whose chain ends
/// at its trust anchor. With `name` the certificate has to carry that name of the peer, or the address connected to.
pub fn client_configs(files: &TlsFiles, name: Option<&str>) -> Result<ClientConfigs, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(&files.trust_anchor, &provider, name)?;
    let lifetime = verifier.lifetime();
    let own = SingleCertAndKey::from(certified_key(files, &provider)?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::bad(&files.cert_file, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(own));
    config.enable_sni = false;
    // A Kea demands certificates and gives its sessions no context, and so its OpenSSL ends every attempt to take one up
    // again with an alert. Connections are kept for long; a whole handshake is cheap.
    config.resumption = Resumption::disabled();
    let full = Arc::new(config.clone());
    config.resumption = Resumption::store(tls_resumption::of_client(lifetime));
    Ok(ClientConfigs { full, resuming: Arc::new(config) })
}

/// Configuration of the listening end. With `require_client_certs` a client must present a certificate whose
/// chain ends at the trust anchor; without it none is asked for.
pub fn server_config(files: &TlsFiles, require_client_certs: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(&files.trust_anchor, &provider, None)?;
    let lifetime = verifier.lifetime();
    let own = SingleCertAndKey::from(certified_key(files, &provider)?);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::bad(&files.cert_file, error.to_string()))?;
    let builder = match require_client_certs {
        true => builder.with_client_cert_verifier(verifier),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(own));
    config.session_storage = tls_resumption::of_server(lifetime);
    Ok(Arc::new(config))
}

/// What will make the partner refuse us although the files can be loaded: a file and a text for each certificate that has
/// expired, is not valid yet, or ends within 30 days. Kea starts with such a certificate, and a DHCP server
/// that does not start over it would turn a lost partner into an outage, so these are warnings.
pub fn warnings(files: &TlsFiles) -> Result<Vec<(String, String)>, TlsError> {
    const SOON_S: i64 = 30 * 24 * 3600;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let mut warnings = Vec::new();
    for validity in validities(files)? {
        let fault = if validity.not_before_s > now {
            format!("is not valid before {}", validity.not_before)
        } else if validity.not_after_s < now {
            format!("expired on {}", validity.not_after)
        } else if validity.not_after_s < now.saturating_add(SOON_S) {
            format!("expires on {}", validity.not_after)
        } else {
            continue;
        };
        let text = format!("{} {fault}", validity.name());
        warnings.push((validity.path, text));
    }
    Ok(warnings)
}

/// How long one certificate is good for.
#[derive(Clone, Debug)]
pub struct Validity {
    /// The file it is in.
    pub path: String,
    /// Whose it is.
    pub subject: String,
    /// When it begins, seconds since the epoch and for people.
    pub not_before_s: i64,
    not_before: String,
    /// When it ends.
    pub not_after_s: i64,
    not_after: String,
}

impl Validity {
    /// The certificate, for people.
    pub fn name(&self) -> String {
        format!("{}: the certificate of {}", self.path, self.subject)
    }
}

/// How long every certificate of `files` is good for: those of the trust anchor first.
///
/// # Errors
/// A file that cannot be read, or holds none.
pub fn validities(files: &TlsFiles) -> Result<Vec<Validity>, TlsError> {
    let mut all = anchors(&files.trust_anchor)?;
    all.extend(certificates(&files.cert_file)?.into_iter().map(|own| (files.cert_file.clone(), own)));
    let validity = |(path, certificate): (PathBuf, CertificateDer<'static>)| {
        let parsed = parse(&path, &certificate)?;
        let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
        Ok(Validity {
            path: path.display().to_string(),
            subject: parsed.subject().to_string(),
            not_before_s: from.timestamp(),
            not_before: from.to_string(),
            not_after_s: to.timestamp(),
            not_after: to.to_string(),
        })
    };
    all.into_iter().map(validity).collect()
}

/// Everything that `files` hold, to tell whether it has changed.
///
/// # Errors
/// A file that cannot be read, or holds none.
pub fn contents(files: &TlsFiles) -> Result<Vec<u8>, TlsError> {
    let mut contents = Vec::new();
    for (_, anchor) in anchors(&files.trust_anchor)? {
        contents.extend_from_slice(&anchor);
    }
    for path in [&files.cert_file, &files.key_file] {
        contents.extend(std::fs::read(path).map_err(|source| TlsError::read(path, source))?);
    }
    Ok(contents)
}

/// Whether a certificate that was accepted once is still within its dates at `now_s`. One that cannot be read is not.
pub fn is_current(certificate: &CertificateDer<'_>, now_s: i64) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
        let validity = certificate.validity();
        validity.not_before.timestamp() <= now_s && now_s <= validity.not_after.timestamp()
    })
}

fn verifier(
    trust_anchor: &Path,
    provider: &Arc<CryptoProvider>,
    name: Option<&str>,
) -> Result<Arc<ChainVerifier>, TlsError> {
    let mut trusted = Vec::new();
    let mut files = Vec::new();
    for (path, anchor) in anchors(trust_anchor)? {
        parse(&path, &anchor)?;
        trusted.push(anchor);
        files.push(path);
    }
    let refused = |(place, why): (usize, String)| {
        TlsError::bad(files.get(place).map_or(trust_anchor, PathBuf::as_path), why)
    };
    ChainVerifier::new(trusted, provider.clone(), name).map(Arc::new).map_err(refused)
}

/// Every certificate of the trust anchor with the file it is in.
fn anchors(trust_anchor: &Path) -> Result<Vec<(PathBuf, CertificateDer<'static>)>, TlsError> {
    let metadata = std::fs::metadata(trust_anchor).map_err(|source| TlsError::read(trust_anchor, source))?;
    let mut files = vec![trust_anchor.to_owned()];
    if metadata.is_dir() {
        let read_error = |source| TlsError::read(trust_anchor, source);
        files.clear();
        for entry in std::fs::read_dir(trust_anchor).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            if entry.file_name().to_str().is_some_and(is_hashed_name) {
                files.push(entry.path());
            }
        }
        files.sort();
        if files.is_empty() {
            let why =
                "a folder must hold files named by hash, such as 1a2b3c4d.0; run `openssl rehash` on it";
            return Err(TlsError::bad(trust_anchor, why));
        }
    }
    let mut anchors = Vec::new();
    for file in files {
        for certificate in certificates(&file)? {
            anchors.push((file.clone(), certificate));
        }
    }
    Ok(anchors)
}

/// Whether a file name is one OpenSSL looks up in a folder: eight hexadecimal digits, a dot, a number.
fn is_hashed_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|octet| octet.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|octet| octet.is_ascii_digit())
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = std::fs::read(path).map_err(|source| TlsError::read(path, source))?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        certificates.push(certificate.map_err(|error| TlsError::bad(path, pem_error(&error)))?);
    }
    if certificates.is_empty() {
        return Err(TlsError::bad(path, "holds no PEM certificate (BEGIN CERTIFICATE)"));
    }
    Ok(certificates)
}

fn certified_key(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert_file)?;
    let path = &files.key_file;
    let text = std::fs::read(path).map_err(|source| TlsError::read(path, source))?;
    if text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(TlsError::bad(
            path,
            "the private key is encrypted; a server needs it without a passphrase",
        ));
    }
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => {
            return Err(TlsError::bad(path, "holds no PEM private key (BEGIN [RSA|EC] PRIVATE KEY)"));
        }
        Err(error) => return Err(TlsError::bad(path, pem_error(&error))),
    };
    let key = provider.key_provider.load_private_key(key).map_err(|error| {
        TlsError::bad(path, format!("a private key of a kind that is not supported: {error}"))
    })?;
    // The chain is not empty: `certificates` refuses that.
    let leaf = parse(&files.cert_file, &chain[0])?;
    let public = key.public_key();
    if public.is_some_and(|public| public.as_ref() != leaf.public_key().raw) {
        return Err(TlsError::KeyMismatch {
            certificate: files.cert_file.display().to_string(),
            key: path.display().to_string(),
        });
    }
    Ok(CertifiedKey::new(chain, key))
}

/// What OpenSSL writes into both forms of an encrypted key.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn pem_error(error: &pem::Error) -> String {
    format!("not a valid PEM file: {error}")
}

fn parse<'a>(path: &Path, der: &'a [u8]) -> Result<X509Certificate<'a>, TlsError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(TlsError::bad(path, format!("not an X.509 certificate: {error}"))),
    }
}

/// The verifier a client configuration of `files` uses, for tests that build other configurations around it.
#[cfg(test)]
pub(in crate::runtime) fn verifier_of(files: &TlsFiles) -> Result<Arc<ChainVerifier>, TlsError> {
    verifier(&files.trust_anchor, &Arc::new(rustls::crypto::ring::default_provider()), None)
}
