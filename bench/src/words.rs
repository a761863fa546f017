//! Figures as people read them: one way for all texts.

/// A count or a rate, with commas between thousands and no more than the three places that a measurement
/// bears.
pub fn count(value: f64) -> String {
    let step = 10_f64.powf((value.max(1.0).log10().floor() - 2.0).max(0.0));
    let digits = format!("{:.0}", (value / step).round() * step);
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds, to two or three places that count.
pub fn ms(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0} ms"),
        value if value >= 10.0 => format!("{value:.1} ms"),
        _ => format!("{value:.2} ms"),
    }
}

/// A number and what it counts.
pub fn several(number: u16, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A time that people wait.
pub fn seconds(value: f64) -> String {
    match value {
        value if value < 1.0 => "under 1 s".to_owned(),
        value if value < 120.0 => format!("{value:.0} s"),
        value => format!("{:.0} min", value / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_as_long_as_they_are_worth() {
        let table =
            [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (29_549.0, "29,500"), (1_234_567.0, "1,230,000")];
        for (value, text) in table {
            assert_eq!(count(value), text);
        }
        for (value, text) in [(0.123, "0.12 ms"), (9.994, "9.99 ms"), (12.34, "12.3 ms"), (131.4, "131 ms")] {
            assert_eq!(ms(value), text);
        }
        assert_eq!(
            (several(1, "thread"), several(2, "thread")),
            ("1 thread".to_owned(), "2 threads".to_owned())
        );
    }
}
