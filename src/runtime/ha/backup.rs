//! What is known of backup servers: which of them have missed lease updates.
//!
//! Nobody waits for a backup (but with `wait-backup-ack`), and no state of the machine depends on one, so an update
//! that does not reach it is lost to it. From then on its leases are incomplete until it copies them; that is what
//! an operator is told, once, and what `status-get` shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::ha::CommandSource;
use crate::ha::command::HaCommand;
use crate::ha::log::TARGET;

/// One entry for each peer, by peer index. Shared by senders, which write it, and the control node, which shows it.
#[derive(Clone, Debug, Default)]
pub struct Standings(Arc<Vec<Standing>>);

/// What is known of one peer.
#[derive(Debug)]
struct Standing {
    name: String,
    /// Whether it is a backup: of the partner the machine knows more.
    backup: bool,
    lost: AtomicU64,
    needs_copy: AtomicBool,
}

impl Standings {
    /// Of peers that have missed nothing: their names, and whether they are backups.
    pub fn new(peers: impl IntoIterator<Item = (String, bool)>) -> Self {
        let standing = |(name, backup)| Standing {
            name,
            backup,
            lost: AtomicU64::new(0),
            needs_copy: AtomicBool::new(false),
        };
        Self(Arc::new(peers.into_iter().map(standing).collect()))
    }

    /// Whether the peer is a backup.
    pub fn is_backup(&self, peer: usize) -> bool {
        self.0.get(peer).is_some_and(|standing| standing.backup)
    }

    /// Whose command it is that came from the address of the peer of this index.
    pub fn source_of(&self, peer: u8) -> CommandSource {
        match self.is_backup(usize::from(peer)) {
            true => CommandSource::Backup(peer),
            false => CommandSource::Partner,
        }
    }

    /// Peer index of the server that says with `command` that it has copied all leases: by the name it gives, else by
    /// its address.
    pub fn copier(&self, source: CommandSource, command: &HaCommand) -> Option<usize> {
        let HaCommand::SyncCompleteNotify { server_name, .. } = command else { return None };
        match (server_name, source) {
            (Some(name), _) => self.0.iter().position(|standing| standing.name == *name),
            (None, CommandSource::Backup(peer)) => Some(usize::from(peer)),
            (None, CommandSource::Administrator | CommandSource::Partner) => None,
        }
    }

    /// Updates for the peer are lost to it; logged where it had missed none before.
    pub fn lost(&self, peer: usize, updates: usize, why: &str) {
        let Some(standing) = self.0.get(peer).filter(|standing| standing.backup && updates > 0) else {
            return;
        };
        standing.lost.fetch_add(updates as u64, Ordering::Relaxed);
        if !standing.needs_copy.swap(true, Ordering::Relaxed) {
            log::warn!(
                target: TARGET,
                "TANDEM_HA_BACKUP_NEEDS_COPY {} has missed lease updates ({why}): its leases are incomplete until it \
                 copies them with ha-sync",
                standing.name
            );
        }
    }

    /// The peer has copied all leases.
    pub fn copied(&self, peer: usize) {
        let Some(standing) = self.0.get(peer).filter(|standing| standing.backup) else { return };
        if standing.needs_copy.swap(false, Ordering::Relaxed) {
            log::info!(target: TARGET, "TANDEM_HA_BACKUP_COPIED {} has copied all leases", standing.name);
        }
    }

    /// The backups, for `status-get`; `None` where there are none.
    pub fn status(&self) -> Option<Value> {
        let show = |standing: &Standing| {
            json!({
                "needs-copy": standing.needs_copy.load(Ordering::Relaxed),
                "server-name": standing.name,
                "updates-lost": standing.lost.load(Ordering::Relaxed),
            })
        };
        let backups: Vec<Value> = self.0.iter().filter(|standing| standing.backup).map(show).collect();
        (!backups.is_empty()).then_some(Value::Array(backups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::PartnerCall;

    #[test]
    fn who_has_copied_is_told_by_name_and_else_by_address() {
        let standings = Standings::new([("server2".to_owned(), false), ("backup".to_owned(), true)]);
        assert_eq!(standings.source_of(0), CommandSource::Partner);
        assert_eq!(standings.source_of(1), CommandSource::Backup(1));
        assert_eq!(standings.source_of(PartnerCall::NO_PEER), CommandSource::Partner);
        let notify = |name: Option<&str>| HaCommand::SyncCompleteNotify {
            origin_id: None,
            server_name: name.map(str::to_owned),
        };
        for (source, command, copier) in [
            (CommandSource::Backup(1), notify(None), Some(1)),
            (CommandSource::Backup(1), notify(Some("server2")), Some(0)),
            (CommandSource::Partner, notify(Some("backup")), Some(1)),
            (CommandSource::Partner, notify(Some("stranger")), None),
            (CommandSource::Partner, notify(None), None),
            (CommandSource::Backup(1), HaCommand::Reset { server_name: None }, None),
        ] {
            assert_eq!(standings.copier(source, &command), copier, "{source:?} {command:?}");
        }
    }

    #[test]
    fn a_backup_that_missed_updates_needs_a_copy_until_it_has_made_one() {
        let standings = Standings::new([("server2".to_owned(), false), ("backup".to_owned(), true)]);
        let shown = || standings.status().unwrap()[0].clone();
        assert_eq!(
            (standings.is_backup(0), standings.is_backup(1), standings.is_backup(2)),
            (false, true, false)
        );
        // What happens to which peer, and what is shown of the backup then.
        let rows: [(&dyn Fn(), bool, u64); 6] = [
            (&|| standings.lost(0, 5, "refused"), false, 0),
            (&|| standings.lost(1, 0, "refused"), false, 0),
            (&|| standings.lost(1, 2, "refused"), true, 2),
            (&|| standings.lost(1, 1, "refused"), true, 3),
            (&|| standings.copied(1), false, 3),
            (&|| standings.lost(7, 1, "refused"), false, 3),
        ];
        for (index, (happens, needs_copy, lost)) in rows.into_iter().enumerate() {
            happens();
            let expected = json!({ "needs-copy": needs_copy, "server-name": "backup", "updates-lost": lost });
            assert_eq!(shown(), expected, "{index}");
        }
        assert_eq!(Standings::new([("server2".to_owned(), false)]).status(), None);
    }
}
