//! What stands before a recording's records.
//!
//! A file is written as a stream (perf's pipe mode) as long as the recording goes on, since a stream can be read however
//! suddenly it ends. All that a finished file's header has to refer to is in the stream already: its first record is
//! one that every reader skips, and holds room for the header's own rest, the attributes, and what is only known at the
//! end. Finishing a file is then to append a table of a few hundred bytes and to write the header over the stream's,
//! with one write: until then it is a stream, from then on a file.

use std::collections::BTreeMap;

use crate::host::machine::Machine;

use super::{
    abi::{
        ATTR_BYTES, CLOCK_MONOTONIC, COMPRESSED_ZSTD, FILE_HEADER_BYTES, MAGIC, OUR_VERSION,
        PIPE_HEADER_BYTES, RECORD_HEADER, TYPE_TRACEPOINT, feature, flag, record, sample,
    },
    tracing_data::{self, KernelText},
};

/// What a sample of ours has, besides its header.
pub(super) const SAMPLE_TYPE: u64 =
    sample::IDENTIFIER | sample::TID | sample::TIME | sample::CPU | sample::RAW;

/// At most so many bytes of records are in one compressed record: what perf's `comp_mmap_len` is for.
pub(super) const COMPRESSED_INPUT: usize = 48 << 10;

/// One event of a recording.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    /// As `kvm`.
    pub system: String,
    /// As `kvm_exit`.
    pub name: String,
    /// Its number, as in its format.
    pub id: u16,
    /// The whole text of its format file.
    pub format: String,
}

/// What a recording says of the machine and of itself.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The machine.
    pub machine: Machine,
    /// The command line.
    pub command: Vec<String>,
    /// `CLOCK_REALTIME` and `CLOCK_MONOTONIC` of the same moment, in ns.
    pub clocks: (u64, u64),
    /// What the kernel says of its trace buffers.
    pub kernel: KernelText,
}

/// The bytes before the first event, and where in them is what.
#[derive(Debug, Clone)]
pub(super) struct Head {
    bytes: Vec<u8>,
    attrs: Section,
    sample_time: Section,
    features: BTreeMap<u32, Section>,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Section {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.size.to_ne_bytes());
        bytes
    }
}

/// The id of the samples of an event, by its index.
pub(super) fn sample_id(event: usize) -> u64 {
    event as u64 + 1
}

impl Head {
    pub(super) fn new(events: &[RecordedEvent], facts: &HostFacts, zstd: Option<i32>) -> Self {
        let mut head = Self {
            bytes: Vec::with_capacity(256 << 10),
            attrs: Section::default(),
            sample_time: Section::default(),
            features: BTreeMap::new(),
        };
        head.bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        head.bytes
            .extend_from_slice(&(PIPE_HEADER_BYTES as u64).to_ne_bytes());
        head.room(events);
        for (index, event) in events.iter().enumerate() {
            let attr = attr(event);
            let size = RECORD_HEADER + attr.len() + 8;
            put_header(&mut head.bytes, record::HEADER_ATTR, 0, size);
            head.bytes.extend_from_slice(&attr);
            head.bytes
                .extend_from_slice(&sample_id(index).to_ne_bytes());
        }
        for (number, content) in features(facts, zstd) {
            head.feature(number, &content);
        }
        head.feature(feature::EVENT_DESC, &event_desc(events));
        let tracing_data = tracing_data::write(&facts.kernel, events);
        put_header(&mut head.bytes, record::TRACING_DATA, 0, RECORD_HEADER + 8);
        let padded = tracing_data.len().next_multiple_of(8);
        put_u32(&mut head.bytes, padded);
        put_u32(&mut head.bytes, 0);
        let section = head.put(&tracing_data);
        head.features.insert(feature::TRACING_DATA, section);
        head.bytes.resize(head.bytes.len().next_multiple_of(8), 0);
        head
    }

    /// The record that readers skip: room for the header, first and last time, ids, attributes.
    fn room(&mut self, events: &[RecordedEvent]) {
        let ids_at = FILE_HEADER_BYTES + 16;
        let attrs_at = ids_at + 8 * events.len();
        let end = attrs_at + (ATTR_BYTES + 16) * events.len();
        put_header(&mut self.bytes, record::PADDING, 0, end - PIPE_HEADER_BYTES);
        self.bytes.resize(FILE_HEADER_BYTES, 0);
        self.sample_time = self.put(&[0; 16]);
        for index in 0..events.len() {
            self.put(&sample_id(index).to_ne_bytes());
        }
        let attrs_start = self.bytes.len();
        for (index, event) in events.iter().enumerate() {
            self.put(&attr(event));
            let ids = Section {
                offset: (ids_at + 8 * index) as u64,
                size: 8,
            };
            self.put(&ids.to_bytes());
        }
        self.attrs = Section {
            offset: attrs_start as u64,
            size: (self.bytes.len() - attrs_start) as u64,
        };
        debug_assert_eq!((attrs_start, self.bytes.len()), (attrs_at, end));
    }

    fn put(&mut self, bytes: &[u8]) -> Section {
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        Section {
            offset,
            size: bytes.len() as u64,
        }
    }

    fn feature(&mut self, number: u32, content: &[u8]) {
        let size = RECORD_HEADER + 8 + content.len().next_multiple_of(8);
        if size > usize::from(u16::MAX) {
            // Too large for a record; what is left out here is told by others too.
            return;
        }
        put_header(&mut self.bytes, record::HEADER_FEATURE, 0, size);
        self.bytes
            .extend_from_slice(&u64::from(number).to_ne_bytes());
        let section = self.put(content);
        self.features.insert(number, section);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// The bytes before the first event.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the first and last time go, when they are known.
    pub(super) fn sample_time(&self) -> Section {
        self.sample_time
    }

    /// What ends a file whose records end at `end`: the table of features, which goes there, with the VMs' names behind
    /// it; and the header, which goes to the start, after everything else.
    pub(super) fn finish(&self, end: u64, vm_names: &[u8]) -> (Vec<u8>, [u8; FILE_HEADER_BYTES]) {
        let mut features = self.features.clone();
        features.insert(feature::SAMPLE_TIME, self.sample_time);
        let table_bytes = 16 * (features.len() + usize::from(!vm_names.is_empty()));
        if !vm_names.is_empty() {
            let names = Section {
                offset: end + table_bytes as u64,
                size: vm_names.len() as u64,
            };
            features.insert(feature::VM_NAMES, names);
        }
        let mut table = Vec::with_capacity(table_bytes + vm_names.len());
        let mut bits = [0u64; 4];
        for (number, section) in &features {
            table.extend_from_slice(&section.to_bytes());
            if let Some(word) = bits.get_mut((number / 64) as usize) {
                *word |= 1 << (number % 64);
            }
        }
        table.extend_from_slice(vm_names);
        let start = self.bytes.len() as u64;
        let data = Section {
            offset: start,
            size: end.saturating_sub(start),
        };
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        header.extend_from_slice(&MAGIC.to_ne_bytes());
        header.extend_from_slice(&(FILE_HEADER_BYTES as u64).to_ne_bytes());
        header.extend_from_slice(&((ATTR_BYTES + 16) as u64).to_ne_bytes());
        for section in [self.attrs, data, Section::default()] {
            header.extend_from_slice(&section.to_bytes());
        }
        for word in bits {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        let mut fixed = [0; FILE_HEADER_BYTES];
        fixed.copy_from_slice(&header);
        (table, fixed)
    }
}

/// Appends a record's header; records are shorter than 64 KiB.
pub(super) fn put_header(to: &mut Vec<u8>, kind: u32, misc: u16, size: usize) {
    debug_assert!(size <= usize::from(u16::MAX));
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(&misc.to_ne_bytes());
    to.extend_from_slice(&u16::try_from(size).unwrap_or(u16::MAX).to_ne_bytes());
}

pub(super) fn put_u32(to: &mut Vec<u8>, number: usize) {
    to.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
}

/// `struct perf_event_attr`, as of Linux 4.1.
fn attr(event: &RecordedEvent) -> [u8; ATTR_BYTES] {
    /// Where `clockid` is, behind `sample_stack_user`.
    const CLOCKID_AT: usize = 92;
    let flags = flag::COMM | flag::TASK | flag::SAMPLE_ID_ALL | flag::USE_CLOCKID;
    let mut attr = [0; ATTR_BYTES];
    let mut put = |at: usize, bytes: &[u8]| attr[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &TYPE_TRACEPOINT.to_ne_bytes());
    put(4, &u32::try_from(ATTR_BYTES).unwrap_or(0).to_ne_bytes());
    put(8, &u64::from(event.id).to_ne_bytes());
    // A sample for each event.
    put(16, &1u64.to_ne_bytes());
    put(24, &SAMPLE_TYPE.to_ne_bytes());
    put(32, &super::abi::read_format::ID.to_ne_bytes());
    put(40, &flags.to_ne_bytes());
    put(CLOCKID_AT, &CLOCK_MONOTONIC.to_ne_bytes());
    attr
}

fn features(facts: &HostFacts, zstd: Option<i32>) -> Vec<(u32, Vec<u8>)> {
    let machine = &facts.machine;
    let mut all = vec![
        (feature::HOSTNAME, string(&machine.hostname)),
        (feature::OSRELEASE, string(&machine.release)),
        (
            feature::VERSION,
            string(&format!("{OUR_VERSION}{}", env!("CARGO_PKG_VERSION"))),
        ),
        (feature::ARCH, string(&machine.arch)),
        (
            feature::NRCPUS,
            [machine.cpus.0.to_ne_bytes(), machine.cpus.1.to_ne_bytes()].concat(),
        ),
        (
            feature::TOTAL_MEM,
            machine.memory_kib.to_ne_bytes().to_vec(),
        ),
    ];
    if let Some(text) = &machine.cpu_desc {
        all.push((feature::CPUDESC, string(text)));
    }
    if let Some(text) = &machine.cpu_id {
        all.push((feature::CPUID, string(text)));
    }
    let mut command = Vec::new();
    put_u32(&mut command, facts.command.len());
    for word in &facts.command {
        command.extend_from_slice(&string(word));
    }
    all.push((feature::CMDLINE, command));
    // A resolution of 1 ns.
    all.push((feature::CLOCKID, 1u64.to_ne_bytes().to_vec()));
    let mut clocks = Vec::new();
    clocks.extend_from_slice(&1u32.to_ne_bytes());
    clocks.extend_from_slice(&CLOCK_MONOTONIC.to_ne_bytes());
    clocks.extend_from_slice(&facts.clocks.0.to_ne_bytes());
    clocks.extend_from_slice(&facts.clocks.1.to_ne_bytes());
    all.push((feature::CLOCK_DATA, clocks));
    if let Some(level) = zstd {
        let level = u32::try_from(level).unwrap_or(1);
        // Version, type, level, ratio, and room for what one record holds.
        let most = u32::try_from(2 * COMPRESSED_INPUT).unwrap_or(u32::MAX);
        let numbers = [1, COMPRESSED_ZSTD, level, 1, most];
        all.push((
            feature::COMPRESSED,
            numbers.iter().flat_map(|it| it.to_ne_bytes()).collect(),
        ));
    }
    all
}

/// A string as perf writes it: its length with the end and the padding, then the text.
fn string(text: &str) -> Vec<u8> {
    /// perf's `NAME_ALIGN`.
    const ALIGN: usize = 64;
    let length = (text.len() + 1).next_multiple_of(ALIGN);
    let mut bytes = Vec::with_capacity(4 + length);
    put_u32(&mut bytes, length);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(4 + length, 0);
    bytes
}

fn event_desc(events: &[RecordedEvent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_u32(&mut bytes, events.len());
    put_u32(&mut bytes, ATTR_BYTES);
    for (index, event) in events.iter().enumerate() {
        bytes.extend_from_slice(&attr(event));
        put_u32(&mut bytes, 1);
        bytes.extend_from_slice(&string(&format!("{}:{}", event.system, event.name)));
        bytes.extend_from_slice(&sample_id(index).to_ne_bytes());
    }
    bytes
}
