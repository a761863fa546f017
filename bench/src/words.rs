//! Figures as people read them: one way for all texts.

/// A count or a rate, with commas between thousands: three significant places from 100,000 on are enough.
pub fn count(value: f64) -> String {
    let rounded = if value >= 100_000.0 { (value / 100.0).round() * 100.0 } else { value.round() };
    let digits = format!("{rounded:.0}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_as_long_as_they_are_worth() {
        let table =
            [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (29_500.0, "29,500"), (1_234_567.0, "1,234,600")];
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
