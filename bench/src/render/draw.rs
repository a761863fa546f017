//! What drawings have in common: colours that people who do not see all of them can tell apart, and text.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Why a drawing could not be made.
pub type Failure = Box<dyn std::error::Error>;

/// A drawing area in pixels.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// From Okabe and Ito's palette.
pub const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub const GREY: RGBColor = RGBColor(0x8c, 0x8c, 0x8c);
pub const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub const ORANGE: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// What `draw` puts on a white area of `size`, as SVG.
///
/// # Errors
/// When it cannot be drawn.
pub fn svg(size: (i32, i32), draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>) -> Result<String, Failure> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (size.0.try_into()?, size.1.try_into()?));
        let area = area.into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(text)
}

/// Text around a point.
pub fn centred(text: String, at: (i32, i32), size: u32, colour: &RGBColor) -> Text<'_, (i32, i32), String> {
    anchored(text, at, size, colour, HPos::Center)
}

/// Text to the right of a point.
pub fn right_of(text: String, at: (i32, i32), size: u32, colour: &RGBColor) -> Text<'_, (i32, i32), String> {
    anchored(text, at, size, colour, HPos::Left)
}

fn anchored(
    text: String,
    at: (i32, i32),
    size: u32,
    colour: &RGBColor,
    side: HPos,
) -> Text<'_, (i32, i32), String> {
    let style = ("sans-serif", size).into_font().color(colour);
    Text::new(text, at, style.pos(Pos::new(side, VPos::Center)))
}
