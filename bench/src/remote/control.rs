//! Commands to a server that is not ours: over HTTP, to its control agent or its own control socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use tandem::http::client::{ClientConnection, Response, Target};

/// How long an answer may take: a large configuration takes its time to be put in force.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where commands go.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    host: String,
    port: u16,
}

impl Control {
    /// Reads `http://HOST[:PORT][/]`.
    ///
    /// # Errors
    /// Says what is not built: TLS, and a name and password.
    pub fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("--control {url}: only http:// is spoken here; open a tunnel for anything else");
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        ensure!(
            !authority.contains(['/', '@']),
            "--control {url}: expected http://HOST:PORT/ and nothing else"
        );
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => {
                (host, port.parse().with_context(|| format!("--control {url}: no such port"))?)
            }
            None => (authority, 8000),
        };
        ensure!(!host.is_empty(), "--control {url}: no host");
        Ok(Self { host: host.to_owned(), port })
    }

    /// Sends `command` for the DHCPv4 server and gives the arguments of the answer.
    ///
    /// # Errors
    /// When nobody answers, or with the server's own words when it refuses.
    pub fn ask(&self, command: &str, arguments: Option<&Value>) -> Result<Value> {
        let mut request = json!({ "command": command, "service": ["dhcp4"] });
        if let Some(arguments) = arguments {
            request["arguments"] = arguments.clone();
        }
        let whom = format!("{command} at {}:{}", self.host, self.port);
        let response = self.exchange(request.to_string().as_bytes()).with_context(|| whom.clone())?;
        answer(&response.body).with_context(|| whom)
    }

    fn exchange(&self, request: &[u8]) -> Result<Response> {
        let start = Instant::now();
        let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut stream = TcpStream::connect((self.host.as_str(), self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = ClientConnection::new(now_ns(), Target { host: self.host.clone(), auth: None });
        let mut output = Vec::new();
        connection.send(now_ns(), request, 0, &mut output);
        stream.write_all(&output)?;
        let mut buffer = vec![0; 65_536];
        loop {
            let count = stream.read(&mut buffer)?;
            let found = match count {
                0 => connection.handle_end()?,
                count => connection.handle_bytes(now_ns(), &buffer[..count])?,
            };
            match found {
                Some(response) => return Ok(response),
                None => ensure!(count > 0, "closed without an answer"),
            }
        }
    }
}

/// The arguments of an answer, which an agent wraps into a list.
fn answer(body: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(body).context("the answer is no JSON")?;
    let one = match value {
        Value::Array(mut list) if list.len() == 1 => list.remove(0),
        other => other,
    };
    match one["result"].as_i64() {
        Some(0) => Ok(one["arguments"].clone()),
        _ => Err(anyhow!("{}", one["text"].as_str().unwrap_or("refused without a reason"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port_and_nothing_else() {
        let control = |host: &str, port| Control { host: host.into(), port };
        for (url, expected) in [
            ("http://192.0.2.1:8005/", control("192.0.2.1", 8005)),
            ("http://kea.example", control("kea.example", 8000)),
        ] {
            assert_eq!(Control::parse(url).unwrap(), expected, "{url}");
        }
        for url in
            ["https://a/", "192.0.2.1:8000", "http://a:b/", "http://me:you@a/", "http://a/b", "http://"]
        {
            assert!(Control::parse(url).unwrap_err().to_string().contains("--control"), "{url}");
        }
    }

    #[test]
    fn an_answer_is_taken_from_its_list_and_a_refusal_keeps_its_words() {
        let given = |text: &str| answer(text.as_bytes());
        assert_eq!(given(r#"[{"result":0,"arguments":{"a":1}}]"#).unwrap(), json!({ "a": 1 }));
        assert_eq!(given(r#"{"result":0}"#).unwrap(), Value::Null);
        assert_eq!(
            given(r#"[{"result":1,"text":"no such thing"}]"#).unwrap_err().to_string(),
            "no such thing"
        );
        assert!(given("<html>").is_err() && given("[]").is_err());
    }
}
