//! Many seeds, one seed, and the proof that the checks can fail.
//!
//! `cargo test --test simulation smoke` runs 1,000 seeds, one in ten of them twice. A longer run:
//! `TANDEM_SEEDS=5000 cargo test --release --test simulation smoke`, or `TANDEM_HOURS=2` for as many seeds as go into two
//! hours; from another first one with `TANDEM_FIRST_SEED`. A seed that fails is told of at once, with the command that
//! runs it again, and every half minute how far the run has come. One seed again, with everything that happens:
//! `TANDEM_SEED=17 cargo test --test simulation replay -- --nocapture`.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pair::plan::Plant;
use super::pair::simulation::{Outcome, Simulation};
use super::tally::Tally;

/// Seeds of a run for each change.
const SMOKE_SEEDS: u64 = 1000;
/// Seeds in which a planted fault is looked for.
const PLANT_SEEDS: u64 = 200;
/// How often a run tells how far it has come.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// One of so many seeds is run twice, and has to give the same hash.
const TWICE_EVERY: u64 = 10;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

/// When a run of hours ends.
fn deadline() -> Option<Instant> {
    let hours = std::env::var("TANDEM_HOURS").ok()?;
    let hours: f64 = hours.parse().unwrap_or_else(|error| panic!("TANDEM_HOURS={hours}: {error}"));
    Some(Instant::now() + Duration::from_secs_f64(hours * 3600.0))
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

/// What many seeds have held so far, and what did not hold.
struct Results {
    tally: Tally,
    seeds: u64,
    failures: Vec<(u64, String)>,
    told: Instant,
}

impl Results {
    /// Takes the outcome of a seed and, where it was run twice, that of the second run.
    fn take(&mut self, seed: u64, outcome: Result<Outcome, String>, again: Option<Result<Outcome, String>>) {
        self.seeds += 1;
        match outcome {
            Ok(Outcome { tally, violation, hash }) => {
                self.tally.add(&tally);
                match again {
                    Some(Ok(again)) if again.hash != hash => {
                        self.fail(seed, format!("its hash is {hash:016x}, then {:016x}", again.hash));
                    }
                    Some(Err(panic)) => self.fail(seed, format!("the second time: {panic}")),
                    Some(Ok(_)) | None => {}
                }
                if let Some(what) = violation {
                    self.fail(seed, what);
                }
            }
            Err(panic) => self.fail(seed, panic),
        }
    }

    fn fail(&mut self, seed: u64, what: String) {
        tell(&format!("seed {seed}: {what}\n    {}", replay_command(seed)));
        self.failures.push((seed, what));
    }

    /// Says how far the run has come, now and then.
    fn tell_progress(&mut self, of: &str) {
        if self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            tell(&format!("{} of {of} seeds, {} failed", self.seeds, self.failures.len()));
        }
    }
}

/// Runs seeds on as many threads as there are cores, `count` of them or until `deadline`.
fn run_all(first: u64, count: u64, deadline: Option<Instant>) -> Results {
    let next = AtomicU64::new(first);
    let results = Results { tally: Tally::default(), seeds: 0, failures: Vec::new(), told: Instant::now() };
    let results = Mutex::new(results);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let of = if deadline.is_some() { "ever more".to_owned() } else { count.to_string() };
    let is_over = |seed| match deadline {
        Some(deadline) => Instant::now() >= deadline,
        None => seed >= first + count,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if is_over(seed) {
                        break;
                    }
                    let outcome = run(seed, None);
                    let again = seed.is_multiple_of(TWICE_EVERY).then(|| run(seed, None));
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.take(seed, outcome, again);
                    results.tell_progress(&of);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn smoke_the_invariants_hold_over_every_seed_and_nothing_is_missing_from_them() {
    let (first, count) = (number("TANDEM_FIRST_SEED", 0), number("TANDEM_SEEDS", SMOKE_SEEDS));
    let Results { tally, seeds, mut failures, .. } = run_all(first, count, deadline());
    failures.sort();
    tell(&format!("{seeds} seeds from {first}: {tally}"));
    assert!(failures.is_empty(), "{} of {seeds} seeds failed; the first: {:?}", failures.len(), failures[0]);
    if seeds >= SMOKE_SEEDS {
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
fn another_seed_gives_another_hash() {
    let hash = |seed| Simulation::run(seed, None, false).hash;
    assert_ne!(hash(0), hash(1));
}

/// What is said of a planted fault in a seed, where it is seen.
fn caught(plant: Plant, seed: u64) -> Option<(u64, String)> {
    let violation = match run(seed, Some(plant)) {
        Ok(outcome) => outcome.violation,
        Err(panic) => Some(panic),
    };
    violation.map(|what| (seed, what))
}

/// An invariant that is broken, and what else is said of it.
type Broken = (&'static str, &'static str);

/// Each planted fault with the invariants that it breaks, what else is said of each, and in how many of the first seeds it
/// has to be seen: an excuse that hides a fault in most of them is too wide. The rare ones need a conflict, or a full shard.
const PLANTS: [(Plant, &[Broken], usize); 8] = [
    (Plant::AckBeforePartner, &[("invariant 2", "its partner's disk")], 150),
    // Ten of the seeds have a link that is cut alone.
    (Plant::BelieveRequests, &[("invariant 8", "takes over from")], 3),
    // These two are of hubs, and ten of the seeds have one.
    (Plant::BelieveSpokes, &[("relationships apart", "is of another link")], 5),
    // By the view of another relationship a reply waits for no partner, or leases go to none.
    (Plant::MixViews, &[("invariant 2", "its partner's disk"), ("invariant 6", "one holds")], 3),
    (Plant::IgnoreConflict, &[("invariant 2", "its partner's disk")], 4),
    (Plant::ServeInWaiting, &[("invariant 2", "serves nobody")], 130),
    // The partner says so before the sync, too, and either may be seen first.
    (Plant::SkipSync, &[("invariant 2", " disk")], 180),
    (Plant::SpillTwice, &[("invariant 1", "is held by client")], 3),
];

#[test]
fn every_planted_fault_is_caught_by_the_invariant_it_breaks() {
    for (plant, invariants, least) in PLANTS {
        let concerned = (0..PLANT_SEEDS).filter(|seed| plant.concerns(*seed));
        let seen: Vec<_> = concerned.filter_map(|seed| caught(plant, seed)).collect();
        let count = seen.len();
        let (seed, what) = seen.first().unwrap_or_else(|| panic!("nobody sees {plant:?}"));
        tell(&format!("{plant:?} is seen in {count} of {PLANT_SEEDS} seeds, first in seed {seed}: {what}"));
        let breaks = |(invariant, text): &Broken| what.starts_with(invariant) && what.contains(text);
        assert!(invariants.iter().any(breaks), "{plant:?}, seed {seed}: {what}");
        assert!(count >= least, "{plant:?} is seen in {count} of {PLANT_SEEDS} seeds, {least} at least");
    }
}
