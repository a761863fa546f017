//! What is known of backup servers: which of them have missed lease updates.
//!
//! Nobody waits for a backup (but with `wait-backup-ack`), and no state of the machine depends on one, so an update
//! that does not reach it is lost to it. From then on its leases are incomplete until it copies them; that is what
//! an operator is told, once, and what `status-get` shows.
//!
//! Updates are always under way, so a process that is killed takes some with it. Whichever backup an earlier process was
//! not done with needs a copy, and so does one that lacked updates when it ended in order ([`super::behind`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::behind::Behind;
use crate::ha::CommandSource;
use crate::ha::command::HaCommand;
use crate::ha::log::TARGET;

/// No beginning of a copy was seen.
const NOT_SEEN: u64 = u64::MAX;

/// One entry for each peer, by peer index. Shared by senders, which write it, and the control node, which shows it.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    list: Arc<Vec<Standing>>,
    /// Where it is kept over a restart, and the name of this server.
    kept: Option<(Behind, String)>,
}

/// What is known of one peer.
#[derive(Debug)]
struct Standing {
    name: String,
    /// Whether it is a backup: of the partner the machine knows more.
    backup: bool,
    lost: AtomicU64,
    needs_copy: AtomicBool,
    /// How many updates were lost to it when it began a copy; [`NOT_SEEN`] where that was not seen, through a control agent.
    lost_before_copy: AtomicU64,
}

impl Standing {
    /// Its leases are incomplete; logged where they were not before.
    fn need_copy(&self, why: &str) {
        if !self.needs_copy.swap(true, Ordering::Relaxed) {
            log::warn!(
                target: TARGET,
                "TANDEM_HA_BACKUP_NEEDS_COPY {} has missed lease updates ({why}): its leases are incomplete until it \
                 copies them with ha-sync",
                self.name
            );
        }
    }
}

impl Standings {
    /// Of peers that have missed nothing: their names, and whether they are backups.
    pub fn new(peers: impl IntoIterator<Item = (String, bool)>) -> Self {
        let standing = |(name, backup)| Standing {
            name,
            backup,
            lost: AtomicU64::new(0),
            needs_copy: AtomicBool::new(false),
            lost_before_copy: AtomicU64::new(NOT_SEEN),
        };
        Self { list: Arc::new(peers.into_iter().map(standing).collect()), kept: None }
    }

    /// The same for the server `own`, which remembers in `behind` what an earlier process has left.
    pub fn kept_in(self, behind: Behind, own: String) -> Self {
        for standing in self.list.iter().filter(|standing| standing.backup) {
            if behind.has_backup(&own, &standing.name) {
                standing.need_copy("this server was ended before it had them all");
            }
            behind.set_backup(&own, &standing.name, true);
        }
        Self { kept: Some((behind, own)), ..self }
    }

    /// The server has ended in order, and nothing is under way any more: who has every update needs no copy later.
    pub fn end(&self) {
        let Some((behind, own)) = &self.kept else { return };
        for standing in self.list.iter().filter(|standing| standing.backup) {
            behind.set_backup(own, &standing.name, standing.needs_copy.load(Ordering::Relaxed));
        }
    }

    /// Whether the peer is a backup.
    pub fn is_backup(&self, peer: usize) -> bool {
        self.list.get(peer).is_some_and(|standing| standing.backup)
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
            (Some(name), _) => self.list.iter().position(|standing| standing.name == *name),
            (None, CommandSource::Backup(peer)) => Some(usize::from(peer)),
            (None, CommandSource::Administrator | CommandSource::Partner) => None,
        }
    }

    /// Updates for the peer are lost to it; logged where it had missed none before.
    pub fn lost(&self, peer: usize, updates: usize, why: &str) {
        let Some(standing) = self.list.get(peer).filter(|standing| standing.backup && updates > 0) else {
            return;
        };
        standing.lost.fetch_add(updates as u64, Ordering::Relaxed);
        standing.need_copy(why);
    }

    /// The peer asks for the first leases of a copy: what is lost to it from here on may be missing in that.
    pub fn begins_copy(&self, peer: usize) {
        if let Some(standing) = self.list.get(peer) {
            standing.lost_before_copy.store(standing.lost.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The peer has copied all leases.
    pub fn copied(&self, peer: usize) {
        let Some(standing) = self.list.get(peer).filter(|standing| standing.backup) else { return };
        let lost = standing.lost.load(Ordering::Relaxed);
        let missed = lost.saturating_sub(standing.lost_before_copy.swap(NOT_SEEN, Ordering::Relaxed));
        if missed > 0 {
            log::warn!(
                target: TARGET,
                "TANDEM_HA_BACKUP_NEEDS_COPY {} has missed {missed} lease updates while it copied: its leases are \
                 incomplete until it copies them once more with ha-sync",
                standing.name
            );
            return;
        }
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
        let backups: Vec<Value> = self.list.iter().filter(|standing| standing.backup).map(show).collect();
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
        let rows: [(&dyn Fn(), bool, u64); 10] = [
            (&|| standings.lost(0, 5, "refused"), false, 0),
            (&|| standings.lost(1, 0, "refused"), false, 0),
            (&|| standings.lost(1, 2, "refused"), true, 2),
            (&|| standings.lost(1, 1, "refused"), true, 3),
            (&|| standings.begins_copy(1), true, 3),
            (&|| standings.lost(1, 1, "refused"), true, 4),
            (&|| standings.copied(1), true, 4),
            (&|| standings.begins_copy(1), true, 4),
            (&|| standings.copied(1), false, 4),
            (&|| standings.lost(7, 1, "refused"), false, 4),
        ];
        for (index, (happens, needs_copy, lost)) in rows.into_iter().enumerate() {
            happens();
            let expected = json!({ "needs-copy": needs_copy, "server-name": "backup", "updates-lost": lost });
            assert_eq!(shown(), expected, "{index}");
        }
        assert_eq!(Standings::new([("server2".to_owned(), false)]).status(), None);
    }

    #[test]
    fn what_a_backup_lacks_is_known_after_a_restart_and_after_a_crash_all_may_lack_something() {
        let folder = tempfile::tempdir().unwrap();
        let started = || {
            let behind = Behind::beside(&folder.path().join("leases.csv")).unwrap();
            let peers = [("server2".to_owned(), false), ("backup".to_owned(), true)];
            Standings::new(peers).kept_in(behind, "server1".to_owned())
        };
        let needs_copy = |standings: &Standings| standings.status().unwrap()[0]["needs-copy"] == true;
        let first = started();
        assert!(!needs_copy(&first));
        first.end();
        let second = started();
        assert!(!needs_copy(&second), "it had every update when the server ended");
        second.lost(1, 1, "refused");
        second.end();
        let third = started();
        assert!(needs_copy(&third));
        third.copied(1);
        drop(third);
        let fourth = started();
        assert!(needs_copy(&fourth), "the server was killed, and updates with it");
        fourth.copied(1);
        fourth.end();
        assert!(!needs_copy(&started()));
    }
}
