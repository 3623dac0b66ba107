//! Runs the reader with a model of the writer, which does the same as `kvm-ebpf/src/ring.rs`.

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

/// The memory of a ring, with positions that start anywhere.
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

/// Returns a word of a record. It is determined by the record's number.
fn word_of(number: u64, bytes: u64, index: u64) -> u64 {
    match index {
        0 => number,
        1 => bytes << 48,
        _ => number << 16 | index,
    }
}

/// The model of the programs.
struct Writer<'m, W> {
    memory: &'m Memory<W>,
    /// Number of the next record.
    number: u64,
    busy: bool,
    lost: u64,
}

/// Space for a record.
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
        // The programs have a volatile load here. Their stores depend on it, so processors keep the order.
        let tail = self.memory.tail().load(Ordering::Acquire);
        let mut at = head;
        let skips_rest = head % CHUNK > CHUNK - bytes;
        if skips_rest {
            at += CHUNK - head % CHUNK;
        }
        if at + bytes - tail > self.memory.records.len() as u64 * 8 {
            return None;
        }
        if skips_rest && head % CHUNK <= CHUNK - HEADER {
            // A length of 0 marks the end of the chunk.
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

/// Reads and checks up to `max_records` records, of which the first has the number `first`. Returns how many there were.
fn read<W: Word>(
    reader: &mut RingReader,
    memory: &Memory<W>,
    first: u64,
    max_records: usize,
) -> u64 {
    let memory = memory.memory();
    let mut number = first;
    for _ in 0..max_records {
        let header: RecordHeader = match reader.next(memory) {
            Next::None => break,
            Next::Record(header) => header,
            Next::Damaged(bytes) => panic!("{bytes} bytes are damaged"),
        };
        let mut record = BytesMut::new();
        reader.copy(memory, &header, &mut record);
        let bytes = u64::from(header.length);
        let expected = (0..bytes / 8).flat_map(|index| word_of(number, bytes, index).to_ne_bytes());
        assert!(record.iter().copied().eq(expected), "record {number}");
        number += 1;
    }
    reader.release(memory);
    number - first
}

#[derive(Debug, Clone)]
enum Action {
    /// Writes a record of this many words.
    Write(u64),
    /// Writes a record of this many words, and another one while it is not complete. The other one is lost.
    Interrupt(u64),
    /// Reads the head of the ring.
    Poll,
    /// Reads up to this number of records.
    Read(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let words = prop_oneof![8 => 3u64..40, 1 => Just(CHUNK / 8), 1 => 3u64..=CHUNK / 8];
    prop_oneof![
        6 => words.clone().prop_map(Action::Write),
        1 => words.prop_map(Action::Interrupt),
        2 => Just(Action::Poll),
        2 => (0usize..60).prop_map(Action::Read),
    ]
}

proptest! {
    #[test]
    fn each_record_is_read_or_counted_as_lost(
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
                Action::Poll => {
                    reader.poll(memory.memory());
                }
                Action::Read(records) => reads += read(&mut reader, &memory, reads, records),
            }
        }
        reader.poll(memory.memory());
        reads += read(&mut reader, &memory, reads, usize::MAX);
        prop_assert_eq!(reads, writer.number);
        prop_assert_eq!(memory.memory().lost(), writes - reads);
    }

    /// With any contents of the memory, reading ends and stays within the memory.
    #[test]
    fn damaged_memory_is_skipped(
        begin in any::<u64>(),
        head in any::<u64>(),
        words in prop::collection::vec(prop_oneof![any::<u64>(), (0u64..600).prop_map(|length| length << 48)], CHUNK_BYTES / 8),
    ) {
        let memory = Memory::new(1, begin, AtomicU64::new);
        for (to, word) in memory.records.iter().zip(&words) {
            to.store(*word, Ordering::Relaxed);
        }
        memory.head().store(head, Ordering::Relaxed);
        let mut reader = RingReader::at(begin);
        reader.poll(memory.memory());
        let mut record = BytesMut::new();
        let mut records = 0;
        while let Next::Record(header) = reader.next(memory.memory()) {
            record.clear();
            reader.copy(memory.memory(), &header, &mut record);
            records += 1;
        }
        prop_assert!(records <= CHUNK / HEADER);
        prop_assert_eq!(reader.poll(memory.memory()), 0);
    }
}

/// Runs a writer and a reader at the same time, in all orders that the memory model of C11 permits. At the start, the reader
/// has read `unreleased` bytes that it has not released.
fn run_concurrently(begin: u64, unreleased: u64, writes: &'static [u64], polls: usize) {
    use loom::sync::{Arc, atomic::AtomicU64};

    let mut model = loom::model::Builder::new();
    // All orders with at most this many preemptions. With more, there are too many orders.
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
        for _ in 0..polls {
            reader.poll(memory.memory());
            reads += read(&mut reader, &memory, reads, usize::MAX);
        }
        let (written, lost) = writing.join().unwrap();
        reader.poll(memory.memory());
        reads += read(&mut reader, &memory, reads, usize::MAX);
        assert_eq!(reads, written);
        assert_eq!(reads + lost, writes.len() as u64);
    });
}

#[test]
fn a_record_is_read_completely_or_not_at_all() {
    run_concurrently(0, 0, &[HEADER, HEADER + 8], 2);
}

#[test]
fn a_record_that_does_not_fit_into_the_chunk_starts_the_next_one() {
    run_concurrently(CHUNK - 32, 0, &[HEADER, HEADER, HEADER], 2);
}

#[test]
fn only_released_records_are_overwritten() {
    run_concurrently(2 * CHUNK - 24, CHUNK - 48, &[HEADER, HEADER, HEADER], 2);
}
