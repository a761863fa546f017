//! What a seed stands for: drawn once, before anything happens.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;

use super::kea::Version;

/// A lie of the drivers that the checks must notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plant {
    /// An update is reported as acknowledged when it is sent, not when it is answered.
    AckBeforePartner,
    /// An update that the partner refuses as a conflict is reported as acknowledged.
    IgnoreConflict,
    /// Shards are told to serve while the machine waits.
    ServeInWaiting,
    /// A batch is reported as durable when it is written, and is never synced.
    SkipSync,
    /// A shard that is asked for an address because another one has none left forgets who has one of its own.
    SpillTwice,
}

/// Sizes, faults and clocks of one run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// More than is known to hold: pairs that share the clients, operators, and nobody who resets a terminated server.
    pub more: bool,
    pub seed: u64,
    pub plant: Option<Plant>,
    /// Which of the servers is a Kea, and which one.
    pub kea: Option<(usize, Version)>,
    /// Whether the servers share the clients.
    pub balancing: bool,
    /// Updates that wait for the partner at most while it does not answer, where the servers share the clients.
    pub delayed_updates_limit: u32,
    /// Whether operators reset servers now and then, and whether they begin and cancel maintenance, too.
    pub operators: bool,
    pub maintenance: bool,
    /// Shards of the primary and of the standby.
    pub shards: [u8; 2],
    /// Clients, and addresses they share.
    pub clients: u32,
    pub pool: u8,
    /// Wall clocks of the servers stand this far from the true time.
    pub skew_ms: [i64; 2],
    /// Clocks of the servers run this much too fast.
    pub drift_ppm: [i64; 2],
    /// Of a thousand datagrams, how many are lost, doubled and late.
    pub lost_permille: u32,
    pub doubled_permille: u32,
    pub late_permille: u32,
    /// Of a thousand pieces of a stream, how many stall for seconds.
    pub stalled_permille: u32,
    /// Of a thousand journal writes, how many take long.
    pub slow_disk_permille: u32,
    /// Whether links are cut now and then: between the servers, and between a server and its clients, both ways or one.
    pub cuts: bool,
    /// Whether processes are stopped for a while, as by SIGSTOP or a host that has no time for its guest.
    pub pauses: bool,
    /// How far a wall clock may be set while the server runs, milliseconds; 0 for never.
    pub steps_ms: i64,
    /// Whether a server may go down while the other one is down or alone.
    pub double_failures: bool,
    /// Whether an operator loads a wrong configuration now and then.
    pub mistakes: bool,
    pub max_unacked_clients: u32,
    pub max_rejected_lease_updates: u32,
    /// In thousandths.
    pub cache_threshold: u32,
    /// How long things go wrong, milliseconds.
    pub chaos_ms: u64,
}

impl Plan {
    /// How many servers there are.
    pub fn servers(&self) -> usize {
        2
    }

    /// The other servers of a server's relationship, by peer index.
    pub fn peers(&self, server: usize) -> Vec<usize> {
        vec![1 - server]
    }

    pub fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut random = Pcg32::new(seed, 1);
        let mut draw = |choices: &[u32]| choices[random.next_u32() as usize % choices.len()];
        let more = std::env::var_os("TANDEM_MORE").is_some();
        let clients = draw(&[3, 5, 8]);
        Self {
            more,
            seed,
            plant,
            kea: kea_of(seed).filter(|_| plant.is_none()),
            balancing: more && seed % 5 == 3,
            delayed_updates_limit: if seed.is_multiple_of(2) { 3 } else { 100 },
            maintenance: more,
            operators: more && seed % 5 != 4 && seed.is_multiple_of(3),
            shards: [draw(&[1, 2, 3]) as u8, draw(&[1, 2, 3]) as u8],
            clients,
            pool: (clients + draw(&[0, 2, 5])) as u8,
            skew_ms: [i64::from(draw(&[0, 100, 300])), -i64::from(draw(&[0, 100, 300]))],
            drift_ppm: [i64::from(draw(&[0, 20, 80])), -i64::from(draw(&[0, 20, 80]))],
            lost_permille: draw(&[0, 20, 150]),
            doubled_permille: draw(&[0, 20, 150]),
            late_permille: draw(&[0, 20, 150]),
            stalled_permille: draw(&[0, 0, 5, 30]),
            slow_disk_permille: draw(&[0, 10, 200]),
            cuts: draw(&[0, 0, 1]) == 1,
            double_failures: draw(&[0, 0, 1]) == 1,
            pauses: draw(&[0, 0, 1]) == 1,
            steps_ms: i64::from(draw(&[0, 0, 200, 90_000])),
            mistakes: draw(&[0, 1]) == 1,
            max_rejected_lease_updates: draw(&[2, 10]),
            max_unacked_clients: draw(&[0, 0, 1]),
            cache_threshold: draw(&[0, 0, 250, 500]),
            chaos_ms: 90_000,
        }
    }
}

/// Every fifth seed, and not one in which the servers share the clients, pairs Tandem with a Kea: each release in each role.
fn kea_of(seed: u64) -> Option<(usize, Version)> {
    let version = if (seed / 5).is_multiple_of(2) { Version::K22 } else { Version::K3 };
    (seed % 5 == 4).then_some(((seed / 10 % 2) as usize, version))
}
