//! The report as text for people.

use std::fmt::Write;

use super::report::{PhaseReport, Report};
use crate::runtime::text::count;

/// The summary, aligned, at most 80 columns wide; every line ends with a newline.
pub(super) fn summary(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(String::new());
    line(row(["", "", "clients", "ACKs by", "ACKs by", "REQUEST", "to ACK"]));
    line(row(["", "", "new", "server1", "server2", "p50", "p99"]));
    for phase in &report.phases {
        line(phase_row(phase));
    }
    line(String::new());
    line(fact(
        "clients",
        &format!("{} came, {} hold a lease", count(report.clients), count(report.clients_served)),
    ));
    let renewals: u64 = report.phases.iter().map(|phase| phase.renewals).sum();
    line(fact("ACKs", &format!("{}, of which {} renewals", count(report.acks), count(renewals))));
    if report.unrenewed > 0 {
        let lost =
            format!("{} renewals were lost; their clients ask again in hours", count(report.unrenewed));
        line(fact("", &lost));
    }
    line(fact(
        "take-over",
        &format!("{} from SIGKILL to the standby's first ACK", seconds(report.take_over_ms)),
    ));
    line(fact(
        "whole again",
        &format!("{} from the primary's start to hot-standby on both", seconds(report.whole_again_ms)),
    ));
    for file in &report.files {
        let what = format!(
            "{} of {} acknowledged leases are in {}'s file",
            count(file.found),
            count(file.acknowledged),
            file.server
        );
        line(fact("proof", &what));
    }
    line(String::new());
    for failure in &report.failures {
        line(format!("  DID NOT HOLD: {failure}"));
    }
    if report.failures.is_empty() {
        line(format!(
            "  Every lease that a client saw acknowledged is on both disks. ({})",
            seconds(report.duration_ms)
        ));
    } else {
        line(format!("  The demo failed after {}.", seconds(report.duration_ms)));
    }
    if !report.optimised {
        line("  (Built without optimisation: the times say little.)".to_owned());
    }
    text
}

fn phase_row(phase: &PhaseReport) -> String {
    let [primary, standby] = phase.acks.map(|acks| if acks == 0 { "-".to_owned() } else { count(acks) });
    let latency = |us: Option<u32>| us.map_or("-".to_owned(), latency);
    let cells = [
        phase.name.as_str(),
        &seconds(phase.duration_ms),
        &count(phase.clients),
        &primary,
        &standby,
        &latency(phase.latency_us_p50),
        &latency(phase.latency_us_p99),
    ];
    row(cells)
}

/// One line of the table.
fn row([name, duration, clients, primary, standby, p50, p99]: [&str; 7]) -> String {
    format!("  {name:<22}{duration:>7}{clients:>9}{primary:>9}{standby:>9}{p50:>12}{p99:>9}")
}

fn fact(name: &str, what: &str) -> String {
    format!("  {name:<14}{what}")
}

/// Milliseconds as seconds with one digit.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100)
}

/// Microseconds in the unit that suits.
pub(super) fn latency(us: u32) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match us {
        0..1_000 => write!(text, "{us} µs"),
        1_000..1_000_000 => write!(text, "{:.1} ms", f64::from(us) / 1e3),
        _ => write!(text, "{:.1} s", f64::from(us) / 1e6),
    };
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::report::FileReport;
    use super::*;

    fn report() -> Report {
        let phase = |name: &str, acks, p50: Option<u32>| PhaseReport {
            name: name.to_owned(),
            duration_ms: 6_012,
            clients: 1_200,
            acks,
            renewals: 10,
            latency_us_p50: p50,
            latency_us_p99: p50.map(|us| us * 4),
            latency_us_max: p50.map(|us| us * 5),
        };
        let file = |server: &str| FileReport {
            server: server.to_owned(),
            rows: 1_300,
            leases: 1_201,
            acknowledged: 1_200,
            found: 1_200,
            wrong: Vec::new(),
        };
        Report {
            version: "0.1.0".to_owned(),
            optimised: true,
            speed: 20,
            phases: vec![
                phase("both serve", [1_198, 0], Some(840)),
                phase("server1 is killed", [0, 0], None),
                phase("server2 alone", [0, 12_345], Some(300_000)),
            ],
            clients: 1_200,
            clients_served: 1_200,
            acks: 1_234_567,
            take_over_ms: 3_149,
            whole_again_ms: 2_050,
            files: vec![file("server1"), file("server2")],
            duration_ms: 31_400,
            ..Report::default()
        }
    }

    #[test]
    fn a_good_summary_is_aligned_and_ends_with_what_was_proven() {
        expect![[r#"
            |

                                             clients  ACKs by  ACKs by     REQUEST   to ACK
                                                 new  server1  server2         p50      p99
              both serve              6.0 s    1,200    1,198        -      840 µs   3.4 ms
              server1 is killed       6.0 s    1,200        -        -           -        -
              server2 alone           6.0 s    1,200        -   12,345    300.0 ms    1.2 s

              clients       1,200 came, 1,200 hold a lease
              ACKs          1,234,567, of which 30 renewals
              take-over     3.1 s from SIGKILL to the standby's first ACK
              whole again   2.1 s from the primary's start to hot-standby on both
              proof         1,200 of 1,200 acknowledged leases are in server1's file
              proof         1,200 of 1,200 acknowledged leases are in server2's file

              Every lease that a client saw acknowledged is on both disks. (31.4 s)
        "#]]
        .assert_eq(&format!("|\n{}", summary(&report())));
    }

    #[test]
    fn a_bad_summary_names_what_did_not_hold() {
        let failures = vec!["server2: 198.18.1.7 is missing".to_owned()];
        let text = summary(&Report { failures, optimised: false, ..report() });
        assert!(text.contains("  DID NOT HOLD: server2: 198.18.1.7 is missing\n"), "{text}");
        assert!(text.contains("The demo failed after 31.4 s."), "{text}");
        assert!(!text.contains("Every lease"), "{text}");
        assert!(text.contains("without optimisation"), "{text}");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 49, 50, 3_149, 59_999].map(seconds), ["0.0 s", "0.0 s", "0.1 s", "3.1 s", "60.0 s"]);
        assert_eq!([7, 999, 1_000, 2_345_000].map(latency), ["7 µs", "999 µs", "1.0 ms", "2.3 s"]);
    }
}
