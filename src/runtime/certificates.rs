//! Looks at every TLS file that a configuration names before anything is started.
//!
//! What cannot be used is an error at the key that names the file; a certificate that has expired or soon will is a
//! warning there, because a DHCP server that does not start over it would turn a lost partner into an outage.
//!
//! Whose identity is whose (ha-protocol 1.6): the own peer entry describes the own listener; the entry of another
//! peer describes the certificate shown to it.

use std::path::PathBuf;

use config::diagnostics::Diagnostics;
use config::ha::Relationship;
use config::socket::{ControlSocket, TlsFiles as Written};
use config::value::Located;
use config::{ControlAgent, Document};

use super::ha::ends::{self, EndsError};
use super::tls::{self, TlsError, TlsFiles};

/// Reports what is wrong with the files of `document`.
pub fn check(document: &Document, report: &mut Diagnostics) {
    for socket in &document.control_sockets {
        if let ControlSocket::Http(http) = socket
            && let Some(written) = &http.tls
        {
            check_end(written, report, |files| tls::server_config(files, *http.cert_required).map(drop));
        }
    }
    for relationship in &document.hooks.high_availability {
        check_relationship(relationship, report);
    }
}

fn check_relationship(relationship: &Relationship, report: &mut Diagnostics) {
    if let Err(EndsError::Secret { position, key, path, why }) = ends::check_credentials(relationship) {
        report.error(&position, key, format!("\"{key}\": {path}: {why}"));
    }
    if let Some(written) = &relationship.own.tls {
        let required = *relationship.require_client_certs;
        check_end(written, report, |files| tls::server_config(files, required).map(drop));
    }
    for written in relationship.others.iter().filter_map(|peer| peer.tls.as_ref()) {
        check_end(written, report, |files| tls::client_configs(files, None).map(drop));
    }
}

/// Reports what is wrong with the files of a control agent.
pub fn check_agent(agent: &ControlAgent, report: &mut Diagnostics) {
    if let Some(written) = &agent.tls {
        check_end(written, report, |files| tls::server_config(files, *agent.cert_required).map(drop));
    }
}

/// The files of a TLS end as paths.
pub fn tls_files(files: &Written) -> TlsFiles {
    TlsFiles {
        trust_anchor: PathBuf::from(files.trust_anchor.as_str()),
        cert_file: PathBuf::from(files.cert_file.as_str()),
        key_file: PathBuf::from(files.key_file.as_str()),
    }
}

fn check_end(
    written: &Written,
    report: &mut Diagnostics,
    load: impl FnOnce(&TlsFiles) -> Result<(), TlsError>,
) {
    let files = tls_files(written);
    match load(&files).and_then(|()| tls::warnings(&files)) {
        Ok(warnings) => {
            for (path, text) in warnings {
                let (key, place) = named_by(written, &path);
                report.warn(&place.position, key, text);
            }
        }
        Err(error) => {
            let (key, place) = named_by(written, error.path());
            report.error(&place.position, key, format!("\"{key}\": {error}"));
        }
    }
}

/// The key that names `path`; what neither file has is in the folder of trust anchors.
fn named_by<'a>(written: &'a Written, path: &str) -> (&'static str, &'a Located<String>) {
    let keys = [("cert-file", &written.cert_file), ("key-file", &written.key_file)];
    keys.into_iter()
        .find(|(_, file)| file.as_str() == path)
        .unwrap_or(("trust-anchor", &written.trust_anchor))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    /// An authority, a certificate that ended in `year`, and its key.
    fn write_files(folder: &Path, year: i32) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let anchor = authority.self_signed(&authority_key).unwrap();
        let mut leaf = CertificateParams::new(vec!["server1".to_owned()]).unwrap();
        leaf.not_after = date_time_ymd(year, 1, 1);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&leaf_key, &Issuer::new(authority, authority_key)).unwrap();
        std::fs::write(folder.join("CA.pem"), anchor.pem()).unwrap();
        std::fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), leaf_key.serialize_pem()).unwrap();
        std::fs::write(folder.join("other.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        std::fs::write(folder.join("text.pem"), "nothing").unwrap();
    }

    fn report(folder: &Path, files: [&str; 3]) -> Result<Vec<String>, String> {
        let [anchor, cert, key] = files.map(|name| folder.join(name).display().to_string());
        let text = format!(
            "{{\"Control-agent\": {{\n \"trust-anchor\": \"{anchor}\",\n \"cert-file\": \"{cert}\",\n \"key-file\": \"{key}\"\n}}}}"
        );
        let value = config::parse_control_agent(text.as_bytes(), "ca.conf").unwrap();
        let mut report = Diagnostics::default();
        check_agent(&value.document, &mut report);
        let texts = |list: &[config::Diagnostic]| list.iter().map(ToString::to_string).collect();
        report.finish().map(|warnings| texts(&warnings)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_at_the_key_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), 2999);
        // Files, the place and key named, a part of the cause.
        let rows = [
            (
                ["none.pem", "cert.pem", "key.pem"],
                "ca.conf:2.18: \"trust-anchor\"",
                "none.pem: cannot be read",
            ),
            (["CA.pem", "none.pem", "key.pem"], "ca.conf:3.15: \"cert-file\"", "none.pem: cannot be read"),
            (["CA.pem", "cert.pem", "none.pem"], "ca.conf:4.14: \"key-file\"", "none.pem: cannot be read"),
            (["text.pem", "cert.pem", "key.pem"], "ca.conf:2.18: \"trust-anchor\"", "text.pem"),
            (["CA.pem", "cert.pem", "other.pem"], "ca.conf:4.14: \"key-file\"", "does not belong"),
        ];
        for (files, place, cause) in rows {
            let said = report(folder.path(), files).unwrap_err();
            assert!(said.starts_with(place) && said.contains(cause), "{files:?}: {said}");
        }
        assert_eq!(report(folder.path(), ["CA.pem", "cert.pem", "key.pem"]), Ok(Vec::new()));
    }

    #[test]
    fn an_expired_certificate_is_a_warning_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), 2020);
        let warnings = report(folder.path(), ["CA.pem", "cert.pem", "key.pem"]).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("ca.conf:3.15: ") && warnings[0].contains("expired"), "{warnings:?}");
    }
}
