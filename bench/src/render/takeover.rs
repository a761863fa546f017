//! Primaries that went away under load: a table, and ACKs over time by who gave them.

use plotters::prelude::*;

use super::dash;
use super::draw::{BLUE, Failure, GRID, INK, ORANGE, svg};
use crate::report::Takeover;
use crate::words::count;

const SIZE: (i32, i32) = (520, 230);

/// The lines of a panel: how they are called, and drawn in the legend by a browser.
pub const LEGEND: [(&str, &str); 2] = [("primary", "3px solid #0072b2"), ("standby", "3px solid #d55e00")];

/// The take-overs as a table; `None` without any.
pub fn rows(takeovers: &[Takeover]) -> Option<Vec<Vec<String>>> {
    let titles =
        ["The primary is", "Exchanges/s", "Standby's first ACK after", "Started", "Unserved", "Duplicates"];
    let row = |found: &Takeover| {
        vec![
            found.departure.name().to_owned(),
            count(found.rate),
            found.first_ack_s.map_or_else(dash, |after| format!("{after:.2} s")),
            count(found.started as f64),
            found.unserved.to_string(),
            found.duplicates.to_string(),
        ]
    };
    let rows: Vec<_> = takeovers.iter().map(row).collect();
    (!rows.is_empty()).then(|| std::iter::once(titles.map(str::to_owned).to_vec()).chain(rows).collect())
}

/// ACKs a second over the seconds around the departure, as SVG.
///
/// # Errors
/// When it cannot be drawn.
pub fn panel(found: &Takeover) -> Result<String, Failure> {
    let from = |at_s: f64| at_s - found.at_s;
    let end = found.moments.last().map_or(1.0, |moment| from(moment.at_s));
    let high =
        found.moments.iter().map(|moment| moment.primary.max(moment.standby)).fold(found.rate, f64::max);
    svg(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(-found.at_s..end, 0.0..high * 1.1)?;
        chart
            .configure_mesh()
            .x_desc("seconds after the primary went away")
            .y_label_formatter(&|rate| count(*rate))
            .x_label_formatter(&|at| format!("{at:.0}"))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .draw()?;
        chart.draw_series([PathElement::new(vec![(0.0, 0.0), (0.0, high * 1.1)], INK.stroke_width(1))])?;
        let line = |of: fn(&crate::report::takeover::Moment) -> f64| {
            found.moments.iter().map(move |moment| (from(moment.at_s), of(moment))).collect::<Vec<_>>()
        };
        chart.draw_series(LineSeries::new(line(|moment| moment.primary), BLUE.stroke_width(2)))?;
        chart.draw_series(LineSeries::new(line(|moment| moment.standby), ORANGE.stroke_width(2)))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::full;

    #[test]
    fn a_take_over_is_a_row_and_one_that_never_came_has_a_dash() {
        let mut takeovers = full().takeovers;
        let table = rows(&takeovers).unwrap();
        assert_eq!(
            table[1],
            ["silent, as after a power cut", "1,000", "4.25 s", "20,000", "0", "0"].map(str::to_owned)
        );
        takeovers[0].first_ack_s = None;
        assert_eq!(rows(&takeovers).unwrap()[1][2], "–");
        assert_eq!(rows(&[]), None);
    }
}
