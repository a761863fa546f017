//! What is made good after a partner of another make went on serving while it could not be heard.
//!
//! A Kea commits a lease before it sends the update, keeps it when the update fails, and counts it nowhere (ha-protocol
//! 5.3); and its update of before a cut may arrive long after it, and overwrite what was given since. So once both are
//! in the normal state again, its leases are listed page by page, while both go on serving: what is newer there is
//! taken, what is newer here, or was given while it was not told (`untold`) and is not listed, is sent to it as an update
//! of a client's lease would be, in order with those. That is done again until there is nothing to do, and for as long as
//! updates of before the silence may still arrive.
//!
//! Whose lease of an address stays is the shards' to say (`engine::standing`); here it is known since when this server has
//! served alone, and the partner as well (from when it was last heard to serve with this server).
//!
//! Two Tandems do not compare: what one of them copies is all there is.

use shards::Now;

use super::*;
use crate::engine::message::Applied;
use crate::ha::view::Alone;

/// How long what was given alone is defended after the partner is back: longer than a Kea keeps a request.
const DEFENDED_NS: u64 = 60 * NS_PER_S;
/// How long updates of before a silence may still arrive: a Kea gives each up after ten seconds.
const STRAGGLING_NS: u64 = 15 * NS_PER_S;
/// Pause between two comparisons.
const PAUSE_NS: u64 = 4 * NS_PER_S;
/// Comparisons that begin once nothing can arrive late any more. While many clients are served there is always a lease
/// whose update is on its way when its page is read, so one that finds nothing may never come; what fails from then on
/// raises a doubt of its own.
const LATE_ROUNDS_MAX: u32 = 3;
/// A clock that falls behind by so much, seconds, was set. It is told in whole seconds, and on its way for a moment.
const CLOCK_SET_BACK_S: i64 = 2;
/// A silence of this many heartbeats may have cost updates, whoever was at fault.
const SILENT_HEARTBEATS: u64 = 3;

/// Whether leases have to be compared, and what is defended.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Since when this server has served alone, and the partner as well.
    alone: Option<Alone>,
    /// Until when that counts; `None` while it lasts.
    alone_until_ns: Option<u64>,
    /// What the partner's clock said when it was last heard in its normal state.
    partner_normal_s: u64,
    /// Each may lack leases of the other.
    doubted: bool,
    /// When the next comparison is due, and until when one that finds nothing is not the last.
    due_ns: u64,
    until_ns: Option<u64>,
    /// How many have begun since.
    late_rounds: u32,
}

impl Comparison {
    /// Each may lack leases of the other.
    pub(super) fn doubt(&mut self) {
        (self.doubted, self.until_ns, self.late_rounds) = (true, None, 0);
    }

    /// A state is entered.
    pub(super) fn entered(&mut self, now: Now, state: OwnState) {
        if state == OwnState::PartnerDown {
            if self.alone(now).is_none() {
                let (partner_since_s, partner_knows_since_s) = (None, None);
                self.alone = Some(Alone { since_s: now.wall_s(), partner_since_s, partner_knows_since_s });
            }
            if let Some(alone) = &mut self.alone {
                alone.partner_knows_since_s = None;
            }
            self.alone_until_ns = None;
        } else if self.alone.is_some() {
            self.alone_until_ns.get_or_insert(now.monotonic_ns.saturating_add(DEFENDED_NS));
        }
    }

    /// The partner, whose clock says `wall_s`, has copied what was given alone.
    pub(super) fn partner_copied(&mut self, wall_s: u64) {
        if let Some(alone) = &mut self.alone {
            alone.partner_knows_since_s.get_or_insert(wall_s);
        }
    }

    /// Which leases of this server are defended.
    pub(super) fn alone(&self, now: Now) -> Option<Alone> {
        self.alone.filter(|_| self.alone_until_ns.is_none_or(|until_ns| now.monotonic_ns < until_ns))
    }

    /// The partner has said its state, and what its clock says.
    fn heard(&mut self, is_normal: bool, is_alone: bool, wall_s: u64) {
        if is_normal {
            self.partner_normal_s = wall_s;
        }
        if let (true, Some(alone)) = (is_alone, &mut self.alone) {
            alone.partner_since_s.get_or_insert(self.partner_normal_s);
        }
    }

    /// It has failed; another one follows.
    pub(super) fn fail(&mut self, now: Now) {
        self.due_ns = now.monotonic_ns.saturating_add(PAUSE_NS);
    }
}

impl Machine {
    /// A heartbeat is good: whether the last one is so long ago that updates may have been lost meanwhile.
    pub(super) fn doubt_after_silence(&mut self, now: Now) {
        let bound_ns = u64::from(self.relationship.heartbeat_delay_ms) * SILENT_HEARTBEATS * NS_PER_MS;
        if self.state.sends_updates() && self.communication.silent_for_ns(now.monotonic_ns) > bound_ns {
            self.comparison.doubt();
        }
    }

    /// A heartbeat has told the partner's clock, which was `before_s` ahead of ours: whether it was set back since. An update
    /// of after that may have passed for one that was overtaken (`engine::lately`).
    pub(super) fn doubt_after_clock(&mut self, before_s: Option<i64>) {
        let clocks = before_s.zip(self.communication.skew_s());
        if clocks.is_some_and(|(before_s, now_s)| before_s.saturating_sub(now_s) >= CLOCK_SET_BACK_S) {
            self.comparison.doubt();
        }
    }

    /// A heartbeat has told the partner's state. One that was woken may have served alone between two heartbeats: then
    /// the number of its unsent updates has risen.
    pub(super) fn note_partner_alone(&mut self) {
        let normal = self.relationship.mode.normal_state().as_seen_by_partner();
        let (is, wall_s) = (self.communication.partner(), self.communication.wall_s().unwrap_or(0));
        let is_alone = is == PartnerState::PartnerDown || self.communication.has_unsent();
        self.comparison.heard(is == normal, is_alone, wall_s);
    }

    /// The state `next` is entered: whether the partner has copied what was given alone until then. A Tandem that becomes
    /// normal with this server has; a Kea keeps what it takes for newer.
    pub(super) fn note_partner_copied(&mut self, next: OwnState) {
        let copied = self.communication.is_tandem() && self.relationship.sync_leases;
        if let Some(wall_s) = self.communication.wall_s().filter(|_| copied && next.sends_updates()) {
            self.comparison.partner_copied(wall_s);
        }
    }

    /// Whether leases are being compared.
    pub(super) fn is_comparing(&self) -> bool {
        self.synchronisation.as_ref().is_some_and(|running| running.context.purpose == Purpose::Comparison)
    }

    /// Compares, where that is due and both serve.
    pub(super) fn compare_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        let normal = self.relationship.mode.normal_state();
        let both_serve = self.state == normal && self.communication.partner() == normal.as_seen_by_partner();
        let idle = self.synchronisation.is_none() && !self.is_stopping();
        if !self.comparison.doubted || !both_serve || !idle || now.monotonic_ns < self.comparison.due_ns {
            return;
        }
        let replicates = self.relationship.sync_leases && self.relationship.send_lease_updates;
        if self.communication.is_tandem() || !replicates {
            self.comparison.doubted = false;
            return;
        }
        let straggling_ns = now.monotonic_ns.saturating_add(STRAGGLING_NS);
        let until_ns = *self.comparison.until_ns.get_or_insert(straggling_ns);
        self.comparison.late_rounds += u32::from(now.monotonic_ns >= until_ns);
        self.start_synchronisation(now, Purpose::Comparison, 0, None, actions);
    }

    pub(super) fn finish_comparison(&mut self, now: Now, applied: &Applied, actions: &mut Vec<Action>) {
        let (taken, sent) = (applied.written, applied.sent_back);
        let differs = taken > 0 || sent > 0;
        if differs {
            self.log(Message::Compared { partner: self.partner(), taken, sent }, actions);
        }
        let is_late = self.comparison.until_ns.is_some_and(|until_ns| now.monotonic_ns >= until_ns);
        self.comparison.doubted &= !is_late || differs && self.comparison.late_rounds < LATE_ROUNDS_MAX;
        self.comparison.due_ns = now.monotonic_ns.saturating_add(PAUSE_NS);
        if !self.comparison.doubted {
            // The partner has everything.
            self.untold = None;
        }
        self.evaluate(now, actions);
    }

    /// A comparison makes room for whatever comes.
    pub(super) fn abort_comparison(&mut self, actions: &mut Vec<Action>) {
        if self.is_comparing() {
            self.abort_synchronisation(actions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Rig, at, calls, heartbeat_body, logged};
    use super::*;
    use crate::engine::message::{Span, Terms};

    const PAGE: &[u8] = br#"[ { "result": 3, "arguments": { "count": 0, "leases": [ ] } } ]"#;

    fn serving(role: Role) -> Rig {
        let mut rig = Rig::in_state(role, OwnState::HotStandby, PartnerState::HotStandby);
        rig.heartbeat_reply("hot-standby", 0, 0);
        rig
    }

    /// Answers the page under way with nothing, and has it applied; what follows.
    fn compare(rig: &mut Rig, actions: &[Action], sent_back: usize) -> Vec<Action> {
        let id = Rig::call(actions, "lease4-get-page");
        let actions = rig.handle(Event::CallDone { id, result: Ok(PAGE.to_vec()) });
        let apply = actions.iter().find_map(|action| match action {
            Action::ApplyPage { id, rows } => Some((*id, rows.terms)),
            _ => None,
        });
        let (id, terms) = apply.expect("a page");
        assert_eq!(terms, Terms::Comparison(Span::default()));
        rig.handle(Event::PageApplied { id, result: Ok(Applied { sent_back, ..Applied::default() }) })
    }

    #[test]
    fn after_a_silence_a_kea_is_compared_with_until_nothing_is_left() {
        let mut rig = serving(Role::Primary);
        rig.end_heartbeat(Err("closed".into()));
        let actions = rig.heartbeat_reply("hot-standby", 0, 0);
        let disables = calls(&actions).iter().any(|(_, name)| name == "dhcp-disable");
        assert!(!disables, "nobody is told to stop");
        let actions = compare(&mut rig, &actions, 2);
        assert_eq!(logged(&actions), ["TANDEM_HA_COMPARED"]);
        let notifies = calls(&actions).iter().any(|(_, name)| name == "ha-sync-complete-notify");
        assert!(!notifies, "nor that it is over");
        assert_eq!(rig.machine.state(), OwnState::HotStandby);
        let mut comparisons = 1;
        for second in 1..40 {
            rig.now.monotonic_ns += NS_PER_S;
            rig.now.wall_ms += 1000;
            let actions = rig.heartbeat_reply("hot-standby", 0, 0);
            if calls(&actions).iter().any(|(_, name)| name == "lease4-get-page") {
                comparisons += 1;
                assert!(second <= 16, "updates of before the silence have come by now");
                compare(&mut rig, &actions, 0);
            }
        }
        assert_eq!(comparisons, 5);
    }

    #[test]
    fn a_pair_that_always_has_updates_on_their_way_is_not_compared_for_ever() {
        let mut rig = serving(Role::Primary);
        rig.end_heartbeat(Err("closed".into()));
        let mut actions = rig.heartbeat_reply("hot-standby", 0, 0);
        let mut comparisons = 0;
        for _ in 0..120 {
            if calls(&actions).iter().any(|(_, name)| name == "lease4-get-page") {
                comparisons += 1;
                compare(&mut rig, &actions, 1);
            }
            rig.now.monotonic_ns += NS_PER_S;
            rig.now.wall_ms += 1000;
            actions = rig.heartbeat_reply("hot-standby", 0, 0);
        }
        assert_eq!(comparisons, 7, "four while updates of before may come, and three");
    }

    #[test]
    fn there_is_a_comparison_where_something_may_be_missing_and_a_kea_serves_too() {
        let asks = |actions: &[Action]| calls(actions).iter().any(|(_, name)| name == "lease4-get-page");
        let mut rig = serving(Role::Standby);
        assert!(!asks(&rig.heartbeat_reply("hot-standby", 0, 0)), "nothing has happened");
        let mut rig = serving(Role::Standby);
        rig.end_heartbeat(Err("closed".into()));
        assert!(!asks(&rig.tandem_heartbeat("hot-standby", 0, serde_json::json!({}))), "a Tandem");
        let mut rig = serving(Role::Standby);
        let bound_ns = u64::from(rig.machine.relationship.heartbeat_delay_ms) * SILENT_HEARTBEATS * NS_PER_MS;
        rig.now.monotonic_ns += bound_ns + NS_PER_S;
        let id = rig.machine.heartbeat;
        let wall_s = rig.now.wall_s();
        let actions = match id {
            Some(id) => {
                rig.handle(Event::CallDone { id, result: Ok(heartbeat_body("hot-standby", wall_s, 0)) })
            }
            None => rig.heartbeat_reply("hot-standby", 0, 0),
        };
        assert!(asks(&actions), "this server has stood still");
    }

    #[test]
    fn there_is_a_comparison_after_the_clock_of_a_kea_was_set_back() {
        for (before_s, after_s, asks) in
            [(7, 7, false), (7, 6, false), (7, 5, true), (7, 27, false), (27, 7, true), (0, -20, true)]
        {
            let mut rig = serving(Role::Standby);
            rig.heartbeat_reply("hot-standby", before_s, 0);
            rig.machine.comparison.doubted = false;
            let actions = rig.heartbeat_reply("hot-standby", after_s, 0);
            let called = calls(&actions).iter().any(|(_, name)| name == "lease4-get-page");
            assert_eq!(called, asks, "{before_s} s, then {after_s} s ahead");
        }
    }

    #[test]
    fn what_was_given_alone_is_known_to_a_tandem_that_comes_back_and_not_to_a_kea() {
        for tandem in [true, false] {
            let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Unavailable);
            rig.machine.copied = true;
            let alone = |rig: &Rig| rig.machine.view().and_then(|view| view.alone).expect("alone");
            assert_eq!(alone(&rig).partner_knows_since_s, None);
            match tandem {
                true => rig.tandem_heartbeat("ready", 7, serde_json::json!({})),
                false => rig.heartbeat_reply("ready", 7, 0),
            };
            assert_eq!(rig.machine.state(), OwnState::HotStandby);
            let knows_since_s = tandem.then(|| rig.now.wall_s() + 7);
            assert_eq!(alone(&rig).partner_knows_since_s, knows_since_s, "by the partner's clock");
        }
    }

    #[test]
    fn a_partner_that_was_alone_between_two_heartbeats_is_known_by_what_it_has_not_sent() {
        for (state, unsent, since_s) in [
            ("partner-down", 0, Some(7)),
            ("waiting", 3, Some(7)),
            ("waiting", 0, None),
            ("ready", 3, Some(7)),
        ] {
            let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
            rig.heartbeat_reply("hot-standby", 7, 0);
            let since_s = since_s.map(|skew_s| rig.now.wall_s() + skew_s);
            rig.machine.relationship.max_unacked_clients = 0;
            rig.wait_until(11.0);
            rig.end_heartbeat(Err("timed out".into()));
            rig.wait_until(61.0);
            assert_eq!(rig.machine.state(), OwnState::PartnerDown);
            rig.heartbeat_reply(state, 7, unsent);
            let alone = rig.machine.view().and_then(|view| view.alone).expect("alone");
            assert_eq!(alone.partner_since_s, since_s, "{state} {unsent}");
        }
    }

    #[test]
    fn leases_given_alone_are_defended_until_a_minute_after() {
        let mut comparison = Comparison::default();
        comparison.heard(true, false, 77);
        comparison.entered(at(10.0), OwnState::PartnerDown);
        let since_s = at(10.0).wall_s();
        assert_eq!(
            comparison.alone(at(500.0)),
            Some(Alone { since_s, partner_since_s: None, partner_knows_since_s: None })
        );
        comparison.heard(false, true, 99);
        comparison.entered(at(500.0), OwnState::Waiting);
        comparison.entered(at(501.0), OwnState::HotStandby);
        let both = Some(Alone { since_s, partner_since_s: Some(77), partner_knows_since_s: None });
        assert_eq!(comparison.alone(at(559.0)), both);
        comparison.entered(at(559.0), OwnState::PartnerDown);
        assert_eq!(comparison.alone(at(900.0)), both, "the same story");
        comparison.entered(at(900.0), OwnState::HotStandby);
        assert_eq!(comparison.alone(at(961.0)), None);
    }
}
