//! An authority whose certificates end at a known second.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};

/// A certificate that outlives every test.
pub const DAY: Duration = Duration::from_secs(86_400);

/// The time since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

/// The authority of `NAME.pem` in a folder.
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Writes its certificate to `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = authority.self_signed(&key).expect("a certificate");
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("a file");
        Self(Issuer::new(authority, key))
    }

    /// Puts a certificate and its key that end at `end` in the place of those of `name`, `NAME_cert.pem` and
    /// `NAME_key.pem`.
    pub fn issue(&self, folder: &Path, name: &str, end: Duration) {
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        leaf.not_after = date_time_ymd(1970, 1, 1) + end;
        // One with the authority's own name would be taken for self-signed.
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.signed_by(&key, &self.0).expect("a certificate");
        for (kind, text) in [("key", key.serialize_pem()), ("cert", certificate.pem())] {
            let fresh = folder.join("fresh");
            std::fs::write(&fresh, text).expect("a file");
            std::fs::rename(fresh, folder.join(format!("{name}_{kind}.pem"))).expect("a folder");
        }
    }
}
