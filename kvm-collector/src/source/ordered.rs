//! Events in the order of their times.
//!
//! Records are queued by all CPUs in the order in which room was reserved for them, which is not quite
//! that of their times: between reading the clock and reserving, an interrupt may come, or the host's
//! host may run something else. So records are held back for a while, bounded in time and number, and
//! given out sorted.

use super::{
    Comms,
    window::{self, Window},
};
use crate::{
    model::Event,
    probe::{Batch, Record},
};

/// How long records are held back for others that may come before them.
pub const WINDOW_NS: u64 = 10_000_000;

/// How many are held back at most: at 24 bytes each, and with 1 MiB batches of records behind them.
const MOST_HELD: usize = 1 << 18;

/// Holds records back and gives them out in order.
#[derive(Debug, Default)]
pub struct Ordered {
    window: Window<Batch, usize>,
    comms: Comms,
}

impl Ordered {
    /// Takes in a batch.
    pub fn take_in(&mut self, batch: Batch) {
        let mut places = self.window.list();
        for (place, record) in batch.records() {
            if let Some(comm) = record.ended_comm() {
                self.comms.ended(record.header.tid, comm);
            }
            places.push((record.header.time_ns, place));
        }
        window::sort(&mut places);
        self.window.add(batch, places);
    }

    /// Gives out the events up to a time, in order, each with its thread's name.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn give_out<E>(
        &mut self,
        until_ns: u64,
        mut each: impl FnMut(&Event<'_>, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let comms = &mut self.comms;
        self.window
            .give_out(until_ns, MOST_HELD, |batch, _, place| {
                let Some(record) = batch.record(place) else {
                    return Ok(false);
                };
                if record.ended_comm().is_some() {
                    comms.forget(record.header.tid);
                    return Ok(false);
                }
                each(&event(&record), comms.get(record.header.tid)).map(|()| true)
            })
    }

    /// How many events were given out after one with a later time: held back not long enough.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.window.late()
    }
}

/// A record of the ring as an event.
fn event<'a>(record: &Record<'a>) -> Event<'a> {
    let header = record.header;
    Event {
        time_ns: header.time_ns,
        cpu: u32::from(header.cpu),
        tgid: header.tgid,
        tid: header.tid,
        slot: usize::from(header.slot),
        raw: record.raw,
    }
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

    fn times(ordered: &mut Ordered, until_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        let each = |event: &Event<'_>, _: &str| {
            times.push(event.time_ns);
            Ok::<_, ()>(())
        };
        ordered.give_out(until_ns, each).unwrap();
        times
    }

    #[test]
    fn what_may_still_be_preceded_is_held_back() {
        let mut ordered = Ordered::default();
        ordered.take_in(batch(&[10, 30, 20]));
        assert_eq!(times(&mut ordered, 20), [10, 20]);
        ordered.take_in(batch(&[25, 40]));
        assert_eq!(times(&mut ordered, 40), [25, 30, 40]);
        assert_eq!(ordered.late(), 0);
        assert_eq!(ordered.window.blocks(), 0);
    }

    #[test]
    fn what_comes_too_late_is_given_out_and_counted() {
        let mut ordered = Ordered::default();
        ordered.take_in(batch(&[10, 30]));
        assert_eq!(times(&mut ordered, 30), [10, 30]);
        ordered.take_in(batch(&[20, 50]));
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
        let mut ordered = Ordered::default();
        ordered.take_in(Batch::new(bytes.freeze()));
        let mut names = Vec::new();
        let each = |_: &Event<'_>, comm: &str| {
            names.push(comm.to_owned());
            Ok::<_, ()>(())
        };
        ordered.give_out(100, each).unwrap();
        assert_eq!(names, ["CPU 3/KVM"]);
    }

    #[test]
    fn damaged_records_end_a_batch() {
        for bytes in [&[][..], &[1; 10], &[0; 64]] {
            let mut ordered = Ordered::default();
            ordered.take_in(Batch::new(Bytes::copy_from_slice(bytes)));
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
            let mut ordered = Ordered::default();
            let mut out = Vec::new();
            for chunk in arrivals.chunks(cut) {
                ordered.take_in(batch(chunk));
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
