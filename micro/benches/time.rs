//! The cases by the clock: `cargo bench -p tandem-micro --bench time`. What it shows is this machine's, now.

use divan::Bencher;
use divan::counter::ItemsCount;
use micro::cases::{self, GROUPS};

fn main() {
    divan::main();
}

/// One sample is one step, of as many items as it says; each step has inputs of its own.
#[divan::bench(args = cases::names(), sample_count = 16, sample_size = 1)]
fn time(bencher: Bencher, name: &str) {
    let make = GROUPS.iter().find(|(names, _)| names.contains(&name)).expect("a group").1;
    let mut case = make().into_iter().find(|case| case.name == name).expect("a case");
    (0..case.warm).for_each(|_| (case.step)());
    bencher.counter(ItemsCount::new(case.units)).bench_local(|| (case.step)());
}
