//! The loop of one sender: receive, give up, start what is due, send, and rest only when nothing is near.
//!
//! It runs alone on its core with its own socket. Replies go first, so that a generator that cannot keep up
//! is late in starting (which it reports) and not in reading (which would look like the server's latency).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::attach::{BATCH, Link, Outbox};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::recorder::{Interval, Stretch};

/// What is nearer than this is waited for by spinning: a sleep would be late.
const SPIN_NS: u64 = 50_000;

/// After the last packet the next reply is waited for by spinning this long: to be woken takes as long as an
/// answer.
const SPIN_AFTER_NS: u64 = 300_000;

/// Full batches read before starts have their turn.
const BATCHES_MAX: usize = 8;

/// Longest rest, so that a request to stop is noticed.
const REST_NS_MAX: u64 = 50_000_000;

/// One phase of a sender.
pub struct Work<'run> {
    /// When exchanges start.
    pub plan: Plan,
    /// How long replies are waited for after the plan's end.
    pub drain_ns: u64,
    /// Length of a reporting interval; the first begins when measuring does.
    pub interval_ns: u64,
    /// Ends the phase early.
    pub stop: &'run AtomicBool,
}

/// Carries out one phase; `report` is given each interval as it ends.
///
/// # Errors
/// When the socket cannot be waited for, or when sending or receiving fails for a reason that will not pass.
pub fn run(
    machine: &mut Machine,
    link: &mut dyn Link,
    work: &Work<'_>,
    mut report: impl FnMut(Interval),
) -> io::Result<()> {
    let Work { plan, drain_ns, interval_ns, stop } = work;
    let mut outbox = Outbox::new();
    let mut number = 0;
    let mut next = plan.start(number);
    let give_up_ns = plan.end_ns().saturating_add(*drain_ns);
    let mut interval_from_ns = plan.measure_from_ns();
    let mut interval_end_ns = interval_from_ns.saturating_add(*interval_ns);
    // What a socket missed before this phase is not this phase's.
    link.take_drops();
    let mut worked_ns = 0;
    loop {
        let mut worked = receive(machine, link, &mut outbox, plan.measure_from_ns())?;
        let now_ns = link.now_ns();
        machine.handle_timeouts(now_ns, &mut outbox);
        while let Some(start) = next.filter(|start| start.at_ns <= now_ns && outbox.room() > 0) {
            machine.begin(start, link.now_ns(), &mut outbox);
            number += 1;
            next = plan.start(number);
        }
        worked |= flush(machine, link, &mut outbox, now_ns >= plan.measure_from_ns());
        if now_ns >= interval_end_ns {
            machine.recorder.counters.receive_drops += link.take_drops();
            report(
                machine.recorder.take_interval(Stretch { from_ns: interval_from_ns, to_ns: interval_end_ns }),
            );
            interval_from_ns = interval_end_ns;
            interval_end_ns += interval_ns;
        }
        let idle = next.is_none() && machine.under_way() == 0;
        if idle || now_ns >= give_up_ns || stop.load(Ordering::Relaxed) {
            break;
        }
        if worked {
            worked_ns = now_ns;
        } else if machine.under_way() == 0 || now_ns.saturating_sub(worked_ns) > SPIN_AFTER_NS {
            let nearest =
                [next.map(|start| start.at_ns), machine.next_timeout_ns()].into_iter().flatten().min();
            let nearest = nearest.unwrap_or(u64::MAX).min(interval_end_ns).min(give_up_ns);
            let rest_ns = nearest.saturating_sub(link.now_ns()).min(REST_NS_MAX);
            if rest_ns > SPIN_NS {
                link.wait(rest_ns - SPIN_NS / 2)?;
            }
        }
    }
    if !stop.load(Ordering::Relaxed) {
        // A sender that was too late to the end has not done what was planned.
        let left = (number..).map_while(|number| plan.start(number)).filter(|start| start.measured);
        machine.recorder.counters.not_started += left.count() as u64;
    }
    machine.give_up_all();
    machine.recorder.counters.receive_drops += link.take_drops();
    let to_ns = link.now_ns().clamp(interval_from_ns, interval_end_ns);
    report(machine.recorder.take_interval(Stretch { from_ns: interval_from_ns, to_ns }));
    Ok(())
}

/// Reads what is there and sends what it calls for; whether anything came.
fn receive(
    machine: &mut Machine,
    link: &mut dyn Link,
    outbox: &mut Outbox,
    measure_from_ns: u64,
) -> io::Result<bool> {
    let mut any = false;
    for _ in 0..BATCHES_MAX {
        let mut read_ns = 0;
        let received = link.receive(&mut |bytes, now_ns| {
            read_ns = now_ns;
            machine.handle_reply(bytes, now_ns, outbox);
        });
        let received = match received {
            Ok(received) => received,
            // A server that is not there (yet, or any more): its clients hear nothing, and that is counted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => 0,
            Err(error) => return Err(error),
        };
        any |= received > 0;
        flush(machine, link, outbox, read_ns >= measure_from_ns);
        if received < BATCH {
            break;
        }
    }
    Ok(any)
}

fn flush(machine: &mut Machine, link: &mut dyn Link, outbox: &mut Outbox, counting: bool) -> bool {
    if outbox.is_empty() {
        return false;
    }
    let sent = link.send(outbox);
    outbox.clear();
    if counting {
        machine.recorder.counters.sent += sent.sent as u64;
        machine.recorder.counters.refused += sent.refused as u64;
    }
    true
}
