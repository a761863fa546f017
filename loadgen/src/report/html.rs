//! The report as one page that needs nothing else: numbers, plots, warnings, parameters.

use anyhow::{Result, anyhow};

use super::{Summary, plot};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:940px;margin:2em auto;padding:0 1em;color:#222}\
    h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}svg{width:100%;height:auto}\
    .key{display:flex;flex-wrap:wrap;gap:1em}.key div{border:1px solid #ccc;border-radius:6px;padding:.5em 1em}\
    .key b{display:block;font-size:1.4em}.bad{color:#b53030}.warning{border-left:4px solid #d9a400;padding-left:1em}\
    pre{background:#f5f5f5;padding:1em;overflow-x:auto;white-space:pre-wrap;font-size:.85em}";

/// The page.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn render(summary: &Summary) -> Result<String> {
    let drawn = |plot: Result<String, Box<dyn std::error::Error>>| {
        plot.map_err(|error| anyhow!("drawing a plot: {error}"))
    };
    let key = [
        ("completed", format!("{:.0}/s", summary.completed_rate)),
        ("lost", format!("{:.3} %", 100.0 * summary.drop_share)),
        ("p50 from the plan", format!("{:.3} ms", summary.exchange.p50_us / 1e3)),
        ("p99 from the plan", format!("{:.3} ms", summary.exchange.p99_us / 1e3)),
        ("duplicate addresses", summary.counters.duplicates.to_string()),
    ];
    let key: String = key.iter().map(|(name, value)| format!("<div>{name}<b>{value}</b></div>")).collect();
    let verdict = match summary.failure() {
        None if summary.generator_limited => {
            "<p class=bad>Every exchange completed, but the figures tell of the generator, not of the server.</p>"
                .to_owned()
        }
        None => "<p>Every exchange completed and every check held.</p>".to_owned(),
        Some(failure) => format!("<p class=bad>Not a complete success: {}.</p>", escape(&failure)),
    };
    let warnings: String = summary
        .warnings
        .iter()
        .map(|warning| format!("<p class=warning>{}</p>", escape(&warning.to_string())))
        .collect();
    let preformatted = |text: String| format!("<pre>{}</pre>", escape(&text));
    let mut sections = vec![
        ("Latency from the plan that a share does not exceed", drawn(plot::percentiles(summary, true))?),
        ("Latency from sending that a share does not exceed", drawn(plot::percentiles(summary, false))?),
        ("Rate over time", drawn(plot::rates(summary))?),
        ("Latency from the plan over time", drawn(plot::latencies(summary))?),
    ];
    if summary.servers.len() > 1 {
        sections.push(("Who served", drawn(plot::servers(summary))?));
    }
    sections.extend([
        ("In numbers", preformatted(super::text::render(summary, false))),
        ("Parameters", preformatted(serde_json::to_string_pretty(&summary.parameters)?)),
    ]);
    let sections: String =
        sections.iter().map(|(title, body)| format!("<h2>{title}</h2>\n{body}\n")).collect();
    Ok(format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>{program}</title><style>{STYLE}</style>\n\
         <h1>{program}</h1>\n<div class=key>{key}</div>\n{verdict}\n{warnings}\n{sections}</html>\n",
        program = escape(&summary.program),
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use crate::recorder::{ByServer, Counters, Interval, Latencies, Latency, Stretch};
    use crate::report::{IntervalReport, Measured};
    use crate::settings::tests::small;
    use crate::settings::{Event, Settings};

    fn summary(exchanges: u64) -> Summary {
        let mut latencies = Latencies::new();
        let mut exchange = Latency::new(2);
        for n in 0..exchanges {
            latencies.exchange.record(1_000_000 + 1000 * n);
            latencies.exchange_raw.record(1_000_000);
            exchange.record(1_000_000);
        }
        let counters = Counters { started: exchanges, completed: exchanges, ..Counters::default() };
        let intervals = (0..3).map(|number| {
            let mut servers = ByServer::default();
            servers.add(Ipv4Addr::new(10, 0, 0, 1), 9);
            servers.add(Ipv4Addr::new(10, 0, 0, u8::try_from(number).unwrap()), 1);
            let at = |number: u32| u64::from(number) * 1_000_000_000;
            let stretch = Stretch { from_ns: at(number), to_ns: at(number + 1) };
            let exchange = exchange.clone();
            IntervalReport::new(&Interval { number, stretch, servers, counters, exchange }, 0)
        });
        let event = Some(Event { at_s: 1.0, command: "echo '<b>' & true".into() });
        let measured = Measured {
            started_at: 0,
            prepared: 0,
            seconds: 3.0,
            counters,
            latencies,
            gap: Stretch { from_ns: 1_000_000_000, to_ns: 1_500_000_000 },
            aborted: false,
            intervals: intervals.collect(),
        };
        Summary::new(&Settings { event, ..small() }, measured)
    }

    #[test]
    fn the_page_holds_numbers_and_plots_and_loads_nothing() {
        let page = render(&summary(1000)).unwrap();
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(
            page.contains("10.0.0.2, ACKs/s") && page.contains("served by     10.0.0.1: 28 ACKs"),
            "{page}"
        );
        assert!(page.contains("333/s") && page.contains("Every exchange completed"), "{page}");
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("'&lt;b&gt;' &amp; true"), "the command is escaped");
    }

    #[test]
    fn a_run_without_an_exchange_has_a_page_too() {
        assert!(render(&summary(0)).unwrap().contains("no exchange completed"));
    }
}
