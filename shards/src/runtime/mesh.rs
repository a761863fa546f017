//! The mesh's lanes: one bounded single-producer ring for each pair of nodes and lane, one eventfd per node.
//!
//! A consumer that finds nothing sets its `parked` flag, looks once more, and sleeps on its eventfd; a
//! producer that finds the flag set clears it and writes to the eventfd. So a busy mesh makes no system
//! calls; nor does waking a busy node for what it finds elsewhere (the disk, its letter box). The rings are
//! made once for the life of the process; a lane that the topology does not have does not exist, and using one
//! is a bug that panics.
//!
//! A node that could do nothing with what shards send it just now says that it is *patient*: then their messages lie
//! in the lane, and it is woken for those of others, or when a lane of a shard is half full.
//!
//! Invariant: messages of one lane arrive in the order they were sent. There is no order between lanes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

use glommio::io::BufferedFile;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::sys;
use crate::{Lane, NodeId, Topology};

/// Places per lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneSizes {
    /// Datagram lane of each pair of shards.
    pub datagram: usize,
    /// State lane of each pair that has one.
    pub state: usize,
}

/// One node's ends of its lanes. Belongs to one thread at a time and can be moved to another.
pub struct NodeEnds<M> {
    id: NodeId,
    topology: Topology,
    outgoing: Lanes<Producer<M>>,
    incoming: Lanes<Consumer<M>>,
    wakeups: Arc<[Wakeup]>,
    /// A second descriptor of this node's eventfd, to wait for.
    event: OwnedFd,
    /// Whether what shards send can wait.
    patient: Cell<bool>,
    /// Where the next round of receiving starts, on each lane, so that no sender is always served last.
    next_datagram: Cell<usize>,
    next_state: Cell<usize>,
}

/// A node in its executor: its ends, and a way to wait. Shared there by `Rc`.
pub struct NodeHandle<M> {
    ends: NodeEnds<M>,
    event: BufferedFile,
    waiting: Cell<bool>,
}

/// What [`Wakeup::parked`] says of a node: it will look at its lanes by itself.
const AWAKE: u8 = 0;
/// It sleeps, and is to be woken for what shards have to say once a lane is half full.
const PATIENT: u8 = 1;
/// It sleeps, and is to be woken.
const PARKED: u8 = 2;

struct Lanes<T> {
    datagram: Vec<Option<RefCell<T>>>,
    state: Vec<Option<RefCell<T>>>,
}

/// How a sleeping node is woken.
struct Wakeup {
    parked: AtomicU8,
    /// A [`NodeWaker`] was used since the node last waited.
    poked: AtomicBool,
    event: OwnedFd,
}

/// Wakes a node from any thread: what its `wait` was waiting for has to be found elsewhere.
#[derive(Clone)]
pub struct NodeWaker {
    wakeups: Arc<[Wakeup]>,
    node: NodeId,
}

/// Makes all lanes of `topology`; the ends of node `n` are at index `n`.
///
/// # Errors
/// No more descriptors: two per node are needed.
pub fn build<M: Send>(topology: Topology, sizes: LaneSizes) -> io::Result<Vec<NodeEnds<M>>> {
    let nodes = topology.nodes();
    let wakeups = (0..nodes)
        .map(|_| {
            let event = sys::event::eventfd()?;
            Ok(Wakeup { parked: AtomicU8::new(AWAKE), poked: AtomicBool::new(false), event })
        })
        .collect::<io::Result<Arc<[Wakeup]>>>()?;
    let mut ends = (0..nodes)
        .map(|index| {
            Ok(NodeEnds {
                id: node(index),
                topology,
                outgoing: Lanes::none(nodes),
                incoming: Lanes::none(nodes),
                wakeups: wakeups.clone(),
                event: wakeups[index].event.try_clone()?,
                patient: Cell::new(false),
                next_datagram: Cell::new(0),
                next_state: Cell::new(0),
            })
        })
        .collect::<io::Result<Vec<NodeEnds<M>>>>()?;
    for from in 0..nodes {
        for to in 0..nodes {
            if topology.has_datagram_lane(node(from), node(to)) {
                let (producer, consumer) = RingBuffer::new(sizes.datagram);
                ends[from].outgoing.datagram[to] = Some(RefCell::new(producer));
                ends[to].incoming.datagram[from] = Some(RefCell::new(consumer));
            }
            if topology.has_state_lane(node(from), node(to)) {
                let (producer, consumer) = RingBuffer::new(sizes.state);
                ends[from].outgoing.state[to] = Some(RefCell::new(producer));
                ends[to].incoming.state[from] = Some(RefCell::new(consumer));
            }
        }
    }
    Ok(ends)
}

impl<M> NodeEnds<M> {
    /// Which node this is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The mesh it belongs to.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Messages that `to` can take on `lane` just now; 0 where there is no such lane.
    pub fn credit(&self, to: NodeId, lane: Lane) -> usize {
        self.outgoing.lane(lane)[usize::from(to.0)].as_ref().map_or(0, |ring| ring.borrow().slots())
    }

    /// [`NodeEnds::credit`] of the node at `index`, for filling a table.
    pub(crate) fn credit_by_index(&self, index: usize, lane: Lane) -> u32 {
        // A lane has at most a few thousand places.
        self.credit(node(index), lane) as u32
    }

    /// Sends `message`, or gives it back when the lane is full.
    ///
    /// # Panics
    /// When the topology has no such lane: a routing bug.
    pub fn try_send(&self, to: NodeId, lane: Lane, message: M) -> Result<(), M> {
        let Some(ring) = &self.outgoing.lane(lane)[usize::from(to.0)] else {
            panic!("no {lane:?} lane from {:?} to {to:?}", self.id)
        };
        let mut ring = ring.borrow_mut();
        ring.push(message).map_err(|rtrb::PushError::Full(message)| message)?;
        let can_wait =
            || self.topology.is_shard(self.id) && !is_half_full(ring.buffer().capacity(), ring.slots());
        self.wakeups[usize::from(to.0)].wake_if_parked(can_wait);
        Ok(())
    }

    /// Takes up to `max` messages of `lane` from all senders in turn and hands each to `handle`; how many there
    /// were. `handle` may use this node again, sending included.
    pub fn receive(&self, lane: Lane, max: usize, mut handle: impl FnMut(NodeId, M)) -> usize {
        let rings = self.incoming.lane(lane);
        let next = match lane {
            Lane::Datagram => &self.next_datagram,
            Lane::State => &self.next_state,
        };
        let start = next.get();
        let mut taken = 0;
        for step in 0..rings.len() {
            let sender = (start + step) % rings.len();
            let Some(ring) = &rings[sender] else { continue };
            while taken < max {
                // The ring is not borrowed while the message is handled.
                let Ok(message) = ring.borrow_mut().pop() else { break };
                if taken == 0 {
                    next.set((sender + 1) % rings.len());
                }
                taken += 1;
                handle(node(sender), message);
            }
        }
        taken
    }

    /// Whether any lane has a message.
    pub fn has_messages(&self) -> bool {
        let any = |rings: &[Option<RefCell<Consumer<M>>>]| {
            rings.iter().flatten().any(|ring| !ring.borrow().is_empty())
        };
        any(&self.incoming.state) || any(&self.incoming.datagram)
    }

    /// Whether there are messages that a patient node is woken for.
    fn has_pressing_messages(&self) -> bool {
        self.incoming.state.iter().enumerate().any(|(sender, ring)| {
            let Some(ring) = ring else { return false };
            let ring = ring.borrow();
            if self.topology.is_shard(node(sender)) {
                is_half_full(ring.buffer().capacity(), ring.buffer().capacity() - ring.slots())
            } else {
                !ring.is_empty()
            }
        })
    }

    /// From now on what shards send can wait, or no longer can: then true says that something has waited, and is to be
    /// received at once, because nobody wakes the node for it.
    pub fn set_patient(&self, patient: bool) -> bool {
        if self.patient.replace(patient) == patient {
            return false;
        }
        let (before, after) = if patient { (PARKED, PATIENT) } else { (PATIENT, PARKED) };
        // Awake, it takes the new value with its next sleep.
        let sleeps = self.wakeup().parked.compare_exchange(before, after, Ordering::SeqCst, Ordering::SeqCst);
        // Pairs with the fence in `wake_if_parked`, as in `begin_sleep`.
        fence(Ordering::SeqCst);
        sleeps.is_ok() && !patient && self.has_messages()
    }

    /// The node is about to sleep until its event is signalled: false when there is something to do instead. Either
    /// way [`NodeEnds::end_sleep`] is due, before whatever woke it is looked for.
    pub(crate) fn begin_sleep(&self) -> bool {
        let Wakeup { parked, poked, .. } = self.wakeup();
        let patient = self.patient.get();
        parked.store(if patient { PATIENT } else { PARKED }, Ordering::SeqCst);
        // Pairs with the fence in `wake_if_parked`: either this look sees the message, or the sender sees the flag.
        fence(Ordering::SeqCst);
        let called = if patient { self.has_pressing_messages() } else { self.has_messages() };
        !called && !poked.load(Ordering::Relaxed)
    }

    /// The node is awake: from now on nobody signals its event.
    pub(crate) fn end_sleep(&self) {
        let Wakeup { parked, poked, .. } = self.wakeup();
        parked.store(AWAKE, Ordering::SeqCst);
        // A swap and not a store: whoever poked meanwhile has done its work before, and it is to be seen.
        poked.swap(false, Ordering::SeqCst);
    }

    /// Whether there are messages, or a [`NodeWaker`] was used since the node slept last.
    pub(crate) fn is_called(&self) -> bool {
        self.wakeup().poked.load(Ordering::Relaxed) || self.has_messages()
    }

    /// What is signalled while the node sleeps.
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.event
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeups[usize::from(self.id.0)]
    }

    /// A handle by which any thread can end this node's `wait`.
    pub fn waker(&self) -> NodeWaker {
        NodeWaker { wakeups: self.wakeups.clone(), node: self.id }
    }
}

impl<M> NodeHandle<M> {
    /// Takes `ends` into the executor that calls this.
    ///
    /// # Panics
    /// Outside an executor.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn new(ends: NodeEnds<M>) -> io::Result<Self> {
        let event = sys::adopt::buffered_file(ends.event.try_clone()?);
        Ok(Self { ends, event, waiting: Cell::new(false) })
    }

    /// Waits until there may be a message or a [`NodeWaker`] was used. Wakes now and then without a reason.
    ///
    /// One task of a node waits (the pump); it hands what it receives to the others. The wait must not be
    /// dropped half-way: a timeout belongs in a task of its own.
    ///
    /// # Errors
    /// The eventfd cannot be read any more; waiting again would spin.
    ///
    /// # Panics
    /// When two tasks wait at once.
    pub async fn wait(&self) -> io::Result<()> {
        assert!(!self.waiting.replace(true), "one task of a node waits");
        let woken = if self.begin_sleep() {
            self.event.read_at(0, size_of::<u64>()).await.map(drop).map_err(io::Error::from)
        } else {
            Ok(())
        };
        self.end_sleep();
        self.waiting.set(false);
        woken
    }
}

impl<M> Deref for NodeHandle<M> {
    type Target = NodeEnds<M>;

    fn deref(&self) -> &NodeEnds<M> {
        &self.ends
    }
}

impl<M> fmt::Debug for NodeEnds<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeEnds").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for NodeHandle<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T> Lanes<T> {
    fn none(nodes: usize) -> Self {
        Self { datagram: (0..nodes).map(|_| None).collect(), state: (0..nodes).map(|_| None).collect() }
    }

    fn lane(&self, lane: Lane) -> &[Option<RefCell<T>>] {
        match lane {
            Lane::Datagram => &self.datagram,
            Lane::State => &self.state,
        }
    }
}

impl Wakeup {
    /// Wakes the node if it sleeps; where it is patient, and `can_wait` says so of what there is, it sleeps on.
    fn wake_if_parked(&self, can_wait: impl FnOnce() -> bool) {
        fence(Ordering::SeqCst);
        match self.parked.load(Ordering::Relaxed) {
            AWAKE => return,
            PATIENT if can_wait() => return,
            _ => {}
        }
        if self.parked.swap(AWAKE, Ordering::SeqCst) != AWAKE {
            sys::event::signal(&self.event);
        }
    }
}

impl NodeWaker {
    /// Ends the node's `wait`, the next one if it is not waiting now.
    pub fn wake(&self) {
        let wakeup = &self.wakeups[usize::from(self.node.0)];
        wakeup.poked.store(true, Ordering::SeqCst);
        wakeup.wake_if_parked(|| false);
    }
}

impl fmt::Debug for NodeWaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeWaker").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Whether a lane of so many places with so many free ones is to be emptied soon.
fn is_half_full(places: usize, free: usize) -> bool {
    free <= places / 2
}

/// Node number of an index below `Topology::nodes`, which fits by construction.
fn node(index: usize) -> NodeId {
    debug_assert!(index <= usize::from(u8::MAX));
    NodeId(index as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: LaneSizes = LaneSizes { datagram: 4, state: 8 };

    fn mesh() -> Vec<NodeEnds<u32>> {
        build(Topology { shards: 2, listeners: 1, senders: 1 }, SIZES).unwrap()
    }

    #[test]
    fn messages_of_a_lane_arrive_in_order_and_credit_follows() {
        let nodes = mesh();
        for number in 0..8 {
            assert_eq!(nodes[0].credit(NodeId(1), Lane::State), 8 - number as usize);
            nodes[0].try_send(NodeId(1), Lane::State, number).unwrap();
        }
        assert_eq!(nodes[0].try_send(NodeId(1), Lane::State, 8), Err(8));
        let mut seen = Vec::new();
        assert_eq!(nodes[1].receive(Lane::State, 5, |from, message| seen.push((from, message))), 5);
        assert_eq!(seen, (0..5).map(|number| (NodeId(0), number)).collect::<Vec<_>>());
        assert_eq!(nodes[0].credit(NodeId(1), Lane::State), 5);
        assert!(nodes[1].has_messages());
    }

    /// As the loop of a shard receives: from both lanes in each turn, and no more than so many messages.
    #[test]
    fn senders_that_fill_their_lanes_have_equal_shares() {
        let nodes = build::<u32>(Topology { shards: 3, listeners: 0, senders: 0 }, SIZES).unwrap();
        let mut shares = [0; 4];
        for _ in 0..20 {
            for sender in [1, 2] {
                while nodes[sender].try_send(NodeId(0), Lane::State, 0).is_ok() {}
                while nodes[sender].try_send(NodeId(0), Lane::Datagram, 0).is_ok() {}
            }
            nodes[0].receive(Lane::State, 4, |_, _| {});
            nodes[0].receive(Lane::Datagram, 4, |from, _| shares[usize::from(from.0)] += 1);
        }
        assert_eq!(shares, [0, 40, 40, 0]);
    }

    #[test]
    fn lanes_the_topology_does_not_have_give_no_credit() {
        let nodes = mesh();
        assert_eq!(nodes[0].credit(NodeId(2), Lane::Datagram), 0, "shard to listener has no datagram lane");
        assert_eq!(nodes[2].credit(NodeId(3), Lane::State), 0, "HA executors do not speak to each other");
        assert_eq!(nodes[2].credit(NodeId(4), Lane::State), 8, "listener to control");
        assert_eq!(nodes[0].credit(NodeId(0), Lane::State), 0, "nobody speaks to itself");
    }

    #[test]
    fn a_patient_node_sleeps_on_until_a_lane_is_half_full_or_somebody_else_sends() {
        let nodes = mesh();
        let (shard, sender, control) = (&nodes[0], &nodes[3], &nodes[4]);
        let send = |from: &NodeEnds<u32>| from.try_send(sender.id(), Lane::State, 7).unwrap();
        let is_awake = || sender.wakeup().parked.load(Ordering::SeqCst) == AWAKE;
        let receive = || sender.receive(Lane::State, 99, |_, _| {});
        assert!(!sender.set_patient(true), "nothing waits");
        assert!(sender.begin_sleep());
        for _ in 0..3 {
            send(shard);
            assert!(!is_awake(), "fewer than half of 8 places are taken");
        }
        assert!(sender.begin_sleep(), "what waits does not keep it from sleeping");
        assert!(sender.set_patient(false), "it waited");
        assert_eq!(receive(), 3);
        send(shard);
        assert!(is_awake(), "it is patient no longer");
        assert!(!sender.set_patient(true));
        assert_eq!(receive(), 1);
        assert!(sender.begin_sleep());
        (0..4).for_each(|_| send(shard));
        assert!(is_awake(), "half of the places are taken");
        assert!(!sender.begin_sleep());
        assert_eq!(receive(), 4);
        assert!(sender.begin_sleep());
        send(control);
        assert!(is_awake(), "control does not wait");
        sender.end_sleep();
    }

    #[test]
    #[should_panic(expected = "no Datagram lane")]
    fn sending_on_a_lane_that_is_not_there_panics() {
        let _ = mesh()[2].try_send(NodeId(0), Lane::Datagram, 1);
    }
}
