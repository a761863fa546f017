//! Signals (CLI-4): SIGHUP reloads, SIGTERM and SIGINT stop, SIGPIPE is nothing.

use std::io;
use std::sync::mpsc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::server::Notice;

/// Starts the thread that turns signals into notices. It ends with the process.
///
/// # Errors
/// No thread or no descriptor left.
pub fn start(notices: mpsc::Sender<Notice>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in &mut signals {
            let notice = if signal == SIGHUP { Notice::Reload } else { Notice::Stop(0) };
            if notices.send(notice).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
