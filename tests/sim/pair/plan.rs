//! What a seed stands for: drawn once, before anything happens.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;

use super::kea::Version;
use super::links::{SERVERS_MAX, host_of, place_of};

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
    /// A hub believes a spoke whatever the lease.
    BelieveSpokes,
    /// A REQUEST for an offer of the silent partner counts as proof that it serves nobody.
    BelieveRequests,
    /// A hub publishes the views of its second relationship as those of the first.
    MixViews,
    /// A shard that is asked for an address because another one has none left forgets who has one of its own.
    SpillTwice,
}

impl Plant {
    /// Whether a seed has what the fault is planted in.
    pub fn concerns(self, seed: u64) -> bool {
        match self {
            Self::BelieveRequests => has_link_alone(seed),
            Self::BelieveSpokes | Self::MixViews => has_hub(seed),
            _ => true,
        }
    }
}

/// Sizes, faults and clocks of one run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub plant: Option<Plant>,
    /// Which of the servers is a Kea, and which one.
    pub kea: Option<(usize, Version)>,
    /// Whether the servers share the clients.
    pub balancing: bool,
    /// A hub and two spokes, each with a link of its own.
    pub hub: bool,
    /// The hub is the primary of both relationships, and not the standby.
    pub hub_serves: bool,
    /// Nothing goes wrong but that the link between the servers is cut, and once in a while a server goes down.
    pub link_alone: bool,
    /// Only this spoke and its relationship suffer.
    pub one_suffers: Option<usize>,
    /// Backup servers, behind the pair or, without one, behind a primary whose replies wait for them or not.
    pub backups: u8,
    pub passive: bool,
    pub wait_backup_ack: bool,
    /// Updates that wait for the partner at most while it does not answer, where the servers share the clients.
    pub delayed_updates_limit: u32,
    /// Whether operators reset servers now and then, and begin and cancel maintenance.
    pub operators: bool,
    /// Whether operators use every other command as well, and machines pause in some states until they are told to go on.
    pub commands: bool,
    /// Shards of each server.
    pub shards: [u8; SERVERS_MAX],
    /// Clients, and addresses they share.
    pub clients: u32,
    pub pool: u8,
    /// Wall clocks of the servers stand this far from the true time.
    pub skew_ms: [i64; SERVERS_MAX],
    /// Clocks of the servers run this much too fast.
    pub drift_ppm: [i64; SERVERS_MAX],
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
        self.active() + usize::from(self.backups)
    }

    /// Seats of every server: places in a relationship.
    pub fn seats(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.servers()).chain(self.hub.then_some(SERVERS_MAX))
    }

    /// How many relationships a server is in.
    pub fn places(&self, server: usize) -> usize {
        1 + usize::from(self.hub && server == 0)
    }

    /// How many relationships, and so links with clients, there are.
    pub fn links(&self) -> usize {
        1 + usize::from(self.hub)
    }

    /// The relationship of a seat, which is also its link.
    pub fn link_of(&self, seat: usize) -> usize {
        if self.hub { place_of(seat).max(seat.saturating_sub(1).min(1)) } else { 0 }
    }

    /// The seats of a relationship, and the one that a server has in it, if any.
    pub fn seats_on(&self, link: usize) -> impl Iterator<Item = usize> + use<> {
        let plan = *self;
        self.seats().filter(move |seat| plan.link_of(*seat) == link)
    }

    pub fn is_primary(&self, seat: usize) -> bool {
        (host_of(seat) == 0) == (!self.hub || self.hub_serves)
    }

    /// How many of them are no backups; they are the first ones.
    pub fn active(&self) -> usize {
        2 + usize::from(self.hub) - usize::from(self.passive)
    }

    pub fn is_backup(&self, server: usize) -> bool {
        server >= self.active()
    }

    /// The other seat of the pair, for a seat that is one of a pair.
    pub fn partner(&self, seat: usize) -> Option<usize> {
        if self.hub {
            return Some([1, 0, SERVERS_MAX, 2][seat]);
        }
        (self.active() == 2 && seat < 2).then(|| 1 - seat)
    }

    /// The other servers of a server's relationships: of a pair, the partner comes first.
    pub fn peers(&self, server: usize) -> Vec<usize> {
        if self.hub && server > 0 {
            return vec![0];
        }
        (0..self.servers()).filter(|other| *other != server).collect()
    }

    /// The other servers of the relationship of a seat, by peer index.
    pub fn peers_of(&self, seat: usize) -> Vec<usize> {
        match self.partner(seat) {
            Some(partner) if self.hub => vec![host_of(partner)],
            _ => self.peers(seat),
        }
    }

    pub fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut random = Pcg32::new(seed, 1);
        let mut draw = |choices: &[u32]| choices[random.next_u32() as usize % choices.len()];
        // What was added later comes from a stream of its own, so that seeds keep their meaning.
        let mut random = Pcg32::new(seed, 3);
        let mut later = |choices: &[u32]| choices[random.next_u32() as usize % choices.len()];
        let clients = draw(&[3, 5, 8]);
        // Of twenty seeds one has a pair with a backup and one a primary with nothing else.
        let (backed, passive) = (seed % 20 == 1, seed % 20 == 6);
        let behind = (later(&[1, 1, 2]), later(&[0, 1]) == 1);
        let hub = has_hub(seed);
        let (mut random, mut suffers) = (Pcg32::new(seed, 4), None);
        if hub && random.next_u32() % 2 == 0 {
            suffers = Some((random.next_u32() % 2) as usize);
        }
        let plan = Self {
            seed,
            plant,
            hub,
            link_alone: has_link_alone(seed),
            hub_serves: hub && random.next_u32() % 3 == 0,
            one_suffers: suffers,
            kea: kea_of(seed).filter(|_| plant.is_none()),
            balancing: seed % 5 == 3
                || backed && seed % 60 == 1
                || has_link_alone(seed) && seed % 40 < 20
                || shares_with_kea(seed),
            backups: if passive { behind.0 as u8 } else { u8::from(backed) },
            passive,
            wait_backup_ack: passive && behind.1,
            commands: seed % 20 == 16 || (backed || passive) && seed % 40 < 20,
            delayed_updates_limit: if seed.is_multiple_of(2) { 3 } else { 100 },
            operators: seed % 5 != 4 && seed.is_multiple_of(3),
            shards: [draw(&[1, 2, 3]) as u8, draw(&[1, 2, 3]) as u8, later(&[1, 2, 3]) as u8],
            clients,
            pool: (clients + draw(&[0, 2, 5])) as u8,
            skew_ms: [
                i64::from(draw(&[0, 100, 300])),
                -i64::from(draw(&[0, 100, 300])),
                -i64::from(later(&[0, 100, 300])),
            ],
            drift_ppm: [
                i64::from(draw(&[0, 20, 80])),
                -i64::from(draw(&[0, 20, 80])),
                i64::from(later(&[0, 20, 80])),
            ],
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
        };
        // What stalls anywhere would be nobody's fault.
        let stalled_permille = if suffers.is_some() { 0 } else { plan.stalled_permille };
        let plan = Self { stalled_permille, ..plan };
        if plan.link_alone { plan.with_the_link_alone() } else { plan }
    }

    /// Nobody but clients can tell what has become of the partner, and they are asked.
    fn with_the_link_alone(self) -> Self {
        Self {
            operators: false,
            clients: 8,
            pool: 16,
            lost_permille: self.lost_permille.min(20),
            late_permille: 0,
            stalled_permille: 0,
            slow_disk_permille: 0,
            double_failures: false,
            max_unacked_clients: 1,
            ..self
        }
    }
}

/// Of twenty seeds one has a hub.
fn has_hub(seed: u64) -> bool {
    seed % 20 == 10
}

/// Of twenty seeds one has a pair whose link alone is cut.
fn has_link_alone(seed: u64) -> bool {
    seed % 20 == 12
}

/// Every fifth seed pairs Tandem with a Kea: each release in each role, and in a fourth of these the two share the clients.
fn kea_of(seed: u64) -> Option<(usize, Version)> {
    let (turn, side) = if shares_with_kea(seed) { (seed / 40, seed / 80) } else { (seed / 5, seed / 10) };
    let version = if turn.is_multiple_of(2) { Version::K22 } else { Version::K3 };
    (seed % 5 == 4).then_some(((side % 2) as usize, version))
}

fn shares_with_kea(seed: u64) -> bool {
    matches!(seed % 40, 9 | 14)
}
