//! Who is let in over TLS: the chain of a peer's certificate is checked against the trust anchors, nothing else.
//!
//! Kea verifies the chain and not the host name, so that is the default here; a knob adds the name check.
//! Like OpenSSL, and unlike webpki, it does not trust an anchor beyond its dates.
//! Certificates made with a plain `openssl x509 -req` are X.509 version 1, which webpki refuses and Kea
//! accepts. Version 3 goes through webpki; a version 1 leaf is read with `x509-parser`, its signature checked
//! with the same provider, and its dates compared. A leaf that is itself a trust anchor is trusted as it is.
//!
//! Invariants: nobody is accepted without a verified signature up to a configured anchor and valid dates, and
//! without proof, by the handshake signature, that the peer holds the key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Version};

use super::tls_resumption::Lifetime;

/// Intermediates between a version 1 leaf and its anchor; a longer chain is refused.
const INTERMEDIATES_MAX: usize = 4;

/// Verifies peers in both directions.
pub(super) struct ChainVerifier {
    roots: Arc<RootCertStore>,
    anchors: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
    /// webpki's own check of a version 3 client certificate.
    clients: Arc<dyn ClientCertVerifier>,
    /// The peer's name, where its certificate has to carry that or the address connected to.
    name: Option<String>,
    /// Until when those who were accepted may come back without showing it all again.
    lifetime: Arc<Lifetime>,
}

impl std::fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainVerifier").field("anchors", &self.anchors.len()).finish_non_exhaustive()
    }
}

impl ChainVerifier {
    /// A verifier that trusts `anchors`, each within its dates. With `name` a server has to carry it, or its address, in
    /// its certificate.
    ///
    /// # Errors
    /// An anchor that webpki cannot use, with its place among them; or none.
    pub(super) fn new(
        anchors: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
        name: Option<&str>,
    ) -> Result<Self, (usize, String)> {
        let roots = Arc::new(store(&anchors)?);
        let clients = client_verifier(roots.clone(), provider.clone()).map_err(|error| (0, error))?;
        let hints = roots.subjects();
        let algorithms = provider.signature_verification_algorithms;
        let (name, lifetime) = (name.map(str::to_owned), Arc::default());
        Ok(Self { roots, anchors, algorithms, hints, provider, clients, name, lifetime })
    }

    /// How long sessions of those who were accepted may be taken up again.
    pub(super) fn lifetime(&self) -> Arc<Lifetime> {
        self.lifetime.clone()
    }

    /// A peer was accepted: what was shown of it, and the anchors that are within their dates, limit its sessions.
    fn limit_sessions(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) {
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        // What cannot be read was not needed, and nobody knows how long it is good for.
        let end = |der: &[u8]| parse(der).map_or(i64::MIN, |shown| shown.validity().not_after.timestamp());
        let shown = std::iter::once(leaf).chain(intermediates).map(|shown| end(shown));
        let anchors = self.anchors.iter().map(|anchor| end(anchor)).filter(|end_s| *end_s >= now_s);
        self.lifetime.shorten(now_s, shown.chain(anchors).min().unwrap_or(i64::MIN));
    }

    /// The anchors that are within their dates; `None` if all are.
    fn current_roots(&self, now: UnixTime) -> Result<Option<Arc<RootCertStore>>, Error> {
        let is_current = |anchor: &&CertificateDer<'_>| {
            parse(anchor).is_ok_and(|anchor| check_dates(&anchor, now).is_ok())
        };
        let current: Vec<_> = self.anchors.iter().filter(is_current).cloned().collect();
        if current.len() == self.anchors.len() {
            return Ok(None);
        }
        if current.is_empty() {
            return Err(anchor_out_of_date());
        }
        store(&current).map(|roots| Some(Arc::new(roots))).map_err(|(_, error)| Error::General(error))
    }

    /// Whether a server's certificate carries its address or the peer's name.
    fn check_name(
        &self,
        leaf: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        name: &str,
    ) -> Result<(), Error> {
        let certificate = parse(leaf)?;
        let is_name = |text: &str| text.eq_ignore_ascii_case(name);
        let subject = certificate.subject();
        let common = subject.iter_common_name().any(|entry| entry.as_str().is_ok_and(is_name));
        // Version 1 has no alternative names.
        let alternative = certificate.subject_alternative_name().ok().flatten().is_some_and(|names| {
            let names = names.value.general_names.iter();
            names.into_iter().any(|one| matches!(one, GeneralName::DNSName(text) if is_name(text)))
        });
        if common || alternative {
            return Ok(());
        }
        if certificate.version() != X509Version::V3 {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, server_name)
    }

    /// How the leaf is to be checked, or that it is already trusted.
    fn kind(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<LeafKind, Error> {
        let certificate = parse(leaf)?;
        if self.anchors.iter().any(|anchor| anchor.as_ref() == leaf.as_ref()) {
            check_dates(&certificate, now)?;
            return Ok(LeafKind::Anchor);
        }
        Ok(if certificate.version() == X509Version::V3 { LeafKind::Version3 } else { LeafKind::Version1 })
    }

    /// Checks dates and the chain of signatures of a certificate that webpki does not take.
    fn verify_by_hand(
        &self,
        der: &[u8],
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        depth: usize,
    ) -> Result<(), Error> {
        let certificate = parse(der)?;
        check_dates(&certificate, now)?;
        let mut closest = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for anchor in &self.anchors {
            let issuer = parse(anchor)?;
            if issuer.subject().as_raw() != certificate.issuer().as_raw() {
                continue;
            }
            match self.verify_issued(der, &issuer) {
                Ok(()) if check_dates(&issuer, now).is_ok() => return Ok(()),
                Ok(()) => closest = anchor_out_of_date(),
                Err(error) => closest = error,
            }
        }
        if depth == INTERMEDIATES_MAX {
            return Err(closest);
        }
        for intermediate in intermediates {
            let Ok(issuer) = parse(intermediate) else { continue };
            if issuer.subject().as_raw() != certificate.issuer().as_raw() || !issuer.is_ca() {
                continue;
            }
            let verified = self
                .verify_issued(der, &issuer)
                .and_then(|()| self.verify_by_hand(intermediate, intermediates, now, depth + 1));
            match verified {
                Ok(()) => return Ok(()),
                Err(error) => closest = error,
            }
        }
        Err(closest)
    }

    /// Whether the key of `issuer` signed the certificate `der`.
    fn verify_issued(&self, der: &[u8], issuer: &X509Certificate<'_>) -> Result<(), Error> {
        let signed = SignedData::read(der).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let key = PublicKey::read(issuer.public_key().raw)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut known = false;
        for algorithm in self.algorithms.all {
            if algorithm.signature_alg_id().as_ref() != signed.algorithm
                || algorithm.public_key_alg_id().as_ref() != key.algorithm
            {
                continue;
            }
            known = true;
            if algorithm.verify_signature(key.bits, signed.message, signed.signature).is_ok() {
                return Ok(());
            }
        }
        let error = if known {
            CertificateError::BadSignature
        } else {
            CertificateError::Other(rustls::OtherError(Arc::new(UnsupportedSignature)))
        };
        Err(Error::InvalidCertificate(error))
    }

    fn tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = PublicKey::read(parsed.public_key().raw)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let (_, algorithms) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let valid = algorithms.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key.algorithm
                && algorithm.verify_signature(key.bits, message, signed.signature()).is_ok()
        });
        if !valid {
            return Err(Error::InvalidCertificate(CertificateError::BadSignature));
        }
        Ok(HandshakeSignatureValid::assertion())
    }

    fn tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.kind(leaf, now)? {
            LeafKind::Anchor => {}
            LeafKind::Version1 => self.verify_by_hand(leaf, intermediates, now, 0)?,
            LeafKind::Version3 => {
                let parsed = ParsedCertificate::try_from(leaf)?;
                let algorithms = self.algorithms.all;
                let current = self.current_roots(now)?;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    current.as_ref().unwrap_or(&self.roots),
                    intermediates,
                    now,
                    algorithms,
                )?;
            }
        }
        if let Some(name) = &self.name {
            self.check_name(leaf, server_name, name)?;
        }
        self.limit_sessions(leaf, intermediates, now);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for ChainVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.kind(leaf, now)? {
            LeafKind::Anchor => {}
            LeafKind::Version1 => self.verify_by_hand(leaf, intermediates, now, 0)?,
            LeafKind::Version3 => {
                let current = self.current_roots(now)?;
                let current = current.map(|roots| client_verifier(roots, self.provider.clone()));
                let current = current.transpose().map_err(Error::General)?;
                current.as_ref().unwrap_or(&self.clients).verify_client_cert(leaf, intermediates, now)?;
            }
        }
        self.limit_sessions(leaf, intermediates, now);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// webpki's form of `anchors`.
///
/// # Errors
/// The place of one that it cannot use, and why.
fn store(anchors: &[CertificateDer<'static>]) -> Result<RootCertStore, (usize, String)> {
    let mut roots = RootCertStore::empty();
    for (place, anchor) in anchors.iter().enumerate() {
        roots.add(anchor.clone()).map_err(|error| (place, format!("not a usable CA: {error}")))?;
    }
    Ok(roots)
}

fn client_verifier(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(|error| error.to_string())
}

enum LeafKind {
    Anchor,
    Version1,
    Version3,
}

/// Why the signature of a certificate cannot be checked at all.
#[derive(Debug, thiserror::Error)]
#[error("signed with an algorithm or key size that is not accepted (SHA-1, RSA under 2048 bits, …)")]
struct UnsupportedSignature;

/// Why no certificate can be accepted for now.
#[derive(Debug, thiserror::Error)]
#[error("the trust anchor has expired or is not valid yet")]
struct AnchorOutOfDate;

fn anchor_out_of_date() -> Error {
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(AnchorOutOfDate))))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
    }
}

fn check_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// The three parts of a `Certificate` (RFC 5280 §4.1).
struct SignedData<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let outer = Element::read(der)?.of(SEQUENCE)?;
        let message = Element::read(outer.contents)?.of(SEQUENCE)?;
        let algorithm = Element::read(message.rest)?.of(SEQUENCE)?;
        let signature = Element::read(algorithm.rest)?.of(BIT_STRING)?;
        Some(Self {
            message: message.whole,
            algorithm: algorithm.contents,
            signature: whole_octets(signature.contents)?,
        })
    }
}

/// The two parts of a `SubjectPublicKeyInfo`.
struct PublicKey<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let outer = Element::read(der)?.of(SEQUENCE)?;
        let algorithm = Element::read(outer.contents)?.of(SEQUENCE)?;
        let bits = Element::read(algorithm.rest)?.of(BIT_STRING)?;
        Some(Self { algorithm: algorithm.contents, bits: whole_octets(bits.contents)? })
    }
}

const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// A bit string without unused bits.
fn whole_octets(bits: &[u8]) -> Option<&[u8]> {
    match bits.split_first() {
        Some((0, octets)) => Some(octets),
        _ => None,
    }
}

/// One DER element with a definite length.
struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    contents: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (&tag, after_tag) = der.split_first()?;
        let (&first, mut after_length) = after_tag.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (octets, rest) = after_length.split_at_checked(count)?;
            length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            after_length = rest;
        }
        let (contents, rest) = after_length.split_at_checked(length)?;
        let whole = der.get(..der.len() - rest.len())?;
        Some(Self { tag, whole, contents, rest })
    }

    fn of(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }
}
