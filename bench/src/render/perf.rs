//! Numbers of a report in a document whose prose is written by hand: the parts between markers, and no
//! others.
//!
//! A part begins with the line `<!-- numbers: NAME -->` and ends with `<!-- end of numbers -->`. Lines are
//! no wider than documents of the repository may be.

use anyhow::{Result, bail, ensure};

use super::markdown::table;
use super::{circumstances, contenders, cpu_us, dash, held, held_alone, kind_name};
use crate::report::{Cell, Durability, Kind, Load, Measurement, Probe, Report, Server};
use crate::words::ms;

/// Widest line, in characters; tables are as wide as they are.
const COLUMNS_MAX: usize = 108;

const BEGIN: &str = "<!-- numbers: ";
const END: &str = "<!-- end of numbers -->";

/// What stands for a part that a report has nothing for.
const NOTHING: &str = "Not measured in this report.";

/// The rate at which servers that are nearly idle are compared, exchanges a second.
const QUIET: Load = Load::Rate(1_000.0);

/// The parts that there are, each from a report.
type Part = (&'static str, fn(&Report) -> String);
const PARTS: [Part; 5] =
    [("machine", machine), ("compared", compared), ("matrix", matrix), ("latency", latency), ("pair", pair)];

/// `document` with its parts as `report` has them; everything outside of the markers stays.
///
/// # Errors
/// When there is no marker, one has no end, or its name is not known.
pub fn renewed(document: &str, report: &Report) -> Result<String> {
    let mut text = String::new();
    let mut lines = document.lines();
    let mut found = 0;
    while let Some(line) = lines.next() {
        text.push_str(line);
        text.push('\n');
        let Some(name) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let Some((_, render)) = PARTS.iter().find(|(known, _)| *known == name) else {
            let known = PARTS.map(|(name, _)| name).join(", ");
            bail!("no numbers are called {name}; there are {known}");
        };
        ensure!(lines.by_ref().any(|line| line == END), "the numbers {name} have no end");
        text.push_str(&format!("\n{}\n{END}\n", render(report)));
        found += 1;
    }
    ensure!(found > 0, "the document has no line like {BEGIN}machine -->");
    Ok(text)
}

/// Host, command, commit and parameters: what every other part is of.
fn machine(report: &Report) -> String {
    circumstances(report).iter().map(|line| wrapped(line)).collect()
}

/// A list item, broken into lines.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("-")];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if lines[last].chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push(format!("  {word}"));
        } else {
            lines[last].push_str(&format!(" {word}"));
        }
    }
    lines.join("\n") + "\n"
}

fn compared(report: &Report) -> String {
    let titles = ["Server", "Threads", "Queue", "Exchanges/s held", "times Kea", "of the floor", "CPU each"];
    let rows = contenders(report).into_iter().map(|contender| {
        let Cell { threads, queue, .. } = contender.found.cell;
        let ratio = |ratio: Option<f64>| ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"));
        vec![
            kind_name(contender.found.cell.kind()),
            threads.map_or_else(dash, |threads| threads.to_string()),
            queue.map_or_else(dash, |queue| queue.to_string()),
            held(contender.found),
            ratio(contender.times_kea),
            ratio(contender.of_floor),
            cpu_us(contender.found).map_or_else(dash, |us| format!("{us:.1} µs")),
        ]
    });
    titled(&titles, rows)
}

/// Rates over threads and queue, a table for each kind that has several.
fn matrix(report: &Report) -> String {
    let mut text = String::new();
    for kind in report.kinds().into_iter().filter(|kind| kind.channel.is_none()) {
        let cells: Vec<&Measurement> =
            report.cells.iter().filter(|found| found.cell.kind() == kind).collect();
        let queues = values(&cells, |cell| cell.queue);
        let threads = values(&cells, |cell| cell.threads);
        if cells.len() < 2 || queues.is_empty() || threads.is_empty() {
            continue;
        }
        let titles =
            std::iter::once(kind_name(kind)).chain(queues.iter().map(|queue| format!("queue {queue}")));
        let rows = threads.iter().map(|threads| {
            let at = |queue: &u32| {
                let size = (Some(*threads), Some(*queue));
                let cell = cells.iter().find(|found| (found.cell.threads, found.cell.queue) == size);
                cell.map_or_else(dash, |found| held_alone(found))
            };
            std::iter::once(format!("threads {threads}")).chain(queues.iter().map(at)).collect()
        });
        let rows: Vec<Vec<String>> = std::iter::once(titles.collect()).chain(rows).collect();
        text.push_str(&format!("{}{}", if text.is_empty() { "" } else { "\n" }, table(&rows)));
    }
    or_nothing(text)
}

fn latency(report: &Report) -> String {
    let titles = [
        "Server",
        "p50 at 1,000/s",
        "p50 at half",
        "p99 at half",
        "p99.9 at half",
        "ACK p99 at half",
        "p99 at full",
    ];
    let all = contenders(report);
    // A load at a fixed rate is looked at in one cell of a kind, which may be another than the one compared.
    let quiet = |kind: Kind| {
        let cells = report.cells.iter().filter(|found| found.cell.kind() == kind);
        cells.filter_map(|found| found.at(QUIET)).next()
    };
    let rows = all.iter().map(|contender| {
        let found = contender.found;
        let wait =
            |probe: Option<&Probe>, of: fn(&Probe) -> f64| probe.map_or_else(dash, |probe| ms(of(probe)));
        vec![
            kind_name(found.cell.kind()),
            wait(quiet(found.cell.kind()), |probe| probe.exchange.p50_ms),
            wait(found.half(), |probe| probe.exchange.p50_ms),
            wait(found.half(), |probe| probe.exchange.p99_ms),
            wait(found.half(), |probe| probe.exchange.p999_ms),
            wait(found.half(), |probe| probe.ack.p99_ms),
            wait(found.full(), |probe| probe.exchange.p99_ms),
        ]
    });
    let text = titled(&titles, rows);
    let of = |server, durability| {
        let contender = all.iter().find(|contender| {
            let kind = contender.found.cell.kind();
            (kind.server, kind.durability, kind.channel) == (server, durability, None)
        })?;
        Some((quiet(contender.found.cell.kind())?.exchange.p50_ms, contender.found.sync_ns))
    };
    let (floor, ours) = (of(Server::Reflector, Durability::Written), of(Server::Tandem, Durability::Synced));
    let Some(((floor, _), (ours, sync_ns))) = floor.zip(ours) else { return text };
    let sync = sync_ns as f64 / 1e6;
    let sentence = wrapped(&format!(
        "At 1,000 exchanges/s a durable one takes {} (p50); the bare reflector's and two and a half times `write` and \
         `fdatasync` of one row by a plain thread ({}) are {}.",
        ms(ours),
        ms(sync),
        ms(floor + 2.5 * sync)
    ));
    format!("{text}\n{sentence}")
}

fn pair(report: &Report) -> String {
    or_nothing(super::pairs(report).map(|rows| table(&rows)).unwrap_or_default())
}

fn titled(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>())
}

fn or_nothing(text: String) -> String {
    if text.is_empty() { format!("{NOTHING}\n") } else { text }
}

fn values<T: Ord>(cells: &[&Measurement], of: fn(&Cell) -> Option<T>) -> Vec<T> {
    let mut values: Vec<T> = cells.iter().filter_map(|found| of(&found.cell)).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::full;
    use crate::report::Point;
    use crate::report::tests::fixed;

    fn document() -> String {
        let part = |(name, _): Part| format!("## {name}\n\n{BEGIN}{name} -->\nold\n{END}\n\nBy hand.\n");
        PARTS.map(part).join("\n")
    }

    #[test]
    fn parts_are_renewed_and_what_is_written_by_hand_stays() {
        let text = renewed(&document(), &full()).unwrap();
        assert_eq!(text.matches("By hand.").count(), PARTS.len());
        assert!(!text.contains("old"));
        assert_eq!(renewed(&text, &full()).unwrap(), text, "a second time changes nothing");
        for line in [
            "- alpha<1>: 2 × A CPU, 3900 MiB, kernel 6.18.0",
            "- tandem-bench 0.1.0, commit 0123abc, measured by: tandem-bench --quick --floor",
            "| Tandem, synced | 1 | 64 | 50,800 | 8.20 | 0.74 | 17.7 µs |",
            "| Tandem, synced | queue 16 | queue 64 | queue 256 |",
            "| threads 2 | 43,000 * | 52,400 | 51,400 |",
            "| Tandem, synced | – | 0.55 ms | 2.31 ms | 6.92 ms | 1.12 ms | 60.0 ms |",
            "| Tandem over TLS, synced | 1 | 64 | 2 | 2 | 10,700 | 7.50 ms | 0.20 |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let wide = text.lines().find(|line| line.chars().count() > 110);
        assert_eq!(wide, None);
        assert!(renewed(&document(), &fixed()).unwrap().contains("Not measured in this report."), "no pair");
    }

    #[test]
    fn a_quiet_load_is_held_against_the_disk() {
        let mut report = full();
        for found in &mut report.cells {
            let mut probe = found.curve[0].probe.clone();
            probe.exchange.p50_ms = if found.cell.server == Server::Reflector { 0.125 } else { 0.5 };
            found.curve.push(Point { load: QUIET, probe });
        }
        let text = latency(&report).replace("\n  ", " ");
        assert!(text.contains("takes 0.50 ms (p50)") && text.contains("(0.22 ms) are 0.68 ms."), "{text}");
    }

    #[test]
    fn a_document_without_markers_or_with_odd_ones_is_refused() {
        let table = [
            ("nothing", "no line like"),
            ("<!-- numbers: machine -->\n", "no end"),
            ("<!-- numbers: elsewhere -->\n<!-- end of numbers -->\n", "no numbers are called elsewhere"),
        ];
        for (text, error) in table {
            let found = renewed(text, &fixed()).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
    }

    /// The lines of part `name` of the repository's document.
    fn part_of_repository(name: &str) -> Vec<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../PERF.md");
        let text = std::fs::read_to_string(path).expect("PERF.md");
        let begin = format!("{BEGIN}{name} -->");
        let lines = text.lines().skip_while(|line| *line != begin).skip(1);
        let lines: Vec<String> = lines.take_while(|line| *line != END).map(str::to_owned).collect();
        assert!(!lines.is_empty(), "PERF.md has no numbers called {name}");
        lines
    }

    #[test]
    fn the_numbers_of_the_repository_name_command_commit_and_machine_and_are_whole_tables() {
        let machine = part_of_repository("machine").join("\n").replace("\n  ", " ");
        let after = |word: &str| machine.split(word).nth(1).unwrap_or_else(|| panic!("{word} in\n{machine}"));
        assert!(after("measured by: ").starts_with("tandem-bench "), "{machine}");
        let commit: String = after("commit ").chars().take_while(|letter| *letter != ',').collect();
        assert!(
            commit.len() >= 7 && commit.chars().all(|letter| letter.is_ascii_hexdigit()),
            "commit {commit}"
        );
        assert!(machine.contains("kernel ") && machine.contains(" MiB"), "{machine}");
        for (name, _) in PARTS.iter().filter(|(name, _)| *name != "machine") {
            let lines = part_of_repository(name);
            let tables = lines.split(|line| !line.starts_with('|')).filter(|table| !table.is_empty());
            let mut count = 0;
            for table in tables {
                let columns = |line: &String| line.matches('|').count();
                assert!(table.len() > 2, "{name}: a table without rows: {table:?}");
                assert!(table.iter().all(|line| columns(line) == columns(&table[0])), "{name}: {table:?}");
                count += 1;
            }
            assert!(count > 0 || lines.concat().starts_with(NOTHING), "{name} has no table");
        }
    }
}
