//! Drives the engines of a server as the runtime does: one input at a time, then messages, rows, transmissions.

use std::net::Ipv4Addr;

use shards::{Actions, DatagramMeta, Engine as _, Lane, LeaseState, NodeId, Now};
use tandem::engine::Engine;
use tandem::engine::event::Event as LogEvent;
use tandem::engine::message::{ForwardReason, Message, ShardCommand, ShardCommandBody};

use super::links::seat_of;
use super::plan::Plant;
use super::server::{address, ifindex};
use super::simulation::{Event, Simulation};

/// Pause before rows for which there was no room are written again, nanoseconds.
const WRITE_AGAIN_NS: u64 = 100_000_000;
/// A message takes up to this long from node to node, nanoseconds.
const LANE_NS: u64 = 50_000;

impl Simulation {
    /// Gives one input to an engine and carries out what it wants done.
    pub fn drive(
        &mut self,
        server: usize,
        shard: usize,
        run: impl FnOnce(Now, &mut Engine, &mut Actions<Message, LogEvent>),
    ) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let node = NodeId(shard as u8);
        let mut actions = std::mem::replace(&mut process.actions[shard], Actions::new(0));
        process.mesh.grant_credit(node, &mut actions);
        let engine = &mut process.engines[shard];
        engine.set_journal_waiting(process.journals[shard].buffer.waiting_bytes());
        run(now, engine, &mut actions);
        process.watched.touch(shard);
        for (to, lane, message) in std::mem::take(&mut actions.messages) {
            self.post(server, node, to, lane, message);
        }
        if !actions.rows.is_empty() {
            self.append(server, shard, &actions.rows);
        }
        for transmit in std::mem::take(&mut actions.transmit) {
            let bytes = actions.bytes[transmit.payload.clone()].to_vec();
            self.reply(server, shard, bytes);
        }
        actions.clear();
        if let Some(process) = self.servers[server].process.as_mut() {
            process.actions[shard] = actions;
        }
    }

    /// Puts a message into a lane of `server`.
    pub fn post(&mut self, server: usize, from: NodeId, to: NodeId, lane: Lane, message: Message) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let lane = process.mesh.push(from, to, lane, message);
        let life = self.servers[server].life;
        let delay_ns = 1 + self.draw(LANE_NS);
        self.schedule(delay_ns, Event::Lane { server, life, lane });
    }

    /// The oldest message of a lane arrives.
    pub fn step_lane(&mut self, server: usize, lane: usize) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let topology = process.topology;
        let Some((from, to, message)) = process.mesh.pop(lane) else { return };
        if topology.is_shard(to) {
            let shard = usize::from(to.0);
            match &message {
                Message::HaView(view) => process.give_view(shard, view, now),
                Message::Forward(forward) if forward.reason == ForwardReason::Spill => {
                    self.tally.spills += 1;
                    if self.plan.plant == Some(Plant::SpillTwice) {
                        self.forget_a_holder(server, shard);
                    }
                }
                _ => {}
            }
            self.drive(server, shard, |now, engine, actions| {
                engine.handle_message(now, from, message, actions);
            });
        } else if to == topology.control() {
            self.control_message(server, from, message);
        } else if let Some(place) = (0..topology.listeners).find(|place| to == topology.listener(*place)) {
            self.listener_message(seat_of(server, place.into()), message);
        } else {
            self.sender_message(server, to, message);
        }
    }

    /// A planted fault: a shard loses the lease of somebody who uses it.
    fn forget_a_holder(&mut self, server: usize, shard: usize) {
        let now_s = self.clock_of(server).wall_s();
        let Some(process) = &self.servers[server].process else { return };
        let mut held = None;
        process.engines[shard].inspect().partition.for_each(|lease| {
            if lease.state == LeaseState::Default && !lease.is_expired(now_s) {
                held = Some(lease.address);
            }
        });
        let Some(address) = held else { return };
        let control = process.topology.control();
        let body = ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None };
        let command = Message::Command(Box::new(ShardCommand { request: u64::MAX, body }));
        self.drive(server, shard, |now, engine, actions| {
            engine.handle_message(now, control, command, actions)
        });
    }

    /// A datagram has come to the host: the kernel steers it.
    pub fn receive(&mut self, server: usize, link: usize, source: Ipv4Addr, unicast: bool, bytes: &[u8]) {
        let Some(process) = &self.servers[server].process else { return };
        let shard = usize::from(process.steering.hash.shard_of_message(bytes));
        let meta = DatagramMeta {
            socket: 0,
            ifindex: ifindex(link),
            source,
            source_port: 68,
            destination: if unicast { address(server, link) } else { Ipv4Addr::BROADCAST },
            socket_address: address(server, link),
            source_mac: None,
        };
        let now = self.clock_of(server);
        self.checks.requests.seen(server, now, bytes);
        self.drive(server, shard, |now, engine, actions| engine.handle_datagram(now, &meta, bytes, actions));
    }

    fn append(&mut self, server: usize, shard: usize, rows: &[u8]) {
        self.trace(|| format!("server{} writes {}", server + 1, String::from_utf8_lossy(rows).trim_end()));
        self.record(&[b"rows", &[server as u8, shard as u8], rows]);
        if let Some(process) = self.servers[server].process.as_mut() {
            process.journals[shard].buffer.append(rows);
            self.start_write(server, shard);
        }
    }

    /// Hands the next batch to the kernel, if none is in flight.
    fn start_write(&mut self, server: usize, shard: usize) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let journal = &mut process.journals[shard];
        if journal.batch.is_some() {
            return;
        }
        let Some(batch) = journal.buffer.take() else { return };
        journal.batch = Some(batch);
        if self.is_doomed(server) {
            return;
        }
        let life = self.servers[server].life;
        let delay_ns = self.disk_delay_ns(server);
        self.schedule(delay_ns, Event::DiskWrite { server, life, shard });
    }

    /// The kernel takes the batch, or has no room for it: then the file is left as it was, and the same rows are written
    /// again until there is room.
    pub fn finish_write(&mut self, server: usize, shard: usize) {
        let host = &mut self.servers[server];
        let Some(process) = host.process.as_mut() else { return };
        let journal = &mut process.journals[shard];
        let Some(batch) = &journal.batch else { return };
        let was_full = std::mem::replace(&mut process.has_no_room, host.disk.full);
        if host.disk.full {
            let life = host.life;
            if !was_full {
                self.tally.no_space += 1;
                self.trace(|| format!("server{} has no room for its lease file", server + 1));
            }
            return self.schedule(WRITE_AGAIN_NS, Event::DiskWrite { server, life, shard });
        }
        host.disk.write(&batch.bytes);
        journal.written_to = Some(host.disk.file.len());
        let (last, life) = (batch.last, host.life);
        if self.is_doomed(server) {
            return;
        }
        if self.plan.plant == Some(Plant::SkipSync) {
            if let Some(journal) =
                self.servers[server].process.as_mut().map(|process| &mut process.journals[shard])
                && let Some(batch) = journal.batch.take()
            {
                journal.written_to = None;
                journal.buffer.complete(batch);
            }
            self.drive(server, shard, |now, engine, actions| engine.handle_persisted(now, last, actions));
            return self.start_write(server, shard);
        }
        let delay_ns = self.disk_delay_ns(server);
        self.schedule(delay_ns, Event::DiskSync { server, life, shard });
    }

    /// What was written when the sync began is on stable storage.
    pub fn finish_sync(&mut self, server: usize, shard: usize) {
        let cut = self.random_u64();
        let host = &mut self.servers[server];
        let Some(process) = host.process.as_mut() else { return };
        let journal = &mut process.journals[shard];
        let (Some(batch), Some(written_to)) = (journal.batch.take(), journal.written_to.take()) else {
            return;
        };
        if host.disk.failing {
            let unsynced = host.disk.file.len() - host.disk.synced;
            host.disk.lose_power(cut as usize % (unsynced + 1), false);
            self.tally.failed_syncs += 1;
            self.trace(|| format!("server{} cannot sync its lease file", server + 1));
            return self.crash(server, false);
        }
        host.disk.sync(written_to);
        let last = journal.buffer.complete(batch);
        if self.is_doomed(server) {
            return;
        }
        self.drive(server, shard, |now, engine, actions| engine.handle_persisted(now, last, actions));
        self.start_write(server, shard);
    }

    /// Counts a step of the disk; whether the server goes down at this one, and it has.
    fn is_doomed(&mut self, server: usize) -> bool {
        let power = self.chance(500);
        match &mut self.servers[server].doom {
            None => false,
            Some(0) => {
                self.tally.doomed += 1;
                self.crash(server, power);
                true
            }
            Some(steps) => {
                *steps -= 1;
                false
            }
        }
    }

    fn disk_delay_ns(&mut self, server: usize) -> u64 {
        if self.chance(self.plan.slow_disk_permille) {
            let delay_ns = self.draw(600_000_000);
            self.checks.overtaken.harmed(self.now_ns + delay_ns, server);
            delay_ns
        } else {
            50_000 + self.draw(3_000_000)
        }
    }

    /// Runs the timers of all engines that are due.
    pub fn run_engine_timers(&mut self, server: usize) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let shards = self.servers[server].process.as_ref().map_or(0, |process| process.engines.len());
        for shard in 0..shards {
            let due = |simulation: &Self| {
                let process = simulation.servers[server].process.as_ref()?;
                process.engines[shard].next_timeout().filter(|at_ns| *at_ns <= now_ns)
            };
            if due(self).is_some() {
                self.drive(server, shard, |now, engine, actions| engine.handle_timeout(now, actions));
            }
        }
    }
}
