//! Encodes what perf calls header features: facts about the host, the command and the events.

use super::{
    abi::{
        ATTR_BYTES, CLOCK_MONOTONIC, COMPRESSED_ZSTD, TYPE_TRACEPOINT, VERSION_PREFIX, feature,
        flag, put_u32, read_format, sample,
    },
    compress::MAX_COMPRESSED_INPUT,
    host_facts::{HostFacts, RecordedEvent},
    record_writer::event_id,
};

/// The `sample_type` of all events: what a sample contains.
const SAMPLE_TYPE: u64 =
    sample::IDENTIFIER | sample::TID | sample::TIME | sample::CPU | sample::RAW;

/// Encodes `struct perf_event_attr` with the fields of Linux 4.1.
pub(super) fn encode_attr(event: &RecordedEvent) -> [u8; ATTR_BYTES] {
    /// The offset of the field `clockid`.
    const CLOCKID_OFFSET: usize = 92;
    let flags = flag::COMM | flag::TASK | flag::SAMPLE_ID_ALL | flag::USE_CLOCKID;
    let mut attr = [0; ATTR_BYTES];
    let mut put = |offset: usize, bytes: &[u8]| {
        attr[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &TYPE_TRACEPOINT.to_ne_bytes());
    put(4, &u32::try_from(ATTR_BYTES).unwrap_or(0).to_ne_bytes());
    put(8, &u64::from(event.id).to_ne_bytes());
    // The sample period: every event is recorded.
    put(16, &1u64.to_ne_bytes());
    put(24, &SAMPLE_TYPE.to_ne_bytes());
    put(32, &read_format::ID.to_ne_bytes());
    put(40, &flags.to_ne_bytes());
    put(CLOCKID_OFFSET, &CLOCK_MONOTONIC.to_ne_bytes());
    attr
}

/// Encodes the features about the host and the recording. Returns each with its number.
pub(super) fn encode_features(facts: &HostFacts, zstd_level: Option<i32>) -> Vec<(u32, Vec<u8>)> {
    let machine = &facts.machine;
    let mut all = vec![
        (feature::HOSTNAME, encode_string(&machine.hostname)),
        (feature::OSRELEASE, encode_string(&machine.release)),
        (
            feature::VERSION,
            encode_string(&format!("{VERSION_PREFIX}{}", env!("CARGO_PKG_VERSION"))),
        ),
        (feature::ARCH, encode_string(&machine.arch)),
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
        all.push((feature::CPUDESC, encode_string(text)));
    }
    if let Some(text) = &machine.cpu_id {
        all.push((feature::CPUID, encode_string(text)));
    }
    let mut command = Vec::new();
    put_u32(&mut command, facts.command.len());
    for word in &facts.command {
        command.extend_from_slice(&encode_string(word));
    }
    all.push((feature::CMDLINE, command));
    // The resolution of the clock in ns.
    all.push((feature::CLOCKID, 1u64.to_ne_bytes().to_vec()));
    let mut clocks = Vec::new();
    clocks.extend_from_slice(&1u32.to_ne_bytes());
    clocks.extend_from_slice(&CLOCK_MONOTONIC.to_ne_bytes());
    clocks.extend_from_slice(&facts.clocks.0.to_ne_bytes());
    clocks.extend_from_slice(&facts.clocks.1.to_ne_bytes());
    all.push((feature::CLOCK_DATA, clocks));
    if let Some(level) = zstd_level {
        let level = u32::try_from(level).unwrap_or(1);
        // perf's `comp_mmap_len`: its buffer for the decompressed contents of a record.
        let buffer_bytes = u32::try_from(2 * MAX_COMPRESSED_INPUT).unwrap_or(u32::MAX);
        // Version, type, level, ratio, buffer size.
        let numbers = [1, COMPRESSED_ZSTD, level, 1, buffer_bytes];
        all.push((
            feature::COMPRESSED,
            numbers.iter().flat_map(|it| it.to_ne_bytes()).collect(),
        ));
    }
    all
}

/// Encodes a string like perf: the length with the NUL and the padding, then the text.
pub(super) fn encode_string(text: &str) -> Vec<u8> {
    /// perf's `NAME_ALIGN`.
    const ALIGN: usize = 64;
    let length = (text.len() + 1).next_multiple_of(ALIGN);
    let mut bytes = Vec::with_capacity(4 + length);
    put_u32(&mut bytes, length);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(4 + length, 0);
    bytes
}

/// Encodes the feature EVENT_DESC: the attributes, the name and the id of each event.
pub(super) fn encode_event_desc(events: &[RecordedEvent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_u32(&mut bytes, events.len());
    put_u32(&mut bytes, ATTR_BYTES);
    for (index, event) in events.iter().enumerate() {
        bytes.extend_from_slice(&encode_attr(event));
        put_u32(&mut bytes, 1);
        bytes.extend_from_slice(&encode_string(&format!("{}:{}", event.system, event.name)));
        bytes.extend_from_slice(&event_id(index).to_ne_bytes());
    }
    bytes
}
