//! Horizontal bars with the name and the number of each above it, so that they read in a narrow window too.

use plotters::prelude::*;

use super::draw::{BLUE, Failure, GREY, INK, right_of, svg};

const WIDTH: i32 = 520;
const ROW: i32 = 44;
const BAR: i32 = 16;

/// One bar.
pub struct Bar {
    /// What it is, and what else is to be said of it.
    pub text: String,
    /// How long it is.
    pub value: f64,
    /// Whether it stands out: ours among others, or the chosen one among ours.
    pub ours: bool,
}

/// The bars as SVG, the longest over the whole width; `None` without any.
///
/// # Errors
/// When they cannot be drawn.
pub fn chart(bars: &[Bar]) -> Result<Option<String>, Failure> {
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    if longest <= 0.0 {
        return Ok(None);
    }
    let size = (WIDTH, ROW * i32::try_from(bars.len())? + 4);
    let drawn = svg(size, |area| {
        for (row, bar) in (0..).zip(bars) {
            let top = ROW * row;
            area.draw(&right_of(bar.text.clone(), (0, top + 12), 15, &INK))?;
            let length = (bar.value / longest * f64::from(WIDTH)).max(1.0) as i32;
            let colour = if bar.ours { BLUE } else { GREY };
            let corners = [(0, top + 23), (length, top + 23 + BAR)];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        Ok(())
    })?;
    Ok(Some(drawn))
}
