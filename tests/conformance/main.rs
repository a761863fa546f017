//! The conformance scenarios of ha-protocol section 7, A1 to H3: two servers (Tandem, a real Kea 2.2, or a script that
//! speaks the dialect of Kea 3) in namespaces, brought to what a scenario describes, and both lease stores compared row
//! by row afterwards. [`index`] says which test is which scenario, and what is scaled down or ends otherwise on purpose.
//!
//! Most of a scenario is waiting, so many run side by side (`--test-threads`, 10 unless told); those that take longest
//! start first. Needs root and the Debian packages that `tests/run` installs.
//!
//!     cargo test --test conformance            # all
//!     cargo test --test conformance c5         # those whose name has `c5` in it
//!     TANDEM_CONFORMANCE_LONG=86400 cargo test --test conformance one_fault_after_the_other    # a day of faults

mod agents;
mod balance;
mod copies;
mod faults;
mod hostile;
mod hub;
mod index;
mod maintenance;
mod perfdhcp;
mod real_clients;
mod remains;
mod replication;
mod security;
mod states;
mod support;
mod surroundings;
mod upheaval;
mod wire;
mod words;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

/// How many scenarios run side by side on two processors.
const SIDE_BY_SIDE: usize = 10;

/// A test that shows one scenario or more.
pub struct Scenario {
    /// Ids of ha-protocol section 7.
    pub ids: &'static [&'static str],
    /// States case and result; with the ids in front it is the test's name.
    pub name: String,
    /// About how long it takes: the longest are started first.
    pub seconds: u32,
    /// Panics when the scenario does not hold.
    pub run: Box<dyn FnOnce() + Send>,
}

/// A scenario from its parts.
pub fn scenario(
    ids: &'static [&'static str],
    name: impl Into<String>,
    seconds: u32,
    run: impl FnOnce() + Send + 'static,
) -> Scenario {
    Scenario { ids, name: name.into(), seconds, run: Box::new(run) }
}

/// What `TANDEM_CONFORMANCE_LONG` asks for: numbers that are scaled down are to be those of ha-protocol, and pairs are to
/// endure one fault after the other for as many seconds as it says, or ten minutes.
pub fn long_for() -> Option<Duration> {
    let value = std::env::var("TANDEM_CONFORMANCE_LONG").ok()?;
    Some(Duration::from_secs(value.parse().unwrap_or(600)))
}

/// Seconds that each scenario has taken, by name.
static TAKEN: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());

fn all() -> Vec<Scenario> {
    [
        wire::scenarios(),
        words::scenarios(),
        security::scenarios(),
        agents::scenarios(),
        states::scenarios(),
        faults::scenarios(),
        replication::scenarios(),
        copies::scenarios(),
        hub::scenarios(),
        balance::scenarios(),
        maintenance::scenarios(),
        upheaval::scenarios(),
        remains::scenarios(),
        surroundings::scenarios(),
        real_clients::scenarios(),
        hostile::scenarios(),
        perfdhcp::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(SIDE_BY_SIDE));
    let mut scenarios = all();
    index::check(&scenarios);
    scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.seconds));
    let trials = scenarios.into_iter().map(|scenario| {
        let name = format!("{}_{}", scenario.ids.join("_").to_ascii_lowercase(), scenario.name);
        let run = scenario.run;
        Trial::test(name.clone(), move || {
            let start = Instant::now();
            run();
            TAKEN.lock().expect("the list").insert(name, start.elapsed().as_secs_f64());
            Ok(())
        })
    });
    let start = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    tell(start.elapsed());
    conclusion.exit();
}

/// Says how long each group has taken, and what took longest.
fn tell(whole: Duration) {
    let taken = TAKEN.lock().expect("the list");
    let mut groups: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for (name, seconds) in taken.iter() {
        let group = groups.entry(&name[..1]).or_default();
        *group = (group.0 + 1, group.1 + seconds);
    }
    println!("{} scenarios that passed took {:.0} s of the clock", taken.len(), whole.as_secs_f64());
    for (group, (count, seconds)) in groups {
        println!("  group {}: {count} in {seconds:.0} s, one after the other", group.to_ascii_uppercase());
    }
    let mut longest: Vec<(&String, &f64)> = taken.iter().collect();
    longest.sort_by(|one, other| other.1.total_cmp(one.1));
    for (name, seconds) in longest.into_iter().take(8) {
        println!("  {seconds:5.1} s  {name}");
    }
}
