//! The axes of a matrix, and from them the cells in the order in which they are measured (pure).
//!
//! First every size of every server alone; what depends on the best of them, such as pairs in a quick matrix,
//! comes after. Which cells are missing follows from the report alone, so that a measurement can go on.

use crate::recommend::shown;
use crate::report::{Attachment, Cell, Channel, Durability, Ha, Kind, Load, Report, Role, Server};

/// What is varied.
#[derive(Clone, Debug, PartialEq)]
pub struct Axes {
    /// Values of `thread-pool-size`.
    pub threads: Vec<u16>,
    /// Values of `packet-queue-size`.
    pub queues: Vec<u32>,
    /// What an ACK of Tandem waits for.
    pub durabilities: Vec<Durability>,
    /// How clients reach the server.
    pub attachments: Vec<Attachment>,
    /// Whether one server alone is measured.
    pub alone: bool,
    /// How the servers of a pair speak; none without pairs.
    pub channels: Vec<Channel>,
    /// Listeners and senders of pairs.
    pub ha_threads: Vec<(u16, u16)>,
    /// What Kea is in pairs of a Tandem and a Kea; none without such pairs.
    pub kea_as: Vec<Role>,
    /// Whether pairs, and attachments beyond the first, are measured with the best threads and queue of one
    /// server alone instead of with all, where that is known.
    pub at_best: bool,
    /// Whether to measure a bare reflector.
    pub floor: bool,
    /// Servers beside Tandem.
    pub rivals: Vec<Server>,
    /// A server by address instead of all the others: what is known of it. Only threads and queue vary.
    pub remote: Option<Cell>,
}

impl Axes {
    /// The cells that do not depend on what others have shown.
    pub fn first(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        if let Some(known) = self.remote {
            let threads = given(&self.threads, known.threads);
            let queues = given(&self.queues, known.queue);
            let of = |threads: Option<u16>| queues.iter().map(move |&queue| Cell { threads, queue, ..known });
            return threads.into_iter().flat_map(of).collect();
        }
        for &attachment in &self.attachments {
            cells.extend(self.without_sizes(attachment));
            let all = !self.at_best || Some(&attachment) == self.attachments.first();
            if self.alone && all {
                cells.extend(self.sizes().flat_map(|size| self.sized(size, attachment, None)));
            }
        }
        cells
    }

    /// The cells that remain when those of [`Self::first`] are in `report`.
    pub fn second(&self, report: &Report) -> Vec<Cell> {
        let mut cells = Vec::new();
        if self.remote.is_some() {
            return cells;
        }
        if self.at_best && self.alone {
            for &attachment in self.attachments.iter().skip(1) {
                cells.extend(self.best(report).into_iter().map(|cell| Cell { attachment, ..cell }));
            }
        }
        let Some(&attachment) = self.attachments.first() else { return cells };
        for &channel in &self.channels {
            for &(listeners, senders) in &self.ha_threads {
                let ha = Some(Ha { channel, listeners, senders, partner: None });
                let alike: Vec<Cell> = if self.at_best && self.alone {
                    // The figure that counts of a pair is the one of the first durability.
                    let best = self.best(report).into_iter().filter(|cell| self.is_first_durability(cell));
                    best.map(|cell| Cell { ha, ..cell }).collect()
                } else {
                    self.sizes().flat_map(|size| self.sized(size, attachment, ha)).collect()
                };
                cells.extend(&alike);
                cells.extend(self.mixed(&alike));
            }
        }
        cells
    }

    /// Pairs of a Tandem and a Kea beside those in which both are `alike`. A Kea that is not among the rivals, so that its
    /// best threads and queue are not known, has those of Tandem.
    fn mixed(&self, alike: &[Cell]) -> Vec<Cell> {
        let with =
            |cell: Cell, partner| Cell { ha: cell.ha.map(|ha| Ha { partner: Some(partner), ..ha }), ..cell };
        let ours: Vec<Cell> = alike
            .iter()
            .copied()
            .filter(|cell| cell.server == Server::Tandem && self.is_first_durability(cell))
            .collect();
        let mut keas: Vec<Cell> = alike.iter().copied().filter(|cell| cell.server == Server::Kea).collect();
        if keas.is_empty() {
            keas.extend(ours.iter().map(|cell| Cell { server: Server::Kea, ..*cell }));
        }
        let durability = self.durabilities.first().copied().unwrap_or(Durability::Synced);
        let mut cells = Vec::new();
        for role in &self.kea_as {
            match role {
                Role::Primary => {
                    cells.extend(keas.iter().map(|cell| with(Cell { durability, ..*cell }, Server::Tandem)))
                }
                Role::Standby => cells.extend(ours.iter().map(|cell| with(*cell, Server::Kea))),
            }
        }
        cells
    }

    /// How many cells the second part will have, where it follows from a first one that is not done.
    pub fn second_expected(&self) -> usize {
        let servers = 1 + usize::from(self.rivals.contains(&Server::Kea));
        let direct = self.attachments.len().saturating_sub(1) * (self.durabilities.len() + servers - 1);
        direct + (servers + self.kea_as.len()) * self.channels.len() * self.ha_threads.len()
    }

    /// How many cells will be of pairs.
    pub fn pair_cells(&self) -> usize {
        let kea = usize::from(self.rivals.contains(&Server::Kea));
        let sizes = match self.at_best && self.alone {
            true => 1 + kea + self.kea_as.len(),
            false => {
                self.threads.len() * self.queues.len() * (self.durabilities.len() + kea + self.kea_as.len())
            }
        };
        if self.remote.is_some() { 0 } else { sizes * self.channels.len() * self.ha_threads.len() }
    }

    /// How many kinds of pairs there will be.
    pub fn pair_kinds(&self) -> usize {
        let kea = usize::from(self.rivals.contains(&Server::Kea));
        let pairs = self.channels.len() * (1 + kea + self.kea_as.len());
        if self.remote.is_some() { 0 } else { pairs }
    }

    /// The servers that are started here.
    pub fn servers(&self) -> Vec<Server> {
        let ours = self.remote.is_none().then_some(Server::Tandem);
        let partner = (!self.kea_as.is_empty()).then_some(Server::Kea);
        ours.into_iter().chain(partner).chain(self.rivals.iter().copied()).collect()
    }

    /// How many kinds of cells there will be, for the time left.
    pub fn kinds(&self) -> usize {
        let servers = self.durabilities.len() + self.rivals.len() + usize::from(self.floor);
        if self.remote.is_some() { 1 } else { self.attachments.len() * servers + self.pair_kinds() }
    }

    /// Servers whose threads and queue cannot be chosen: a cell each.
    fn without_sizes(&self, attachment: Attachment) -> Vec<Cell> {
        let cell = |server, durability| Cell {
            server,
            threads: None,
            queue: None,
            durability,
            ha: None,
            attachment,
        };
        let mut cells = Vec::new();
        cells.extend(self.floor.then(|| cell(Server::Reflector, Durability::Written)));
        let fixed = self.rivals.iter().filter(|server| **server != Server::Kea);
        cells.extend(fixed.map(|&server| cell(server, Durability::Synced)));
        cells
    }

    fn sizes(&self) -> impl Iterator<Item = (u16, u32)> {
        self.threads.iter().flat_map(|&threads| self.queues.iter().map(move |&queue| (threads, queue)))
    }

    /// Tandem and Kea side by side, so that a slow drift of the machine meets both.
    fn sized(&self, (threads, queue): (u16, u32), attachment: Attachment, ha: Option<Ha>) -> Vec<Cell> {
        let cell = |server, durability| Cell {
            server,
            threads: Some(threads),
            queue: Some(queue),
            durability,
            ha,
            attachment,
        };
        let ours = self.durabilities.iter().map(|&durability| cell(Server::Tandem, durability));
        let kea = self.rivals.contains(&Server::Kea).then(|| cell(Server::Kea, Durability::Written));
        ours.chain(kea).collect()
    }

    /// The sizes to recommend of Tandem, for each durability, and the best of Kea, as far as they are known.
    fn best(&self, report: &Report) -> Vec<Cell> {
        let attachment = self.attachments.first().copied().unwrap_or(Attachment::Relayed);
        let kind = |server, durability| Kind { attachment, ..Kind::single(server, durability) };
        let ours = self.durabilities.iter().map(|&durability| kind(Server::Tandem, durability));
        let kea = self.rivals.contains(&Server::Kea).then(|| kind(Server::Kea, Durability::Written));
        ours.chain(kea).filter_map(|kind| shown(report, kind).map(|found| found.cell)).collect()
    }

    fn is_first_durability(&self, cell: &Cell) -> bool {
        cell.server == Server::Kea || Some(&cell.durability) == self.durabilities.first()
    }
}

/// The values of an axis, or the one that is known.
fn given<T: Copy>(values: &[T], known: Option<T>) -> Vec<Option<T>> {
    if values.is_empty() { vec![known] } else { values.iter().copied().map(Some).collect() }
}

/// The cells whose latencies are to be looked at more closely: what stands for each kind, as far as the loads of
/// `curve` that they can bear are not there yet.
pub fn curves(report: &Report) -> Vec<Cell> {
    let best = report.kinds().into_iter().filter_map(|kind| shown(report, kind));
    let lacks = |found: &&crate::report::Measurement| {
        loads(&report.parameters.curve, found.capacity.unwrap_or(0.0))
            .iter()
            .any(|load| found.at(*load).is_none())
    };
    best.filter(lacks).map(|found| found.cell).collect()
}

/// The loads that a server of `capacity` can bear, rising.
pub fn loads(curve: &[Load], capacity: f64) -> Vec<Load> {
    let mut loads: Vec<Load> = curve.iter().copied().filter(|load| load.rate(capacity) <= capacity).collect();
    loads.sort_by(|one, other| one.rate(capacity).total_cmp(&other.rate(capacity)));
    loads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{fixed, measured};

    fn axes() -> Axes {
        Axes {
            threads: vec![1, 2],
            queues: vec![16, 64],
            durabilities: vec![Durability::Synced, Durability::Written],
            attachments: vec![Attachment::Relayed],
            alone: true,
            channels: Vec::new(),
            ha_threads: vec![(1, 1), (4, 4)],
            kea_as: Vec::new(),
            at_best: false,
            floor: false,
            rivals: Vec::new(),
            remote: None,
        }
    }

    fn empty() -> Report {
        Report { cells: Vec::new(), ..fixed() }
    }

    fn count(cells: &[Cell], server: Server) -> usize {
        cells.iter().filter(|cell| cell.server == server).count()
    }

    #[test]
    fn first_come_all_sizes_with_the_rivals_beside_and_the_floor_before() {
        let rivals = vec![Server::Kea, Server::Dnsmasq, Server::Dhcpd];
        let cells = Axes { floor: true, rivals, ..axes() }.first();
        let counts = [Server::Tandem, Server::Kea, Server::Reflector, Server::Dnsmasq, Server::Dhcpd]
            .map(|server| count(&cells, server));
        assert_eq!(counts, [8, 4, 1, 1, 1]);
        assert_eq!(cells[0].server, Server::Reflector);
        assert_eq!((cells[1].threads, cells[1].queue), (None, None));
        assert!(cells.iter().all(|cell| cell.ha.is_none()));
        assert_eq!(axes().first().len(), 8);
        assert!(axes().second(&empty()).is_empty());
    }

    #[test]
    fn pairs_are_a_product_of_everything_or_take_the_best_sizes() {
        let channels = vec![Channel::Plain, Channel::Tls];
        let all = Axes { channels: channels.clone(), rivals: vec![Server::Kea], ..axes() };
        let cells = all.second(&empty());
        assert_eq!((count(&cells, Server::Tandem), count(&cells, Server::Kea)), (8 * 4, 4 * 4));
        let quick = Axes { at_best: true, ..all };
        assert!(quick.second(&empty()).is_empty(), "nothing is known of sizes");
        assert_eq!(quick.second_expected(), 8);
        // Of Tandem 1 thread and queue 64 are as good as the best, Kea was measured with 2 and 64 alone.
        let cells = quick.second(&fixed());
        assert_eq!((count(&cells, Server::Tandem), count(&cells, Server::Kea)), (4, 4));
        let sizes: Vec<_> = cells.iter().map(|cell| (cell.threads, cell.queue, cell.durability)).collect();
        assert!(sizes.contains(&(Some(1), Some(64), Durability::Synced)), "{sizes:?}");
        assert_eq!(
            cells[0].ha,
            Some(Ha { channel: Channel::Plain, listeners: 1, senders: 1, partner: None })
        );
        assert_eq!(Axes { alone: false, ..quick }.second(&fixed()).len(), 48, "a matrix of pairs alone");
    }

    #[test]
    fn mixed_pairs_stand_beside_those_that_are_alike_with_the_best_of_each() {
        let kea_as = vec![Role::Standby, Role::Primary];
        let quick = Axes { at_best: true, channels: vec![Channel::Tls], kea_as, ..axes() };
        assert_eq!(quick.servers(), [Server::Tandem, Server::Kea]);
        let mixed = |axes: &Axes| -> Vec<_> {
            let cells = axes
                .second(&fixed())
                .into_iter()
                .filter(|cell| cell.ha.is_some_and(|ha| ha.partner.is_some()));
            cells
                .map(|cell| (cell.server, cell.server_of(Role::Standby), cell.threads, cell.durability))
                .collect()
        };
        let (ours, kea) = (Server::Tandem, Server::Kea);
        let synced = Durability::Synced;
        // Kea's best has 2 threads, which is known only if it was measured.
        let both = [(ours, kea, Some(1), synced), (kea, ours, Some(1), synced)];
        assert_eq!(mixed(&quick), [both, both].concat(), "twice: two counts of listeners and senders");
        assert_eq!((quick.second_expected(), quick.pair_cells(), quick.pair_kinds()), (6, 6, 3));
        let beside = Axes { rivals: vec![kea], ..quick };
        assert_eq!(mixed(&beside)[1], (kea, ours, Some(2), synced));
        assert_eq!(beside.second(&fixed()).len(), beside.second_expected());
    }

    #[test]
    fn a_second_attachment_takes_every_size_or_the_best() {
        let attachments = vec![Attachment::Relayed, Attachment::Direct];
        let all = Axes { attachments, floor: true, ..axes() };
        assert_eq!(all.first().len(), 18);
        let quick = Axes { at_best: true, ..all };
        assert_eq!(quick.first().len(), 10, "the floor of both, and the sizes of the first");
        let cells = quick.second(&fixed());
        assert_eq!(cells.len(), 1, "written was not measured");
        assert_eq!((cells[0].threads, cells[0].attachment), (Some(1), Attachment::Direct));
    }

    #[test]
    fn of_a_server_by_address_only_what_is_given_varies() {
        let mut known = measured(Server::Remote, 4, 64, 0.0).cell;
        let sizes = |axes: Axes| -> Vec<_> {
            assert!(axes.second(&fixed()).is_empty());
            axes.first().iter().map(|cell| (cell.threads, cell.queue)).collect()
        };
        let of = |threads: &[u16], queues: &[u32], known| Axes {
            threads: threads.to_vec(),
            queues: queues.to_vec(),
            remote: Some(known),
            ..axes()
        };
        assert_eq!(sizes(of(&[], &[], known)), [(Some(4), Some(64))]);
        assert_eq!(sizes(of(&[1, 2], &[], known)), [(Some(1), Some(64)), (Some(2), Some(64))]);
        (known.threads, known.queue) = (None, None);
        assert_eq!(sizes(of(&[], &[], known)), [(None, None)]);
    }

    #[test]
    fn curves_are_of_the_best_of_each_kind_and_are_not_asked_for_twice() {
        let mut report = fixed();
        assert!(curves(&report).is_empty(), "half the capacity is all that was asked for");
        report.parameters.curve = vec![Load::Share(0.5), Load::Share(1.0), Load::Rate(1_000.0)];
        let found: Vec<_> = curves(&report).iter().map(|cell| (cell.server, cell.threads)).collect();
        assert_eq!(found, [(Server::Tandem, Some(1)), (Server::Kea, Some(2)), (Server::Reflector, None)]);
        let slow = measured(Server::Dnsmasq, 1, 1, 400.0);
        report.cells = vec![slow];
        report.parameters.curve = vec![Load::Rate(1_000.0), Load::Share(0.5)];
        assert!(curves(&report).is_empty(), "it cannot bear a thousand");
    }

    #[test]
    fn loads_rise_and_end_at_the_capacity() {
        let curve = [Load::Rate(1_000.0), Load::Share(1.0), Load::Share(0.1), Load::Share(1.5)];
        assert_eq!(loads(&curve, 5_000.0), [Load::Share(0.1), Load::Rate(1_000.0), Load::Share(1.0)]);
        assert_eq!(loads(&curve, 500.0), [Load::Share(0.1), Load::Share(1.0)]);
    }
}
