//! The reader against a model of the writer, which is `kvm-ebpf/src/rings.rs` with this memory in place of a map's.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::BytesMut;
use kvm_ebpf_common::{CHUNK_BYTES, RECORD_HEADER_BYTES, RecordHeader, RingPosition};
use proptest::prelude::*;

use super::reader::{Next, RingMemory, RingReader, Word};

const CHUNK: u64 = CHUNK_BYTES as u64;
const HEADER: u64 = RECORD_HEADER_BYTES as u64;

impl Word for loom::sync::atomic::AtomicU64 {
    fn load(&self, ordering: Ordering) -> u64 {
        Self::load(self, ordering)
    }

    fn store(&self, word: u64, ordering: Ordering) {
        Self::store(self, word, ordering);
    }
}

/// A ring's memory, with positions that begin somewhere.
struct Memory<W> {
    records: Vec<W>,
    position: Vec<W>,
}

impl<W: Word> Memory<W> {
    fn new(chunks: usize, position: u64, word: impl Fn(u64) -> W) -> Self {
        let memory = Self {
            records: (0..chunks * CHUNK_BYTES / 8).map(|_| word(0)).collect(),
            position: (0..size_of::<RingPosition>() / 8)
                .map(|_| word(0))
                .collect(),
        };
        memory.head().store(position, Ordering::Relaxed);
        memory.tail().store(position, Ordering::Relaxed);
        memory
    }

    fn memory(&self) -> RingMemory<'_, W> {
        RingMemory {
            records: &self.records,
            position: &self.position,
        }
    }

    fn head(&self) -> &W {
        &self.position[offset_of!(RingPosition, head) / 8]
    }

    fn tail(&self) -> &W {
        &self.position[offset_of!(RingPosition, tail) / 8]
    }

    fn word(&self, position: u64) -> &W {
        let index = position / 8 % self.records.len() as u64;
        &self.records[usize::try_from(index).unwrap()]
    }
}

/// A record whose words all follow from its number.
fn word_of(number: u64, bytes: u64, index: u64) -> u64 {
    match index {
        0 => number,
        1 => bytes << 48,
        _ => number << 16 | index,
    }
}

/// The programs' side.
struct Writer<'m, W> {
    memory: &'m Memory<W>,
    /// The number of the next record.
    number: u64,
    busy: bool,
    lost: u64,
}

/// Room for a record.
struct Reserved {
    at: u64,
    bytes: u64,
}

impl<'m, W: Word> Writer<'m, W> {
    fn new(memory: &'m Memory<W>) -> Self {
        Self {
            memory,
            number: 0,
            busy: false,
            lost: 0,
        }
    }

    fn reserve(&mut self, bytes: u64) -> Option<Reserved> {
        let reserved = if self.busy { None } else { self.at_head(bytes) };
        match reserved {
            Some(_) => self.busy = true,
            None => {
                self.lost += 1;
                let lost = &self.memory.position[offset_of!(RingPosition, lost) / 8];
                lost.store(self.lost, Ordering::Relaxed);
            }
        }
        reserved
    }

    fn at_head(&mut self, bytes: u64) -> Option<Reserved> {
        let head = self.memory.head().load(Ordering::Relaxed);
        // The programs have a volatile load here. What they store depends on it, which processors keep in order.
        let tail = self.memory.tail().load(Ordering::Acquire);
        let mut at = head;
        let passed_over = head % CHUNK > CHUNK - bytes;
        if passed_over {
            at += CHUNK - head % CHUNK;
        }
        if at + bytes - tail > self.memory.records.len() as u64 * 8 {
            return None;
        }
        if passed_over && head % CHUNK <= CHUNK - HEADER {
            // A length of 0.
            self.memory.word(head + 8).store(0, Ordering::Relaxed);
        }
        Some(Reserved { at, bytes })
    }

    fn publish(&mut self, reserved: &Reserved) {
        for index in 0..reserved.bytes / 8 {
            let word = word_of(self.number, reserved.bytes, index);
            self.memory
                .word(reserved.at + 8 * index)
                .store(word, Ordering::Relaxed);
        }
        self.number += 1;
        let head = reserved.at + reserved.bytes;
        self.memory.head().store(head, Ordering::Release);
        self.busy = false;
    }

    fn write(&mut self, bytes: u64) {
        if let Some(reserved) = self.reserve(bytes) {
            self.publish(&reserved);
        }
    }
}

/// Reads what there is, at most so many records, and checks it. Returns how many there were.
fn read<W: Word>(reader: &mut RingReader, memory: &Memory<W>, first: u64, most: usize) -> u64 {
    let memory = memory.memory();
    let mut number = first;
    for _ in 0..most {
        let header: RecordHeader = match reader.next(memory) {
            Next::None => break,
            Next::Record(header) => header,
            Next::Damaged(bytes) => panic!("{bytes} bytes are damaged"),
        };
        let mut record = BytesMut::new();
        reader.copy(memory, &header, &mut record);
        let bytes = u64::from(header.length);
        let expected = (0..bytes / 8).flat_map(|it| word_of(number, bytes, it).to_ne_bytes());
        assert!(record.iter().copied().eq(expected), "record {number}");
        number += 1;
    }
    reader.release(memory);
    number - first
}

#[derive(Debug, Clone)]
enum Action {
    /// A record of so many words.
    Write(u64),
    /// The same, while another one is written: it is lost.
    Interrupt(u64),
    Look,
    Read(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let words = prop_oneof![8 => 3u64..40, 1 => Just(CHUNK / 8), 1 => 3u64..=CHUNK / 8];
    prop_oneof![
        6 => words.clone().prop_map(Action::Write),
        1 => words.prop_map(Action::Interrupt),
        2 => Just(Action::Look),
        2 => (0usize..60).prop_map(Action::Read),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_what_is_not_is_counted(
        chunks in prop_oneof![Just(1usize), Just(2), Just(4)],
        begin in 0u64..100_000,
        actions in prop::collection::vec(action(), 0..300),
    ) {
        let memory = Memory::new(chunks, begin * 8, AtomicU64::new);
        let mut writer = Writer::new(&memory);
        let mut reader = RingReader::at(begin * 8);
        let (mut reads, mut writes) = (0, 0);
        for action in actions {
            match action {
                Action::Write(words) => {
                    writer.write(words * 8);
                    writes += 1;
                }
                Action::Interrupt(words) => {
                    let reserved = writer.reserve(words * 8);
                    writes += 1;
                    if let Some(reserved) = reserved {
                        writer.write(HEADER);
                        writes += 1;
                        writer.publish(&reserved);
                    }
                }
                Action::Look => {
                    reader.look(memory.memory());
                }
                Action::Read(most) => reads += read(&mut reader, &memory, reads, most),
            }
        }
        reader.look(memory.memory());
        reads += read(&mut reader, &memory, reads, usize::MAX);
        prop_assert_eq!(reads, writer.number);
        prop_assert_eq!(memory.memory().lost(), writes - reads);
    }

    /// Whatever is in the memory, reading it ends, and within it.
    #[test]
    fn damaged_memory_is_skipped(
        begin in any::<u64>(),
        head in any::<u64>(),
        words in prop::collection::vec(prop_oneof![any::<u64>(), (0u64..600).prop_map(|it| it << 48)], CHUNK_BYTES / 8),
    ) {
        let memory = Memory::new(1, begin, AtomicU64::new);
        for (to, word) in memory.records.iter().zip(&words) {
            to.store(*word, Ordering::Relaxed);
        }
        memory.head().store(head, Ordering::Relaxed);
        let mut reader = RingReader::at(begin);
        reader.look(memory.memory());
        let mut record = BytesMut::new();
        let mut records = 0;
        while let Next::Record(header) = reader.next(memory.memory()) {
            record.clear();
            reader.copy(memory.memory(), &header, &mut record);
            records += 1;
        }
        prop_assert!(records <= CHUNK / HEADER);
        prop_assert_eq!(reader.look(memory.memory()), 0);
    }
}

/// Runs a writer and a reader at the same time, in all orders that the memory model of C11 allows. Before the first look,
/// the reader has so many bytes that it has read and not released.
fn concurrently(begin: u64, unreleased: u64, writes: &'static [u64], looks: usize) {
    use loom::sync::{Arc, atomic::AtomicU64};

    let mut model = loom::model::Builder::new();
    // All orders with so many switches: with more, the number explodes.
    model.preemption_bound = Some(3);
    model.check(move || {
        let memory = Memory::new(1, begin, AtomicU64::new);
        memory.tail().store(begin - unreleased, Ordering::Relaxed);
        let memory = Arc::new(memory);
        let writing = {
            let memory = memory.clone();
            loom::thread::spawn(move || {
                let mut writer = Writer::new(&*memory);
                for bytes in writes {
                    writer.write(*bytes);
                }
                (writer.number, writer.lost)
            })
        };
        let mut reader = RingReader::at(begin);
        let mut reads = 0;
        for _ in 0..looks {
            reader.look(memory.memory());
            reads += read(&mut reader, &memory, reads, usize::MAX);
        }
        let (written, lost) = writing.join().unwrap();
        reader.look(memory.memory());
        reads += read(&mut reader, &memory, reads, usize::MAX);
        assert_eq!(reads, written);
        assert_eq!(reads + lost, writes.len() as u64);
    });
}

#[test]
fn a_record_is_seen_whole_or_not_at_all() {
    concurrently(0, 0, &[HEADER, HEADER + 8], 2);
}

#[test]
fn a_record_that_does_not_fit_into_the_chunk_begins_the_next_one() {
    concurrently(CHUNK - 32, 0, &[HEADER, HEADER, HEADER], 2);
}

#[test]
fn a_full_ring_is_written_over_only_where_it_was_read() {
    concurrently(2 * CHUNK - 24, CHUNK - 48, &[HEADER, HEADER, HEADER], 2);
}
