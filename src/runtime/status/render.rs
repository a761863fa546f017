//! The report as text for people.

use super::report::{PeerStatus, Report, ServerStatus};
use crate::runtime::text::count;

/// A block for each server and a last line for all; every line ends with a newline.
pub(super) fn text(report: &Report) -> String {
    let asked: Vec<&str> = report.servers.iter().flat_map(own_names).collect();
    let mut text = String::new();
    for server in &report.servers {
        for line in block(server, &asked) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text.push_str(if report.is_well() { "All is well.\n" } else { "Not all is well.\n" });
    text
}

/// The server's name in each of its relationships.
fn own_names(server: &ServerStatus) -> impl Iterator<Item = &str> {
    let further = server.further.iter().filter_map(|pair| pair.local.as_ref());
    server.local.iter().chain(further).map(|peer| peer.name.as_str())
}

fn block(server: &ServerStatus, asked: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    if server.answers {
        lines.push(match &server.local {
            Some(local) => pair_line(local, &format!("up {}", duration(server.uptime_s))),
            None => format!("{}  up {}", server.socket.display(), duration(server.uptime_s)),
        });
        // A partner that was asked too has a block of its own.
        let shown = |partner: &Option<PeerStatus>| {
            let partner = partner.as_ref().filter(|partner| !asked.contains(&partner.name.as_str()));
            partner.map(|partner| {
                let heard =
                    partner.age_s.map_or("never heard".to_owned(), |age_s| format!("heard {age_s} s ago"));
                pair_line(partner, &heard)
            })
        };
        lines.push(format!(
            "    {} of {} addresses leased, {} packets in, {} ACKs out{}{}",
            count(server.assigned),
            count(server.addresses),
            count(server.received),
            count(server.acks),
            match server.overload_drops {
                0 => String::new(),
                drops => format!(", {} dropped beyond capacity", count(drops)),
            },
            server.shards.map_or(String::new(), |shards| format!(", {shards} shards")),
        ));
        lines.extend(shown(&server.partner));
        for pair in &server.further {
            lines.extend(pair.local.as_ref().map(|local| pair_line(local, "")));
            lines.extend(shown(&pair.partner));
        }
    } else {
        lines.push(server.socket.display().to_string());
    }
    lines.extend(server.problems.iter().map(|problem| format!("    ! {problem}")));
    lines
}

fn pair_line(peer: &PeerStatus, rest: &str) -> String {
    let state = if peer.state.is_empty() { "unknown" } else { &peer.state };
    let serves = match (state, peer.scopes.is_empty()) {
        // What it served when it was last heard of means nothing any more.
        ("unavailable" | "unknown", _) => String::new(),
        (_, true) => "serves nobody".to_owned(),
        (_, false) => format!("serves {}", peer.scopes.join(", ")),
    };
    format!("{:<12}{:<10}{state:<16}{serves:<24}{rest}", peer.name, peer.role)
}

/// The two largest units of a time.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::report::Answers;
    use super::super::report::tests::answers;
    use super::*;

    #[test]
    fn a_hub_shows_every_relationship() {
        let hub = answers(|status| {
            let mut second = status["high-availability"][0].clone();
            second["ha-servers"]["local"]["server-name"] = "hub2".into();
            second["ha-servers"]["remote"]["server-name"] = "spoke2".into();
            second["ha-servers"]["remote"]["last-state"] = "partner-down".into();
            status["high-availability"].as_array_mut().expect("a list").push(second);
        });
        expect![[r#"
            server1     primary   hot-standby     serves server1          up 1 d 2 h
                1,234 of 2,050 addresses leased, 5,000 packets in, 2,400 ACKs out, 4 shards
            server2     standby   hot-standby     serves nobody           heard 3 s ago
            hub2        primary   hot-standby     serves server1
            spoke2      standby   partner-down    serves nobody           heard 3 s ago
                ! spoke2 is in partner-down
            Not all is well.
        "#]]
        .assert_eq(&text(&Report::from_answers(vec![hub])));
    }

    #[test]
    fn one_server_shows_its_partner_as_it_sees_it() {
        expect![[r#"
            server1     primary   hot-standby     serves server1          up 1 d 2 h
                1,234 of 2,050 addresses leased, 5,000 packets in, 2,400 ACKs out, 4 shards
            server2     standby   hot-standby     serves nobody           heard 3 s ago
            All is well.
        "#]]
        .assert_eq(&text(&Report::from_answers(vec![answers(|_| {})])));
    }

    #[test]
    fn two_servers_have_a_block_each_and_problems_are_marked() {
        let alone = answers(|status| {
            let pair = &mut status["high-availability"][0]["ha-servers"];
            pair["local"]["state"] = "partner-down".into();
            pair["remote"]["communication-interrupted"] = true.into();
            pair["remote"]["last-state"] = "unavailable".into();
        });
        let silent = Answers { socket: "/run/kea/two".into(), answers: Err("no answer".to_owned()) };
        expect![[r#"
            server1     primary   partner-down    serves server1          up 1 d 2 h
                1,234 of 2,050 addresses leased, 5,000 packets in, 2,400 ACKs out, 4 shards
            server2     standby   unavailable                             heard 3 s ago
                ! server1 is in partner-down
                ! server1 has not heard of server2 for 3 s
            /run/kea/two
                ! no answer
            Not all is well.
        "#]]
        .assert_eq(&text(&Report::from_answers(vec![alone, silent])));
    }

    #[test]
    fn what_was_dropped_beyond_capacity_is_told() {
        let mut busy = answers(|status| drop(status["high-availability"].take()));
        if let Ok((_, statistics)) = &mut busy.answers {
            statistics["tandem-overload-discovers"] = serde_json::json!([[12_000, ""]]);
            statistics["tandem-overload-stale"] = serde_json::json!([[34, ""]]);
        }
        expect![[r#"
            /run/kea/one  up 1 d 2 h
                1,234 of 2,050 addresses leased, 5,000 packets in, 2,400 ACKs out, 12,034 dropped beyond capacity, 4 shards
            All is well.
        "#]]
        .assert_eq(&text(&Report::from_answers(vec![busy])));
    }

    #[test]
    fn a_server_without_a_partner_is_shown_by_its_socket() {
        let single = answers(|status| drop(status["high-availability"].take()));
        expect![[r#"
            /run/kea/one  up 1 d 2 h
                1,234 of 2,050 addresses leased, 5,000 packets in, 2,400 ACKs out, 4 shards
            All is well.
        "#]]
        .assert_eq(&text(&Report::from_answers(vec![single])));
    }

    #[test]
    fn times_have_their_two_largest_units() {
        let rows = [(59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (93_784, "1 d 2 h")];
        for (seconds, expected) in rows {
            assert_eq!(duration(seconds), expected);
        }
    }
}
