//! Many seeds, one seed, and the proof that the checks can fail.
//!
//! `cargo test --test simulation smoke` runs 200 seeds. A longer run: `TANDEM_SEEDS=5000 cargo test --test
//! simulation smoke`, from another first one with `TANDEM_FIRST_SEED`. One seed again, with everything that happens:
//! `TANDEM_SEED=17 cargo test --test simulation replay -- --nocapture`.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::pair::plan::Plant;
use super::pair::simulation::{Outcome, Simulation};
use super::tally::Tally;

/// Seeds of a run for each change.
const SMOKE_SEEDS: u64 = 200;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

fn replay_command(seed: u64) -> String {
    format!("TANDEM_SEED={seed} cargo test --test simulation replay -- --nocapture")
}

/// Past the capture of the test harness: what the seeds held is said of a run that passes, too.
fn tell(text: &str) {
    // There is nobody to tell that telling failed.
    let _ = writeln!(std::io::stderr(), "simulation: {text}");
}

/// Runs a seed; a panic of the code under test is a violation like any other.
fn run(seed: u64, plant: Option<Plant>) -> Result<Outcome, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| Simulation::run(seed, plant, false)));
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// Runs seeds on as many threads as there are cores; what they held, and what did not hold.
fn run_all(first: u64, count: u64) -> (Tally, Vec<(u64, String)>) {
    let next = AtomicU64::new(first);
    let result = Mutex::new((Tally::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = run(seed, None);
                    let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(Outcome { tally, violation, .. }) => {
                            result.0.add(&tally);
                            result.1.extend(violation.map(|what| (seed, what)));
                        }
                        Err(panic) => result.1.push((seed, panic)),
                    }
                }
            });
        }
    });
    let (tally, mut failures) = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    (tally, failures)
}

#[test]
fn smoke_the_invariants_hold_over_every_seed_and_nothing_is_missing_from_them() {
    let (first, count) = (number("TANDEM_FIRST_SEED", 0), number("TANDEM_SEEDS", SMOKE_SEEDS));
    let (tally, failures) = run_all(first, count);
    tell(&format!("{count} seeds from {first}: {tally}"));
    for (seed, what) in &failures {
        tell(&format!("seed {seed}: {what}\n    {}", replay_command(*seed)));
    }
    assert!(failures.is_empty(), "{} of {count} seeds failed; the first: {:?}", failures.len(), failures[0]);
    if count >= SMOKE_SEEDS {
        assert_eq!(tally.missing(), Vec::<&str>::new(), "these seeds prove nothing about");
    }
}

/// One seed with all that happens in it: seed 0, or the one that `TANDEM_SEED` names.
#[test]
fn replay() {
    let seed = number("TANDEM_SEED", 0);
    let Outcome { hash, tally, violation } = Simulation::run(seed, None, true);
    println!("seed {seed}: {tally}; hash {hash:016x}");
    assert_eq!(violation, None, "seed {seed}");
}

#[test]
fn a_seed_run_twice_gives_the_same_hash_and_another_seed_another_one() {
    let hash = |seed| Simulation::run(seed, None, false).hash;
    for seed in 0..4 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(0), hash(1));
}

/// The first of 200 seeds in which the planted fault is seen, and what was said of it.
fn first_caught(plant: Plant) -> Option<(u64, String)> {
    (0..SMOKE_SEEDS).find_map(|seed| {
        let violation = match run(seed, Some(plant)) {
            Ok(outcome) => outcome.violation,
            Err(panic) => Some(panic),
        };
        violation.map(|what| (seed, what))
    })
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    let (seed, what) = first_caught(Plant::AckBeforeSync).expect("a planted fault that nobody sees");
    println!("seed {seed}: {what}");
    // The partner says so before the sync, too, and either may be seen first.
    assert!(what.starts_with("invariant 2") && what.contains(" disk"), "{what}");
}

#[test]
fn an_ack_before_the_partner_is_caught() {
    let (seed, what) = first_caught(Plant::AckBeforePartner).expect("a planted fault that nobody sees");
    println!("seed {seed}: {what}");
    assert!(what.starts_with("invariant 2") && what.contains("its partner's disk"), "{what}");
}
