//! The heat map: threads over queue, a colour and a number for what was held, the knee in a frame.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::recommend::choose;
use crate::report::{Durability, Kind, Measurement, Report, Server};

type Failure = Box<dyn std::error::Error>;

const CELL: (i32, i32) = (150, 64);
/// Room for the labels: left of the map, and below it.
const LABELS: (i32, i32) = (130, 36);
const TOP: i32 = 12;
const LIGHT: (f64, f64, f64) = (232.0, 241.0, 250.0);
const DARK: (f64, f64, f64) = (31.0, 95.0, 168.0);
const FRAME: RGBColor = RGBColor(0xd0, 0x6a, 0x00);

/// The map of Tandem's cells with `durability` as SVG; `None` if there are none.
///
/// # Errors
/// When it cannot be drawn.
pub fn map(report: &Report, durability: Durability) -> Result<Option<String>, Failure> {
    let kind = Kind::single(Server::Tandem, durability);
    let of_ours = |found: &&Measurement| found.cell.kind() == kind;
    let cells: Vec<&Measurement> = report.cells.iter().filter(of_ours).collect();
    if cells.is_empty() {
        return Ok(None);
    }
    let threads = distinct(cells.iter().filter_map(|found| found.cell.threads));
    let queues = distinct(cells.iter().filter_map(|found| found.cell.queue));
    let size = (
        LABELS.0 + CELL.0 * i32::try_from(queues.len())? + 12,
        TOP + CELL.1 * i32::try_from(threads.len())? + LABELS.1,
    );
    let highest = cells.iter().filter_map(|found| found.capacity).fold(1.0, f64::max);
    let chosen =
        choose(report, kind).map(|choice| (choice.measured.cell.threads, choice.measured.cell.queue));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (size.0.try_into()?, size.1.try_into()?));
        let area = area.into_drawing_area();
        area.fill(&WHITE)?;
        let bottom = size.1 - LABELS.1;
        for (row, value) in threads.iter().enumerate() {
            // The most threads on top, as on an axis.
            let y = bottom - CELL.1 * i32::try_from(row)? - CELL.1 / 2;
            let noun = if *value == 1 { "thread" } else { "threads" };
            area.draw(&text(format!("{value} {noun}"), (LABELS.0 / 2, y), 15, &BLACK))?;
        }
        for (column, value) in queues.iter().enumerate() {
            let x = LABELS.0 + CELL.0 * i32::try_from(column)? + CELL.0 / 2;
            area.draw(&text(format!("queue {value}"), (x, bottom + 18), 15, &BLACK))?;
        }
        for found in cells {
            let place = |list: Option<usize>| i32::try_from(list.unwrap_or(0));
            let column = place(queues.iter().position(|queue| Some(*queue) == found.cell.queue))?;
            let row = place(threads.iter().position(|threads| Some(*threads) == found.cell.threads))?;
            let (left, low) = (LABELS.0 + CELL.0 * column, bottom - CELL.1 * row);
            let share = found.capacity.unwrap_or(0.0) / highest;
            // The backend draws frames one pixel wide, so the knee lies on a larger area of its own.
            if chosen == Some((found.cell.threads, found.cell.queue)) {
                let frame = [(left - 1, low - CELL.1 - 1), (left + CELL.0 + 1, low + 1)];
                area.draw(&Rectangle::new(frame, FRAME.filled()))?;
            }
            let inner = [(left + 4, low - CELL.1 + 4), (left + CELL.0 - 4, low - 4)];
            area.draw(&Rectangle::new(inner, shade(share).filled()))?;
            let colour = if share > 0.6 { &WHITE } else { &BLACK };
            area.draw(&text(label(found), (left + CELL.0 / 2, low - CELL.1 / 2), 18, colour))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Text around a point.
fn text<'a>(text: String, at: (i32, i32), points: u32, colour: &'a RGBColor) -> Text<'a, (i32, i32), String> {
    let style = ("sans-serif", points).into_font().color(colour);
    Text::new(text, at, style.pos(Pos::new(HPos::Center, VPos::Center)))
}

fn label(found: &Measurement) -> String {
    let mark = if found.disturbances.is_empty() { "" } else { " *" };
    found.capacity.map_or_else(|| format!("none{mark}"), |rate| format!("{rate:.0}{mark}"))
}

/// From light at 0 to dark at 1.
fn shade(share: f64) -> RGBColor {
    let between = |light: f64, dark: f64| (light + (dark - light) * share.clamp(0.0, 1.0)) as u8;
    RGBColor(between(LIGHT.0, DARK.0), between(LIGHT.1, DARK.1), between(LIGHT.2, DARK.2))
}
