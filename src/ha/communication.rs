//! Contact with the partner: what it last said, for how long it has been silent, whose queries it leaves
//! unanswered, how far its clock is off, whose lease updates it refuses (ha-protocol 4.5, 4.6, 4.8, 4.10).
//!
//! Every table here is bounded; what no longer fits is counted, and cannot keep the decision to take over
//! from being made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::command::Reply;
use super::event::ClientIdentity;
use super::fence::{self, Fence};
use super::fingerprint::Fingerprint;
use super::refusals::Refusals;
use super::state::PartnerState;
use crate::engine::message::Asked;
use crate::http::parse_rfc1123_date;
use crate::limits::{HA_BATCH_UPDATES_MAX, HA_CLIENTS_MAX};

/// Member of the answer to `ha-heartbeat` and of `status-get`: why this server is terminated, while it is.
pub const TERMINATED_BECAUSE: &str = "tandem-terminated-because";

/// The reason of one that has no other than its partner's termination.
pub const PARTNER_TERMINATED: &str = "partner-terminated";

/// The partner's answer to a heartbeat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeartbeatReply {
    /// `state`.
    pub state: PartnerState,
    /// `date-time`, seconds since the epoch.
    pub wall_s: u64,
    /// `scopes`; nothing when they are missing or malformed.
    pub scopes: Vec<String>,
    /// `unsent-update-count`, if it was there.
    pub unsent: Option<u64>,
    /// How many lease updates the partner takes in one request; 1 for any but a Tandem server.
    pub batch_max: u16,
    /// Fingerprint of the partner's configuration, if it is a Tandem server.
    pub fingerprint: Option<Fingerprint>,
    /// Whether all its leases can be copied while it serves.
    pub copies: bool,
    /// Whether it is terminated for no reason but that this server was.
    pub follows: bool,
    /// From where on its updates count, if it reads and writes stamps.
    pub fence: Option<Fence>,
}

impl HeartbeatReply {
    /// Reads the arguments (ha-protocol 3.1). The error says what is wrong.
    pub fn parse(reply: &Reply) -> Result<Self, String> {
        let arguments =
            reply.arguments.as_ref().and_then(Value::as_object).ok_or("no arguments in the answer")?;
        let state = arguments.get("state").and_then(Value::as_str).ok_or("no state in the answer")?;
        let state = PartnerState::from_name(state).ok_or_else(|| format!("unknown state {state}"))?;
        let date = arguments.get("date-time").and_then(Value::as_str).ok_or("no date-time in the answer")?;
        let wall_s = parse_rfc1123_date(date).ok_or_else(|| format!("malformed date-time {date}"))?;
        let scopes = arguments.get("scopes").and_then(Value::as_array);
        let scopes =
            scopes.into_iter().flatten().filter_map(|scope| scope.as_str().map(str::to_owned)).collect();
        let unsent = match arguments.get("unsent-update-count") {
            None => None,
            Some(count) => {
                let count = count.as_i64().and_then(|count| u64::try_from(count).ok());
                Some(count.ok_or("unsent-update-count is not a non-negative integer")?)
            }
        };
        let batch_max = arguments.get(super::batch::ANNOUNCEMENT).and_then(Value::as_u64).unwrap_or(1);
        let batch_max = u16::try_from(batch_max).unwrap_or(u16::MAX).clamp(1, HA_BATCH_UPDATES_MAX);
        let fingerprint = Fingerprint::from_members(arguments);
        let copies = arguments.get(super::copy::ANNOUNCEMENT).and_then(Value::as_u64);
        let copies = copies == Some(u64::from(super::copy::VERSION));
        let follows = arguments.get(TERMINATED_BECAUSE).and_then(Value::as_str);
        let follows = state == PartnerState::Terminated && follows == Some(PARTNER_TERMINATED);
        let fence = arguments.get(fence::ANNOUNCEMENT).and_then(Value::as_str).and_then(Fence::from_text);
        Ok(Self { state, wall_s, scopes, unsent, batch_max, fingerprint, copies, follows, fence })
    }
}

/// Who a client is: hardware address and client identifier.
pub(super) type ClientKey = (Box<[u8]>, Box<[u8]>);

pub(super) fn key(client: &ClientIdentity) -> ClientKey {
    (client.hwaddr.as_slice().into(), client.client_id.as_slice().into())
}

/// For how long a client says that it has been asking, milliseconds. Some send the field with its octets swapped; they are
/// found by a low octet of zero.
pub fn waited_ms(secs: u16) -> u64 {
    let secs = if secs > 255 && secs & 0xff == 0 { secs >> 8 } else { secs };
    u64::from(secs) * 1000
}

/// What a report of the traffic analysis changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// A client not seen before, still within `max-ack-delay`.
    Connecting,
    /// Nothing new.
    Known,
    /// The partner has made a client an offer just now: it lives and serves, only not to be heard from here.
    Offered,
    /// A client newly beyond `max-ack-delay`.
    Unacked,
}

/// Everything known of the partner.
#[derive(Clone, Debug)]
pub struct Communication {
    partner: PartnerState,
    last_contact_ns: u64,
    terminated_since_ns: Option<u64>,
    wall_s: Option<u64>,
    skew_s: Option<i64>,
    scopes: Vec<String>,
    batch_max: u16,
    /// It has said that it is about to end, and nothing else since.
    has_stopped: bool,
    /// It served alone when it was last heard.
    served_alone: bool,
    copies: bool,
    follows: bool,
    fence: Option<Fence>,
    unsent_latest: u64,
    unsent_known: u64,
    connecting: BTreeSet<ClientKey>,
    unacked: BTreeSet<ClientKey>,
    /// Who has asked any server since the last contact.
    discovering: BTreeSet<ClientKey>,
    /// Who has asked for an address since the partner had to be serving, if it lives, and when first (monotonic).
    asked_late: BTreeMap<ClientKey, u64>,
    /// One of them has waited for long.
    waits_for_long: bool,
    analyzed: u64,
    refusals: Refusals,
}

impl Communication {
    /// Nothing is known, and the partner's silence is measured from `now_ns` (monotonic).
    pub fn new(now_ns: u64) -> Self {
        Self {
            partner: PartnerState::Unknown,
            last_contact_ns: now_ns,
            terminated_since_ns: None,
            wall_s: None,
            skew_s: None,
            scopes: Vec::new(),
            batch_max: 1,
            has_stopped: false,
            served_alone: false,
            copies: false,
            follows: false,
            fence: None,
            unsent_latest: 0,
            unsent_known: 0,
            connecting: BTreeSet::new(),
            unacked: BTreeSet::new(),
            discovering: BTreeSet::new(),
            asked_late: BTreeMap::new(),
            waits_for_long: false,
            analyzed: 0,
            refusals: Refusals::default(),
        }
    }

    /// A good heartbeat.
    pub fn record(&mut self, now_ns: u64, now_wall_s: u64, reply: HeartbeatReply) {
        self.told(reply.state);
        self.terminated_since_ns = match reply.state {
            PartnerState::Terminated => self.terminated_since_ns.or(Some(now_ns)),
            _ => None,
        };
        self.wall_s = Some(reply.wall_s);
        self.skew_s = Some(reply.wall_s.cast_signed().saturating_sub(now_wall_s.cast_signed()));
        self.scopes = reply.scopes;
        self.batch_max = reply.batch_max;
        self.has_stopped = false;
        self.copies = reply.copies;
        self.follows = reply.follows;
        let life = |fence: Option<Fence>| fence.map(|fence| fence.life);
        let is_another_life = life(reply.fence) != life(self.fence);
        self.fence = reply.fence;
        if let Some(unsent) = reply.unsent {
            // The count of a new process is all news, also where it is what the former one had come to. Of a Kea it is
            // known by having fallen.
            if is_another_life || unsent < self.unsent_latest {
                self.unsent_known = 0;
            }
            self.unsent_latest = unsent;
        }
        self.poke(now_ns);
    }

    /// The partner has shown that it lives.
    pub fn poke(&mut self, now_ns: u64) {
        self.last_contact_ns = now_ns;
        self.forget_clients();
        self.analyzed = 0;
    }

    fn forget_clients(&mut self) {
        self.connecting.clear();
        self.unacked.clear();
        self.discovering.clear();
        self.asked_late.clear();
        self.waits_for_long = false;
    }

    /// A command to the partner has failed. The skew is forgotten (ha-protocol 8 no. 16).
    pub fn fail(&mut self) {
        self.partner = PartnerState::Unavailable;
        self.skew_s = None;
        // What comes back may be another program. Stamps stay until it is heard: a request that has just been given up may
        // still arrive behind the next one. A program that reads none refuses that one, and is heard a moment later.
        self.batch_max = 1;
        self.copies = false;
        self.follows = false;
        self.terminated_since_ns = None;
        self.refusals.forget_moments();
    }

    /// The partner serves nobody any longer and is about to end: it counts as gone, without further proof.
    pub fn stop(&mut self) {
        self.fail();
        (self.has_stopped, self.served_alone) = (true, false);
    }

    /// Whether the partner has said that it is about to end, and nothing else since.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// The partner has told its state in a command, or is about to take one that is not known (ha-protocol 4.9).
    pub fn told(&mut self, partner: PartnerState) {
        self.partner = partner;
        self.served_alone = matches!(partner, PartnerState::PartnerDown | PartnerState::PartnerInMaintenance);
    }

    /// The partner has heard that this server is ready.
    pub fn serves_alone_no_longer(&mut self) {
        self.served_alone = false;
    }

    /// Whether the partner served alone when it was last heard, however long it has been silent since.
    pub fn served_alone(&self) -> bool {
        self.served_alone
    }

    /// Whether the partner is a Tandem server. One that does not answer is none: what comes back may be another.
    pub fn is_tandem(&self) -> bool {
        self.batch_max > 1
    }

    /// Begins anew to measure for how long the partner has been terminated.
    pub fn restart_terminated(&mut self, now_ns: u64) {
        self.terminated_since_ns = self.terminated_since_ns.map(|_| now_ns);
    }

    /// The partner's state as last heard.
    pub fn partner(&self) -> PartnerState {
        self.partner
    }

    /// When the silence becomes longer than `max_response_delay_ms`.
    pub fn interrupted_at_ns(&self, max_response_delay_ms: u32) -> u64 {
        self.last_contact_ns.saturating_add(u64::from(max_response_delay_ms) * 1_000_000).saturating_add(1)
    }

    /// Since when the partner has been seen terminated.
    pub fn terminated_since_ns(&self) -> Option<u64> {
        self.terminated_since_ns
    }

    /// Nobody has listened for `ns`, so that nobody was silent.
    pub fn excuse(&mut self, ns: u64) {
        self.last_contact_ns = self.last_contact_ns.saturating_add(ns);
    }

    /// Nanoseconds since the last contact.
    pub fn silent_for_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.last_contact_ns)
    }

    /// Seconds since the last contact.
    pub fn age_s(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.last_contact_ns) / 1_000_000_000
    }

    /// The partner's clock minus ours, whole seconds.
    pub fn skew_s(&self) -> Option<i64> {
        self.skew_s
    }

    /// The partner's clock as last heard.
    pub fn wall_s(&self) -> Option<u64> {
        self.wall_s
    }

    /// How far the clocks are apart is to be heard anew.
    pub fn forget_skew(&mut self) {
        self.skew_s = None;
    }

    /// How many lease updates the partner takes in one request.
    pub fn batch_max(&self) -> u16 {
        self.batch_max
    }

    /// Whether all leases of the partner can be copied while it serves.
    pub fn copies(&self) -> bool {
        self.copies
    }

    /// From where on the partner's updates count, as last heard; `None` where it knows nothing of stamps.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// Whether the partner is terminated for no reason but that this server was.
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// Scopes the partner serves.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// From here on only higher counts are news: both are in the normal state, or its leases were copied
    /// (ha-protocol 8 no. 15).
    pub fn acknowledge_unsent(&mut self) {
        self.unsent_known = self.unsent_latest;
    }

    /// Whether the partner served clients that we were not told of.
    pub fn has_unsent(&self) -> bool {
        self.unsent_latest > 0 && self.unsent_latest != self.unsent_known
    }

    /// A query of one of the partner's clients, while it is silent (ha-protocol 4.6).
    ///
    /// A client that has asked any server, and then takes the offer of one, has it from the partner: the link alone is
    /// cut, and who has waited so far is no proof of anything. A client that goes on taking an offer of before the
    /// silence is no sign of life, and none of death: a partner that lives makes offers, but acknowledges nothing before it
    /// has found out, up to a heartbeat later than this server, that it is alone.
    pub fn analyze(
        &mut self,
        client: &ClientIdentity,
        secs: u16,
        asked: Asked,
        max_ack_delay_ms: u32,
    ) -> Seen {
        match asked {
            Asked::Any if self.discovering.len() < HA_CLIENTS_MAX => {
                self.discovering.insert(key(client));
            }
            Asked::One if self.discovering.contains(&key(client)) => {
                self.analyzed = self.analyzed.saturating_add(1);
                self.forget_clients();
                return Seen::Offered;
            }
            Asked::One => {
                self.analyzed = self.analyzed.saturating_add(1);
                return Seen::Known;
            }
            Asked::Any | Asked::Other => {}
        }
        self.count(client, secs, true, max_ack_delay_ms)
    }

    /// The same once the partner has been silent for so long that it has to acknowledge leases, if it lives: offers say
    /// nothing any more. Who has waited until now may ask again after a long pause only, and is served then; so a client
    /// counts when it is still asking `max-ack-delay` after it has asked for the first time.
    pub fn analyze_late(
        &mut self,
        now_ns: u64,
        client: &ClientIdentity,
        secs: u16,
        asked: Asked,
        max_ack_delay_ms: u32,
    ) -> Seen {
        let delay_ns = u64::from(max_ack_delay_ms) * 1_000_000;
        let is_full = self.asked_late.len() >= HA_CLIENTS_MAX;
        let counts = match self.asked_late.get(&key(client)) {
            _ if asked == Asked::Other || is_full => true,
            Some(first_ns) => now_ns.saturating_sub(*first_ns) >= delay_ns,
            None => self.asked_late.insert(key(client), now_ns).is_some(),
        };
        self.count(client, secs, counts, max_ack_delay_ms)
    }

    /// One query more; `may_be_unacked` where it may show that nobody answers its client.
    fn count(
        &mut self,
        client: &ClientIdentity,
        secs: u16,
        may_be_unacked: bool,
        max_ack_delay_ms: u32,
    ) -> Seen {
        self.analyzed = self.analyzed.saturating_add(1);
        let key = key(client);
        if may_be_unacked && waited_ms(secs) > u64::from(max_ack_delay_ms) {
            self.connecting.remove(&key);
            let fits = self.unacked.len() < HA_CLIENTS_MAX;
            return if fits && self.unacked.insert(key) { Seen::Unacked } else { Seen::Known };
        }
        let fits = self.connecting.len() < HA_CLIENTS_MAX && !self.unacked.contains(&key);
        if fits && self.connecting.insert(key) { Seen::Connecting } else { Seen::Known }
    }

    /// A client of the silent partner has waited for long, whatever `max-ack-delay` is.
    pub fn note_long_wait(&mut self) {
        self.waits_for_long = true;
    }

    /// Whether one has, and none has shown since that the partner lives.
    pub fn waits_for_long(&self) -> bool {
        self.waits_for_long
    }

    /// Clients beyond `max-ack-delay`.
    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// Clients seen, those beyond `max-ack-delay` included.
    pub fn connecting(&self) -> usize {
        self.connecting.len() + self.unacked.len()
    }

    /// Queries analyzed since the last contact.
    pub fn analyzed(&self) -> u64 {
        self.analyzed
    }

    /// Whether traffic proves that the partner does not serve: more clients than `max_unacked_clients`. A
    /// table that is full is proof enough.
    pub fn traffic_proves_failure(&self, max_unacked_clients: u32) -> bool {
        max_unacked_clients == 0
            || self.unacked.len() > max_unacked_clients as usize
            || self.unacked.len() >= HA_CLIENTS_MAX
    }

    /// Clients whose updates the partner refuses.
    pub fn refusals(&mut self) -> &mut Refusals {
        &mut self.refusals
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shards::SmallBytes;

    use super::*;

    fn client(number: u8) -> ClientIdentity {
        ClientIdentity { hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]), client_id: SmallBytes::empty() }
    }

    fn heartbeat(state: PartnerState, unsent: u64) -> HeartbeatReply {
        HeartbeatReply {
            state,
            wall_s: 100,
            scopes: Vec::new(),
            unsent: Some(unsent),
            batch_max: 1,
            fingerprint: None,
            copies: false,
            follows: false,
            fence: None,
        }
    }

    #[test]
    fn a_heartbeat_answer_is_read_as_3_1_says() {
        let date = "Sun, 22 Nov 2026 08:02:23 GMT";
        for (arguments, good) in [
            (json!({"state": "ready", "date-time": date}), true),
            (json!({"state": "ready", "date-time": date, "scopes": 7}), true),
            (
                json!({"state": "ready", "date-time": date, "scopes": ["a"], "unsent-update-count": 3, "x": 1}),
                true,
            ),
            (json!({"state": "unavailable", "date-time": date}), true),
            (json!({"state": "READY", "date-time": date}), false),
            (json!({"state": 1, "date-time": date}), false),
            (json!({"date-time": date}), false),
            (json!({"state": "ready"}), false),
            (json!({"state": "ready", "date-time": "Sun, 22 Nov 2026 08:02:23 +0000"}), false),
            (json!({"state": "ready", "date-time": date, "unsent-update-count": -1}), false),
            (json!({"state": "ready", "date-time": date, "unsent-update-count": "1"}), false),
            (json!([1]), false),
        ] {
            let reply = Reply::success("").with_arguments(arguments.clone());
            assert_eq!(HeartbeatReply::parse(&reply).is_ok(), good, "{arguments}");
        }
        assert!(HeartbeatReply::parse(&Reply::success("")).is_err());
    }

    #[test]
    fn a_client_counts_once_and_never_back() {
        let mut communication = Communication::new(0);
        // (client, secs, result, unacked afterwards); max-ack-delay 10 s is exceeded from 11 s on.
        for (number, secs, seen, unacked) in [
            (1, 10, Seen::Connecting, 0),
            (1, 10, Seen::Known, 0),
            (1, 11, Seen::Unacked, 1),
            (1, 0, Seen::Known, 1),
            (1, 60, Seen::Known, 1),
            (2, 0x0500, Seen::Connecting, 1),
            (3, 0x0b00, Seen::Unacked, 2),
            (4, 0x0101, Seen::Unacked, 3),
        ] {
            assert_eq!(
                communication.analyze(&client(number), secs, Asked::Other, 10_000),
                seen,
                "{number} {secs}"
            );
            assert_eq!(communication.unacked(), unacked, "{number} {secs}");
        }
        assert_eq!((communication.connecting(), communication.analyzed()), (4, 8));
        assert!(communication.traffic_proves_failure(2) && !communication.traffic_proves_failure(3));
        assert!(communication.traffic_proves_failure(0), "0 skips the analysis");
        communication.poke(1);
        assert_eq!(
            (communication.connecting(), communication.unacked(), communication.analyzed()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_client_that_takes_an_offer_made_in_the_silence_shows_that_the_partner_lives() {
        let mut communication = Communication::new(0);
        let mut analyze = |number, asked| communication.analyze(&client(number), 60, asked, 10_000);
        for number in 1..=3 {
            assert_eq!(analyze(number, Asked::Any), Seen::Unacked);
        }
        assert_eq!(analyze(9, Asked::One), Seen::Known, "an offer of before the silence");
        assert_eq!(analyze(2, Asked::One), Seen::Offered);
        assert_eq!(analyze(1, Asked::Any), Seen::Unacked, "counted anew");
        assert_eq!(analyze(2, Asked::One), Seen::Known, "the offer is as old as the proof that it was made");
        assert_eq!(analyze(2, Asked::Other), Seen::Unacked);
        assert_eq!(communication.unacked(), 2);
    }

    #[test]
    fn beyond_the_trust_a_client_counts_that_goes_on_asking() {
        let mut communication = Communication::new(0);
        // (ms, client, secs, asked, result); max-ack-delay is 2 s.
        for (at_ms, number, secs, asked, seen) in [
            (0, 1, 12, Asked::One, Seen::Connecting),
            (0, 2, 12, Asked::Any, Seen::Connecting),
            // The offer that it was made is taken at once.
            (10, 2, 12, Asked::One, Seen::Known),
            (1_999, 1, 14, Asked::One, Seen::Known),
            (2_000, 1, 14, Asked::One, Seen::Unacked),
            (2_000, 3, 0, Asked::Any, Seen::Connecting),
            (6_000, 3, 4, Asked::Any, Seen::Unacked),
            (6_000, 4, 3, Asked::Other, Seen::Unacked),
            (9_000, 2, 21, Asked::One, Seen::Unacked),
        ] {
            let now_ns = at_ms * 1_000_000;
            let found = communication.analyze_late(now_ns, &client(number), secs, asked, 2_000);
            assert_eq!(found, seen, "{number} at {at_ms}");
        }
        assert_eq!((communication.unacked(), communication.analyzed()), (4, 9));
        communication.poke(9_000_000_000);
        let found = communication.analyze_late(9_000_000_001, &client(1), 60, Asked::One, 2_000);
        assert_eq!(found, Seen::Connecting, "the contact begins anew");
    }

    #[test]
    fn unsent_updates_are_news_until_acknowledged_or_the_partner_restarts() {
        let mut communication = Communication::new(0);
        assert!(!communication.has_unsent());
        for (life, unsent, acknowledge, news) in [
            (None, 0, false, false),
            (None, 3, false, true),
            (None, 3, false, true),
            (None, 3, true, false),
            (None, 3, false, false),
            (None, 4, false, true),
            (None, 0, false, false),
            (None, 2, false, true),
            (None, 2, true, false),
            (Some(7), 2, false, true),
            (Some(7), 2, true, false),
            (Some(7), 2, false, false),
            // As many again in another life, of which nothing was heard before.
            (Some(8), 2, false, true),
            (Some(8), 2, true, false),
            (Some(9), 0, false, false),
        ] {
            let fence = life.map(|life| Fence { life, generation: u64::from(news) });
            communication.record(1, 100, HeartbeatReply { fence, ..heartbeat(PartnerState::Ready, unsent) });
            if acknowledge {
                communication.acknowledge_unsent();
            }
            assert_eq!(communication.has_unsent(), news, "{life:?} {unsent}");
        }
    }

    #[test]
    fn a_partner_that_stops_counts_as_gone_until_it_is_heard() {
        let mut communication = Communication::new(0);
        communication.stop();
        assert!(communication.has_stopped() && communication.partner() == PartnerState::Unavailable);
        communication.fail();
        assert!(communication.has_stopped(), "its silence is no news");
        communication.record(1, 100, heartbeat(PartnerState::Waiting, 0));
        assert!(!communication.has_stopped());
    }

    #[test]
    fn a_failure_forgets_the_skew_but_not_the_last_contact() {
        let mut communication = Communication::new(0);
        communication.record(1_000_000_000, 40, heartbeat(PartnerState::HotStandby, 0));
        assert_eq!(communication.skew_s(), Some(60));
        communication.fail();
        assert_eq!((communication.skew_s(), communication.partner()), (None, PartnerState::Unavailable));
        assert_eq!(communication.interrupted_at_ns(60_000), 61_000_000_001);
    }
}
