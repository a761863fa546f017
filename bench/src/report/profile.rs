//! Where the CPU time of a pair goes: what each kind of thread of both servers used while a rate was held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Server;

/// Which of the servers of a pair it is.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The one under load.
    Primary,
    /// Its partner.
    Standby,
}

/// Threads of one process that have the same name, but for a number at its end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ThreadTime {
    /// Whose process.
    pub role: Role,
    /// What it is.
    pub server: Server,
    /// Their name; threads without one have the program's.
    pub name: String,
    /// How many they are.
    pub count: u32,
    /// CPUs that they kept busy together, user and system, on average while there was load.
    pub busy: f64,
    /// The same of the busiest of them.
    pub busiest: f64,
    /// CPUs' worth of time in which they could have run and waited for one.
    pub waited: f64,
}

/// What a thread has used since it began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Task {
    /// Its number.
    pub id: u32,
    /// Its name, at most 15 octets of it.
    pub name: String,
    /// Nanoseconds on a CPU.
    pub ran_ns: u64,
    /// Nanoseconds in which it waited for one.
    pub waited_ns: u64,
}

impl Role {
    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}

/// What the threads of a process used between `before` and `after`, in which there was load for `load_s`; the busiest
/// first. A thread that began in between has used all it has.
pub fn used(role: Role, server: Server, before: &[Task], after: &[Task], load_s: f64) -> Vec<ThreadTime> {
    let mut groups: BTreeMap<&str, ThreadTime> = BTreeMap::new();
    let share = |ns: u64| ns as f64 / 1e9 / load_s;
    for task in after {
        let begin = before.iter().find(|known| known.id == task.id);
        let ran = share(task.ran_ns.saturating_sub(begin.map_or(0, |begin| begin.ran_ns)));
        let waited = share(task.waited_ns.saturating_sub(begin.map_or(0, |begin| begin.waited_ns)));
        let name = kind_of(&task.name);
        let group = groups.entry(name).or_insert_with(|| ThreadTime {
            role,
            server,
            name: name.to_owned(),
            count: 0,
            busy: 0.0,
            busiest: 0.0,
            waited: 0.0,
        });
        group.count += 1;
        group.busy += ran;
        group.busiest = group.busiest.max(ran);
        group.waited += waited;
    }
    let mut used: Vec<ThreadTime> = groups.into_values().collect();
    used.sort_by(|one, other| other.busy.total_cmp(&one.busy));
    used
}

/// `shard-3-7`, the third shard in the seventh executor, is one of `shard`; `kea-dhcp4` is a name of its own.
fn kind_of(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((kind, number)) if !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit()) => {
            kind_of(kind)
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u32, name: &str, ran_ms: u64, waited_ms: u64) -> Task {
        Task { id, name: name.into(), ran_ns: ran_ms * 1_000_000, waited_ns: waited_ms * 1_000_000 }
    }

    #[test]
    fn threads_of_a_kind_are_one_row_and_only_what_they_used_meanwhile_counts() {
        let before = [task(1, "main", 500, 0), task(2, "shard-0", 1_000, 100), task(3, "shard-1", 0, 0)];
        let after = [
            task(1, "main", 500, 0),
            task(2, "shard-0", 2_000, 300),
            task(3, "shard-1", 500, 0),
            task(9, "ha-send-0", 250, 0),
        ];
        let used = used(Role::Primary, Server::Tandem, &before, &after, 2.0);
        let rows: Vec<_> =
            used.iter().map(|found| (found.name.as_str(), found.count, found.busy, found.busiest)).collect();
        assert_eq!(
            rows,
            [("shard", 2, 0.75, 0.5), ("ha-send", 1, 0.125, 0.125), ("main", 1, 0.0, 0.0)],
            "the busiest first"
        );
        assert_eq!(used[0].waited, 0.1);
    }

    #[test]
    fn a_number_at_the_end_is_one_only_behind_a_hyphen() {
        for (name, kind) in [
            ("shard-12", "shard"),
            ("ha-send-3-7", "ha-send"),
            ("kea-dhcp4", "kea-dhcp4"),
            ("a-", "a-"),
            ("x9", "x9"),
        ] {
            assert_eq!(kind_of(name), kind);
        }
    }
}
