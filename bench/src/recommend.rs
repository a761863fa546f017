//! From a report to a configuration: the smallest one that is as good as the best, and why.
//!
//! Pure. A choice is made among cells of one kind (one server, or a pair over one channel). Rate comes
//! first, then what clients see at half of it; disturbed cells count only if there are no others, and then
//! nothing is written into a file.

use crate::report::cell::Channel;
use crate::report::{Attachment, Cell, Disturbance, Durability, Kind, Measurement, Report, Server};
use crate::words::{count, ms, several};
use crate::write::Settings;

/// A cell this close to the best, as a share of its rate, is as good: a repetition may turn them around.
/// Where the search was coarser than that, so is the comparison.
const AS_GOOD: f64 = 0.05;

/// A p99 at half of the capacity up to so many times the lowest is as good, for the same reason.
const AS_QUICK: f64 = 1.5;

/// And so is one that is no more than this above it, milliseconds.
const AS_QUICK_MS: f64 = 0.25;

/// `parked-packet-limit` of a configuration that does not say.
const PARKED_DEFAULT: u32 = 256;

/// Highest `parked-packet-limit` that is recommended: a server that parks more is behind, not waiting.
const PARKED_MAX: u32 = 16_384;

/// What to configure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advice<'r> {
    /// One server alone; `None` when no cell of one held any rate.
    pub server: Option<Choice<'r>>,
    /// A pair; `None` when none was measured, or none held any rate.
    pub pair: Option<Choice<'r>>,
}

/// A cell to configure, and the reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice<'r> {
    /// What to configure, and what it showed.
    pub measured: &'r Measurement,
    /// Exchanges a second that it held.
    pub capacity: f64,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// Why the figures do not bear a recommendation, if they do not.
    pub doubt: Option<&'static str>,
    /// `parked-packet-limit` for a pair whose default would be too small.
    pub parked: Option<u32>,
}

/// How far below the best a rate may lie and be as good, as a share.
pub fn tolerance(report: &Report) -> f64 {
    report.parameters.precision.max(AS_GOOD)
}

/// What to configure for an ACK that waits for `durability`; without one, for stable storage if it was
/// measured. Of a server that was given by address nobody says what it is, so Tandem's own cells come
/// first.
pub fn advise(report: &Report, durability: Option<Durability>) -> Advice<'_> {
    let durabilities = match durability {
        Some(durability) => vec![durability],
        None => vec![Durability::Synced, Durability::Written],
    };
    let mut kinds = Vec::new();
    for server in [Server::Tandem, Server::Remote] {
        for &durability in &durabilities {
            for attachment in [Attachment::Relayed, Attachment::Direct] {
                kinds.push(Kind { attachment, ..Kind::single(server, durability) });
            }
        }
    }
    let first = |channel| kinds.iter().find_map(|&kind| choose(report, Kind { channel, ..kind }));
    let pair = [Channel::Tls, Channel::Plain].into_iter().find_map(|channel| first(Some(channel)));
    Advice { server: first(None), pair }
}

/// The cell that stands for its kind: the one to recommend where we recommend, the best of others.
pub fn shown(report: &Report, kind: Kind) -> Option<&Measurement> {
    match kind.server {
        Server::Remote | Server::Tandem => choose(report, kind).map(|choice| choice.measured),
        Server::Dhcpd | Server::Dnsmasq | Server::Kea | Server::Reflector => report.best(kind),
    }
}

/// Whether a rate was held by the server at least: where the generator was the limit, it does no less.
fn is_calm(found: &Measurement) -> bool {
    found.disturbances.iter().all(|disturbance| *disturbance == Disturbance::Generator)
}

/// The knee among the cells of `kind`: fewest threads, then the shortest queue, then fewest HA threads.
///
/// `None` when none of them held any rate.
pub fn choose(report: &Report, kind: Kind) -> Option<Choice<'_>> {
    let of_kind = report.cells.iter().filter(|found| found.cell.kind() == kind);
    let held: Vec<&Measurement> = of_kind.filter(|found| found.capacity.is_some()).collect();
    let calm: Vec<&Measurement> = held.iter().copied().filter(|found| is_calm(found)).collect();
    let disturbed = held.len() - calm.len();
    let cells = if calm.is_empty() { &held } else { &calm };
    let best = cells.iter().copied().max_by(|one, other| {
        rate(one).total_cmp(&rate(other)).then(other.cell.size().cmp(&one.cell.size()))
    })?;
    let mut good: Vec<&Measurement> =
        cells.iter().copied().filter(|found| rate(found) >= (1.0 - tolerance(report)) * rate(best)).collect();
    good.sort_by_key(|found| found.cell.size());
    let quickest = good.iter().filter_map(|found| p99_at_half(found)).fold(f64::INFINITY, f64::min);
    let bound = (AS_QUICK * quickest).max(quickest + AS_QUICK_MS);
    let quick = |found: &Measurement| p99_at_half(found).is_none_or(|p99| p99 <= bound);
    let chosen = good.iter().copied().find(|found| quick(found))?;
    // Those before it are smaller and hold as much.
    let passed_over = good.iter().copied().take_while(|found| !quick(found)).last();
    let doubt = match (calm.is_empty(), cells.len()) {
        (true, _) => Some("every measurement was disturbed"),
        _ if chosen.cell.size() == (None, None, None) => {
            Some("the server was measured as it is, whatever that is")
        }
        (false, 1) => Some("nothing else was measured that could be compared"),
        _ => None,
    };
    let mut reasons = vec![reason_of_rate(chosen, best, cells.len(), tolerance(report))];
    reasons.extend(reason_of_cpus(report, chosen));
    reasons.extend(passed_over.map(|found| reason_of_latency(found, chosen)));
    reasons.extend(reason_of_durability(report, chosen));
    let parked = parked_limit(chosen);
    reasons.extend(parked.map(|limit| reason_of_parked(chosen, limit)));
    if !calm.is_empty() && disturbed > 0 {
        reasons.push(format!("Disturbed measurements are left out ({disturbed})."));
    }
    if calm.is_empty() {
        reasons.push("Every measurement was disturbed: measure again on a quieter machine.".to_owned());
    }
    if chosen.disturbances.contains(&Disturbance::Generator) {
        reasons.push(
            "The generator was the limit: the server does that much at least (--generator-cpus).".to_owned(),
        );
    }
    Some(Choice { measured: chosen, capacity: rate(chosen), reasons, doubt, parked })
}

fn rate(found: &Measurement) -> f64 {
    found.capacity.unwrap_or(0.0)
}

fn p99_at_half(found: &Measurement) -> Option<f64> {
    found.half().map(|probe| probe.exchange.p99_ms)
}

/// What is chosen of a cell, for the middle of a sentence.
fn numbers(cell: &Cell) -> String {
    let (Some(threads), Some(queue)) = (cell.threads, cell.queue) else {
        return "the server as it is".to_owned();
    };
    let threads = several(threads, "thread");
    match cell.ha {
        None => format!("{threads} with a queue of {queue}"),
        Some(ha) => format!(
            "{threads}, queue {queue}, {} and {}",
            several(ha.listeners, "HA listener"),
            several(ha.senders, "HA sender")
        ),
    }
}

fn reason_of_rate(chosen: &Measurement, best: &Measurement, cells: usize, tolerance: f64) -> String {
    let held = format!("{} held {} exchanges/s", numbers(&chosen.cell), count(rate(chosen)));
    let mut reason = if cells == 1 {
        format!("{held}, and nothing else was measured that could be compared")
    } else if chosen.cell == best.cell {
        format!("{held}, and nothing smaller comes within {:.0} % of that", 100.0 * tolerance)
    } else {
        format!(
            "{held}, which is {:.0} % of the best measured ({}/s: {}), so that more buys nothing",
            100.0 * rate(chosen) / rate(best),
            count(rate(best)),
            numbers(&best.cell)
        )
    };
    if best.at_least {
        reason.push_str("; the highest rate allowed (--to) was held, so the server may do more");
    }
    reason + "."
}

/// What the load took from the server, which it will not take where the server is at work.
fn reason_of_cpus(report: &Report, chosen: &Measurement) -> Option<String> {
    let (own, all) = (report.parameters.server_cpus.len(), report.host.cpus);
    let alone = report.parameters.remote.is_none() && chosen.cell.ha.is_none();
    (alone && own < all).then(|| {
        let threads = chosen.cell.threads.map_or(0, usize::from);
        let crowd = if threads > own { ", so threads shared CPUs" } else { "" };
        format!("Of the {all} CPUs the server had {own}, the load the rest{crowd}: with all of them it may do more.")
    })
}

fn reason_of_latency(passed_over: &Measurement, chosen: &Measurement) -> String {
    let p99 = |found: &Measurement| p99_at_half(found).map_or_else(|| "–".to_owned(), ms);
    format!(
        "{} held as much, but 99 % of its clients wait up to {} at half of that, and here up to {}.",
        numbers(&passed_over.cell),
        p99(passed_over),
        p99(chosen)
    )
}

fn reason_of_durability(report: &Report, chosen: &Measurement) -> Option<String> {
    let cell = Cell { durability: Durability::Written, ..chosen.cell };
    let written = report.find(cell).and_then(|found| found.capacity);
    match (chosen.cell.durability, written) {
        (Durability::Written, _) => Some(
            "An ACK waits for the kernel only: what was acknowledged in the last seconds is lost with the power."
                .to_owned(),
        ),
        (Durability::Synced, Some(written)) if chosen.cell.ha.is_none() => Some(format!(
            "Every lease is on stable storage before its ACK leaves; without that promise (durability \
             \"written\", as in Kea) it is {}/s, {:+.0} %.",
            count(written),
            100.0 * (written / rate(chosen) - 1.0)
        )),
        (Durability::Synced, _) => None,
    }
}

/// Replies that wait while the slowest one is on its way, twice, as a power of two; `None` if the default
/// is enough.
fn parked_limit(chosen: &Measurement) -> Option<u32> {
    let slowest_ms = slowest_ack(chosen)?;
    chosen.cell.ha?;
    let waiting = 2.0 * rate(chosen) * slowest_ms / 1e3;
    let limit = (waiting.min(f64::from(PARKED_MAX)) as u32).next_power_of_two().min(PARKED_MAX);
    (limit > PARKED_DEFAULT).then_some(limit)
}

fn slowest_ack(chosen: &Measurement) -> Option<f64> {
    chosen.half().map(|probe| probe.ack.max_ms)
}

fn reason_of_parked(chosen: &Measurement, limit: u32) -> String {
    let slowest = slowest_ack(chosen).unwrap_or(0.0);
    format!(
        "An ACK took up to {} at half load; {} exchanges/s for that long, twice, are {} parked replies, above the \
         default of {PARKED_DEFAULT}, so parked-packet-limit is {limit}.",
        ms(slowest),
        count(rate(chosen)),
        count(2.0 * rate(chosen) * slowest / 1e3)
    )
}

impl Choice<'_> {
    /// The values to configure.
    pub fn settings(&self) -> Settings {
        let Cell { threads, queue, ha, .. } = self.measured.cell;
        let (listeners, senders) = (ha.map(|ha| ha.listeners), ha.map(|ha| ha.senders));
        Settings { threads, queue, listeners, senders, parked: self.parked }
    }

    /// What goes into `Dhcp4`; `None` where nothing of it is known.
    pub fn block(&self) -> Option<String> {
        let Settings { threads, queue, parked, .. } = self.settings();
        let (threads, queue) = (threads?, queue?);
        let parked = parked.map(|limit| format!(",\n\"parked-packet-limit\": {limit}")).unwrap_or_default();
        Some(format!(
            "\"multi-threading\": {{\n    \"enable-multi-threading\": true,\n    \"thread-pool-size\": {threads},\n    \
             \"packet-queue-size\": {queue}\n}}{parked}"
        ))
    }

    /// What goes into the `high-availability` block of a pair; `None` for one server alone.
    pub fn pair_block(&self) -> Option<String> {
        let ha = self.measured.cell.ha?;
        Some(format!(
            "\"multi-threading\": {{\n    \"enable-multi-threading\": true,\n    \
             \"http-dedicated-listener\": true,\n    \"http-listener-threads\": {},\n    \
             \"http-client-threads\": {}\n}}",
            ha.listeners, ha.senders
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Disturbance;
    use crate::report::cell::Ha;
    use crate::report::tests::{fixed, measured};

    fn server(report: &Report) -> Choice<'_> {
        advise(report, None).server.expect("a choice")
    }

    fn size(choice: &Choice<'_>) -> (u16, u32) {
        (choice.measured.cell.threads.unwrap_or(0), choice.measured.cell.queue.unwrap_or(0))
    }

    fn pair(listeners: u16, senders: u16, capacity: f64) -> Measurement {
        let mut found = measured(Server::Tandem, 1, 64, capacity);
        found.cell.ha = Some(Ha { channel: Channel::Tls, listeners, senders, partner: None });
        found
    }

    #[test]
    fn the_smallest_within_five_percent_of_the_best_is_chosen_and_says_why() {
        let mut report = fixed();
        let found = server(&report);
        assert_eq!((size(&found), found.doubt), ((1, 64), None));
        let reason = "1 thread with a queue of 64 held 29,500 exchanges/s, which is 98 % of the best measured \
                      (30,000/s: 2 threads with a queue of 64), so that more buys nothing.";
        assert_eq!(found.reasons[0], reason);
        report.cells[1].capacity = Some(28_000.0);
        let found = server(&report);
        assert_eq!(size(&found), (2, 64));
        assert!(found.reasons[0].contains("nothing smaller comes within 5 %"), "{:?}", found.reasons);
        report.cells[3].at_least = true;
        assert!(server(&report).reasons[0].contains("--to"));
    }

    #[test]
    fn a_search_that_was_coarse_compares_coarsely_and_missing_cpus_are_told() {
        let mut report = fixed();
        report.cells[1].capacity = Some(28_000.0);
        report.parameters.precision = 0.08;
        let found = server(&report);
        assert_eq!(size(&found), (1, 64), "93 % of the best");
        let told =
            |found: &Choice<'_>| found.reasons.iter().any(|reason| reason.contains("the server had 1,"));
        assert!(told(&found), "{:?}", found.reasons);
        report.parameters.server_cpus = vec![0, 1];
        assert!(!told(&server(&report)));
    }

    #[test]
    fn a_smaller_one_that_makes_clients_wait_is_passed_over() {
        let mut report = fixed();
        report.cells[1].curve[0].probe.exchange.p99_ms = 6.0;
        let found = server(&report);
        assert_eq!(size(&found), (2, 64));
        let reason = "1 thread with a queue of 64 held as much, but 99 % of its clients wait up to 6.00 ms at half of \
                      that, and here up to 2.25 ms.";
        assert!(found.reasons.iter().any(|found| found == reason), "{:?}", found.reasons);
        // A quarter of a millisecond is not worth a thread, whatever it is as a share.
        for (cell, p99) in [(1, 0.3), (3, 0.1)] {
            report.cells[cell].curve[0].probe.exchange.p99_ms = p99;
        }
        assert_eq!(size(&server(&report)), (1, 64));
    }

    #[test]
    fn disturbed_cells_count_only_without_others_and_bear_nothing_then() {
        let mut report = fixed();
        let steal = Disturbance::Steal(0.1);
        report.cells[3].disturbances.push(steal);
        let found = server(&report);
        assert_eq!((size(&found), found.doubt), ((1, 64), None), "calm are the second and the third");
        assert!(found.reasons.iter().any(|reason| reason.contains("left out (2)")), "{:?}", found.reasons);
        for found in &mut report.cells {
            found.disturbances.push(steal);
        }
        let found = server(&report);
        assert_eq!((size(&found), found.doubt), ((1, 64), Some("every measurement was disturbed")));
    }

    #[test]
    fn where_the_generator_was_the_limit_the_rate_stands_and_says_so() {
        let mut report = fixed();
        for found in &mut report.cells {
            found.disturbances = vec![Disturbance::Generator];
        }
        let found = server(&report);
        assert_eq!((size(&found), found.doubt), ((1, 64), None));
        assert!(found.reasons.iter().any(|reason| reason.contains("generator")), "{:?}", found.reasons);
    }

    #[test]
    fn one_cell_alone_and_no_rate_at_all_are_told() {
        let mut report = fixed();
        report.cells.truncate(1);
        report.cells[0].disturbances.clear();
        let found = server(&report);
        assert!(found.doubt.is_some_and(|doubt| doubt.contains("compared")));
        report.cells[0].capacity = None;
        assert_eq!(advise(&report, None), Advice::default());
    }

    #[test]
    fn a_pair_has_its_own_choice_with_both_blocks() {
        let mut report = fixed();
        assert_eq!(advise(&report, None).pair, None, "none was measured");
        report.cells.extend([pair(1, 1, 7_000.0), pair(2, 2, 9_900.0), pair(4, 4, 10_000.0)]);
        let advice = advise(&report, None);
        let found = advice.pair.expect("a pair");
        assert_eq!((found.settings().listeners, found.settings().senders), (Some(2), Some(2)));
        assert!(
            found.reasons[0].starts_with("1 thread, queue 64, 2 HA listeners and 2 HA senders held 9,900")
        );
        let json =
            |text: String| serde_json::from_str::<serde_json::Value>(&format!("{{{text}}}")).expect("JSON");
        let block = json(found.pair_block().expect("a block"));
        assert_eq!(block["multi-threading"]["http-client-threads"], 2);
        let single = json(advice.server.and_then(|choice| choice.block()).expect("one server"));
        assert_eq!(single["multi-threading"]["packet-queue-size"], 64);
    }

    #[test]
    fn parked_replies_are_counted_for_a_pair_from_the_slowest_ack() {
        let mut report = fixed();
        report.cells.extend([pair(1, 1, 10_000.0), pair(2, 2, 10_100.0)]);
        // Twice 10,000/s for 2.25 ms are 45; for 40 ms they are 800.
        assert_eq!(advise(&report, None).pair.and_then(|pair| pair.parked), None);
        report.cells[6].curve[0].probe.ack.max_ms = 40.0;
        let advice = advise(&report, None);
        let found = advice.pair.expect("a pair");
        assert_eq!(found.parked, Some(1024));
        assert!(
            found.reasons.iter().any(|reason| reason.contains("are 800 parked replies")),
            "{:?}",
            found.reasons
        );
        report.cells[6].curve[0].probe.ack.max_ms = 1e6;
        assert_eq!(advise(&report, None).pair.and_then(|pair| pair.parked), Some(PARKED_MAX));
        let single = server(&report);
        assert_eq!(single.parked, None, "nobody waits for a partner");
    }

    #[test]
    fn what_written_would_hold_is_told_beside_a_durable_choice() {
        let mut report = fixed();
        let mut written = measured(Server::Tandem, 1, 64, 35_400.0);
        written.cell.durability = Durability::Written;
        report.cells.push(written);
        let found = server(&report);
        assert!(found.reasons.iter().any(|reason| reason.contains("35,400/s, +20 %")), "{:?}", found.reasons);
        let written = advise(&report, Some(Durability::Written)).server.expect("a choice");
        assert!(written.reasons.iter().any(|reason| reason.contains("lost with the power")));
        assert_eq!(written.capacity, 35_400.0);
    }

    #[test]
    fn a_server_by_address_is_recommended_for_if_its_settings_are_known() {
        let mut report = fixed();
        report.cells = [(1, 64, 9_000.0), (2, 64, 15_000.0)]
            .map(|(threads, queue, rate)| measured(Server::Remote, threads, queue, rate))
            .into();
        let found = advise(&report, None).server.expect("a choice");
        assert_eq!((size(&found), found.doubt), ((2, 64), None));
        report.cells.truncate(1);
        (report.cells[0].cell.threads, report.cells[0].cell.queue) = (None, None);
        let found = advise(&report, None).server.expect("a choice");
        assert_eq!((found.block(), found.capacity), (None, 9_000.0));
        assert!(found.doubt.is_some_and(|doubt| doubt.contains("as it is")), "{:?}", found.doubt);
        assert!(found.reasons[0].starts_with("the server as it is held 9,000"), "{:?}", found.reasons);
    }

    #[test]
    fn clients_behind_a_relay_come_first_and_direct_ones_otherwise() {
        let mut report = fixed();
        let mut direct = measured(Server::Tandem, 1, 16, 50_000.0);
        direct.cell.attachment = Attachment::Direct;
        report.cells.push(direct);
        assert_eq!(server(&report).capacity, 29_500.0);
        report.cells.retain(|found| found.cell.attachment == Attachment::Direct);
        assert_eq!(server(&report).capacity, 50_000.0);
    }
}
