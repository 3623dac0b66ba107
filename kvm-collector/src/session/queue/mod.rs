//! The queue from the thread that reads the rings to the thread that writes.
//!
//! While a write blocks, the queue fills and the reader continues. The memory of the queue is bounded. When
//! it is full, the reader leaves records in the rings, and the eBPF programs count what no longer fits.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::drain::RingRead;
use crate::{
    model::{EventCount, ThreadId, VmName},
    probe::{BATCH_BYTES, RingLoss},
};

/// Minimum capacity of a queue: a batch fits even if another batch is queued.
pub const MIN_QUEUE_BYTES: usize = 2 * BATCH_BYTES;

/// A message to the writing thread.
#[derive(Debug)]
pub(super) enum Message {
    /// Records to write.
    Batch(QueuedBatch),
    /// Counts, progress and requests.
    Update(Update),
}

/// Records, and the names that are needed to write them.
#[derive(Debug)]
pub(super) struct QueuedBatch {
    pub(super) read: RingRead,
    pub(super) names: NewNames,
    /// All records before this time have been read.
    pub(super) complete_until_ns: u64,
}

/// Names of the threads and VMs with their first event in a batch. They are read together with the batch,
/// because a thread may have ended when the batch is written.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    /// Thread names.
    pub(super) threads: Vec<(ThreadId, String)>,
    /// VM names by process id.
    pub(super) vms: Vec<(u32, VmName)>,
}

/// Counts, progress and requests for the writing thread. Consecutive updates in the queue are merged.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// All records before this time have been read.
    pub(super) complete_until_ns: u64,
    /// Cumulative counts per event, and the time at which they were read.
    pub(super) counts: Option<(Vec<EventCount>, u64)>,
    /// Flush buffered output.
    pub(super) flush: bool,
    /// Write the contents of the flight recorder.
    pub(super) dump: bool,
}

impl Update {
    fn merge(&mut self, later: Self) {
        self.complete_until_ns = self.complete_until_ns.max(later.complete_until_ns);
        if later.counts.is_some() {
            // Counts are cumulative, so the later ones replace the earlier ones.
            self.counts = later.counts;
        }
        self.flush |= later.flush;
        self.dump |= later.dump;
    }
}

/// The end of the queue that belongs to the reading thread.
#[derive(Debug)]
pub(super) struct Sender(Arc<Shared>);

/// The end of the queue that belongs to the writing thread.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: usize,
    state: Mutex<State>,
    message_arrived: Condvar,
    capacity_freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Messages with their memory sizes.
    messages: VecDeque<(usize, Message)>,
    bytes: usize,
    /// No more messages will come.
    sender_dropped: bool,
    /// The receiver needs no more messages.
    receiver_closed: bool,
    /// Messages are discarded.
    receiver_dropped: bool,
}

/// Creates a queue with this maximum memory in bytes.
pub(super) fn channel(capacity: usize) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(MIN_QUEUE_BYTES),
        state: Mutex::default(),
        message_arrived: Condvar::new(),
        capacity_freed: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent even if a thread panicked while it held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, bytes: usize, message: Message) {
        if !self.receiver_dropped {
            self.bytes += bytes;
            self.messages.push_back((bytes, message));
        }
    }
}

impl Sender {
    /// Returns whether another batch of any size fits.
    pub(super) fn has_capacity(&self) -> bool {
        self.0.state().bytes + BATCH_BYTES + MESSAGE_BYTES <= self.0.capacity
    }

    /// Waits until another batch fits.
    pub(super) async fn wait_for_capacity(&self) {
        while !self.has_capacity() {
            self.0.capacity_freed.notified().await;
        }
    }

    /// Returns whether the receiver was closed or dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.0.state().receiver_closed
    }

    /// Adds a batch. The caller must have checked that there is capacity.
    pub(super) fn send_batch(&self, mut queued: QueuedBatch) {
        let is_waiting = !self.0.state().messages.is_empty();
        let batch = &mut queued.read.batch;
        // A batch keeps the whole buffer alive that it was read into. A batch that has to wait is copied if it is
        // small: the copy needs less memory, and the buffer can be reused.
        let memory = if is_waiting && batch.len() <= BATCH_BYTES / 2 {
            *batch = batch.to_exact_size();
            batch.len()
        } else {
            BATCH_BYTES
        };
        let bytes = memory + metadata_bytes(&queued);
        self.0.state().push(bytes, Message::Batch(queued));
        self.0.message_arrived.notify_one();
    }

    /// Adds an update. Needs no capacity: it is merged into an update at the end of the queue, so the queue
    /// has at most one update more than batches.
    pub(super) fn send_update(&self, update: Update) {
        let mut state = self.0.state();
        match state.messages.back_mut() {
            Some((_, Message::Update(last))) => last.merge(update),
            _ => state.push(0, Message::Update(update)),
        }
        drop(state);
        self.0.message_arrived.notify_one();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.state().sender_dropped = true;
        self.0.message_arrived.notify_one();
    }
}

impl Receiver {
    /// Waits for the next message; `None` after the last one.
    pub(super) fn receive(&self) -> Option<Message> {
        let mut state = self.0.state();
        loop {
            if let Some((bytes, message)) = state.messages.pop_front() {
                state.bytes -= bytes;
                drop(state);
                self.0.capacity_freed.notify_one();
                return Some(message);
            }
            if state.sender_dropped {
                return None;
            }
            state = self
                .0
                .message_arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns whether no message is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.0.state().messages.is_empty()
    }

    /// Tells the reading thread that no more messages are needed.
    pub(super) fn close(&self) {
        self.0.state().receiver_closed = true;
        self.0.capacity_freed.notify_one();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receiver_closed = true;
        state.receiver_dropped = true;
        state.messages.clear();
        state.bytes = 0;
        drop(state);
        self.0.capacity_freed.notify_one();
    }
}

/// Memory of a message without its records, losses and names.
const MESSAGE_BYTES: usize = size_of::<Message>();

/// Returns the memory of a batch without its records.
fn metadata_bytes(queued: &QueuedBatch) -> usize {
    let NewNames { threads, vms } = &queued.names;
    let texts = threads.iter().map(|it| &it.1);
    let texts = texts.chain(vms.iter().map(|it| &it.1.name));
    MESSAGE_BYTES
        + queued.read.losses.capacity() * size_of::<RingLoss>()
        + texts
            .map(|text| size_of::<(ThreadId, String)>() + text.capacity())
            .sum::<usize>()
}

#[cfg(test)]
pub(super) mod tests;
