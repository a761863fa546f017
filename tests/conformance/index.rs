//! Which test is which scenario. A scenario is claimed by a test of this binary, or by a table elsewhere that is named
//! here; [`check`] fails when one of the 79 is claimed by nobody, or when a table named here is not there.

use std::collections::BTreeSet;
use std::path::Path;

use super::Scenario;

/// How many scenarios each group has.
const GROUPS: [(char, usize); 8] =
    [('A', 10), ('B', 8), ('C', 17), ('D', 16), ('E', 7), ('F', 13), ('G', 5), ('H', 3)];

/// Scenarios that are wholly or partly shown by tables and simulations beside the code: id, file, test.
const ELSEWHERE: &[(&str, &str, &str)] = &[];

/// Scenarios that nothing shows yet.
const MISSING: &[&str] = &["B7", "F11", "H1", "H3"];

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
}
