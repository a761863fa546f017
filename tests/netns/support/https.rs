//! Commands over HTTP and HTTPS with curl, as an operator sends them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::namespace::Namespace;

/// Posts `body` with curl from `host`, presenting the certificate of `who` from `folder`; the body of the answer, or
/// curl's exit code.
pub fn post(
    host: &Namespace,
    folder: &Path,
    who: Option<&str>,
    url: &str,
    body: &Value,
) -> Result<Value, i32> {
    // Nothing of the server is checked: the certificates of plain openssl have a name and no address.
    curl(host, folder, who, &["-k".to_owned(), url.to_owned()], body)
}

/// The same with curl's own words for the server and how it is checked.
pub fn curl(
    host: &Namespace,
    folder: &Path,
    who: Option<&str>,
    server: &[String],
    body: &Value,
) -> Result<Value, i32> {
    let file = |name: String| folder.join(name).display().to_string();
    let mut words = vec!["netns".to_owned(), "exec".into(), host.name().into(), "curl".into()];
    words.extend(["-sS", "-m", "10", "-H", "Content-Type: application/json", "-d"].map(str::to_owned));
    words.push(body.to_string());
    words.extend_from_slice(server);
    if let Some(who) = who {
        words.extend([
            "--cert".into(),
            file(format!("{who}_cert.pem")),
            "--key".into(),
            file(format!("{who}_key.pem")),
        ]);
    }
    let out = Command::new("ip").args(&words).output().expect("curl");
    if out.status.success() {
        Ok(serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stdout))))
    } else {
        Err(out.status.code().unwrap_or(-1))
    }
}
