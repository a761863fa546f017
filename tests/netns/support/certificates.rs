//! Certificates as operators make them: plain `openssl`, one authority, one key and certificate per server.

use std::path::Path;
use std::process::Command;

/// X.509 version of the certificates of servers: `openssl x509 -req` without extensions makes version 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    V1,
    V3,
}

/// Makes `CA.pem` and `<name>_cert.pem`, `<name>_key.pem` for each of `names` in `folder`.
pub fn make(folder: &Path, version: Version, names: &[&str]) {
    authority(folder, "CA");
    for name in names {
        issue(folder, "CA", name, version, 365);
    }
}

/// A self-signed authority `<name>.pem` with its key `<name>_key.pem`.
pub fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=Tandem-test-{name} -keyout {name}_key.pem -out {name}.pem"
        ),
    );
}

/// A certificate for `name`, issued by `authority`, valid for `days` (a negative number: expired).
pub fn issue(folder: &Path, authority: &str, name: &str, version: Version, days: i32) {
    openssl(
        folder,
        &format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}_key.pem -out {name}_request.pem"
        ),
    );
    let mut sign = format!(
        "x509 -req -in {name}_request.pem -CA {authority}.pem -CAkey {authority}_key.pem -CAcreateserial -days {days} -out {name}_cert.pem"
    );
    if version == Version::V3 {
        let extensions = folder.join(format!("{name}_extensions"));
        std::fs::write(&extensions, format!("basicConstraints=CA:FALSE\nsubjectAltName=DNS:{name}\n"))
            .expect("a file");
        sign.push_str(&format!(" -extfile {name}_extensions"));
    }
    openssl(folder, &sign);
}

fn openssl(folder: &Path, words: &str) {
    let out = Command::new("openssl").current_dir(folder).args(words.split(' ')).output().expect("openssl");
    assert!(out.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&out.stderr));
}
