//! Which executor runs on which CPU.
//!
//! Shards take the first CPUs, HA listeners and senders share the next ones, control is not pinned. With fewer CPUs
//! than shards the shards share them; one warning says so.

use shards::Topology;
use shards::runtime::Placement;

/// Where everything runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    /// CPU of each shard.
    pub shards: Vec<usize>,
    /// CPUs for HA executors, in turn; empty leaves them to the scheduler.
    pub ha: Vec<usize>,
    /// What an operator should know.
    pub warning: Option<String>,
}

/// Deals `cpus`, in order, to the executors of `topology`. Without any CPU nothing is pinned.
pub fn deal(cpus: &[usize], topology: Topology) -> Places {
    let shards = usize::from(topology.shards);
    let placed: Vec<usize> =
        (0..shards).filter_map(|index| cpus.get(index % cpus.len().max(1)).copied()).collect();
    let rest = cpus.get(shards..).unwrap_or_default();
    let ha: Vec<usize> = rest.iter().copied().take(2).collect();
    let ha_executors = usize::from(topology.listeners) + usize::from(topology.senders);
    let warning = if cpus.len() < shards {
        Some(format!("{shards} shards share {} CPUs", cpus.len()))
    } else if ha_executors > 0 && ha.is_empty() {
        Some(format!("high availability shares the {} CPUs of the shards", cpus.len()))
    } else {
        None
    };
    Places { shards: placed, ha, warning }
}

impl Places {
    /// Place of shard `index`.
    pub fn shard(&self, index: usize) -> Placement {
        self.shards.get(index).map_or(Placement::Unpinned, |cpu| Placement::Cpu(*cpu))
    }

    /// Place of HA executor `index`.
    pub fn ha(&self, index: usize) -> Placement {
        self.ha.get(index % self.ha.len().max(1)).map_or(Placement::Unpinned, |cpu| Placement::Cpu(*cpu))
    }
}

/// CPUs the process may use, or those of them that `wanted` names (`user-context.tandem.cores`).
pub fn allowed(wanted: &[u32]) -> Vec<usize> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if wanted.is_empty() {
        return allowed;
    }
    wanted.iter().map(|cpu| *cpu as usize).filter(|cpu| allowed.contains(cpu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_dealt_to_shards_first_and_shortage_is_said_once() {
        let pair = Topology { shards: 4, listeners: 4, senders: 4 };
        let alone = Topology { shards: 2, listeners: 0, senders: 0 };
        // CPUs, topology, CPUs of the shards, CPUs of the HA executors, whether there is a warning.
        type Row = (&'static [usize], Topology, &'static [usize], &'static [usize], bool);
        let rows: [Row; 5] = [
            (&[0, 1, 2, 3, 4, 5, 6, 7], pair, &[0, 1, 2, 3], &[4, 5], false),
            (&[0, 1, 2, 3], pair, &[0, 1, 2, 3], &[], true),
            (&[2, 5], pair, &[2, 5, 2, 5], &[], true),
            (&[0, 1], alone, &[0, 1], &[], false),
            (&[], alone, &[], &[], true),
        ];
        for (cpus, topology, shards, ha, warns) in rows {
            let places = deal(cpus, topology);
            assert_eq!(places.shards, shards, "{cpus:?}");
            assert_eq!(places.ha, ha, "{cpus:?}");
            assert_eq!(places.warning.is_some(), warns, "{cpus:?}");
        }
        assert_eq!(deal(&[], alone).shard(1), Placement::Unpinned);
        assert_eq!(deal(&[3, 4, 5], alone).ha(7), Placement::Cpu(5));
    }

    #[test]
    fn ha_executors_have_no_cpu_of_a_shard_where_there_is_one_more_than_shards() {
        for shards in [1_u8, 2, 4, 8] {
            for count in [1_u8, 2, 4, 8] {
                let topology = Topology { shards, listeners: count, senders: count };
                for spare in 1..=4 {
                    let cpus: Vec<usize> = (10..10 + usize::from(shards) + spare).collect();
                    let places = deal(&cpus, topology);
                    let of_shards: Vec<Placement> =
                        (0..shards.into()).map(|index| places.shard(index)).collect();
                    for executor in 0..2 * usize::from(count) {
                        let place = places.ha(executor);
                        assert!(
                            matches!(place, Placement::Cpu(_)) && !of_shards.contains(&place),
                            "{places:?}"
                        );
                    }
                    assert_eq!(places.warning, None);
                }
                let cpus: Vec<usize> = (0..shards.into()).collect();
                let shared = deal(&cpus, topology);
                assert_eq!(shared.ha(0), Placement::Unpinned, "the scheduler chooses where none is left");
                assert!(shared.warning.is_some());
            }
        }
    }
}
