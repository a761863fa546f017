//! Minimal HTTP/1.1 for the HA channel and the control agent, over `httparse` (ha-protocol 2).
//!
//! Pure byte machines: bytes and `now` in, requests, responses and bytes to send out. They own no socket and
//! no clock, never block, and hold at most the limits of `limits.rs`.
//!
//! - [`server::ServerConnection`]: one inbound connection. A superset of what Kea's listener accepts.
//! - [`client::ClientConnection`]: one outbound connection, one request in flight. At least as lenient as
//!   Kea.
//! - [`auth`]: basic authentication, both directions.

pub mod auth;
mod body;
pub mod client;
pub mod server;

use std::time::{Duration, SystemTime};

/// Media type of every command and answer of Kea's.
const JSON: &str = "application/json";
/// Media type of a body that is not.
const OCTETS: &str = "application/octet-stream";

/// Header fields taken from one message; more is malformed.
const HEADERS_MAX: usize = 64;

/// `Date` of HTTP and `date-time` of a heartbeat: RFC 1123 text that ends in `GMT`.
pub fn rfc1123_date(wall_s: u64) -> String {
    // Beyond year 9999 httpdate has no text; a clock that far off is clamped to the end of that year.
    const YEAR_9999_END_S: u64 = 253_402_300_799;
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(wall_s.min(YEAR_9999_END_S)))
}

/// Seconds since the epoch of an RFC 1123 date ending in `GMT`; `None` for any other form.
pub fn parse_rfc1123_date(text: &str) -> Option<u64> {
    // httpdate also takes two obsolete forms that Kea refuses; this one alone has 29 characters.
    if text.len() != 29 || !text.ends_with(" GMT") {
        return None;
    }
    let after_weekday = text.get(5..)?;
    // A wrong weekday is not an error (ha-protocol 3.1), so the right one is found by trying.
    ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"].iter().find_map(|weekday| {
        let date = httpdate::parse_http_date(&format!("{weekday}, {after_weekday}")).ok()?;
        date.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
    })
}

/// Reason phrase of a status; one is always sent (ha-protocol 0.3 rule 6).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read_as_kea_does() {
        let text = rfc1123_date(1_795_334_543);
        assert_eq!(text, "Sun, 22 Nov 2026 08:02:23 GMT");
        assert_eq!(parse_rfc1123_date(&text), Some(1_795_334_543));
        for (text, expected) in [
            ("Mon, 22 Nov 2026 08:02:23 GMT", Some(1_795_334_543)),
            ("Sun, 22 Nov 2026 08:02:23 +0000", None),
            ("2026-11-22T08:02:23Z", None),
            ("Sunday, 22-Nov-26 08:02:23 GMT", None),
            ("Sun Nov 22 08:02:23 2026", None),
            ("Sun, 32 Nov 2026 08:02:23 GMT", None),
            ("", None),
            ("é, 22 Nov 2026 08:02:23 GMTx", None),
        ] {
            assert_eq!(parse_rfc1123_date(text), expected, "{text}");
        }
    }

    #[test]
    fn a_clock_beyond_year_9999_still_has_a_date() {
        assert_eq!(rfc1123_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
