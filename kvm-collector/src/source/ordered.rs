//! Events in the order of their times.
//!
//! Records are queued by all CPUs in the order in which room was reserved for them, which is not quite
//! that of their times: between reading the clock and reserving, an interrupt may come, or the host's
//! host may run something else. So records are held back for a while, bounded in time and number, and
//! given out sorted.

use super::{
    Comms,
    loss_windows::LossWindows,
    window::{self, Window},
};
use crate::{
    model::{Batch, Event, Record, StreamItem, Thread},
    timing::{Attribution, Selection},
    tracefs::Format,
};

/// How long records are held back for others that may come before them.
pub const WINDOW_NS: u64 = 10_000_000;

/// How many are held back at most: at 32 bytes each, and with 1 MiB batches of records behind them.
const MOST_HELD: usize = 1 << 18;

/// What is held back.
#[derive(Debug, Clone, Copy)]
enum Queued {
    /// The record at an offset in its batch.
    Record(usize),
    /// From here to a time, events of a CPU are missing.
    Missing(u32, u64),
}

/// Holds records back and passes them on in order, each with the thread that it is about.
#[derive(Debug)]
pub struct Ordered {
    window: Window<Batch, Queued>,
    comms: Comms,
    attribution: Attribution,
    losses: LossWindows,
}

impl Ordered {
    /// Of events of these formats, by slot.
    #[must_use]
    pub fn new(formats: &[Format], selection: Selection) -> Self {
        Self {
            window: Window::default(),
            comms: Comms::default(),
            attribution: Attribution::new(formats.iter().map(Some), selection),
            losses: LossWindows::default(),
        }
    }

    /// Takes a batch.
    pub fn add(&mut self, batch: Batch) {
        let mut queued = self.window.list();
        for (offset, record) in batch.records() {
            if let Some(comm) = record.ended_comm() {
                self.comms.ended(thread_of(&record), comm);
            }
            queued.push((record.header.time_ns, Queued::Record(offset)));
        }
        window::sort(&mut queued);
        self.window.add(batch, queued);
    }

    /// Learns the name of a thread, before the batch with its first event is taken.
    pub fn learn_thread(&mut self, thread: Thread, name: String) {
        self.comms.learn(thread, name);
    }

    /// Events of a CPU were lost some time between two times.
    pub fn add_loss(&mut self, cpu: u32, from_ns: u64, to_ns: u64) {
        let mut queued = self.window.list();
        queued.push((from_ns, Queued::Missing(cpu, to_ns)));
        self.window.add(Batch::default(), queued);
    }

    /// Passes on what is selected up to a time, in order; events with the name of their thread, and what is no event
    /// with an empty one. `vm_name` finds the name of a process's VM, which a selection by name asks for.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn release_until<E>(
        &mut self,
        until_ns: u64,
        vm_name: &dyn Fn(u32) -> Option<String>,
        mut each: impl FnMut(&StreamItem<'_>, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let (comms, attribution) = (&mut self.comms, &mut self.attribution);
        let losses = &mut self.losses;
        let lost = |cpu, time_ns| StreamItem::Lost {
            slot: None,
            cpu,
            count: 0,
            time_ns,
        };
        self.window
            .give_out(until_ns, MOST_HELD, |batch, time_ns, queued| {
                let offset = match queued {
                    Queued::Record(offset) => offset,
                    Queued::Missing(cpu, to_ns) => {
                        losses.begin(cpu, to_ns);
                        return each(&lost(Some(cpu), time_ns), "").map(|()| false);
                    }
                };
                if !losses.is_empty() {
                    for cpu in losses.before(time_ns) {
                        each(&lost(cpu, time_ns), "")?;
                    }
                }
                let Some(record) = batch.record(offset) else {
                    return Ok(false);
                };
                let tid = record.header.tid;
                if record.ended_comm().is_some() {
                    comms.forget(tid);
                    attribution.thread_end(tid);
                    return each(&StreamItem::ThreadEnd { tid }, "").map(|()| false);
                }
                if let Some(event) = event(&record, attribution, vm_name) {
                    let comm = comms.get(thread_of(&record), time_ns);
                    each(&StreamItem::Event(event), comm)?;
                }
                Ok(true)
            })
    }

    /// How many events were passed on after one with a later time: held back not long enough.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.window.late()
    }

    /// Events left out because it is not known which VM or vCPU they belong to.
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.attribution.unattributed()
    }
}

fn thread_of(record: &Record<'_>) -> Thread {
    Thread {
        tgid: record.header.tgid,
        tid: record.header.tid,
    }
}

/// A record of the ring as an event, if it is selected.
fn event<'a>(
    record: &Record<'a>,
    attribution: &mut Attribution,
    vm_name: &dyn Fn(u32) -> Option<String>,
) -> Option<Event<'a>> {
    let header = record.header;
    let thread = thread_of(record);
    let slot = usize::from(header.slot);
    let subject = attribution.attribute(slot, thread, record.raw, vm_name)?;
    Some(Event {
        time_ns: header.time_ns,
        cpu: u32::from(header.cpu),
        tgid: header.tgid,
        tid: header.tid,
        subject,
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

    fn ordered() -> Ordered {
        let text = "name: kvm_fpu\nID: 7\nformat:\n\tfield:u32 load;\toffset:8;\tsize:4;\tsigned:0;\n\nprint fmt: \"%u\", REC->load\n";
        let format = Format::parse("kvm", text).unwrap();
        Ordered::new(&[format], Selection::default())
    }

    fn times(ordered: &mut Ordered, until_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        let each = |item: &StreamItem<'_>, _: &str| {
            if let StreamItem::Event(event) = item {
                times.push(event.time_ns);
            }
            Ok::<_, ()>(())
        };
        ordered.release_until(until_ns, &|_| None, each).unwrap();
        times
    }

    #[test]
    fn what_may_still_be_preceded_is_held_back() {
        let mut ordered = ordered();
        ordered.add(batch(&[10, 30, 20]));
        assert_eq!(times(&mut ordered, 20), [10, 20]);
        ordered.add(batch(&[25, 40]));
        assert_eq!(times(&mut ordered, 40), [25, 30, 40]);
        assert_eq!(ordered.late(), 0);
        assert_eq!(ordered.window.blocks(), 0);
    }

    #[test]
    fn what_comes_too_late_is_given_out_and_counted() {
        let mut ordered = ordered();
        ordered.add(batch(&[10, 30]));
        assert_eq!(times(&mut ordered, 30), [10, 30]);
        ordered.add(batch(&[20, 50]));
        assert_eq!(times(&mut ordered, 60), [20, 50]);
        assert_eq!(ordered.late(), 1);
    }

    #[test]
    fn an_ended_threads_events_have_its_name() {
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
        let each = |item: &StreamItem<'_>, comm: &str| {
            match item {
                StreamItem::Event(_) => names.push(comm.to_owned()),
                StreamItem::ThreadEnd { tid } => names.push(format!("end of {tid}")),
                other => panic!("{other:?}"),
            }
            Ok::<_, ()>(())
        };
        ordered.release_until(100, &|_| None, each).unwrap();
        assert_eq!(
            names,
            ["CPU 3/KVM".to_owned(), format!("end of {}", 1 << 30)]
        );
    }

    #[test]
    fn a_loss_stands_before_each_event_of_its_time() {
        let mut ordered = ordered();
        ordered.add(batch(&[10, 20, 30, 40]));
        ordered.add_loss(2, 15, 25);
        let mut seen = Vec::new();
        let each = |item: &StreamItem<'_>, _: &str| {
            seen.push(match item {
                StreamItem::Event(event) => (event.time_ns, None),
                StreamItem::Lost { time_ns, cpu, .. } => (*time_ns, *cpu),
                other => panic!("{other:?}"),
            });
            Ok::<_, ()>(())
        };
        ordered.release_until(100, &|_| None, each).unwrap();
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
    fn damaged_records_end_a_batch() {
        for bytes in [&[][..], &[1; 10], &[0; 64]] {
            let mut ordered = ordered();
            ordered.add(Batch::new(Bytes::copy_from_slice(bytes)));
            assert_eq!(times(&mut ordered, u64::MAX), [0u64; 0]);
        }
    }

    proptest! {
        /// Whatever the order of arrival: nothing is lost, and within the window all is in order.
        #[test]
        fn all_comes_out_in_order(
            mut jitter in prop::collection::vec(0u64..50, 1..200),
            cut in 1usize..50,
        ) {
            let arrivals: Vec<u64> =
                jitter.drain(..).enumerate().map(|(at, jitter)| 1000 + 10 * at as u64 - jitter).collect();
            let mut ordered = ordered();
            let mut out = Vec::new();
            for chunk in arrivals.chunks(cut) {
                ordered.add(batch(chunk));
                let newest = chunk.iter().max().unwrap();
                out.extend(times(&mut ordered, newest - 60));
            }
            out.extend(times(&mut ordered, u64::MAX));
            let mut sorted = arrivals.clone();
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
            prop_assert_eq!(ordered.late(), 0);
        }
    }
}
