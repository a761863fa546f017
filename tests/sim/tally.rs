//! What runs held: counted, summed, printed; and the hash by which two runs are compared.

use std::fmt;

use tandem::engine::message::UpdateOutcome;

/// Of a smoke run: fewer cuts of the link alone, withstood, prove little.
const WITHSTOOD_LEAST: u64 = 30;

/// Counts of one run or of many.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    pub events: u64,
    /// Replies that gave a lease.
    pub acks: u64,
    /// Of them, without the partner.
    pub acks_alone: u64,
    pub naks: u64,
    pub offers: u64,
    /// Processes that ended without warning.
    pub crashes: u64,
    /// Crashes that left a row cut short.
    pub torn: u64,
    /// Times there was no room on a disk.
    pub no_space: u64,
    /// The standby began to give leases alone.
    pub take_overs: u64,
    /// Copies of the partner's leases that were completed.
    pub syncs: u64,
    /// Times the link was cut.
    pub cuts: u64,
    /// Of them, one way only.
    pub cuts_one_way: u64,
    /// Processes stopped for a while.
    pub pauses: u64,
    /// Wall clocks set.
    pub steps: u64,
    /// Crashes at a step of the disk, and because a sync failed.
    pub doomed: u64,
    pub failed_syncs: u64,
    /// States entered: communication-recovery, partner-in-maintenance, terminated.
    pub recoveries: u64,
    pub maintenances: u64,
    pub terminations: u64,
    /// Commands of operators, and copies that backups made because of one.
    pub commands: u64,
    pub copies_to_backups: u64,
    /// Commands of backups on the HA port.
    pub commands_of_backups: u64,
    /// Servers in maintenance that an operator had to reset, because nobody was left to end it.
    pub resets_by_hand: u64,
    /// Times a terminated Kea was told to begin anew, and addresses Keas were busy with.
    pub kea_resets: u64,
    pub busy: u64,
    /// Streams reset.
    pub resets: u64,
    /// Lease updates the partner acknowledged, and those that failed.
    pub updates_acked: u64,
    pub updates_failed: u64,
    /// Of them, for a conflict with the partner's configuration.
    pub conflicts: u64,
    /// Wrong configurations loaded.
    pub mistakes: u64,
    /// Queries sent to another shard for want of a free address.
    pub spills: u64,
    /// Changes that spokes asked a hub for of each other's leases.
    pub out_of_turn: u64,
    /// Requests that carried several updates.
    pub batches: u64,
    /// Silences of a partner that serves in which clients were found waiting, and the link alone was cut; and take-overs
    /// from one that serves where it was not the link alone.
    pub withstood: u64,
    pub overtaken: u64,
    /// Two holders of one address that the fault model allows.
    pub excused: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        let mine = self.fields_mut();
        for ((_, sum), (_, value)) in mine.into_iter().zip(other.fields()) {
            *sum += value;
        }
    }

    pub fn count_update(&mut self, outcome: UpdateOutcome) {
        match outcome {
            UpdateOutcome::Acked => self.updates_acked += 1,
            UpdateOutcome::Conflict => {
                self.conflicts += 1;
                self.updates_failed += 1;
            }
            UpdateOutcome::Refused | UpdateOutcome::Failed => self.updates_failed += 1,
        }
    }

    /// Names of what must not be missing from a smoke run and is.
    pub fn missing(&self) -> Vec<&'static str> {
        let needed = [
            ("ACKs", self.acks),
            ("ACKs alone", self.acks_alone),
            ("crashes", self.crashes),
            ("take-overs", self.take_overs),
            ("torn writes", self.torn),
            ("disks without room", self.no_space),
            ("synchronisations", self.syncs),
            ("cut links", self.cuts),
            ("one-way cuts", self.cuts_one_way),
            ("stopped processes", self.pauses),
            ("clocks set", self.steps),
            ("crashes at a write", self.doomed),
            ("failed syncs", self.failed_syncs),
            ("reset streams", self.resets),
            ("conflicts", self.conflicts),
            ("wrong configurations", self.mistakes),
            ("spills", self.spills),
            ("batches", self.batches),
            ("cuts of the link alone", u64::from(self.withstood >= WITHSTOOD_LEAST)),
            ("words out of turn", self.out_of_turn),
            ("terminations", self.terminations),
            ("commands of operators", self.commands),
            ("copies to backups", self.copies_to_backups),
            ("commands of backups", self.commands_of_backups),
        ];
        needed.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    fn fields(mut self) -> Vec<(&'static str, u64)> {
        self.fields_mut().into_iter().map(|(name, value)| (name, *value)).collect()
    }

    fn fields_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("events", &mut self.events),
            ("ACKs", &mut self.acks),
            ("ACKs alone", &mut self.acks_alone),
            ("NAKs", &mut self.naks),
            ("OFFERs", &mut self.offers),
            ("crashes", &mut self.crashes),
            ("torn writes", &mut self.torn),
            ("disks without room", &mut self.no_space),
            ("take-overs", &mut self.take_overs),
            ("synchronisations", &mut self.syncs),
            ("cut links", &mut self.cuts),
            ("one-way cuts", &mut self.cuts_one_way),
            ("stopped processes", &mut self.pauses),
            ("clocks set", &mut self.steps),
            ("crashes at a write", &mut self.doomed),
            ("failed syncs", &mut self.failed_syncs),
            ("communication-recoveries", &mut self.recoveries),
            ("maintenances", &mut self.maintenances),
            ("terminations", &mut self.terminations),
            ("commands of operators", &mut self.commands),
            ("copies to backups", &mut self.copies_to_backups),
            ("commands of backups", &mut self.commands_of_backups),
            ("resets by hand", &mut self.resets_by_hand),
            ("terminated Keas reset", &mut self.kea_resets),
            ("busy addresses", &mut self.busy),
            ("reset streams", &mut self.resets),
            ("updates acknowledged", &mut self.updates_acked),
            ("updates failed", &mut self.updates_failed),
            ("conflicts", &mut self.conflicts),
            ("wrong configurations", &mut self.mistakes),
            ("spills", &mut self.spills),
            ("words out of turn", &mut self.out_of_turn),
            ("batches", &mut self.batches),
            ("cuts of the link alone withstood", &mut self.withstood),
            ("excused take-overs", &mut self.overtaken),
            ("excused double holders", &mut self.excused),
        ]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.fields().iter().map(|(name, value)| format!("{value} {name}")).collect();
        f.write_str(&list.join(", "))
    }
}

/// FNV-1a, 64 bits: small, and the same for ever.
#[derive(Clone, Copy)]
pub struct EventHash(u64);

impl Default for EventHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl EventHash {
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn value(self) -> u64 {
        self.0
    }
}
