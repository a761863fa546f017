//! From letters to a plan: the axes, and what all cells have in common.

use clap::CommandFactory;
use clap::error::ErrorKind;
use loadgen::capacity::Objective;

use super::{Against, Cli, HaMode};
use crate::axes::Axes;
use crate::remote;
use crate::report::{Attachment, Channel, Durability, Load, Parameters, Server};

/// Loads at which latencies are looked at.
const CURVE: [Load; 7] = [
    Load::Rate(1_000.0),
    Load::Share(0.1),
    Load::Share(0.25),
    Load::Share(0.5),
    Load::Share(0.75),
    Load::Share(0.9),
    Load::Share(1.0),
];

/// CPUs from which on a partner has some of its own.
const CPUS_FOR_TWO: usize = 4;

impl Cli {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// Says by name what cannot be had of a server that is not started here.
    pub fn checked(self) -> Result<Self, clap::Error> {
        let complaint = match self.server {
            None => None,
            Some(server) => self.complaint().map(|complaint| format!("--server {server}: {complaint}")),
        };
        match complaint {
            Some(complaint) => Err(Self::command().error(ErrorKind::ArgumentConflict, complaint)),
            None => Ok(self),
        }
    }

    /// What cannot be had of a server by address.
    fn complaint(&self) -> Option<&'static str> {
        let sized = !self.threads.is_empty() || !self.queue.is_empty();
        let table = [
            (
                !self.ha.is_empty() || !self.ha_threads.is_empty(),
                "whether it is one of a pair, and with how many listeners and senders, needs a restart and is taken \
                 as it is; leave --ha and --ha-threads out",
            ),
            (sized && self.control.is_none(), "--threads and --queue can only be set with --control URL"),
            (self.floor, "the reflector of --floor can only be started on this host"),
            (!self.kea_as.is_empty(), "pairs with a Kea (--kea-as) can only be started on this host"),
            (!self.against.is_empty(), "other servers (--against) can only be started on this host"),
            (!self.take_over.is_empty(), "--take-over starts a pair of its own on this host"),
            (self.durability.len() > 1, "it has one durability, and changing it needs a restart"),
            (self.attachment.len() > 1, "it is reached in one way at a time: choose one --attachment"),
            (
                !self.server_cpus.is_empty() || !self.partner_cpus.is_empty(),
                "its CPUs are its own affair; leave --server-cpus and --partner-cpus out",
            ),
        ];
        table.iter().find(|(holds, _)| *holds).map(|(_, complaint)| *complaint)
    }

    /// What is varied on a host of `cpus`.
    pub fn axes(&self, cpus: usize, remote: Option<&remote::Host>) -> Axes {
        let known = remote.map(remote::Host::known);
        let most = u16::try_from(cpus).unwrap_or(u16::MAX);
        let mut threads: Vec<u16> =
            (0..8).map(|power| 1 << power).filter(|threads| *threads < most).collect();
        if self.quick {
            threads.truncate(1);
        }
        threads.push(most);
        let queues = if self.quick { vec![16, 256] } else { vec![16, 64, 256, 1024] };
        let modes = if self.quick {
            vec![HaMode::Off, HaMode::Tls]
        } else {
            vec![HaMode::Off, HaMode::Plain, HaMode::Tls]
        };
        let ha_threads = match self.quick {
            true => vec![(1, 1), (4, 4)],
            false => vec![(1, 1), (2, 2), (4, 4), (8, 8), (1, 8), (8, 1)],
        };
        let modes = or(&self.ha, modes);
        Axes {
            threads: if known.is_some() { self.threads.clone() } else { or(&self.threads, threads) },
            queues: if known.is_some() { self.queue.clone() } else { or(&self.queue, queues) },
            durabilities: or(&self.durability, vec![Durability::Synced, Durability::Written]),
            attachments: self.attachment.clone(),
            alone: modes.contains(&HaMode::Off),
            channels: modes.iter().filter_map(|mode| mode.channel()).collect(),
            ha_threads: or(&self.ha_threads, ha_threads),
            kea_as: self.kea_as.clone(),
            at_best: !self.product,
            floor: self.floor,
            rivals: self.against.iter().map(|rival| rival.server()).collect(),
            remote: known,
        }
    }

    /// What all cells have in common on a host of `cpus`.
    pub fn parameters(&self, cpus: usize, remote: Option<&remote::Host>) -> Parameters {
        let last = cpus.saturating_sub(1);
        let server_cpus = or(&self.server_cpus, (0..last.max(1)).collect());
        let shared = if cpus < CPUS_FOR_TWO { 0 } else { server_cpus.len() / 2 };
        let partner_cpus = or(&self.partner_cpus, server_cpus[shared..].to_vec());
        let (probe_s, warm_up_s, precision, probes_max, drop_s) =
            if self.quick { (1.2, 0.3, 0.08, 10, Some(0.5)) } else { (5.0, 1.0, 0.03, 16, None) };
        let probe_s = self.probe.unwrap_or(probe_s);
        let workload = if self.attachment.contains(&Attachment::Direct) { "" } else { ", behind one relay" };
        Parameters {
            workload: format!(
                "DISCOVER, OFFER, REQUEST, ACK of clients never seen before{workload}, in an open loop; an empty \
                 lease file for each cell"
            ),
            objective: Objective { drops_max: 0.001, p99_ms_max: Some(50.0), drop_s },
            probe_s,
            warm_up_s: f64::min(warm_up_s, probe_s),
            precision,
            probes_max,
            from: self.from,
            to: self.to,
            curve: CURVE.to_vec(),
            repeats: self.repeat,
            attempts_max: 2,
            server_cpus: if remote.is_some() { Vec::new() } else { server_cpus },
            partner_cpus: if remote.is_some() { Vec::new() } else { partner_cpus },
            generator_cpus: or(&self.generator_cpus, vec![last]),
            remote: remote.map(remote::Host::described),
        }
    }
}

impl HaMode {
    fn channel(self) -> Option<Channel> {
        match self {
            Self::Off => None,
            Self::Plain => Some(Channel::Plain),
            Self::Tls => Some(Channel::Tls),
        }
    }
}

impl Against {
    fn server(self) -> Server {
        match self {
            Self::Dhcpd => Server::Dhcpd,
            Self::Dnsmasq => Server::Dnsmasq,
            Self::Kea => Server::Kea,
        }
    }
}

/// `LISTENERS/SENDERS`.
///
/// # Errors
/// When it is none.
pub fn ha_threads(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| text.parse().ok().filter(|number| (1..=64).contains(number));
    let found = text.split_once('/').and_then(|(one, other)| Some((number(one)?, number(other)?)));
    found.ok_or_else(|| "must be LISTENERS/SENDERS, such as 4/4, each from 1 to 64".into())
}

fn or<T: Clone>(given: &[T], otherwise: Vec<T>) -> Vec<T> {
    if given.is_empty() { otherwise } else { given.to_vec() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::measure;

    fn parsed(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["tandem-bench"], arguments].concat()).unwrap()
    }

    #[test]
    fn threads_and_cpus_follow_the_machine_unless_given() {
        // (arguments, CPUs, threads, CPUs of the server, of its partner, of the generator)
        type Row = (&'static [&'static str], usize, &'static [u16], [&'static [usize]; 3]);
        let table: [Row; 6] = [
            (&[], 1, &[1], [&[0], &[0], &[0]]),
            (&[], 2, &[1, 2], [&[0], &[0], &[1]]),
            (&[], 6, &[1, 2, 4, 6], [&[0, 1, 2, 3, 4], &[2, 3, 4], &[5]]),
            (&[], 5, &[1, 2, 4, 5], [&[0, 1, 2, 3], &[2, 3], &[4]]),
            (&["--quick"], 8, &[1, 8], [&[0, 1, 2, 3, 4, 5, 6], &[3, 4, 5, 6], &[7]]),
            (
                &["--threads", "3,5", "--server-cpus", "2", "--partner-cpus", "3", "--generator-cpus", "0,1"],
                8,
                &[3, 5],
                [&[2], &[3], &[0, 1]],
            ),
        ];
        for (arguments, cpus, threads, [server, partner, generator]) in table {
            let cli = parsed(arguments);
            let parameters = cli.parameters(cpus, None);
            assert_eq!(cli.axes(cpus, None).threads, threads, "{arguments:?} {cpus}");
            assert_eq!(parameters.server_cpus, server, "{arguments:?} {cpus}");
            assert_eq!(parameters.partner_cpus, partner, "{arguments:?} {cpus}");
            assert_eq!(parameters.generator_cpus, generator, "{arguments:?} {cpus}");
        }
    }

    #[test]
    fn modes_of_high_availability_become_channels_and_a_single_server() {
        type Row = (&'static [&'static str], bool, &'static [Channel], &'static [(u16, u16)]);
        const ALL: [(u16, u16); 6] = [(1, 1), (2, 2), (4, 4), (8, 8), (1, 8), (8, 1)];
        let table: [Row; 4] = [
            (&[], true, &[Channel::Plain, Channel::Tls], &ALL),
            (&["--quick"], true, &[Channel::Tls], &[(1, 1), (4, 4)]),
            (&["--ha", "tls", "--ha-threads", "2/3"], false, &[Channel::Tls], &[(2, 3)]),
            (&["--ha", "off"], true, &[], &ALL),
        ];
        for (arguments, alone, channels, ha_threads) in table {
            let axes = parsed(arguments).axes(2, None);
            assert_eq!((axes.alone, axes.channels.as_slice()), (alone, channels), "{arguments:?}");
            assert_eq!(axes.ha_threads, ha_threads, "{arguments:?}");
        }
    }

    #[test]
    fn the_quick_matrix_fits_ten_minutes_on_two_cpus_with_everything_beside_it() {
        let cli = parsed(&["--quick", "--floor", "--against", "kea"]);
        let (axes, parameters) = (cli.axes(2, None), cli.parameters(2, None));
        let cells = axes.first().len() + axes.second_expected();
        let cells_s = measure::guess(&parameters).as_secs_f64() * cells as f64;
        let beside_s = measure::guess_beside(&axes, &parameters).as_secs_f64();
        // Some are disturbed and measured twice, on a machine that is not busy one in four.
        let whole_s = 1.25 * (cells_s + beside_s);
        let limit_s = super::super::QUICK_BUDGET_S as f64 - 50.0;
        assert_eq!((cells, axes.kinds(), axes.pair_cells(), axes.pair_kinds()), (17, 6, 4, 2));
        assert!(whole_s < limit_s, "{cells} cells: {cells_s} s, and {beside_s} s beside, make {whole_s} s");
    }

    #[test]
    fn listeners_and_senders_are_two_numbers_of_a_range() {
        assert_eq!(ha_threads("4/2"), Ok((4, 2)));
        for text in ["4", "4/", "0/1", "65/1", "a/b"] {
            assert!(ha_threads(text).is_err(), "{text}");
        }
    }
}
