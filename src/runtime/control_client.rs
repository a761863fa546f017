//! A client of the unix control socket: one command, one answer, as Kea's tools do it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Octets of the longest answer that is read.
const ANSWER_OCTETS_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket is not there, or nobody has it open.
    #[error("the server does not run: its control socket says {0}")]
    NotRunning(io::Error),
    /// Nobody answers in time.
    #[error("no answer to {command}: {source}")]
    NoAnswer {
        /// The command.
        command: String,
        /// What the system says.
        source: io::Error,
    },
    /// What came is no answer.
    #[error("the answer to {command} makes no sense: {text}")]
    Nonsense {
        /// The command.
        command: String,
        /// Its beginning, or what is wrong with it.
        text: String,
    },
    /// The server refuses.
    #[error("{command}: {text}")]
    Refused {
        /// The command.
        command: String,
        /// The server's words.
        text: String,
    },
}

/// Sends `command` with `arguments` (none if null) to `socket` and returns the arguments of the answer. Every read
/// and write may take `patience`.
///
/// # Errors
/// [`ControlError`]; a result other than 0 is a refusal.
pub fn command(
    socket: &Path,
    command: &str,
    arguments: Value,
    patience: Duration,
) -> Result<Value, ControlError> {
    let mut request = json!({ "command": command });
    if !arguments.is_null() {
        request["arguments"] = arguments;
    }
    let bytes =
        exchange(socket, request.to_string().as_bytes(), patience).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning(source),
            _ => ControlError::NoAnswer { command: command.to_owned(), source },
        })?;
    let nonsense = |text: String| ControlError::Nonsense { command: command.to_owned(), text };
    let mut answer: Value = serde_json::from_slice(&bytes).map_err(|error| nonsense(error.to_string()))?;
    match answer["result"].as_i64() {
        Some(0) => Ok(answer["arguments"].take()),
        Some(_) => {
            let text = answer["text"].as_str().unwrap_or("refused without a reason").to_owned();
            Err(ControlError::Refused { command: command.to_owned(), text })
        }
        None => Err(nonsense("it has no result".to_owned())),
    }
}

fn exchange(socket: &Path, request: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_OCTETS_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn ask_one_that_says(answer: &'static str) -> Result<Value, ControlError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            let request: Value = serde_json::from_slice(&request[..read]).unwrap();
            assert_eq!(request, json!({ "command": "status-get" }));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let result = command(&path, "status-get", Value::Null, Duration::from_secs(5));
        server.join().unwrap();
        result
    }

    #[test]
    fn a_good_answer_is_its_arguments_and_everything_else_says_what_is_wrong() {
        let good = ask_one_that_says(r#"{"result": 0, "arguments": {"pid": 7}}"#).unwrap();
        assert_eq!(good, json!({ "pid": 7 }));
        for (answer, expected) in [
            (r#"{"result": 1, "text": "not now"}"#, "status-get: not now"),
            (r#"{"text": "?"}"#, "it has no result"),
            (r#"{"result": 0, "argu"#, "makes no sense"),
        ] {
            let error = ask_one_that_says(answer).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let ask =
            |path: &Path| command(path, "x", Value::Null, Duration::from_millis(50)).unwrap_err().to_string();
        assert!(ask(Path::new("/nowhere/socket")).contains("the server does not run"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(ask(&path).contains("no answer to x"), "it takes no connection");
        drop(listener);
        assert!(ask(&path).contains("the server does not run"), "it has ended without a word");
    }
}
