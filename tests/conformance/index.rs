//! Which test is which scenario. A scenario is claimed by a test of this binary, or by a table elsewhere that is named
//! here; [`check`] fails when one of the 79 is claimed by nobody, or when a table named here is not there. What a claimed
//! scenario asks for beyond its tests is said in [`PARTLY`], and where Tandem does something else on purpose in
//! [`DIFFERENCES`]; wherever a scenario names release 3 of Kea, a script that speaks its dialect stands for it.

use std::collections::BTreeSet;
use std::path::Path;

use super::Scenario;

/// How many scenarios each group has.
const GROUPS: [(char, usize); 8] =
    [('A', 10), ('B', 8), ('C', 17), ('D', 16), ('E', 7), ('F', 13), ('G', 5), ('H', 3)];

/// Scenarios that are wholly or partly shown by tables and simulations beside the code: id, file, test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "B7",
        "src/runtime/ha/tests/credentials.rs",
        "wrong_credentials_are_answered_with_401_and_the_connection_stays",
    ),
    (
        "B7",
        "src/runtime/ha/tests/credentials.rs",
        "the_sender_shows_each_peer_its_credentials_and_a_refusal_counts_as_no_answer",
    ),
    ("C14", "src/ha/machine/tests.rs", "a_partner_that_stays_terminated_is_followed_after_ten_minutes"),
    (
        "G2",
        "src/ha/machine/maintenance_tests.rs",
        "the_answer_to_a_heartbeat_sent_before_maintenance_was_called_off_moves_nobody",
    ),
];

/// Scenarios of which the tests show less than ha-protocol asks for, in the order of their ids, and what is not shown.
const PARTLY: &[(&str, &str)] = &[
    ("E1", "40 clients in place of 1000, and the server is predicted for four of them"),
    ("E2", "no identifier at all, an empty client identifier, BOOTP"),
    ("E4", "the order of what was put off, and the ha-reset itself: only its effect is seen"),
    ("E5", "four times max-response-delay in place of ten, and no Kea"),
    ("F1", "a page limit of 10001; pages of one lease are of 40 leases"),
    ("F9", "the status of a release 3 server: only what it is sent is seen"),
    ("F10", "service is back within two heartbeats rather than one"),
    ("H2", "each fault once, for seven seconds, with one client at a time; no clock steps, no 24 hours"),
];

/// Scenarios that end otherwise than ha-protocol says, on purpose and with the same octets on the wire, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "C11",
        "one server waits and the other one serves, where ha-protocol has both wait: a partner that waits says \
         nothing of its mode, two Keas end the same way (there is a test), and clients are served",
    ),
    (
        "C13",
        "a terminated server goes on with heartbeats, slowly, where Kea stops them: that is how it learns that the \
         cause is gone, and nobody has to restart it (ha-protocol 8 no. 17)",
    ),
    (
        "D8",
        "a partner that answers an update with an error stays available, where Kea counts it as gone: any answer is \
         proof of life, and one lease that cannot be replicated does not cost the pair (ha-protocol 8 no. 5)",
    ),
];

/// Scenarios that nothing shows yet.
const MISSING: &[&str] = &["H1"];

/// Every id, A1 to H3.
fn ids() -> Vec<String> {
    let of = |&(group, count): &(char, usize)| (1..=count).map(move |number| format!("{group}{number}"));
    GROUPS.iter().flat_map(of).collect()
}

/// Panics when the index and the tests do not agree.
pub fn check(scenarios: &[Scenario]) {
    let ids = ids();
    assert_eq!(ids.len(), 79);
    let mut claimed = BTreeSet::new();
    for scenario in scenarios {
        for id in scenario.ids {
            assert!(ids.iter().any(|known| known == id), "{}: no scenario {id}", scenario.name);
            claimed.insert(*id);
        }
    }
    for (id, file, test) in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{id}: {file} has no {test}");
        claimed.insert(*id);
    }
    let unclaimed: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !claimed.contains(*id)).collect();
    assert_eq!(unclaimed, MISSING, "scenarios without a test, and those known to have none");
    for (id, what) in PARTLY.iter().chain(DIFFERENCES) {
        assert!(claimed.contains(id), "{id} is claimed by nobody: {what}");
    }
}
