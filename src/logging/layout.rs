//! The layout of a line: the part of log4cplus patterns that Kea's files use (CFG-42).

use std::fmt::Write;

use super::Severity;

/// A parsed pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    items: Vec<Item>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Item {
    /// Text as it stands.
    Literal(String),
    /// `%D{…}` (local) or `%d{…}` (UTC) with a strftime format; `%q` in it is milliseconds.
    Time { utc: bool, format: String },
    /// `%p`, `%c`, `%i`, `%t`, `%m` with a field width; negative is left-justified.
    Field { kind: Field, width: usize, left: bool },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    Logger,
    Message,
    Process,
    Severity,
    Thread,
}

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Severity.
    pub severity: Severity,
    /// Logger, such as `kea-dhcp4.leases`.
    pub logger: &'a str,
    /// Process id.
    pub process: u32,
    /// Thread number or name.
    pub thread: &'a str,
    /// Message with its id first.
    pub message: &'a str,
}

impl Layout {
    /// Kea's layout for files and standard output.
    pub fn file_default() -> Self {
        Self::parse("%D{%Y-%m-%d %H:%M:%S.%q} %-5p [%c/%i.%t] %m\n")
    }

    /// Kea's layout for the system log.
    pub fn syslog_default() -> Self {
        Self::parse("%-5p [%c.%t] %m\n")
    }

    /// Reads a pattern. A conversion that is not known stays as text, so that nothing is lost.
    pub fn parse(pattern: &str) -> Self {
        let mut items = Vec::new();
        let mut literal = String::new();
        let mut rest = pattern;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            let (item, length) = conversion(&rest[at..]);
            match item {
                Some(item) => {
                    if !literal.is_empty() {
                        items.push(Item::Literal(std::mem::take(&mut literal)));
                    }
                    items.push(item);
                }
                None if rest[at..].starts_with("%%") => literal.push('%'),
                None if rest[at..].starts_with("%n") => literal.push('\n'),
                None => literal.push_str(&rest[at..at + length]),
            }
            rest = &rest[at + length..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Self { items }
    }

    /// Appends the rendered line to `out`. `time` renders a strftime format, in UTC or in local time.
    pub fn render(&self, line: &Line<'_>, time: &dyn Fn(bool, &str) -> String, out: &mut String) {
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Time { utc, format } => out.push_str(&time(*utc, format)),
                Item::Field { kind, width, left } => {
                    let process;
                    let severity;
                    let text = match kind {
                        Field::Logger => line.logger,
                        Field::Message => line.message,
                        Field::Process => {
                            process = line.process.to_string();
                            &process
                        }
                        Field::Severity => {
                            severity = line.severity.to_string();
                            &severity
                        }
                        Field::Thread => line.thread,
                    };
                    // Writing to a String cannot fail.
                    let _ = if *left { write!(out, "{text:<width$}") } else { write!(out, "{text:>width$}") };
                }
            }
        }
    }
}

/// Reads one conversion at the start of `text`, which begins with `%`: the item and how many octets it took.
fn conversion(text: &str) -> (Option<Item>, usize) {
    let mut at = 1;
    let left = text[at..].starts_with('-');
    at += usize::from(left);
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    let width = text[at..at + digits].parse().unwrap_or(0);
    at += digits;
    let Some(letter) = text[at..].chars().next() else { return (None, text.len()) };
    at += letter.len_utf8();
    let kind = match letter {
        'c' => Field::Logger,
        'm' => Field::Message,
        'i' => Field::Process,
        'p' => Field::Severity,
        't' => Field::Thread,
        'd' | 'D' => {
            let utc = letter == 'd';
            let braced =
                text[at..].strip_prefix('{').and_then(|inner| inner.find('}').map(|end| &inner[..end]));
            let format = braced.unwrap_or("%Y-%m-%d %H:%M:%S").to_owned();
            let length = at + braced.map_or(0, |inner| inner.len() + 2);
            return (Some(Item::Time { utc, format }), length);
        }
        _ => return (None, at),
    };
    (Some(Item::Field { kind, width, left }), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_render_as_kea_renders_them() {
        let line = Line {
            severity: Severity::Info,
            logger: "kea-dhcp4.leases",
            process: 7,
            thread: "3",
            message: "DHCP4_LEASE_ALLOC x",
        };
        let table = [
            (
                "%D{%Y.%q} %-5p [%c/%i.%t] %m\n",
                "<local %Y.%q> INFO  [kea-dhcp4.leases/7.3] DHCP4_LEASE_ALLOC x\n",
            ),
            (
                "%d{%y.%m.%d} %-5p [%c/%i] %m\n",
                "<utc %y.%m.%d> INFO  [kea-dhcp4.leases/7] DHCP4_LEASE_ALLOC x\n",
            ),
            ("%-5p [%c.%t] %m\n", "INFO  [kea-dhcp4.leases.3] DHCP4_LEASE_ALLOC x\n"),
            ("%6p|%p|", "  INFO|INFO|"),
            ("100%% %Z %m%n", "100% %Z DHCP4_LEASE_ALLOC x\n"),
            ("%", "%"),
            ("%D", "<local %Y-%m-%d %H:%M:%S>"),
            ("ü%é", "ü%é"),
        ];
        let time = |utc: bool, format: &str| format!("<{} {format}>", if utc { "utc" } else { "local" });
        for (pattern, expected) in table {
            let mut out = String::new();
            Layout::parse(pattern).render(&line, &time, &mut out);
            assert_eq!(out, expected, "{pattern:?}");
        }
    }
}
