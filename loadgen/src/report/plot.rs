//! The plots of a report, as SVG.

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

use super::{IntervalReport, Summary};

type Failure = Box<dyn std::error::Error>;

const SIZE: (u32, u32) = (900, 320);
const FONT: (&str, u32) = ("sans-serif", 14);
const BLUE_DARK: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const GREEN_DARK: RGBColor = RGBColor(0x2c, 0x8a, 0x4b);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
const RED_DARK: RGBColor = RGBColor(0xb5, 0x30, 0x30);

/// One line of a plot.
struct Curve {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Latency in milliseconds over the share of exchanges that do not exceed it, in nines; from the plan, or from
/// when each message was sent.
pub(super) fn percentiles(summary: &Summary, from_plan: bool) -> Result<String, Failure> {
    // The x axis is the number of nines: 1 is 90 %, 2 is 99 %.
    let points = |curve: &[(f64, f64)]| -> Vec<(f64, f64)> {
        curve.iter().map(|(share, us)| (-(1.0 - share).log10(), (us / 1e3).max(0.001))).collect()
    };
    let [exchange, offer, ack] = if from_plan {
        [&summary.exchange, &summary.offer, &summary.ack]
    } else {
        [&summary.exchange_raw, &summary.offer_raw, &summary.ack_raw]
    };
    let curves = [
        ("whole exchange", BLUE_DARK, exchange),
        ("DISCOVER to OFFER", GREEN_DARK, offer),
        ("REQUEST to ACK", RED_DARK, ack),
    ];
    let curves: Vec<Curve> = curves
        .into_iter()
        .filter(|(_, _, latency)| latency.count > 0)
        .map(|(name, colour, latency)| Curve {
            name: name.to_owned(),
            colour,
            points: points(&latency.curve),
        })
        .collect();
    let high = highest(&curves).max(0.1) * 1.3;
    let low = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(high / 10.0, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..6.0, (low * 0.8..high).log_scale())?;
        chart
            .configure_mesh()
            .x_labels(7)
            .x_label_formatter(&|nines| nines_as_percent(*nines))
            .y_label_formatter(&|ms| format!("{ms} ms"))
            .label_style(FONT)
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .draw()?;
        for curve in curves {
            let colour = curve.colour;
            chart
                .draw_series(LineSeries::new(curve.points, colour.stroke_width(2)))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .label_font(FONT)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Exchanges started, completed and lost a second, over time.
pub(super) fn rates(summary: &Summary) -> Result<String, Failure> {
    let curves = vec![
        over_time(summary, "started/s", BLUE_DARK, &|report| report.per_second(report.counters.started)),
        over_time(summary, "completed/s", GREEN_DARK, &|report| report.per_second(report.counters.completed)),
        over_time(summary, "lost/s", RED_DARK, &|report| report.per_second(report.counters.drops())),
    ];
    time_line(curves, "/s")
}

/// Median and p99 of the latency from the plan, over time.
pub(super) fn latencies(summary: &Summary) -> Result<String, Failure> {
    let curves = vec![
        over_time(summary, "p99", RED_DARK, &|report| report.p99_us / 1e3),
        over_time(summary, "p50", BLUE_DARK, &|report| report.p50_us / 1e3),
    ];
    time_line(curves, " ms")
}

/// ACKs a second by server, over time.
pub(super) fn servers(summary: &Summary) -> Result<String, Failure> {
    let colours = [BLUE_DARK, RED_DARK, GREEN_DARK, GREY].into_iter().cycle();
    let curves = summary.servers.iter().zip(colours).map(|(share, colour)| {
        over_time(summary, &format!("{}, ACKs/s", share.server), colour, &|report| {
            report.per_second(report.servers.get(&share.server).copied().unwrap_or(0))
        })
    });
    time_line(curves.collect(), "/s")
}

fn over_time(summary: &Summary, name: &str, colour: RGBColor, of: &dyn Fn(&IntervalReport) -> f64) -> Curve {
    let points = summary.intervals.iter().map(|report| (report.at_s, of(report))).collect();
    Curve { name: name.to_owned(), colour, points }
}

fn time_line(curves: Vec<Curve>, unit: &str) -> Result<String, Failure> {
    let end = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).fold(1.0, f64::max);
    let high = highest(&curves).max(1e-3) * 1.15;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(40)
            .y_label_area_size(90)
            .build_cartesian_2d(0.0..end, 0.0..high)?;
        chart
            .configure_mesh()
            .x_label_formatter(&|seconds| format!("{} s", (seconds * 10.0).round() / 10.0))
            .y_label_formatter(&|value| format!("{value}{unit}"))
            .label_style(FONT)
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .draw()?;
        for curve in curves {
            let colour = curve.colour;
            chart
                .draw_series(LineSeries::new(curve.points, colour.stroke_width(2)).point_size(2))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .label_font(FONT)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// 2 is "99 %", and what lies between whole nines is rounded to the digits that matter there.
fn nines_as_percent(nines: f64) -> String {
    let digits = (nines.ceil() as usize).saturating_sub(2);
    format!("{:.digits$} %", 100.0 * (1.0 - 10_f64.powf(-nines)))
}

fn highest(curves: &[Curve]) -> f64 {
    curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(0.0, f64::max)
}
