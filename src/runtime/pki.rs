//! `tandem pki`: one certificate authority and a key and certificate per host, under the template's file names.
//!
//! For the n-th host `NAME=ADDRESS` it writes `NAME_cert.pem` and `NAME_key.pem` for the HA channel and
//! `ca<n>_cert.pem` and `ca<n>_key.pem` for that host's control socket or control agent, next to `CA.pem` and
//! `CA_key.pem`. Certificates name the host and its address, so they also pass where names are checked.
//! Nothing is ever overwritten, and private keys are readable by their owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{Datelike, Days, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// How long the certificates are valid unless told otherwise, days.
pub const VALID_DAYS_DEFAULT: u32 = 3650;

/// Hosts per call; a relationship has two active peers and a few backups.
const HOSTS_MAX: usize = 64;

/// One host of `--host NAME=ADDRESS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Name, also the start of the file names: letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// Address the partner connects to.
    pub address: IpAddr,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file is already there.
    #[error("{0} exists already; nothing was written. Remove it, or choose another folder")]
    Exists(PathBuf),
    /// A host is not given as it should be.
    #[error("--host {text}: {why}")]
    Host {
        /// As given.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// A key or certificate could not be made.
    #[error("cannot make {what}: {source}")]
    Make {
        /// Which one.
        what: String,
        /// Cause.
        source: rcgen::Error,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Write {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

impl Host {
    /// Reads `NAME=ADDRESS`.
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        let refuse = |why: &str| PkiError::Host { text: text.to_owned(), why: why.to_owned() };
        let (name, address) = text.split_once('=').ok_or_else(|| refuse("expected NAME=ADDRESS"))?;
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 63 || name.starts_with('.') || !name.bytes().all(fits) {
            return Err(refuse("a name is 1 to 63 letters, digits, '.', '-' or '_'"));
        }
        let address = address.parse().map_err(|_| refuse("the address is not an IPv4 or IPv6 address"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

/// Makes everything for `hosts` in `directory` (made if missing) and gives the files written, in order.
pub fn create(directory: &Path, hosts: &[Host], valid_days: u32) -> Result<Vec<PathBuf>, PkiError> {
    check_hosts(hosts)?;
    let files = make(hosts, valid_days)?;
    let mut builder = fs::DirBuilder::new();
    let write_error = |path: &Path, source| PkiError::Write { path: path.to_owned(), source };
    builder.recursive(true).mode(0o755).create(directory).map_err(|source| write_error(directory, source))?;
    let files: Vec<(PathBuf, NewFile)> =
        files.into_iter().map(|file| (directory.join(&file.name), file)).collect();
    // Look at all of them first, so that a refusal leaves nothing behind.
    for (path, _) in &files {
        if path.symlink_metadata().is_ok() {
            return Err(PkiError::Exists(path.clone()));
        }
    }
    let mut written = Vec::new();
    for (path, file) in files {
        let mode = if file.private { 0o600 } else { 0o644 };
        let mut handle = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(|source| write_error(&path, source))?;
        handle.write_all(file.text.as_bytes()).map_err(|source| write_error(&path, source))?;
        written.push(path);
    }
    Ok(written)
}

struct NewFile {
    name: String,
    text: String,
    private: bool,
}

impl NewFile {
    fn certificate(name: String, text: String) -> Self {
        Self { name, text, private: false }
    }

    fn key(name: String, key: &KeyPair) -> Self {
        Self { name, text: key.serialize_pem(), private: true }
    }
}

fn check_hosts(hosts: &[Host]) -> Result<(), PkiError> {
    if hosts.is_empty() || hosts.len() > HOSTS_MAX {
        let why = format!("give 1 to {HOSTS_MAX} hosts, such as --host server1=192.0.2.1");
        return Err(PkiError::Host { text: String::new(), why });
    }
    for (index, host) in hosts.iter().enumerate() {
        let reserved =
            host.name.strip_prefix("ca").is_some_and(|rest| rest.bytes().all(|octet| octet.is_ascii_digit()));
        let twice = hosts[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&host.name));
        let why = match (reserved || host.name.eq_ignore_ascii_case("CA"), twice) {
            (true, _) => "names such as 'CA' and 'ca1' are those of the control sockets' files",
            (_, true) => "this name is given twice",
            _ => continue,
        };
        return Err(PkiError::Host { text: host.name.clone(), why: why.to_owned() });
    }
    Ok(())
}

fn make(hosts: &[Host], valid_days: u32) -> Result<Vec<NewFile>, PkiError> {
    let make_error = |what: &str| {
        let what = what.to_owned();
        move |source| PkiError::Make { what, source }
    };
    let key = KeyPair::generate().map_err(make_error("the CA's key"))?;
    let mut parameters = parameters("Tandem CA", valid_days);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key).map_err(make_error("the CA's certificate"))?;
    let mut files = vec![
        NewFile::certificate("CA.pem".into(), certificate.pem()),
        NewFile::key("CA_key.pem".into(), &key),
    ];
    let issuer = Issuer::new(parameters, key);
    for (index, host) in hosts.iter().enumerate() {
        for stem in [host.name.clone(), format!("ca{}", index + 1)] {
            let key = KeyPair::generate().map_err(make_error(&stem))?;
            let parameters = host_parameters(host, &stem, valid_days).map_err(make_error(&stem))?;
            let certificate = parameters.signed_by(&key, &issuer).map_err(make_error(&stem))?;
            files.push(NewFile::certificate(format!("{stem}_cert.pem"), certificate.pem()));
            files.push(NewFile::key(format!("{stem}_key.pem"), &key));
        }
    }
    Ok(files)
}

/// A certificate for `host` to be used in both directions: partners present the same kind as they accept.
fn host_parameters(
    host: &Host,
    common_name: &str,
    valid_days: u32,
) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = parameters(common_name, valid_days);
    parameters.subject_alt_names = vec![SanType::IpAddress(host.address)];
    // An underscore is fine in a file name and not in a DNS name.
    if !host.name.contains('_') {
        parameters.subject_alt_names.push(SanType::DnsName(host.name.as_str().try_into()?));
    }
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}

/// Valid from yesterday, so that a host whose clock is a little behind accepts it.
fn parameters(common_name: &str, valid_days: u32) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Tandem");
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    let today = Utc::now().date_naive();
    let first = today.checked_sub_days(Days::new(1)).unwrap_or(today);
    let last = today.checked_add_days(Days::new(u64::from(valid_days))).unwrap_or(today);
    let at =
        |date: chrono::NaiveDate| rcgen::date_time_ymd(date.year(), date.month() as u8, date.day() as u8);
    parameters.not_before = at(first);
    parameters.not_after = at(last);
    parameters
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::runtime::tls::{TlsFiles, client_configs, server_config, warnings};
    use crate::runtime::tls_session::Session;

    fn hosts() -> Vec<Host> {
        ["server1=192.168.1.2", "server2=192.168.1.3"].map(|text| Host::parse(text).unwrap()).to_vec()
    }

    #[test]
    fn the_template_finds_its_files_and_names_check_out() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("kea");
        let written = create(&directory, &hosts(), VALID_DAYS_DEFAULT).unwrap();
        let mut names: Vec<_> =
            written.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        let expected = "CA.pem CA_key.pem ca1_cert.pem ca1_key.pem ca2_cert.pem ca2_key.pem \
                        server1_cert.pem server1_key.pem server2_cert.pem server2_key.pem";
        assert_eq!(names.join(" "), expected);
        for path in &written {
            let private = path.to_str().unwrap().ends_with("_key.pem");
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077 == 0, private, "{}: {mode:o}", path.display());
        }
        let files = |stem: &str| TlsFiles {
            trust_anchor: directory.join("CA.pem"),
            cert_file: directory.join(format!("{stem}_cert.pem")),
            key_file: directory.join(format!("{stem}_key.pem")),
        };
        for (client, server, address, accepted) in [
            ("server1", "server2", "192.168.1.3", true),
            ("server2", "server1", "192.168.1.2", true),
            ("server2", "ca1", "192.168.1.2", true),
            ("server2", "server1", "192.168.1.3", false),
        ] {
            let config = client_configs(&files(client), Some("nobody")).unwrap().full;
            let mut connecting = Session::client(config, address.parse().unwrap()).unwrap();
            let mut listening = Session::server(server_config(&files(server), true).unwrap()).unwrap();
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            let mut failed = false;
            for _ in 0..5 {
                connecting.take_output(&mut wire);
                failed |= listening.handle_input(&std::mem::take(&mut wire), &mut plain).is_err();
                listening.take_output(&mut wire);
                failed |= connecting.handle_input(&std::mem::take(&mut wire), &mut plain).is_err();
            }
            assert_eq!(
                !failed && !connecting.is_handshaking(),
                accepted,
                "{client} to {server} at {address}"
            );
        }
        assert_eq!(warnings(&files("server1")).unwrap(), Vec::new());
    }

    #[test]
    fn nothing_is_written_where_a_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("server2_key.pem"), "precious").unwrap();
        let error = create(folder.path(), &hosts(), 30).unwrap_err().to_string();
        assert!(error.contains("server2_key.pem exists already"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn bad_hosts_are_refused_with_what_is_wrong() {
        for (text, expected) in [
            ("server1", "expected NAME=ADDRESS"),
            ("=192.0.2.1", "a name is"),
            ("../up=192.0.2.1", "a name is"),
            ("server1=localhost", "not an IPv4 or IPv6 address"),
        ] {
            let error = Host::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(text), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let twice = [hosts(), hosts()].concat();
        assert!(create(folder.path(), &twice, 30).unwrap_err().to_string().contains("given twice"));
        assert!(create(folder.path(), &[], 30).is_err());
        let taken = [Host::parse("ca1=192.0.2.1").unwrap()];
        assert!(create(folder.path(), &taken, 30).unwrap_err().to_string().contains("control sockets"));
    }
}
