//! Latency over load, a panel for each server, all panels with the same axes.

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

use super::draw::{BLUE, Failure, GREY, GRID, INK, ORANGE, svg};
use crate::report::measured::Percentiles;
use crate::report::{Measurement, Probe};
use crate::words::count;

const SIZE: (i32, i32) = (330, 250);

/// The lines of a panel: how they are called, and drawn in the legend by a browser.
pub const LEGEND: [(&str, &str); 3] = [
    ("99.9 %", "3px dotted #8c8c8c"),
    ("99 %", "3px solid #d55e00"),
    ("half (median)", "3px dashed #0072b2"),
];

/// What all panels show: exchanges a second, and milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    rates: std::ops::Range<f64>,
    waits: std::ops::Range<f64>,
}

/// The probes of a panel, by rate: latencies at loads up to the capacity.
pub fn points(found: &Measurement) -> Vec<&Probe> {
    let full = found.full().into_iter();
    let mut probes: Vec<&Probe> = found.curve.iter().map(|point| &point.probe).chain(full).collect();
    probes.retain(|probe| probe.completed_rate > 0.0);
    probes.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    // A load of the curve may be the capacity itself.
    probes.dedup_by(|one, other| one.rate == other.rate);
    probes
}

impl Frame {
    /// One that holds all of `measurements`; `None` if none of them has two points.
    pub fn around(measurements: &[&Measurement]) -> Option<Self> {
        let probes: Vec<&Probe> = measurements
            .iter()
            .map(|found| points(found))
            .filter(|points| points.len() > 1)
            .flatten()
            .collect();
        let lowest =
            |of: fn(&Probe) -> f64| probes.iter().map(|probe| of(probe)).fold(f64::INFINITY, f64::min);
        let highest = |of: fn(&Probe) -> f64| probes.iter().map(|probe| of(probe)).fold(0.0, f64::max);
        let low = lowest(|probe| probe.exchange.p50_ms).max(0.01);
        let frame = Self {
            rates: lowest(|probe| probe.rate) * 0.8..highest(|probe| probe.rate) * 1.25,
            waits: low * 0.7..highest(|probe| probe.exchange.p999_ms).max(low) * 1.4,
        };
        (!probes.is_empty()).then_some(frame)
    }
}

/// The panel of `found` as SVG; `None` with fewer than two points.
///
/// # Errors
/// When it cannot be drawn.
pub fn panel(found: &Measurement, frame: &Frame) -> Result<Option<String>, Failure> {
    let probes = points(found);
    if probes.len() < 2 {
        return Ok(None);
    }
    let line = |of: fn(&Percentiles) -> f64| -> Vec<(f64, f64)> {
        let inside = |ms: f64| ms.clamp(frame.waits.start, frame.waits.end);
        probes.iter().map(|probe| (probe.rate, inside(of(&probe.exchange)))).collect()
    };
    let (p50, p99, p999) = (line(|all| all.p50_ms), line(|all| all.p99_ms), line(|all| all.p999_ms));
    let drawn = svg(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(38)
            .y_label_area_size(54)
            .build_cartesian_2d(frame.rates.clone().log_scale(), frame.waits.clone().log_scale())?;
        chart
            .configure_mesh()
            .x_labels(4)
            .y_labels(5)
            .x_desc("exchanges/s")
            .x_label_formatter(&|rate| count(*rate))
            .y_label_formatter(&|ms| format!("{ms} ms"))
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(GREY)
            .draw()?;
        if let Some(capacity) = found.capacity {
            let ends = vec![(capacity, frame.waits.start), (capacity, frame.waits.end)];
            chart.draw_series(DashedLineSeries::new(ends, 2, 3, INK.stroke_width(1)))?;
        }
        chart.draw_series(DashedLineSeries::new(p999, 2, 4, GREY.stroke_width(3)))?;
        chart.draw_series(DashedLineSeries::new(p50, 8, 5, BLUE.stroke_width(3)))?;
        chart.draw_series(LineSeries::new(p99.clone(), ORANGE.stroke_width(3)))?;
        chart.draw_series(p99.into_iter().map(|point| Circle::new(point, 4, ORANGE.filled())))?;
        Ok(())
    })?;
    Ok(Some(drawn))
}
