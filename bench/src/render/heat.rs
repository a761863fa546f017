//! The heat map: two axes of a configuration, a colour and numbers for what was held, the knee in a frame.

use plotters::prelude::*;

use super::draw::{Failure, ORANGE, centred, svg};
use crate::report::{Cell, Measurement};
use crate::words::{count, ms};

const CELL: (i32, i32) = (118, 78);
/// Room for the labels: left of the map, and below it.
const LABELS: (i32, i32) = (92, 34);
const TOP: i32 = 10;
const LIGHT: (f64, f64, f64) = (232.0, 241.0, 250.0);
const DARK: (f64, f64, f64) = (8.0, 72.0, 128.0);

/// One axis: where a cell lies on it, and how a place is called.
pub struct Axis {
    /// The value of a cell; `None` for one that has no place in the map.
    pub of: fn(&Cell) -> Option<u32>,
    /// What stands beside a value.
    pub name: fn(u32) -> String,
}

/// The map of `cells` as SVG with the chosen cell in a frame and a word on it; `None` if none of them has a
/// place.
///
/// # Errors
/// When it cannot be drawn.
pub fn map(
    cells: &[&Measurement],
    rows: &Axis,
    columns: &Axis,
    chosen: Option<(Cell, &str)>,
) -> Result<Option<String>, Failure> {
    let places = |axis: &Axis| {
        let mut values: Vec<u32> = cells.iter().filter_map(|found| (axis.of)(&found.cell)).collect();
        values.sort_unstable();
        values.dedup();
        values
    };
    let (row_values, column_values) = (places(rows), places(columns));
    if row_values.is_empty() || column_values.is_empty() {
        return Ok(None);
    }
    let size = (
        LABELS.0 + CELL.0 * i32::try_from(column_values.len())? + 8,
        TOP + CELL.1 * i32::try_from(row_values.len())? + LABELS.1,
    );
    let bottom = size.1 - LABELS.1;
    let highest = cells.iter().filter_map(|found| found.capacity).fold(1.0, f64::max);
    let place = |axis: &Axis, values: &[u32], found: &Measurement| -> Option<i32> {
        let value = (axis.of)(&found.cell)?;
        i32::try_from(values.iter().position(|known| *known == value)?).ok()
    };
    let drawn = svg(size, |area| {
        for (row, value) in (0..).zip(&row_values) {
            // The most on top, as on an axis.
            let y = bottom - CELL.1 * row - CELL.1 / 2;
            area.draw(&centred((rows.name)(*value), (LABELS.0 / 2, y), 15, &BLACK))?;
        }
        for (column, value) in (0..).zip(&column_values) {
            let x = LABELS.0 + CELL.0 * column + CELL.0 / 2;
            area.draw(&centred((columns.name)(*value), (x, bottom + 18), 15, &BLACK))?;
        }
        for found in cells {
            let column = place(columns, &column_values, found);
            let (Some(row), Some(column)) = (place(rows, &row_values, found), column) else { continue };
            let (left, low) = (LABELS.0 + CELL.0 * column, bottom - CELL.1 * row);
            let share = found.capacity.unwrap_or(0.0) / highest;
            let framed = chosen.filter(|(cell, _)| *cell == found.cell).map(|(_, word)| word);
            // The backend draws frames one pixel wide, so the knee lies on a larger area of its own.
            if framed.is_some() {
                let frame = [(left - 1, low - CELL.1 - 1), (left + CELL.0 + 1, low + 1)];
                area.draw(&Rectangle::new(frame, ORANGE.filled()))?;
            }
            let inner = [(left + 4, low - CELL.1 + 4), (left + CELL.0 - 4, low - 4)];
            area.draw(&Rectangle::new(inner, shade(share).filled()))?;
            let colour = if share > 0.55 { &WHITE } else { &BLACK };
            let middle = (left + CELL.0 / 2, low - CELL.1 / 2);
            let lines = label(found, framed);
            let above = 10 * (i32::try_from(lines.len())? - 1);
            for (line, (text, points)) in (0..).zip(lines) {
                area.draw(&centred(text, (middle.0, middle.1 - above + 20 * line), points, colour))?;
            }
        }
        Ok(())
    })?;
    Ok(Some(drawn))
}

/// Lines of a cell with their sizes.
fn label(found: &Measurement, framed: Option<&str>) -> Vec<(String, u32)> {
    let mark = if found.disturbances.is_empty() { "" } else { " *" };
    let rate = found.capacity.map_or_else(|| format!("none{mark}"), |rate| format!("{}{mark}", count(rate)));
    let wait = found.half().map(|probe| format!("p99 {}", ms(probe.exchange.p99_ms)));
    let lines = [Some((rate, 18)), wait.map(|wait| (wait, 13)), framed.map(|word| (word.to_owned(), 13))];
    lines.into_iter().flatten().collect()
}

/// From light at 0 to dark at 1.
fn shade(share: f64) -> RGBColor {
    let between = |light: f64, dark: f64| (light + (dark - light) * share.clamp(0.0, 1.0)) as u8;
    RGBColor(between(LIGHT.0, DARK.0), between(LIGHT.1, DARK.1), between(LIGHT.2, DARK.2))
}
