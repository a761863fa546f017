//! Basic authentication at the listener and of the sender (ha-protocol 2.8).

use std::sync::atomic::{AtomicBool, Ordering};

use super::hostile::{Client, request};
use super::*;
use crate::http::auth::BasicAuth;

const HEARTBEAT: &[u8] = br#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#;

#[test]
fn wrong_credentials_are_answered_with_401_and_the_connection_stays() {
    let bench = Bench::with(|ends| {
        plain(ends);
        ends.listen.auth = Some(BasicAuth::new("hauser", "sekrit"));
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = Client::connect(bench.address, None);
            let right = BasicAuth::new("hauser", "sekrit");
            let wrong = BasicAuth::new("hauser", "other");
            // All on one connection: the header, the status, the end of the head and body.
            let refused = (401, true, r#"{ "result": 401, "text": "Unauthorized" }"#);
            let answered = (200, false, r#"[ { "result": 0, "text": "from control" } ]"#);
            for (auth, expected) in [
                (None, refused),
                (Some(&wrong), refused),
                (Some(&right), answered),
                (None, refused),
                (Some(&right), answered),
            ] {
                let header = auth.map(|auth| format!("Authorization: {}\r\n", auth.header()));
                client.send(&request(&header.unwrap_or_default(), HEARTBEAT));
                let answer = client.answer().expect("the connection stays open");
                let challenge = answer.head.contains("WWW-Authenticate: Basic realm=\"\"\r\n");
                assert_eq!((answer.status, challenge, answer.body.as_str()), expected);
            }
            done.store(true, Ordering::Release);
        });
        assert_eq!(bench.answer_control(|| done.load(Ordering::Acquire) || asking.is_finished()), 2);
        asking.join().unwrap();
    });
}

#[test]
fn the_sender_shows_each_peer_its_credentials_and_a_refusal_counts_as_no_answer() {
    let bench = Bench::with(|ends| {
        ends.listen.auth = Some(BasicAuth::new("hauser", "sekrit"));
        ends.peers[0].target.auth = Some(BasicAuth::new("hauser", "sekrit"));
        ends.peers[1].target.auth = Some(BasicAuth::new("hauser", "other"));
    });
    let address = [10, 0, 0, 5];
    let created = || Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update_of(0, address, UpdateKind::Update, created()), UpdateOutcome::Acked);
    assert_eq!(bench.update_of(1, address, UpdateKind::Update, None), UpdateOutcome::Failed);
    // New credentials count from the next connection on.
    let mut ends = both_ends(&bench.files, bench.address);
    ends.listen.auth = Some(BasicAuth::new("hauser", "new"));
    bench.ends.replace(ends);
    assert_eq!(bench.update_of(0, address, UpdateKind::Update, None), UpdateOutcome::Failed);
}
