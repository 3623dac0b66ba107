//! The reading thread of `record` and `trace`: moves batches from the rings to the queue of the writing
//! thread. It never waits for a write.

use std::{
    io,
    thread::{self, JoinHandle},
};

use anyhow::Context as _;

use super::{
    drain::{DrainOutcome, drain},
    names::NameReader,
    queue::{QueuedBatch, Sender, Update},
};
use crate::{
    host::clock,
    model::{CountsSnapshot, EventCount},
    probe::Rings,
    source::{Live, REORDER_DELAY_NS},
};

/// Reads events of the running kernel into a queue.
#[derive(Debug)]
pub(super) struct StreamReader<'l> {
    live: &'l mut Live,
    rings: Rings,
    queue: Sender,
    names: NameReader,
    /// The writing thread sorts events by time. It needs to know up to which time all events were read.
    is_ordered: bool,
    /// When the rings were read that had the last batch.
    last_batch_read_ns: u64,
    /// The writing thread knows that all events up to this time were read.
    complete_until_ns: u64,
}

impl<'l> StreamReader<'l> {
    /// Takes the rings of `live`. `is_ordered`: the writing thread sorts events by time. `reads_vm_names`:
    /// it needs the names of processes and VMs.
    ///
    /// # Errors
    /// When the programs do not send events to user space.
    pub(super) fn new(
        live: &'l mut Live,
        queue: Sender,
        is_ordered: bool,
        reads_vm_names: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            rings: live
                .take_rings()
                .context("no events are sent to user space")?,
            live,
            queue,
            names: NameReader::new(reads_vm_names),
            is_ordered,
            last_batch_read_ns: 0,
            complete_until_ns: 0,
        })
    }

    /// Returns whether the writing thread accepts no more messages.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Sends an update to the writing thread.
    pub(super) fn send_update(&self, update: Update) {
        self.queue.send_update(update);
    }

    /// Waits until the queue has capacity and the rings may have records.
    pub(super) async fn ready(&mut self) {
        self.queue.wait_for_capacity().await;
        self.rings.ready().await;
    }

    /// Handles notifications of threads that have started or exited: see [`Live::handle_notifications`].
    ///
    /// # Errors
    /// When a map cannot be written.
    pub(super) fn handle_notifications(&mut self) -> anyhow::Result<()> {
        Ok(self.live.handle_notifications()?)
    }

    /// Stores the totals of exited threads (see [`Live::update_threads`]) and sends the event counts to the
    /// writing thread. Call it periodically. Returns the number of lost events.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn refresh(&mut self, flush: bool) -> anyhow::Result<u64> {
        self.live.update_threads()?;
        let events = self.live.read_event_counts()?;
        let lost = events.iter().map(|event: &EventCount| event.lost).sum();
        self.queue.send_update(Update {
            counts: Some((events, clock::monotonic_ns())),
            flush,
            ..Update::default()
        });
        Ok(lost)
    }

    /// Moves records from the rings to the queue until the queue is full.
    ///
    /// # Errors
    /// When the map of skipped processes cannot be written.
    pub(super) fn read(&mut self) -> anyhow::Result<DrainOutcome> {
        let (live, queue, names) = (&*self.live, &self.queue, &mut self.names);
        let mut last_batch_ns = None;
        let mut new_processes = Vec::new();
        let mut complete_until_ns = self.complete_until_ns;
        let has_capacity = || queue.has_capacity();
        let Ok(outcome) = drain(&mut self.rings, has_capacity, |rings, read| {
            last_batch_ns = Some(rings.latest_poll_ns());
            complete_until_ns = rings.latest_poll_ns().saturating_sub(REORDER_DELAY_NS);
            let names = names.read(&read.batch, |tgid| live.vm_name(tgid));
            new_processes.extend(names.vms.iter().map(|it| it.0));
            queue.send_batch(QueuedBatch {
                names,
                read,
                complete_until_ns,
            });
            Ok::<_, std::convert::Infallible>(())
        });
        self.complete_until_ns = complete_until_ns;
        if let Some(last_batch_ns) = last_batch_ns {
            self.last_batch_read_ns = last_batch_ns;
        } else if self.is_ordered
            && outcome == DrainOutcome::Empty
            && self.complete_until_ns < self.last_batch_read_ns
        {
            // There is nothing new, but the writing thread can now release older events.
            self.complete_until_ns = self.rings.latest_poll_ns().saturating_sub(REORDER_DELAY_NS);
            self.queue.send_update(Update {
                complete_until_ns: self.complete_until_ns,
                ..Update::default()
            });
        }
        self.live.decide_processes(new_processes)?;
        Ok(outcome)
    }

    /// Stops the eBPF programs, reads the rest of the rings and closes the queue. Returns the final counts.
    ///
    /// # Errors
    /// When the eBPF programs cannot be stopped or a map cannot be read.
    pub(super) async fn finish(mut self) -> anyhow::Result<CountsSnapshot> {
        self.live.stop()?;
        while self.read()? == DrainOutcome::MayHaveMore {
            self.queue.wait_for_capacity().await;
        }
        Ok(self.live.read_counts()?)
    }
}

/// Starts the writing thread.
///
/// # Errors
/// When the thread cannot be created.
pub(super) fn spawn_writer<T: Send + 'static>(
    write: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name("writer".into()).spawn(write)
}

/// Waits until the writing thread has written everything. This may take long; a second Ctrl-C kills the
/// process.
///
/// # Errors
/// When the writing thread panicked. It has then printed the panic message.
pub(super) fn join_writer<T>(writing: JoinHandle<T>) -> anyhow::Result<T> {
    writing
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that writes the events panicked"))
}
