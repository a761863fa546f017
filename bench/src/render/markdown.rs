//! The report as Markdown.

use crate::recommend::{Choice, advise};
use crate::render::sizing;
use crate::report::Report;

/// The text.
pub fn render(report: &Report) -> String {
    let mut text = String::from("# Which threads and queue?\n\n");
    if !report.is_complete() {
        let (done, all) = (report.cells.len(), report.planned.len());
        text.push_str(&format!("Not finished: {done} of {all} measurements.\n\n"));
    }
    let advice = advise(report, None);
    for choice in [&advice.server, &advice.pair].into_iter().flatten() {
        text.push_str(&answer(report, choice));
    }
    let sections = [
        ("Compared", Some(super::comparison(report))),
        ("The pair", super::pairs(report)),
        ("Where the CPU time of a pair goes", super::profile::rows(report)),
        ("When the primary goes away", super::takeover::rows(&report.takeovers)),
        (
            "How many clients is that?",
            advice.pair.as_ref().or(advice.server.as_ref()).map(|choice| sizing::table(choice.capacity)),
        ),
        ("Every measurement", Some(super::everything(report))),
    ];
    if advice.server.is_none() && advice.pair.is_none() {
        text.push_str("No recommendation: no configuration of Tandem held any rate.\n\n");
    }
    for (title, rows) in sections {
        text.push_str(&rows.map_or_else(String::new, |rows| format!("## {title}\n\n{}\n", table(&rows))));
    }
    text.push_str("## What was measured\n\n");
    for line in super::circumstances(report) {
        text.push_str(&format!("- {line}\n"));
    }
    text
}

fn answer(report: &Report, choice: &Choice<'_>) -> String {
    let title = match choice.measured.cell.ha {
        None => "One server".to_owned(),
        Some(ha) => format!("A hot-standby pair {}", ha.channel.name()),
    };
    let mut text = format!("## {title}: configure this\n\n");
    if let Some(block) = choice.block() {
        text.push_str(&format!("```json\n{block}\n```\n\n"));
    }
    if let Some(block) = choice.pair_block() {
        text.push_str(&format!("and in its `high-availability` entry:\n\n```json\n{block}\n```\n\n"));
    }
    if let Some(doubt) = choice.doubt {
        text.push_str(&format!("**This does not bear a decision: {doubt}.**\n\n"));
    }
    for (figure, what) in super::gains(report, choice) {
        text.push_str(&format!("- **{figure}** {what}\n"));
    }
    text.push('\n');
    for reason in &choice.reasons {
        text.push_str(&format!("- {reason}\n"));
    }
    text + "\n"
}

/// A table; its first row has the titles.
pub fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
        if number == 0 {
            text.push_str(&format!("|---{}|\n", "|--:".repeat(row.len() - 1)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::full;
    use crate::report::tests::fixed;

    #[test]
    fn the_text_answers_what_to_configure_and_what_one_gets() {
        let text = render(&fixed());
        for part in [
            "1 thread with a queue of 64 held 29,500 exchanges/s, which is 98 % of the best measured",
            "\"thread-pool-size\": 1,",
            "- **29,500/s** DISCOVER to ACK, each lease on stable storage before its ACK, at most 0.1 % lost",
            "- **0.50 ms** median wait at half of that; 99 % within 2.25 ms",
            "- **5.9 ×** Kea on the same CPUs, best setting (5,000/s, not synced)",
            "| Tandem, synced: 1 thread, queue 64 | 29,500 | 0.50 ms | 2.25 ms | 1.12 ms | 2.25 ms | 16.0 µs | 5.90 | 0.49 |",
            "| Kea: 2 threads, queue 64 | 5,000 | 0.50 ms | 2.25 ms | 1.12 ms | 2.25 ms | 16.0 µs | 1.00 | 0.08 |",
            "steal time 8.0 % |",
            "commit 0123abc, measured by: tandem-bench --quick --floor",
            "at most 0.1 % lost, p99 at most 50 ms",
            "fdatasync of one row by a plain thread on the disk of the leases: 0.22 ms",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("The pair"));
    }

    #[test]
    fn the_run_in_the_middle_has_the_others_behind_it() {
        let mut report = fixed();
        report.cells[1].runs = vec![28_000.0, 29_500.0, 31_000.0];
        assert!(render(&report).contains("| 29,500 (28,000–31,000) |"));
    }

    #[test]
    fn a_pair_has_its_block_and_its_table() {
        let text = render(&full());
        for part in [
            "## A hot-standby pair over TLS: configure this",
            "\"http-client-threads\": 2",
            "\"parked-packet-limit\": 1024",
            "| Tandem over TLS, synced | 1 | 64 | 2 | 2 | 10,700 |",
            "| Tandem with a Kea standby over TLS, synced | 1 | 64 | 4 | 4 | 4,100 |",
            "| 4,100 | standby Kea | 11 × kea-dhcp4 | 0.97 | 0.48 | 0.24 |",
            "| 4,100 | primary Tandem | shard | 0.08 | 0.04 | 0.02 |",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("| control |"), "what uses next to nothing is not told");
    }

    #[test]
    fn a_report_without_cells_says_so() {
        let mut report = fixed();
        report.cells.clear();
        let text = render(&report);
        assert!(text.contains("held any rate") && text.contains("0 of 6"), "{text}");
    }
}
