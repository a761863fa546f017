//! The report as one page that needs nothing else.

use anyhow::{Result, anyhow};

use super::heat;
use crate::recommend::advise;
use crate::report::{Durability, Report};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}\
    h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}svg{max-width:100%;height:auto}\
    .answer{border-left:5px solid #d06a00;padding:.2em 1em;background:#fdf5ec}\
    pre{background:#f5f5f5;padding:1em;overflow-x:auto}table{border-collapse:collapse;font-size:.9em}\
    th,td{border-bottom:1px solid #ddd;padding:.3em .7em;text-align:right}\
    th:first-child,td:first-child{text-align:left}";

const LEGEND: &str = "Exchanges a second that were held. The knee is framed: the smallest configuration within \
    5 % of the best. A star marks what was disturbed.";

/// The page.
///
/// # Errors
/// When a map cannot be drawn.
pub fn render(report: &Report) -> Result<String> {
    let answer = match advise(report, None).server {
        Some(found) => format!(
            "<p>{} <code>durability</code> is <code>{}</code>.</p><pre>{}</pre>",
            escape(&found.reasons.join(" ")),
            found.measured.cell.durability.name(),
            escape(&found.block())
        ),
        None => "<p>None: no configuration of Tandem held any rate.</p>".to_owned(),
    };
    let mut maps = String::new();
    for (durability, title) in [
        (Durability::Synced, "Threads and queue, ACKs on stable storage"),
        (Durability::Written, "Threads and queue, ACKs written only"),
    ] {
        let drawn = heat::map(report, durability).map_err(|error| anyhow!("drawing a map: {error}"))?;
        if let Some(svg) = drawn {
            maps.push_str(&format!("<h2>{title}</h2>\n{svg}\n<p>{LEGEND}</p>\n"));
        }
    }
    let lines = super::circumstances(report);
    let lines: String = lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    Ok(format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>Sizing report</title><style>{STYLE}</style>\n\
         <h1>Sizing report</h1>\n<div class=answer><h2>Configure this</h2>{answer}</div>\n\
         <h2>The best of each</h2>\n{best}\n{maps}<h2>Every measurement</h2>\n{everything}\n\
         <h2>What was measured</h2>\n<ul>\n{lines}</ul></html>\n",
        best = table(&super::comparison(report)),
        everything = table(&super::everything(report)),
    ))
}

fn table(rows: &[Vec<String>]) -> String {
    let line = |(number, row): (usize, &Vec<String>)| {
        let tag = if number == 0 { "th" } else { "td" };
        let fields: String = row.iter().map(|text| format!("<{tag}>{}</{tag}>", escape(text))).collect();
        format!("<tr>{fields}</tr>\n")
    };
    format!("<table>\n{}</table>", rows.iter().enumerate().map(line).collect::<String>())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::fixed;

    #[test]
    fn the_page_holds_answer_map_and_tables_and_loads_nothing() {
        let page = render(&fixed()).unwrap();
        assert_eq!(page.matches("<svg").count(), 1, "one durability was measured");
        assert_eq!(page.matches("#D06A00").count(), 1, "one frame");
        for part in ["\"thread-pool-size\": 1", "29500", "20000 *", "alpha&lt;1&gt;", "<td>6.00</td>"] {
            assert!(page.contains(part), "{part}");
        }
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn without_cells_there_is_a_page_without_a_map() {
        let mut report = fixed();
        report.cells.clear();
        assert_eq!(render(&report).unwrap().matches("<svg").count(), 0);
    }
}
