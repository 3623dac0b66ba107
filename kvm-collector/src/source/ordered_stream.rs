//! Puts the records of all CPUs into time order.
//!
//! The order of records in a ring differs slightly from the order of their times. Between reading
//! the clock and reserving space in the ring, a program may be interrupted, or the hypervisor of a
//! virtual host may run something else. Records are therefore held back for a while, bounded in
//! time and number, and emitted in time order.

use super::{
    loss_windows::LossWindows,
    reorder_buffer::{self, ReorderBuffer},
    thread_names::ThreadNames,
};
use crate::{
    model::{Batch, Event, Record, StreamItem, ThreadId, VmName},
    timing::{Attribution, Selection},
    tracefs::Format,
};

/// How long records are held back, in ns, in case that earlier records arrive.
pub const REORDER_DELAY_NS: u64 = 10_000_000;

/// Maximum number of items that are held back, at 32 bytes each. The batches of their records, 1
/// MiB each, are held as well.
const MAX_HELD_ITEMS: usize = 1 << 18;

/// An item that is held back.
#[derive(Debug, Clone, Copy)]
enum QueuedItem {
    /// The record at this offset in its batch.
    Record(usize),
    /// Events of a CPU are missing from here on, up to a time in ns.
    Missing(u32, u64),
}

/// Emits live records as events in time order, each with the thread that it concerns.
#[derive(Debug)]
pub struct OrderedStream {
    buffer: ReorderBuffer<Batch, QueuedItem>,
    names: ThreadNames,
    attribution: Attribution,
    losses: LossWindows,
    identifies_vcpus: bool,
}

/// What is known about an item of an [`OrderedStream`].
#[derive(Debug, Clone, Copy)]
pub struct LiveContext<'a> {
    /// The name of the event's thread; empty for other items.
    pub comm: &'a str,
    /// The index of the vCPU that the event concerns. `None` if it is not known, or without
    /// [`OrderedStream::identify_vcpus`].
    pub vcpu: Option<u32>,
}

impl LiveContext<'_> {
    /// The context of an item that is not an event.
    const NO_EVENT: Self = Self {
        comm: "",
        vcpu: None,
    };
}

impl OrderedStream {
    /// Creates a stream for events with these formats, by slot.
    #[must_use]
    pub fn new(formats: &[Format], selection: Selection) -> Self {
        Self {
            buffer: ReorderBuffer::default(),
            names: ThreadNames::default(),
            attribution: Attribution::new(formats.iter().map(Some), selection),
            losses: LossWindows::default(),
            identifies_vcpus: false,
        }
    }

    /// Identifies the vCPU of every event, for [`LiveContext::vcpu`].
    pub fn identify_vcpus(&mut self) {
        self.identifies_vcpus = true;
        self.attribution.learn_vcpu_threads();
    }

    /// Adds a batch of records.
    pub fn add(&mut self, batch: Batch) {
        let mut queued = self.buffer.spare_list();
        for (offset, record) in batch.records() {
            if let Some(comm) = record.thread_end_comm() {
                self.names.set_ended(thread_of(&record), comm);
            }
            queued.push((record.header.time_ns, QueuedItem::Record(offset)));
        }
        reorder_buffer::sort(&mut queued);
        self.buffer.add(batch, queued);
    }

    /// Stores the name of a thread. To be called before the batch with its first event is added.
    pub fn set_thread_name(&mut self, thread: ThreadId, name: String) {
        self.names.set(thread, name);
    }

    /// Adds a time window in which a CPU lost events.
    pub fn add_loss_window(&mut self, cpu: u32, from_ns: u64, to_ns: u64) {
        let mut queued = self.buffer.spare_list();
        queued.push((from_ns, QueuedItem::Missing(cpu, to_ns)));
        self.buffer.add(Batch::default(), queued);
    }

    /// Emits the selected events and the other items up to `until_ns` in time order. `each` gets an
    /// item and what is known about it. `vm_name` returns the name of a process's VM, for a selection
    /// by name.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn emit_until<E>(
        &mut self,
        until_ns: u64,
        vm_name: &dyn Fn(u32) -> Option<VmName>,
        mut each: impl FnMut(&StreamItem<'_>, LiveContext<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (names, attribution) = (&mut self.names, &mut self.attribution);
        let (losses, identifies_vcpus) = (&mut self.losses, self.identifies_vcpus);
        let lost = |cpu, time_ns| StreamItem::Lost {
            slot: None,
            cpu,
            count: 0,
            time_ns,
        };
        self.buffer
            .emit_until(until_ns, MAX_HELD_ITEMS, |batch, time_ns, queued| {
                let offset = match queued {
                    QueuedItem::Record(offset) => offset,
                    QueuedItem::Missing(cpu, to_ns) => {
                        losses.add(cpu, to_ns);
                        return each(&lost(Some(cpu), time_ns), LiveContext::NO_EVENT)
                            .map(|()| false);
                    }
                };
                if !losses.is_empty() {
                    for cpu in losses.cpus_before(time_ns) {
                        each(&lost(cpu, time_ns), LiveContext::NO_EVENT)?;
                    }
                }
                let Some(record) = batch.record_at(offset) else {
                    return Ok(false);
                };
                let tid = record.header.tid;
                if record.thread_end_comm().is_some() {
                    names.remove(tid);
                    attribution.remove_thread(tid);
                    return each(&StreamItem::ThreadEnd { tid }, LiveContext::NO_EVENT)
                        .map(|()| false);
                }
                if let Some(event) = event(&record, attribution, vm_name, names) {
                    let vcpu = event
                        .subject
                        .filter(|_| identifies_vcpus)
                        .and_then(|subject| {
                            attribution.vcpu_of_event(event.slot, subject, event.raw)
                        });
                    let comm = names.get(thread_of(&record), time_ns);
                    each(&StreamItem::Event(event), LiveContext { comm, vcpu })?;
                }
                Ok(true)
            })
    }

    /// Returns the number of events that were emitted after an event with a later time, because
    /// they arrived too late.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.buffer.late()
    }

    /// Returns the number of events that were omitted because their VM or vCPU is unknown.
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.attribution.unattributed()
    }
}

fn thread_of(record: &Record<'_>) -> ThreadId {
    ThreadId {
        tgid: record.header.tgid,
        tid: record.header.tid,
    }
}

/// Converts a record of a ring to an event, if it is selected.
fn event<'a>(
    record: &Record<'a>,
    attribution: &mut Attribution,
    vm_name: &dyn Fn(u32) -> Option<VmName>,
    names: &mut ThreadNames,
) -> Option<Event<'a>> {
    let header = record.header;
    let thread = thread_of(record);
    let slot = usize::from(header.slot);
    let mut thread_name = |thread| names.get(thread, header.time_ns).to_owned();
    let subject = attribution.attribute(slot, thread, record.raw, vm_name, &mut thread_name)?;
    Some(Event {
        time_ns: header.time_ns,
        cpu: u32::from(header.cpu),
        tgid: header.tgid,
        tid: header.tid,
        subject,
        named_vcpu: attribution.named_vcpu(thread),
        slot,
        sample_weight: 0,
        raw: record.raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kvm_ebpf_common::{RECORD_HEADER_BYTES, RecordHeader, THREAD_END_SLOT};
    use proptest::prelude::*;

    fn push(bytes: &mut BytesMut, time_ns: u64, slot: u16, tid: u32, body: &[u8]) {
        let header = RecordHeader {
            time_ns,
            tgid: 1,
            cpu: 0,
            length: u16::try_from(RECORD_HEADER_BYTES + body.len()).unwrap(),
            event_id: 7,
            slot,
            tid,
        };
        bytes.extend_from_slice(&header.time_ns.to_ne_bytes());
        bytes.extend_from_slice(&header.tgid.to_ne_bytes());
        bytes.extend_from_slice(&header.cpu.to_ne_bytes());
        bytes.extend_from_slice(&header.length.to_ne_bytes());
        bytes.extend_from_slice(&header.event_id.to_ne_bytes());
        bytes.extend_from_slice(&header.slot.to_ne_bytes());
        bytes.extend_from_slice(&header.tid.to_ne_bytes());
        bytes.extend_from_slice(body);
    }

    fn batch(times: &[u64]) -> Batch {
        let mut bytes = BytesMut::new();
        for &time_ns in times {
            push(&mut bytes, time_ns, 0, 1 << 30, &[0; 8]);
        }
        Batch::new(bytes.freeze())
    }

    fn ordered() -> OrderedStream {
        let text = "name: kvm_fpu\nID: 7\nformat:\n\tfield:u32 load;\toffset:8;\tsize:4;\tsigned:0;\n\nprint fmt: \"%u\", REC->load\n";
        let format = Format::parse("kvm", text).unwrap();
        OrderedStream::new(&[format], Selection::default())
    }

    fn times(ordered: &mut OrderedStream, until_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        let each = |item: &StreamItem<'_>, _: LiveContext<'_>| {
            if let StreamItem::Event(event) = item {
                times.push(event.time_ns);
            }
            Ok::<_, ()>(())
        };
        ordered.emit_until(until_ns, &|_| None, each).unwrap();
        times
    }

    #[test]
    fn records_that_may_have_predecessors_are_held_back() {
        let mut ordered = ordered();
        ordered.add(batch(&[10, 30, 20]));
        assert_eq!(times(&mut ordered, 20), [10, 20]);
        ordered.add(batch(&[25, 40]));
        assert_eq!(times(&mut ordered, 40), [25, 30, 40]);
        assert_eq!(ordered.late(), 0);
        assert_eq!(ordered.buffer.block_count(), 0);
    }

    #[test]
    fn late_events_are_emitted_and_counted() {
        let mut ordered = ordered();
        ordered.add(batch(&[10, 30]));
        assert_eq!(times(&mut ordered, 30), [10, 30]);
        ordered.add(batch(&[20, 50]));
        assert_eq!(times(&mut ordered, 60), [20, 50]);
        assert_eq!(ordered.late(), 1);
    }

    #[test]
    fn events_of_an_ended_thread_have_its_name() {
        let mut bytes = BytesMut::new();
        push(&mut bytes, 5, 0, 1 << 30, &[0; 8]);
        push(
            &mut bytes,
            6,
            THREAD_END_SLOT,
            1 << 30,
            b"CPU 3/KVM\0\0\0\0\0\0\0",
        );
        let mut ordered = ordered();
        ordered.add(Batch::new(bytes.freeze()));
        let mut names = Vec::new();
        let each = |item: &StreamItem<'_>, context: LiveContext<'_>| {
            match item {
                StreamItem::Event(_) => names.push(context.comm.to_owned()),
                StreamItem::ThreadEnd { tid } => names.push(format!("end of {tid}")),
                other => panic!("{other:?}"),
            }
            Ok::<_, ()>(())
        };
        ordered.emit_until(100, &|_| None, each).unwrap();
        assert_eq!(
            names,
            ["CPU 3/KVM".to_owned(), format!("end of {}", 1 << 30)]
        );
    }

    #[test]
    fn loss_precedes_each_event_of_its_time_window() {
        let mut ordered = ordered();
        ordered.add(batch(&[10, 20, 30, 40]));
        ordered.add_loss_window(2, 15, 25);
        let mut seen = Vec::new();
        let each = |item: &StreamItem<'_>, _: LiveContext<'_>| {
            seen.push(match item {
                StreamItem::Event(event) => (event.time_ns, None),
                StreamItem::Lost { time_ns, cpu, .. } => (*time_ns, *cpu),
                other => panic!("{other:?}"),
            });
            Ok::<_, ()>(())
        };
        ordered.emit_until(100, &|_| None, each).unwrap();
        let (cpu, none) = (Some(2), None);
        assert_eq!(
            seen,
            [
                (10, none),
                (15, cpu),
                (20, cpu),
                (20, none),
                (30, cpu),
                (30, none),
                (40, none)
            ]
        );
    }

    #[test]
    fn damaged_record_ends_its_batch() {
        for bytes in [&[][..], &[1; 10], &[0; 64]] {
            let mut ordered = ordered();
            ordered.add(Batch::new(Bytes::copy_from_slice(bytes)));
            assert_eq!(times(&mut ordered, u64::MAX), [0u64; 0]);
        }
    }

    proptest! {
        /// Nothing is lost, and everything is in order, if records arrive within the reorder
        /// window.
        #[test]
        fn all_records_are_emitted_in_order(
            mut jitter in prop::collection::vec(0u64..50, 1..200),
            cut in 1usize..50,
        ) {
            let arrivals: Vec<u64> =
                jitter.drain(..).enumerate().map(|(at, jitter)| 1000 + 10 * at as u64 - jitter).collect();
            let mut ordered = ordered();
            let mut emitted = Vec::new();
            for chunk in arrivals.chunks(cut) {
                ordered.add(batch(chunk));
                let newest = chunk.iter().max().unwrap();
                emitted.extend(times(&mut ordered, newest - 60));
            }
            emitted.extend(times(&mut ordered, u64::MAX));
            let mut sorted = arrivals.clone();
            sorted.sort_unstable();
            prop_assert_eq!(emitted, sorted);
            prop_assert_eq!(ordered.late(), 0);
        }
    }
}
