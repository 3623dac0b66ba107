//! The reading side of `record` and `trace`: reads the rings into the queue of the thread that writes. Nothing here
//! waits for a write.

use std::{
    io,
    thread::{self, JoinHandle},
};

use anyhow::Context as _;

use super::{
    drain::{Drained, drain},
    names::NameReader,
    queue::{QueuedBatch, Sender, Tick},
};
use crate::{
    host::clock,
    model::{CountsSnapshot, EventCount},
    probe::Rings,
    source::{Live, REORDER_DELAY_NS},
};

/// Reads a live stream of events.
#[derive(Debug)]
pub(super) struct StreamReader<'l> {
    live: &'l mut Live,
    rings: Rings,
    queue: Sender,
    names: NameReader,
    /// The writing thread puts events in order, so it has to be told up to which time all have been read.
    is_ordered: bool,
    /// The look at the rings that the last batch is from.
    last_batch_ns: u64,
    /// Up to which time the writing thread knows that all have been read.
    complete_until_ns: u64,
}

impl<'l> StreamReader<'l> {
    /// Takes the rings. `has_processes`: the writing thread needs the names of processes and VMs.
    ///
    /// # Errors
    /// When no events are sent to user space.
    pub(super) fn new(
        live: &'l mut Live,
        queue: Sender,
        is_ordered: bool,
        has_processes: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            rings: live
                .take_rings()
                .context("no events are sent to user space")?,
            live,
            queue,
            names: NameReader::new(has_processes),
            is_ordered,
            last_batch_ns: 0,
            complete_until_ns: 0,
        })
    }

    /// Does the writing thread need no more?
    pub(super) fn is_ended(&self) -> bool {
        self.queue.is_ended()
    }

    /// Passes on a request.
    pub(super) fn tick(&self, tick: Tick) {
        self.queue.tick(tick);
    }

    /// Waits until there may be something to read, and capacity for it in the queue.
    pub(super) async fn ready(&mut self) {
        self.queue.capacity().await;
        self.rings.ready().await;
    }

    /// To be called when threads have come or gone: see [`Live::learn`].
    ///
    /// # Errors
    /// When a map cannot be written.
    pub(super) fn learn_threads(&mut self) -> anyhow::Result<()> {
        Ok(self.live.handle_notices()?)
    }

    /// To be called now and then: see [`Live::look_around`]. Passes on the totals of each event, and what else is
    /// requested. Returns how many events have been lost.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn refresh(&mut self, flush: bool) -> anyhow::Result<u64> {
        self.live.update_threads()?;
        let events = self.live.read_event_counts()?;
        let lost = events.iter().map(|event: &EventCount| event.lost).sum();
        self.queue.tick(Tick {
            counts: Some((events, clock::monotonic_ns())),
            flush,
            ..Tick::default()
        });
        Ok(lost)
    }

    /// Reads the rings into the queue, as far as it has capacity.
    ///
    /// # Errors
    /// When the programs cannot be told which processes to skip.
    pub(super) fn read(&mut self) -> anyhow::Result<Drained> {
        let (live, queue, names) = (&*self.live, &self.queue, &mut self.names);
        let mut last_batch_ns = None;
        let mut new_processes = Vec::new();
        let mut complete_until_ns = self.complete_until_ns;
        let has_capacity = || queue.has_capacity();
        let Ok(drained) = drain(&mut self.rings, has_capacity, |rings, read| {
            last_batch_ns = Some(rings.looked_ns());
            complete_until_ns = rings.looked_ns().saturating_sub(REORDER_DELAY_NS);
            let names = names.read(&read.batch, |tgid| live.vm_name(tgid));
            new_processes.extend(names.vms.iter().map(|it| it.0));
            queue.push(QueuedBatch {
                names,
                read,
                complete_until_ns,
            });
            Ok::<_, std::convert::Infallible>(())
        });
        self.complete_until_ns = complete_until_ns;
        if let Some(last_batch_ns) = last_batch_ns {
            self.last_batch_ns = last_batch_ns;
        } else if self.is_ordered
            && drained == Drained::All
            && self.complete_until_ns < self.last_batch_ns
        {
            // Nothing new, but of what was read before some can be put in order by now.
            self.complete_until_ns = self.rings.looked_ns().saturating_sub(REORDER_DELAY_NS);
            self.queue.tick(Tick {
                complete_until_ns: self.complete_until_ns,
                ..Tick::default()
            });
        }
        self.live.decide_processes(new_processes)?;
        Ok(drained)
    }

    /// Ends the measurement, reads what is left in the rings and closes the queue. Returns the final totals.
    ///
    /// # Errors
    /// When the eBPF programs cannot be stopped or a map not be read.
    pub(super) async fn finish(mut self) -> anyhow::Result<CountsSnapshot> {
        self.live.stop()?;
        while self.read()? == Drained::Part {
            self.queue.capacity().await;
        }
        Ok(self.live.read_counts()?)
    }
}

/// Starts the thread that writes.
///
/// # Errors
/// When there can be no further thread.
pub(super) fn spawn_writer<T: Send + 'static>(
    write: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name("writer".into()).spawn(write)
}

/// Waits until the thread that writes has written all, however long that takes: a second Ctrl-C ends the process.
///
/// # Errors
/// When it panicked, which it has reported itself.
pub(super) fn joined<T>(writing: JoinHandle<T>) -> anyhow::Result<T> {
    writing
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that writes the events failed"))
}
