//! From clients and lease times to a rate, and back: what a capacity is good for.

use crate::words::{count, seconds};

/// Clients of the rows.
const CLIENTS: [f64; 4] = [1_000.0, 10_000.0, 100_000.0, 1_000_000.0];

/// Lease times of the columns, with their names.
const LEASES_S: [(f64, &str); 2] = [(3_600.0, "1 h"), (43_200.0, "12 h")];

/// Exchanges a second that `clients` with leases of `lease_s` make on an ordinary day: each renews once in
/// half of its lease time. A renewal costs a server less than the whole exchange that a capacity counts.
pub fn renewals(clients: f64, lease_s: f64) -> f64 {
    clients / (lease_s / 2.0)
}

/// Seconds until `clients` that come all at once, as after a power cut, have their leases.
pub fn after_a_power_cut(clients: f64, capacity: f64) -> f64 {
    clients / capacity
}

/// What a server that holds `capacity` exchanges a second means for numbers of clients, as a table.
pub fn table(capacity: f64) -> Vec<Vec<String>> {
    let days = LEASES_S.map(|(_, name)| format!("Ordinary day, leases of {name}"));
    let titles = ["Clients".to_owned()].into_iter().chain(days);
    let titles = titles.chain(["All back after a power cut".to_owned()]).collect();
    let rows = CLIENTS.map(|clients| {
        let day = |(lease_s, _)| {
            let rate = renewals(clients, lease_s);
            let whole = match rate {
                rate if rate < 0.1 => "under 0.1".to_owned(),
                rate if rate < 10.0 => format!("{rate:.1}"),
                rate => count(rate),
            };
            format!("{whole}/s, {}", share(rate / capacity))
        };
        let days = LEASES_S.map(day);
        let cut = seconds(after_a_power_cut(clients, capacity));
        [count(clients)].into_iter().chain(days).chain([cut]).collect()
    });
    std::iter::once(titles).chain(rows).collect()
}

fn share(of: f64) -> String {
    match 100.0 * of {
        percent if percent < 1.0 => "under 1 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_told_in_clients() {
        assert_eq!(renewals(36_000.0, 3_600.0), 20.0);
        let rows = table(10_000.0);
        assert_eq!(rows[0].len(), 4);
        assert_eq!(rows[1], ["1,000", "0.6/s, under 1 %", "under 0.1/s, under 1 %", "under 1 s"]);
        assert_eq!(rows[3], ["100,000", "56/s, under 1 %", "4.6/s, under 1 %", "10 s"]);
        assert_eq!(rows[4], ["1,000,000", "556/s, 6 %", "46/s, under 1 %", "100 s"]);
    }
}
