//! An engine hears that its rows are durable without anything else happening, with a lease file and without one.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use shards::runtime::{
    DriverLimits, Durability, JournalFile, JournalWriter, LaneSizes, Placement, Request, ShardSetup, mesh,
    spawn_shard,
};
use shards::{Actions, DatagramMeta, Engine, Lane, NodeId, Now, Topology};

/// Writes a row for each message and reports the batches it is told of.
struct Writes;

impl Engine for Writes {
    type Message = u32;
    type Event = u64;

    fn handle_datagram(&mut self, _: Now, _: &DatagramMeta, _: &[u8], _: &mut Actions<u32, u64>) {}

    fn handle_message(&mut self, _: Now, _: NodeId, message: u32, actions: &mut Actions<u32, u64>) {
        actions.rows.extend_from_slice(format!("{message}\n").as_bytes());
    }

    fn handle_persisted(&mut self, _: Now, batch: u64, actions: &mut Actions<u32, u64>) {
        actions.events.push(batch);
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Actions<u32, u64>) {}

    fn next_timeout(&self) -> Option<u64> {
        None
    }

    fn set_journal_waiting(&mut self, _: usize) {}
}

/// Sends one row at a time, each after the one before it is durable: a wake-up that is lost ends it.
fn rows_become_durable(journal: Option<JournalFile>) {
    let topology = Topology { shards: 1, listeners: 0, senders: 0 };
    let mut ends = mesh::build::<u32>(topology, LaneSizes { datagram: 2, state: 16 }).unwrap();
    let control = ends.pop().unwrap();
    let (sender, seen) = mpsc::channel();
    let setup = ShardSetup {
        name: "shard-0".to_owned(),
        placement: Placement::Unpinned,
        spin: Duration::ZERO,
        ends: ends.pop().unwrap(),
        make_engine: || Writes,
        on_event: move |_, batch| {
            // Whoever listened may have seen enough.
            let _ = sender.send(batch);
        },
        journal,
        limits: DriverLimits { receive_batch: 8, state_batch: 8 },
    };
    let (executor, port) = spawn_shard(setup).unwrap();
    let executor = executor.wait_ready().unwrap();
    for number in 1..=500_u32 {
        control.try_send(NodeId(0), Lane::State, number).unwrap();
        let batch = seen.recv_timeout(Duration::from_secs(3));
        assert_eq!(batch, Ok(u64::from(number)), "the row was never reported durable");
    }
    assert!(port.ask(Request::Exit, Duration::from_secs(5)));
    executor.join().unwrap().unwrap();
}

#[test]
fn rows_without_a_file_are_durable_at_once() {
    rows_become_durable(None);
}

#[test]
fn rows_in_a_file_are_durable_once_they_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let file = Arc::new(OpenOptions::new().append(true).create(true).open(&path).unwrap());
    let writer = JournalWriter::start().unwrap();
    rows_become_durable(Some(JournalFile { file, durability: Durability::Synced, writer }));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 500);
}
