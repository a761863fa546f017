//! What the partner may lack: leases given while it was not told of them, because this server was alone or terminated, or
//! put its updates off.
//!
//! Such leases may be any number, so they are known by their time alone: from when the first of them can have been given
//! until updates were sent again. That counts until the partner has copied, the whole backlog was sent, or, with a Kea,
//! the leases of both have been compared until nothing was left (`comparison`). A Kea whose copy fails does not
//! begin another one once it has found this server ready, and updates given up with the backlog are told again by nobody.
//!
//! It is kept over a restart (`runtime::ha::behind`).

use shards::Now;

use super::*;

impl Machine {
    /// An earlier process has left changes behind that the partner may lack, made from `since_s` on (own wall clock,
    /// seconds). The number of its unsent updates went with it; the partner is told one that it cannot have heard before,
    /// and copies. A Kea that does not is compared with.
    pub fn recall_behind(&mut self, now: Now, since_s: u64) {
        self.untold = Some(Untold { since_s, until_s: now.wall_s() });
        self.kept_since_s = Some(since_s);
        self.unsent_given_up = now.wall_s();
        self.comparison.doubt();
    }

    /// Notes whether the partner may lack changes made from here on, under `view`, before they can be made.
    pub(super) fn note_untold(&mut self, now: Now, view: &HaView, first: usize, actions: &mut Vec<Action>) {
        let serves = view.service_on && view.scopes.any();
        let tells_nothing = matches!(view.updates, UpdateMode::None | UpdateMode::Queue);
        let copies = self.relationship.has_partner() && self.relationship.sync_leases;
        if serves && tells_nothing && copies {
            // A clock that is set back takes the beginning with it.
            let since_s = self.untold.map_or(u64::MAX, |untold| untold.since_s).min(now.wall_s());
            self.untold = Some(Untold { since_s, until_s: u64::MAX });
        } else if view.updates == UpdateMode::Send
            && let Some(untold) = self.untold.as_mut().filter(|untold| untold.until_s == u64::MAX)
        {
            untold.until_s = now.wall_s();
            self.comparison.doubt();
        }
        let since_s = self.untold.map(|untold| untold.since_s);
        if std::mem::replace(&mut self.kept_since_s, since_s) != since_s {
            actions.insert(first, Action::PartnerBehind(since_s));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_tests::{Kind, feed};
    use super::super::rig::{Rig, at, calls, lease};
    use super::super::sync_tests::{copy, ok, page};
    use super::*;
    use crate::engine::message::{Applied, UpdateKind};

    fn window(rig: &Rig) -> Option<(u64, u64)> {
        let untold = rig.machine.view().expect("a view was published").untold;
        untold.map(|untold| (untold.since_s, untold.until_s))
    }

    fn pass_s(rig: &mut Rig, seconds: u64) {
        rig.now.monotonic_ns += seconds * NS_PER_S;
        rig.now.wall_ms += seconds * 1_000;
    }

    /// A server in communication-recovery that has put off updates of so many addresses, three of which it keeps.
    fn recovering(addresses: u8) -> Rig {
        let mut rig = Rig::in_state(Role::Secondary, OwnState::LoadBalancing, PartnerState::LoadBalancing);
        assert_eq!(window(&rig), None, "whole");
        feed(&mut rig, Kind::Failed);
        assert_eq!(window(&rig), Some((at(0.0).wall_s(), u64::MAX)));
        for number in 1..=addresses {
            rig.handle(Event::Backlog { kind: UpdateKind::Update, lease: lease(number), outcome: None });
        }
        pass_s(&mut rig, 5);
        rig
    }

    /// It has had the Kea reset and has copied, and so has the Kea, or not; both are normal again. What it does then.
    fn given_up(kea_copies: bool) -> (Rig, Vec<Action>) {
        let mut rig = recovering(4);
        let actions = rig.heartbeat_reply("communication-recovery", 0, 0);
        let id = Rig::call(&actions, "ha-reset");
        let actions = rig.handle(Event::CallDone { id, result: ok() });
        copy(&mut rig, actions, &[ok(), Ok(page(0..0)), ok()]);
        assert_eq!(rig.machine.state(), OwnState::LoadBalancing, "it serves first");
        if kea_copies {
            feed(&mut rig, Kind::DisableByPartner);
            feed(&mut rig, Kind::SyncComplete);
        } else {
            let actions = rig.heartbeat_reply("partner-down", 0, 0);
            copy(&mut rig, actions, &[ok(), Ok(page(0..0)), ok()]);
            assert_eq!(rig.machine.state(), OwnState::Ready);
        }
        let actions = rig.heartbeat_reply("load-balancing", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::LoadBalancing);
        (rig, actions)
    }

    #[test]
    fn what_was_put_off_and_given_up_is_told_in_a_comparison_to_a_kea_that_has_not_copied() {
        let (rig, _) = given_up(true);
        assert_eq!(window(&rig), None, "it has everything");
        let (mut rig, mut actions) = given_up(false);
        let told = Some((at(0.0).wall_s(), at(5.0).wall_s()));
        for comparison in 0..5 {
            assert_eq!(window(&rig), told, "{comparison}");
            let id = Rig::call(&actions, "lease4-get-page");
            let page = rig.handle(Event::CallDone { id, result: Ok(page(0..0)) });
            let apply = page.iter().find_map(|action| match action {
                Action::ApplyPage { id, .. } => Some(*id),
                _ => None,
            });
            let applied = Applied { sent_back: usize::from(comparison == 0), ..Applied::default() };
            let done = rig.handle(Event::PageApplied { id: apply.expect("a page"), result: Ok(applied) });
            let forgets = done.iter().any(|action| matches!(action, Action::PartnerBehind(None)));
            assert_eq!(forgets, comparison == 4, "{comparison}: a restart forgets it as well");
            pass_s(&mut rig, 4);
            actions = rig.heartbeat_reply("load-balancing", 0, 0);
        }
        assert_eq!(window(&rig), None);
        assert!(calls(&actions).iter().all(|(_, name)| name != "lease4-get-page"), "it is over");
    }

    #[test]
    fn a_backlog_that_was_sent_leaves_nothing_untold() {
        let mut rig = recovering(1);
        let actions = rig.heartbeat_reply("load-balancing", 0, 0);
        let flushed = actions.iter().find_map(|action| match action {
            Action::Call(call) if call.line == Line::Private => Some(call.id),
            _ => None,
        });
        rig.handle(Event::CallDone { id: flushed.expect("the update"), result: ok() });
        assert_eq!((rig.machine.state(), window(&rig)), (OwnState::LoadBalancing, None));
    }

    /// The time when it began: of an earlier process, and where a file that says so could not be read.
    #[test]
    fn what_an_earlier_process_has_given_untold_counts_from_then_on_until_this_one_began() {
        let now_s = at(0.0).wall_s();
        for since_s in [now_s - 700, u64::MAX] {
            let mut rig = Rig::new(Role::Primary);
            rig.machine.recall_behind(rig.now, since_s);
            rig.handle(Event::Start);
            assert_eq!(window(&rig), Some((since_s, now_s)));
            rig.wait_until(1.0);
            rig.end_heartbeat(Err("refused".into()));
            let actions = rig.wait_until(61.0);
            assert_eq!(rig.machine.state(), OwnState::PartnerDown);
            let alone_s = rig.machine.view().and_then(|view| view.alone).expect("alone").since_s;
            assert_eq!(window(&rig), Some((alone_s.min(since_s), u64::MAX)));
            let kept = actions.iter().find_map(|action| match action {
                Action::PartnerBehind(since_s) => Some(*since_s),
                _ => None,
            });
            assert_eq!(kept, (since_s == u64::MAX).then_some(Some(alone_s)), "kept anew");
        }
    }
}
