//! The report as one page that needs nothing else, the answer on its first screen.

use anyhow::{Result, anyhow};

use super::bars::{self, Bar};
use super::draw::Failure;
use super::heat::{self, Axis};
use super::{Contender, contenders, cpu_us, curves, kind_name, profile as profiles, sizing, takeover};
use crate::recommend::{Advice, Choice, advise, choose, shown, tolerance};
use crate::report::{Kind, Measurement, Report, Server};
use crate::words::{count, several};

const STYLE: &str = include_str!("page.css");

const THREADS: Axis = Axis { of: |cell| cell.threads.map(u32::from), name: |value| plural(value, "thread") };
const HA_THREADS: Axis = Axis {
    of: |cell| cell.ha.map(|ha| u32::from(ha.listeners) << 16 | u32::from(ha.senders)),
    name: |value| format!("{} + {}", value >> 16, value & 0xffff),
};
const QUEUE: Axis = Axis { of: |cell| cell.queue, name: |value| format!("queue {value}") };
/// The page.
///
/// # Errors
/// When something cannot be drawn.
pub fn render(report: &Report) -> Result<String> {
    let advice = advise(report, None);
    let drawn = draw(report, &advice).map_err(|error| anyhow!("drawing: {error}"))?;
    let host = &report.host;
    let unfinished = if report.is_complete() {
        String::new()
    } else {
        let (done, all) = (report.cells.len(), report.planned.len());
        format!(
            "<p class=warn>Not finished: {done} of {all} measurements. Run the same command to go on.</p>"
        )
    };
    let lines: String =
        super::circumstances(report).iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    Ok(format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>Sizing report, {name}</title><style>{STYLE}</style>\n\
         <header><h1>Which threads and queue?</h1><p>{name}: {cpus} × {cpu}, kernel {kernel}, commit {commit}</p>\
         </header>\n{unfinished}{answer}{drawn}\
         <section><h2>Every measurement</h2>\n<details><summary>{cells} cells</summary>{everything}</details></section>\n\
         <section><h2>What was measured</h2>\n<ul>\n{lines}</ul></section></html>\n",
        name = escape(&host.name),
        cpus = host.cpus,
        cpu = escape(&host.cpu),
        kernel = escape(&host.kernel),
        commit = escape(host.commit.as_deref().unwrap_or("unknown")),
        answer = answer(report, &advice),
        cells = report.cells.len(),
        everything = table(&super::everything(report)),
    ))
}

/// What to configure, and what one gets.
fn answer(report: &Report, advice: &Advice<'_>) -> String {
    let cards: String =
        [&advice.server, &advice.pair].into_iter().flatten().map(|choice| card(report, choice)).collect();
    if cards.is_empty() {
        return "<section class=answer><article><h2>No recommendation</h2><p>No configuration of Tandem held any \
                rate.</p></article></section>\n"
            .to_owned();
    }
    format!("<section class=answer>{cards}</section>\n")
}

fn card(report: &Report, choice: &Choice<'_>) -> String {
    let cell = choice.measured.cell;
    let title = match cell.ha {
        None => "One server: configure this".to_owned(),
        Some(ha) => format!("A hot-standby pair {}: configure this", ha.channel.name()),
    };
    let number = |name: &str, value: Option<u32>| {
        value.map(|value| format!("<span><code>{name}</code> <b>{value}</b></span> ")).unwrap_or_default()
    };
    let settings = choice.settings();
    let numbers: String = [
        number("thread-pool-size", settings.threads.map(u32::from)),
        number("packet-queue-size", settings.queue),
        number("http-listener-threads", settings.listeners.map(u32::from)),
        number("http-client-threads", settings.senders.map(u32::from)),
        number("parked-packet-limit", settings.parked),
    ]
    .concat();
    let gains: String = super::gains(report, choice)
        .iter()
        .map(|(figure, text)| format!("<div><b>{}</b>{}</div>", escape(figure), unbroken(&escape(text))))
        .collect();
    let doubt = choice.doubt.map_or_else(String::new, |doubt| {
        format!("<p class=warn>This does not bear a decision: {}.</p>", escape(doubt))
    });
    let reasons: String =
        choice.reasons.iter().map(|reason| format!("<li>{}</li>", escape(&capital(reason)))).collect();
    let block = choice.block().map_or_else(String::new, |block| {
        format!(
            "<p>To paste into <code>Dhcp4</code>, or let <code>tandem-bench --write FILE</code> put it there:</p>\
             <pre>{}</pre>",
            escape(&block)
        )
    });
    let pair = choice.pair_block().map_or_else(String::new, |block| {
        format!("<p>and in its <code>high-availability</code> entry:</p><pre>{}</pre>", escape(&block))
    });
    format!(
        "<article><h2>{title}</h2><p class=numbers>{numbers}</p>{doubt}<div class=gains>{gains}</div>\
         <ul>{reasons}</ul>{block}{pair}</article>\n"
    )
}

/// Everything below the answer that is drawn.
fn draw(report: &Report, advice: &Advice<'_>) -> Result<String, Failure> {
    Ok([
        maps(report, advice)?,
        compared(report)?,
        waits(report)?,
        pair(report, advice)?,
        profile(report)?,
        takeovers(report)?,
        cpu(report)?,
        clients(advice),
    ]
    .concat())
}

fn maps(report: &Report, advice: &Advice<'_>) -> Result<String, Failure> {
    let sized = [Server::Kea, Server::Remote, Server::Tandem];
    let alone = |kind: &Kind| kind.channel.is_none() && sized.contains(&kind.server);
    let mut figures = String::new();
    for kind in report.kinds().into_iter().filter(alone) {
        let cells: Vec<&Measurement> =
            report.cells.iter().filter(|found| found.cell.kind() == kind).collect();
        let chosen = choose(report, kind).filter(|_| kind.server != Server::Kea);
        let chosen = chosen.map(|choice| choice.measured.cell);
        let advised = advice.server.as_ref().map(|choice| choice.measured.cell);
        let word = if chosen == advised { "configure this" } else { "the knee" };
        let drawn = heat::map(&cells, &THREADS, &QUEUE, chosen.map(|cell| (cell, word)))?;
        if let Some(drawn) = drawn.filter(|_| cells.len() > 1) {
            figures.push_str(&figure(&kind_name(kind), &drawn));
        }
    }
    let text = format!(
        "Exchanges a second that were held, darker is more, and what 99 % of the clients wait at most at half of that. \
         Framed is the smallest configuration within {:.0} % of the best whose clients wait no longer. A star marks \
         what was disturbed.",
        100.0 * tolerance(report)
    );
    Ok(section("Threads and queue", &text, &figures))
}

fn compared(report: &Report) -> Result<String, Failure> {
    let text = |contender: &Contender<'_>| {
        let more = [
            contender.times_kea.map(|times| format!("{times:.1} × Kea")),
            contender.of_floor.map(|share| format!("{:.0} % of the floor", 100.0 * share)),
        ];
        let more = more.into_iter().flatten().filter(|_| contender.found.cell.server != Server::Reflector);
        let parts = [kind_name(contender.found.cell.kind()), format!("{}/s", count(contender.capacity))];
        parts.into_iter().chain(more).collect::<Vec<_>>().join(" · ")
    };
    let bars: Vec<Bar> = contenders(report)
        .iter()
        .map(|contender| Bar {
            text: text(contender),
            value: contender.capacity,
            ours: contender.found.cell.server == Server::Tandem,
        })
        .collect();
    let drawn = bars::chart(&bars)?.map(|drawn| figure("", &drawn)).unwrap_or_default();
    let text = "The highest rate that each server held: Tandem as recommended, the others with their best settings. The \
                floor is a bare reflector, which knows no DHCP: no server on this machine does more.";
    Ok(section("Compared", text, &format!("{drawn}{}", table(&super::comparison(report)))))
}

fn waits(report: &Report) -> Result<String, Failure> {
    // Of each kind the cell that was looked at most closely; of equals the one that is compared.
    let closest = |shown: &Contender<'_>| {
        let kind = shown.found.cell.kind();
        let cells =
            report.cells.iter().filter(move |found| found.cell.kind() == kind && found.capacity.is_some());
        let cell = shown.found.cell;
        cells.max_by_key(|found| (curves::points(found).len(), found.cell == cell))
    };
    let cells: Vec<&Measurement> = contenders(report).iter().filter_map(closest).collect();
    let Some(frame) = curves::Frame::around(&cells) else { return Ok(String::new()) };
    let mut figures = String::new();
    for found in cells {
        if let Some(drawn) = curves::panel(found, &frame)? {
            let mark = if found.curve_disturbances.is_empty() { "" } else { " *" };
            figures.push_str(&figure(&format!("{}{mark}", super::name(&found.cell)), &drawn));
        }
    }
    let legend = legend(&curves::LEGEND);
    let text = "Milliseconds from the planned DISCOVER to the ACK that a share of the clients does not exceed, over the \
                load. All panels have the same axes; a dotted line stands at the rate that was held.";
    Ok(section("What clients wait", text, &format!("<p>{legend}</p><div class=panels>{figures}</div>")))
}

fn pair(report: &Report, advice: &Advice<'_>) -> Result<String, Failure> {
    let Some(rows) = super::pairs(report) else { return Ok(String::new()) };
    let mut figures = String::new();
    for kind in report.kinds().into_iter().filter(|kind| kind.channel.is_some()) {
        // The best queue of each kind; the table has all.
        let queue = shown(report, kind).and_then(|found| found.cell.queue);
        let cells: Vec<&Measurement> = report
            .cells
            .iter()
            .filter(|found| found.cell.kind() == kind && found.cell.queue == queue)
            .collect();
        let chosen = advice.pair.as_ref().map(|choice| choice.measured.cell);
        let drawn = heat::map(&cells, &THREADS, &HA_THREADS, chosen.map(|cell| (cell, "configure this")))?;
        if let Some(drawn) = drawn.filter(|_| cells.len() > 1) {
            figures.push_str(&figure(&kind_name(kind), &drawn));
        }
    }
    let text = match report.parameters.remote {
        None => {
            "Exchanges a second by threads and by HA listeners and senders, framed what is recommended. Both servers and \
             the generator share this machine, so a pair is held to less than one server alone; on two hosts it does \
             more. What stands is how listeners and senders compare."
        }
        Some(_) => "The rate that the pair held with its listeners and senders.",
    };
    Ok(section("The pair", text, &format!("{figures}{}", table(&rows))))
}

fn profile(report: &Report) -> Result<String, Failure> {
    let Some(rows) = profiles::rows(report) else { return Ok(String::new()) };
    let figures: String =
        profiles::charts(report)?.iter().map(|(title, drawn)| figure(title, drawn)).collect();
    let text = "CPUs that the threads of both servers kept busy, user and system, at the rate that was held; ours in blue. \
                Who has no CPU left, or whose busiest thread has none, is the limit.";
    Ok(section("Where the CPU time of a pair goes", text, &format!("{figures}{}", table(&rows))))
}

fn takeovers(report: &Report) -> Result<String, Failure> {
    let Some(rows) = takeover::rows(&report.takeovers) else { return Ok(String::new()) };
    let mut figures = String::new();
    for found in &report.takeovers {
        figures.push_str(&figure(&capital(found.departure.name()), &takeover::panel(found)?));
    }
    let text = "ACKs a second by the server that gave them. Clients without an answer ask again after 4, 8, 16 and 32 s, as \
                RFC 2131 says; those that renew ask their own server three times before they ask every server, which is the \
                second hill. Unserved is whom nobody has served by then. A pair over TLS with the delays of the fast \
                take-over.";
    let body = format!("<p>{}</p>{figures}{}", legend(&takeover::LEGEND), table(&rows));
    Ok(section("When the primary goes away", text, &body))
}

fn legend(lines: &[(&str, &str)]) -> String {
    let key = |(name, line): &(&str, &str)| {
        format!("<span class=key style=\"border-top:{line}\"></span>{name}&ensp;")
    };
    lines.iter().map(key).collect()
}

fn cpu(report: &Report) -> Result<String, Failure> {
    let bars: Vec<Bar> = contenders(report)
        .iter()
        .filter_map(|contender| {
            let us = cpu_us(contender.found)?;
            let text = format!("{} · {us:.1} µs", kind_name(contender.found.cell.kind()));
            Some(Bar { text, value: us, ours: contender.found.cell.server == Server::Tandem })
        })
        .collect();
    let text = "CPU time of the server, user and system, for each exchange at the rate that was held. Shorter is better.";
    let drawn = bars::chart(&bars)?.map(|drawn| figure("", &drawn)).unwrap_or_default();
    Ok(section("CPU time of an exchange", text, &drawn))
}

fn clients(advice: &Advice<'_>) -> String {
    let choice = advice.pair.as_ref().or(advice.server.as_ref());
    let Some(choice) = choice else { return String::new() };
    let what = if advice.pair.is_some() { "the pair" } else { "one server" };
    let text = format!(
        "Clients renew at half of their lease time, so N clients with leases of T seconds make N / (T / 2) exchanges a \
         second; the share is of what {what} held. After a power cut all N come at once and are served in N / capacity \
         seconds: to be through in S seconds takes N / S exchanges/s. Clients ask again after 4, 8, 16 and 32 s."
    );
    section("How many clients is that?", &text, &table(&sizing::table(choice.capacity)))
}

/// A part of the page; nothing without a body.
fn section(title: &str, text: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<section><h2>{title}</h2>\n<p>{}</p>\n{body}</section>\n", escape(text))
}

fn figure(title: &str, drawn: &str) -> String {
    format!("<figure><figcaption>{}</figcaption>{drawn}</figure>\n", escape(title))
}

fn table(rows: &[Vec<String>]) -> String {
    let line = |(number, row): (usize, &Vec<String>)| {
        let tag = if number == 0 { "th" } else { "td" };
        let fields: String = row.iter().map(|text| format!("<{tag}>{}</{tag}>", escape(text))).collect();
        format!("<tr>{fields}</tr>\n")
    };
    let lines: String = rows.iter().enumerate().map(line).collect();
    format!("<div class=wide><table>\n{lines}</table></div>")
}

fn plural(value: u32, noun: &str) -> String {
    several(u16::try_from(value).unwrap_or(u16::MAX), noun)
}

/// The sentence with a capital letter at its begin.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

/// A number and its unit stay on one line.
fn unbroken(text: &str) -> String {
    text.replace(" ms", "&nbsp;ms").replace(" %", "&nbsp;%")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::full;
    use crate::report::tests::fixed;

    #[test]
    fn the_page_holds_answer_map_and_tables_and_loads_nothing() {
        let page = render(&fixed()).unwrap();
        let maps =
            page.matches("configure this</text>").count() + page.matches("configure this\n</text>").count();
        assert_eq!(maps, 1, "one knee");
        for part in [
            "\"thread-pool-size\": 1",
            "<code>packet-queue-size</code> <b>64</b>",
            "29,500",
            "20,000 *",
            "alpha&lt;1&gt;",
            "<td>5.90</td>",
            "<b>5.9 ×</b>",
            "100,000",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("The pair</h2>") && !page.contains("Not finished"));
    }

    #[test]
    fn a_full_report_has_every_section_and_a_panel_for_each_server() {
        let report = full();
        let page = render(&report).unwrap();
        for title in [
            "Which threads and queue?",
            "One server: configure this",
            "A hot-standby pair over TLS: configure this",
            "Threads and queue",
            "Compared",
            "What clients wait",
            "The pair",
            "Where the CPU time of a pair goes",
            "When the primary goes away",
            "CPU time of an exchange",
            "How many clients is that?",
        ] {
            assert!(page.contains(&format!("{title}</h")), "{title}");
        }
        let panels = page.split("<div class=panels>").nth(1).unwrap().split("</section>").next().unwrap();
        assert_eq!(panels.matches("<svg").count(), contenders(&report).len());
    }

    #[test]
    fn without_cells_there_is_a_page_that_says_so() {
        let mut report = fixed();
        report.cells.clear();
        let page = render(&report).unwrap();
        assert_eq!(page.matches("<svg").count(), 0);
        assert!(page.contains("No recommendation") && page.contains("Not finished: 0 of 6"));
    }
}
