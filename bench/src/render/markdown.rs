//! The report as Markdown.

use crate::recommend::advise;
use crate::report::Report;

/// The text.
pub fn render(report: &Report) -> String {
    let mut text = String::from("# Sizing report\n\n## Recommendation\n\n");
    let advice = advise(report, None);
    for found in [&advice.server, &advice.pair].into_iter().flatten() {
        let durability = found.measured.cell.durability.name();
        text.push_str(&format!("{} `durability` is `{durability}`.\n\n", found.reasons.join(" ")));
        text.push_str(&format!("```json\n{}\n```\n\n", found.block()));
        if let Some(block) = found.pair_block() {
            text.push_str(&format!("and in its `high-availability` block\n\n```json\n{block}\n```\n\n"));
        }
    }
    if advice.server.is_none() && advice.pair.is_none() {
        text.push_str("None: no configuration of Tandem held any rate.\n");
    }
    text.push_str("\n## The best of each\n\n");
    text.push_str(&table(&super::comparison(report)));
    text.push_str("\n## Every measurement\n\n");
    text.push_str(&table(&super::everything(report)));
    text.push_str("\n## What was measured\n\n");
    for line in super::circumstances(report) {
        text.push_str(&format!("- {line}\n"));
    }
    text
}

fn table(rows: &[Vec<String>]) -> String {
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
    use crate::report::tests::fixed;

    #[test]
    fn the_text_answers_what_to_configure_and_what_one_gets() {
        let text = render(&fixed());
        for part in [
            "1 thread with a queue of 64 held 29,500 exchanges/s, which is 98 % of the best measured",
            "\"thread-pool-size\": 1,",
            "| Tandem, threads 2, queue 64, synced | 30000 | 2.25 ms | 0.50 ms | 2.25 ms | 1.12 ms | 6.00 | 0.50 |",
            "| Kea, threads 2, queue 64 | 5000 | 2.25 ms | 0.50 ms | 2.25 ms | 1.12 ms | 1.00 | 0.08 |",
            "steal time 8.0 % |",
            "commit 0123abc",
            "at most 0.1 % lost, p99 at most 50 ms",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_report_without_cells_says_so() {
        let mut report = fixed();
        report.cells.clear();
        assert!(render(&report).contains("held any rate"));
    }
}
