//! Two machines together: start, take-over, return, splits; and whatever happens, they find each other again.

use proptest::prelude::*;
use shards::SmallBytes;

use super::super::command::HaCommand;
use super::pair::{Dialect, Pair};
use super::*;
use crate::engine::message::Asked;

const NORMAL: [Option<OwnState>; 2] = [Some(OwnState::HotStandby); 2];

/// Goal: a pair that starts together serves within seconds, in both dialects. Method: run 6 s.
#[test]
fn a_cold_start_converges_within_seconds() {
    for dialects in [[Dialect::Own; 2], [Dialect::Older, Dialect::Own], [Dialect::Own, Dialect::Older]] {
        let mut pair = Pair::new(dialects);
        pair.start(0);
        pair.run_until(0.3);
        pair.start(1);
        pair.run_until(6.0);
        assert_eq!(pair.states(), NORMAL, "{dialects:?}");
        let view = |index: usize| pair.servers[index].rig.machine.view().unwrap();
        assert!(view(0).scopes.primary && view(0).service_on);
        assert!(!view(1).scopes.primary && view(1).service_on);
    }
}

/// Goal: take-over and return lose no lease. Method: kill the primary, prove by traffic, grant, bring it
/// back.
#[test]
fn the_standby_takes_over_and_gives_back_with_every_lease() {
    for dialects in [[Dialect::Own; 2], [Dialect::Older, Dialect::Own], [Dialect::Own, Dialect::Older]] {
        let mut pair = Pair::new(dialects);
        pair.start(0);
        pair.start(1);
        pair.run_until(20.0);
        (1..=5).for_each(|number| pair.grant(0, number));
        pair.kill(0);
        pair.run_until(95.0);
        assert_eq!(pair.states(), [None, Some(OwnState::HotStandby)], "no traffic, no proof");
        for number in 10..13 {
            let client = ClientIdentity {
                hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]),
                client_id: SmallBytes::empty(),
            };
            pair.feed(1, Event::Unanswered { client, secs: 20, asked: Asked::Any });
        }
        pair.run_until(95.6);
        assert_eq!(pair.states(), [None, Some(OwnState::PartnerDown)]);
        (20..=44).for_each(|number| pair.grant(1, number));
        pair.start(0);
        pair.run_until(110.0);
        assert_eq!(pair.states(), NORMAL, "{dialects:?}");
        assert_eq!(pair.servers[0].leases, pair.servers[1].leases, "{dialects:?}");
        assert_eq!(pair.servers[0].leases.len(), 30);
        assert!(pair.servers[1].rig.machine.locks.service_on(), "the source is not left silent");
    }
}

#[test]
fn the_primary_takes_over_alone_and_the_standby_comes_back() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(0);
    pair.start(1);
    pair.run_until(20.0);
    pair.kill(1);
    pair.run_until(65.0);
    assert_eq!(pair.states(), [Some(OwnState::HotStandby), None]);
    pair.run_until(92.0);
    assert_eq!(pair.states(), [Some(OwnState::PartnerDown), None]);
    (1..=7).for_each(|number| pair.grant(0, number));
    pair.start(1);
    pair.run_until(110.0);
    assert_eq!(pair.states(), NORMAL);
    assert_eq!(pair.servers[0].leases, pair.servers[1].leases);
}

/// Goal: after a split in which both served, both have all leases. Method: cut, let both go partner-down,
/// heal.
#[test]
fn a_split_in_which_both_served_heals_with_both_sides_leases() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(0);
    pair.start(1);
    pair.run_until(20.0);
    pair.linked = false;
    pair.servers[1].rig.machine.relationship.max_unacked_clients = 0;
    pair.run_until(100.0);
    assert_eq!(pair.states(), [Some(OwnState::PartnerDown); 2]);
    (1..=3).for_each(|number| pair.grant(0, number));
    (101..=105).for_each(|number| pair.grant(1, number));
    pair.linked = true;
    pair.run_until(140.0);
    assert_eq!(pair.states(), NORMAL);
    assert_eq!(pair.servers[0].leases, pair.servers[1].leases);
    assert_eq!(pair.servers[0].leases.len(), 8);
}

/// A server that gave leases while it was terminated comes back to a partner that noticed nothing of it.
#[test]
fn what_was_given_unnoticed_is_copied_by_a_partner_that_stayed_normal() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(0);
    pair.start(1);
    pair.run_until(20.0);
    pair.linked = false;
    pair.suffer(Trouble::Conflicts(0), &mut 0);
    assert_eq!(pair.states(), [Some(OwnState::Terminated), Some(OwnState::HotStandby)]);
    pair.run_until(51.0);
    pair.grant(0, 1);
    pair.linked = true;
    pair.run_until(120.0);
    assert_eq!(pair.states(), NORMAL);
    assert_eq!(pair.servers[0].leases, pair.servers[1].leases);
    assert_eq!(pair.servers[0].leases.len(), 1);
}

#[test]
fn a_copier_killed_right_after_its_copy_leaves_the_source_serving() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(1);
    pair.run_until(70.0);
    assert_eq!(pair.states(), [None, Some(OwnState::PartnerDown)]);
    for step in 0..30 {
        pair.start(0);
        let killed_at = pair.seconds() + 0.001 + f64::from(step) * 0.001;
        pair.run_until(killed_at);
        pair.kill(0);
        pair.run_until(killed_at + 61.0);
        // Where the copier was heard as ready in time, the source is normal again and waits for traffic.
        let state = pair.servers[1].rig.machine.state();
        assert!(matches!(state, OwnState::HotStandby | OwnState::PartnerDown), "{step}: {state}");
        assert!(pair.servers[1].rig.service_on(), "{step}");
    }
}

// ---- whatever happens -------------------------------------------------------------------------------------

/// One misfortune, or an administrator.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    CancelMaintenance(usize),
    ClockSet(u64),
    Conflicts(usize),
    Cut,
    Grant(usize),
    Kill(usize),
    Mend,
    Reset(usize),
    Start(usize),
    StartMaintenance(usize),
    Stop(usize),
    Unanswered(usize),
}

fn any_trouble() -> impl Strategy<Value = (Trouble, u32)> {
    let of_one = 0usize..2;
    let trouble = prop_oneof![
        1 => of_one.clone().prop_map(Trouble::CancelMaintenance),
        1 => (0u64..130).prop_map(Trouble::ClockSet),
        1 => of_one.clone().prop_map(Trouble::Conflicts),
        1 => Just(Trouble::Cut),
        3 => of_one.clone().prop_map(Trouble::Grant),
        1 => of_one.clone().prop_map(Trouble::Kill),
        2 => Just(Trouble::Mend),
        1 => of_one.clone().prop_map(Trouble::Reset),
        2 => of_one.clone().prop_map(Trouble::Start),
        1 => of_one.clone().prop_map(Trouble::StartMaintenance),
        1 => of_one.clone().prop_map(Trouble::Stop),
        1 => of_one.prop_map(Trouble::Unanswered),
    ];
    (trouble, prop_oneof![0u32..3_000, 0u32..100_000])
}

impl Pair {
    fn order(&mut self, index: usize, command: HaCommand) {
        if self.servers[index].alive {
            let source = CommandSource::Administrator;
            self.feed(index, Event::Command { token: 9, source, command });
        }
    }

    fn suffer(&mut self, trouble: Trouble, granted: &mut u8) {
        match trouble {
            Trouble::CancelMaintenance(index) => self.order(index, HaCommand::MaintenanceCancel),
            Trouble::ClockSet(skew_s) => self.servers[1].skew_s = skew_s,
            Trouble::Conflicts(index) if self.servers[index].alive => {
                for number in 1..=2 {
                    let client = rig::client(number);
                    self.feed(index, Event::UpdatesSettled { outcome: UpdateOutcome::Conflict, client });
                }
            }
            Trouble::Cut => self.linked = false,
            Trouble::Grant(index) => self.grant_if_served(index, granted),
            Trouble::Kill(index) => self.kill(index),
            Trouble::Mend => self.linked = true,
            Trouble::Reset(index) => self.order(index, HaCommand::Reset { server_name: None }),
            Trouble::Start(index) if !self.servers[index].alive => self.start(index),
            Trouble::StartMaintenance(index) => self.order(index, HaCommand::MaintenanceStart),
            Trouble::Stop(index) if self.servers[index].alive => {
                self.feed(index, Event::Stopping);
                let stopped_s = self.seconds() + 0.01;
                self.run_until(stopped_s);
                self.kill(index);
            }
            Trouble::Unanswered(index) if self.servers[index].alive => {
                for number in 1..=3 {
                    self.feed(
                        index,
                        Event::Unanswered { client: rig::client(number), secs: 60, asked: Asked::Any },
                    );
                }
            }
            Trouble::Conflicts(_) | Trouble::Start(_) | Trouble::Stop(_) | Trouble::Unanswered(_) => {}
        }
    }

    /// A server that sends updates and has lost its partner, or the link, answers nobody.
    fn grant_if_served(&mut self, index: usize, granted: &mut u8) {
        let Some(view) = self.servers[index].rig.machine.view().filter(|_| self.servers[index].alive) else {
            return;
        };
        let reaches = self.linked && self.servers[1 - index].alive;
        let answers = view.updates != UpdateMode::Send || reaches;
        if view.service_on && view.scopes.any() && answers && *granted < 250 {
            *granted += 1;
            self.grant(index, *granted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Goal: a pair of Tandems always returns to service without a human, with the same leases on both sides.
    /// Method: any troubles; then all is put right but nobody is told, and time passes. Maintenance is a wish, so it
    /// is called off.
    #[test]
    fn after_any_troubles_a_pair_is_normal_again(
        balancing in any::<bool>(),
        troubles in proptest::collection::vec(any_trouble(), 1..25),
    ) {
        let mode = if balancing { Mode::LoadBalancing } else { Mode::HotStandby };
        let mut pair = Pair::of(mode, [Dialect::Own; 2]);
        pair.start(0);
        pair.start(1);
        let mut granted = 0;
        for (trouble, pause_ms) in troubles {
            pair.suffer(trouble, &mut granted);
            let until_s = pair.seconds() + f64::from(pause_ms) / 1_000.0;
            pair.run_until(until_s);
        }
        pair.linked = true;
        pair.servers[1].skew_s = 0;
        for index in 0..2 {
            if !pair.servers[index].alive {
                pair.start(index);
            }
        }
        let rested_s = pair.seconds() + 100.0;
        pair.run_until(rested_s);
        for index in 0..2 {
            pair.order(index, HaCommand::MaintenanceCancel);
        }
        // Refusals again and again are forgiven after an hour at most.
        let end_s = pair.seconds() + 4_000.0;
        while pair.seconds() < end_s && pair.states() != [Some(mode.normal_state()); 2] {
            let next_s = pair.seconds() + 10.0;
            pair.run_until(next_s);
        }
        // And they stay so.
        let end_s = pair.seconds() + 100.0;
        pair.run_until(end_s);
        prop_assert_eq!(pair.states(), [Some(mode.normal_state()); 2]);
        for server in &pair.servers {
            prop_assert!(server.rig.service_on());
        }
        prop_assert_eq!(&pair.servers[0].leases, &pair.servers[1].leases);
    }
}
