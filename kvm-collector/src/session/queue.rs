//! The queue between the thread that reads the rings and the thread that writes: a write that stalls fills the queue,
//! and the reader goes on. The queue is bounded by the memory of what is in it. When it is full, the reader leaves the
//! records in the rings, where the eBPF programs count what no longer fits.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::drain::RingRead;
use crate::{
    model::{EventCount, ThreadId},
    probe::{BATCH_BYTES, RingLoss},
};

/// The smallest queue: a batch fits into it, whatever it holds besides.
pub const LEAST_QUEUE_BYTES: usize = 2 * BATCH_BYTES;

/// What the reading thread tells the writing thread.
#[derive(Debug)]
pub(super) enum Message {
    /// Records, and what was found with them.
    Batch(QueuedBatch),
    /// Everything else.
    Tick(Tick),
}

/// Records, and what has to be known before they are written.
#[derive(Debug)]
pub(super) struct QueuedBatch {
    pub(super) read: RingRead,
    pub(super) names: NewNames,
    /// All records of an earlier time have been read.
    pub(super) complete_until_ns: u64,
}

/// Names of threads and VMs whose first event is in a batch. They are read together with the batch: by the time it is
/// written, the thread may have ended.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    /// Threads.
    pub(super) threads: Vec<(ThreadId, String)>,
    /// VMs, by process.
    pub(super) vms: Vec<(u32, String)>,
}

/// What the writing thread has to do besides writing batches. Two of them that follow each other become one.
#[derive(Debug, Default)]
pub(super) struct Tick {
    /// All records of an earlier time have been read.
    pub(super) complete_until_ns: u64,
    /// The totals of each event, and when they were read.
    pub(super) counts: Option<(Vec<EventCount>, u64)>,
    /// Write what is buffered.
    pub(super) flush: bool,
    /// Write what the flight recorder has stored.
    pub(super) dump: bool,
}

impl Tick {
    fn merge(&mut self, later: Self) {
        self.complete_until_ns = self.complete_until_ns.max(later.complete_until_ns);
        if later.counts.is_some() {
            // They are totals since the beginning.
            self.counts = later.counts;
        }
        self.flush |= later.flush;
        self.dump |= later.dump;
    }
}

/// The reading thread's end of a queue.
#[derive(Debug)]
pub(super) struct Sender(Arc<Shared>);

/// The writing thread's end of a queue.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: usize,
    state: Mutex<State>,
    arrived: Condvar,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the memory that it takes.
    messages: VecDeque<(usize, Message)>,
    bytes: usize,
    /// The sender is gone: there will be no more.
    is_complete: bool,
    /// The receiver needs no more.
    is_ended: bool,
    /// The receiver is gone: nothing is stored any more.
    is_abandoned: bool,
}

/// Makes a queue that takes so much memory at most.
pub(super) fn queue(capacity: usize) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(LEAST_QUEUE_BYTES),
        state: Mutex::default(),
        arrived: Condvar::new(),
        freed: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete, whatever panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, bytes: usize, message: Message) {
        if !self.is_abandoned {
            self.bytes += bytes;
            self.messages.push_back((bytes, message));
        }
    }
}

impl Sender {
    /// Is there capacity for another batch, however large?
    pub(super) fn has_capacity(&self) -> bool {
        self.0.state().bytes + BATCH_BYTES + MESSAGE_BYTES <= self.0.capacity
    }

    /// Waits until there is capacity for another batch.
    pub(super) async fn capacity(&self) {
        while !self.has_capacity() {
            self.0.freed.notified().await;
        }
    }

    /// Has the writing thread ended, or does it need no more?
    pub(super) fn is_ended(&self) -> bool {
        self.0.state().is_ended
    }

    /// Adds a batch. The caller has seen to it that there is capacity.
    pub(super) fn push(&self, mut queued: QueuedBatch) {
        let is_waiting = !self.0.state().messages.is_empty();
        let batch = &mut queued.read.batch;
        // A batch keeps all of the buffer that it was read into. A batch that waits gets memory of its own, so that it
        // takes only what it holds and the buffer is free for the next one.
        let memory = if is_waiting && batch.len() <= BATCH_BYTES / 2 {
            *batch = batch.to_exact_size();
            batch.len()
        } else {
            BATCH_BYTES
        };
        let bytes = memory + small_bytes(&queued);
        self.0.state().push(bytes, Message::Batch(queued));
        self.0.arrived.notify_one();
    }

    /// Adds a tick. Needs no capacity: it is merged into one that waits at the end, so there are never more ticks than
    /// batches and one.
    pub(super) fn tick(&self, tick: Tick) {
        let mut state = self.0.state();
        match state.messages.back_mut() {
            Some((_, Message::Tick(last))) => last.merge(tick),
            _ => state.push(0, Message::Tick(tick)),
        }
        drop(state);
        self.0.arrived.notify_one();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.state().is_complete = true;
        self.0.arrived.notify_one();
    }
}

impl Receiver {
    /// Waits for the next message; `None` after the last one.
    pub(super) fn next(&self) -> Option<Message> {
        let mut state = self.0.state();
        loop {
            if let Some((bytes, message)) = state.messages.pop_front() {
                state.bytes -= bytes;
                drop(state);
                self.0.freed.notify_one();
                return Some(message);
            }
            if state.is_complete {
                return None;
            }
            state = self
                .0
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Does no message wait?
    pub(super) fn is_empty(&self) -> bool {
        self.0.state().messages.is_empty()
    }

    /// Tells the reading thread that no more is needed.
    pub(super) fn end(&self) {
        self.0.state().is_ended = true;
        self.0.freed.notify_one();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_ended = true;
        state.is_abandoned = true;
        state.messages.clear();
        state.bytes = 0;
        drop(state);
        self.0.freed.notify_one();
    }
}

/// What a message takes besides its records, losses and names.
const MESSAGE_BYTES: usize = size_of::<Message>();

/// What a batch takes besides its records.
fn small_bytes(queued: &QueuedBatch) -> usize {
    let NewNames { threads, vms } = &queued.names;
    let texts = threads.iter().map(|it| &it.1);
    let texts = texts.chain(vms.iter().map(|it| &it.1));
    MESSAGE_BYTES
        + queued.read.losses.capacity() * size_of::<RingLoss>()
        + texts
            .map(|text| size_of::<(ThreadId, String)>() + text.capacity())
            .sum::<usize>()
}

#[cfg(test)]
pub(super) mod tests {
    use std::{thread, time::Duration};

    use bytes::BytesMut;
    use kvm_ebpf_common::RECORD_HEADER_BYTES;
    use proptest::prelude::*;

    use super::*;
    use crate::{model::Batch, tracefs::EventName};

    /// A batch of records: slot, process, thread.
    pub(in crate::session) fn batch_of(records: &[(u16, u32, u32)]) -> Batch {
        let mut bytes = BytesMut::new();
        let length = u16::try_from(RECORD_HEADER_BYTES + 16).unwrap();
        for (slot, tgid, tid) in records {
            bytes.extend_from_slice(&1u64.to_ne_bytes());
            bytes.extend_from_slice(&tgid.to_ne_bytes());
            bytes.extend_from_slice(&0u16.to_ne_bytes());
            bytes.extend_from_slice(&length.to_ne_bytes());
            bytes.extend_from_slice(&7u16.to_ne_bytes());
            bytes.extend_from_slice(&slot.to_ne_bytes());
            bytes.extend_from_slice(&tid.to_ne_bytes());
            bytes.resize(bytes.len().next_multiple_of(usize::from(length)), 0);
        }
        Batch::new(bytes.freeze())
    }

    /// A batch of so many bytes.
    fn batch(bytes: usize) -> QueuedBatch {
        QueuedBatch {
            read: RingRead {
                batch: Batch::new(vec![1; bytes].into()),
                losses: Vec::new(),
            },
            names: NewNames::default(),
            complete_until_ns: 0,
        }
    }

    fn counts(lost: u64) -> Option<(Vec<EventCount>, u64)> {
        let count = EventCount {
            event: EventName {
 system: "kvm".into(),
 name: "kvm_exit".into(),
},
            count: lost,
            lost,
        };
        Some((vec![count], lost))
    }

    /// Sends batches of these sizes and a tick after each, as long as there is capacity; then receives all.
    fn fill(sender: &Sender, sizes: &[usize]) -> usize {
        let mut sent = 0;
        for (at, size) in sizes.iter().enumerate() {
            if !sender.has_capacity() {
                break;
            }
            sender.push(batch(*size));
            sender.tick(Tick {
                complete_until_ns: at as u64,
                ..Tick::default()
            });
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_full_queue_takes_its_bytes_and_not_more() {
        let capacity = 8 << 20;
        for size in [100, 10 << 10, BATCH_BYTES / 2, BATCH_BYTES] {
            let (sender, receiver) = queue(capacity);
            let sizes = vec![size; 1 << 17];
            let sent = fill(&sender, &sizes);
            let bytes = sender.0.state().bytes;
            assert!(bytes <= capacity, "{size}: {bytes}");
            // What waits takes only what it is, as long as that is worth a copy.
            assert!(sent * (size + 300) >= 6 << 20, "{size}: {sent}");
            assert!(!sender.has_capacity());
            // One is taken, and after the two ticks that are one by now there is capacity again.
            while !sender.has_capacity() {
                receiver.next().unwrap();
            }
        }
    }

    #[test]
    fn ticks_that_wait_become_one() {
        let (sender, receiver) = queue(0);
        for lost in 1..1000 {
            sender.tick(Tick {
                complete_until_ns: 2000 - lost,
                counts: counts(lost),
                dump: lost == 7,
                flush: lost == 8,
            });
        }
        // Without new totals the last ones hold.
        sender.tick(Tick::default());
        drop(sender);
        let Some(Message::Tick(tick)) = receiver.next() else {
            panic!("no tick");
        };
        assert_eq!(tick.complete_until_ns, 1999);
        assert_eq!(tick.counts, counts(999));
        assert!(tick.dump && tick.flush);
        assert!(receiver.next().is_none());
    }

    #[test]
    fn the_reader_waits_for_capacity_and_not_longer() {
        let (sender, receiver) = queue(0);
        fill(&sender, &[BATCH_BYTES; 10]);
        let receiving = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            while receiver.next().is_some() {}
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(sender.capacity());
        drop(sender);
        receiving.join().unwrap();
    }

    #[test]
    fn the_reader_does_not_wait_for_a_writer_that_is_gone() {
        let (sender, receiver) = queue(0);
        fill(&sender, &[BATCH_BYTES; 10]);
        assert!(!sender.is_ended());
        let receiving = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(receiver);
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(sender.capacity());
        assert!(sender.is_ended());
        // What comes now is not stored.
        assert_eq!(fill(&sender, &[BATCH_BYTES; 100]), 100);
        assert_eq!(sender.0.state().bytes, 0);
        receiving.join().unwrap();
    }

    proptest! {
        /// Whatever is sent and received in whichever order: it arrives once, whole and in order.
        #[test]
        fn all_arrives_in_order(
            sizes in prop::collection::vec(prop_oneof![1usize..5000, 400_000..BATCH_BYTES], 1..60),
            takes in prop::collection::vec(0usize..6, 60),
        ) {
            let (sender, receiver) = queue(4 << 20);
            let mut received = Vec::new();
            let mut ticks = Vec::new();
            let mut take = |message: Option<Message>| match message {
                Some(Message::Batch(queued)) => received.push(queued.complete_until_ns),
                Some(Message::Tick(tick)) => ticks.push(tick.complete_until_ns),
                None => {}
            };
            for (at, size) in sizes.iter().enumerate() {
                while !sender.has_capacity() {
                    take(receiver.next());
                }
                let mut queued = batch(*size);
                queued.complete_until_ns = at as u64;
                sender.push(queued);
                sender.tick(Tick { complete_until_ns: at as u64, ..Tick::default() });
                prop_assert!(sender.0.state().bytes <= 4 << 20);
                for _ in 0..takes[at] {
                    if !receiver.is_empty() {
                        take(receiver.next());
                    }
                }
            }
            let shared = Arc::clone(&sender.0);
            drop(sender);
            while let Some(message) = receiver.next() {
                if let Message::Batch(queued) = &message {
                    let at = usize::try_from(queued.complete_until_ns).unwrap();
                    prop_assert_eq!(queued.read.batch.len(), sizes[at]);
                }
                take(Some(message));
            }
            prop_assert_eq!(received, (0..sizes.len() as u64).collect::<Vec<_>>());
            prop_assert!(ticks.is_sorted());
            prop_assert_eq!(ticks.last().copied(), Some(sizes.len() as u64 - 1));
            prop_assert_eq!(shared.state().bytes, 0);
        }
    }
}
