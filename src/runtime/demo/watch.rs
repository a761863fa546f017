//! Looks at both servers all the time, from a thread of its own: their HA states by `status-get`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::runtime::control_client;

/// How often.
const EVERY: Duration = Duration::from_millis(100);
/// A server answers within this time or counts as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server that does not answer is in.
pub(super) const SILENT: &str = "silent";
/// The state of a server that serves with its partner.
pub(super) const WHOLE: &str = "hot-standby";
/// The state of a server that serves without its partner.
pub(super) const ALONE: &str = "partner-down";

/// The watching thread; it ends when dropped.
pub(super) struct Watch {
    states: Arc<Mutex<[String; 2]>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to watch the servers with these control sockets.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(sockets: [PathBuf; 2]) -> std::io::Result<Self> {
        let states = Arc::new(Mutex::new([SILENT.to_owned(), SILENT.to_owned()]));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("watch".into()).spawn({
            let (states, ended) = (states.clone(), ended.clone());
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let seen = sockets.each_ref().map(|socket| state_of(socket));
                    *states.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                    std::thread::sleep(EVERY);
                }
            }
        })?;
        Ok(Self { states, ended, thread: Some(thread) })
    }

    /// The states of both servers as last seen.
    pub(super) fn states(&self) -> [String; 2] {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether both serve together.
    pub(super) fn is_whole(&self) -> bool {
        self.states().iter().all(|state| state == WHOLE)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic, and nobody is left to be told.
            let _ = thread.join();
        }
    }
}

fn state_of(socket: &std::path::Path) -> String {
    let answer = control_client::command(socket, "status-get", Value::Null, PATIENCE);
    let state = answer.ok().and_then(|status| {
        let local = &status["high-availability"][0]["ha-servers"]["local"];
        local["state"].as_str().map(str::to_owned)
    });
    state.unwrap_or_else(|| SILENT.to_owned())
}
