//! Which test is which scenario. A scenario is claimed by a test of this binary, or by a table elsewhere that is named
//! here; [`check`] fails when one of the 79 is claimed by nobody, or when a table named here is not there. What a claimed
//! scenario asks for beyond its tests is said in [`SCALED`], and where Tandem does something else on purpose in
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

/// Scenarios of which the tests show all, but with smaller numbers than ha-protocol asks for unless
/// `TANDEM_CONFORMANCE_LONG` is set.
const SCALED: &[(&str, &str)] = &[
    ("F1", "pages of one lease are of 500 leases; 25,003 in the long run"),
    (
        "H2",
        "each fault once for each pairing, for seven seconds; one after the other for as long as the long run lasts",
    ),
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
    (
        "E2",
        "BOOTP is dropped by both, as by two Keas without their library for it, which this server does not have; and \
         a query with an empty client identifier is malformed, as it is to a Kea 2.2, so nobody answers it",
    ),
    (
        "H2",
        "where a Kea and this server both serve alone, apart, each may give what the other has given: the newer lease \
         stays (ha-protocol 8 no. 28), so the client of the older one finds its address with another; this server \
         alone cannot help it",
    ),
];

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
    assert!(unclaimed.is_empty(), "scenarios without a test: {unclaimed:?}");
    for (id, what) in SCALED.iter().chain(DIFFERENCES) {
        assert!(claimed.contains(id), "{id} is claimed by nobody: {what}");
    }
}
