//! Numbers of the perf.data format, as in Linux's tools/perf/Documentation/perf.data-file-format.txt and
//! include/uapi/linux/perf_event.h.

/// The first bytes of a perf.data file of this machine's byte order.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(if cfg!(target_endian = "little") {
    *b"PERFILE2"
} else {
    *b"2ELIFREP"
});

/// Bytes of a file's header; of a stream's (pipe mode) there are 16.
pub(super) const FILE_HEADER_BYTES: usize = 104;
pub(super) const PIPE_HEADER_BYTES: usize = 16;

/// Bytes of a record's header: type, misc, size.
pub(super) const RECORD_HEADER: usize = 8;

/// As a record says it.
pub(super) const RECORD_HEADER_SIZE: u16 = 8;

/// Types of records.
pub(super) mod record {
    pub(crate) const LOST: u32 = 2;
    pub(crate) const COMM: u32 = 3;
    pub(crate) const EXIT: u32 = 4;
    pub(crate) const FORK: u32 = 7;
    pub(crate) const SAMPLE: u32 = 9;
    pub(crate) const LOST_SAMPLES: u32 = 13;
    pub(crate) const HEADER_ATTR: u32 = 64;
    /// Without a meaning since Linux 3.x, and skipped by every reader.
    pub(crate) const PADDING: u32 = 65;
    pub(crate) const TRACING_DATA: u32 = 66;
    pub(crate) const FINISHED_ROUND: u32 = 68;
    pub(crate) const AUXTRACE: u32 = 71;
    pub(crate) const HEADER_FEATURE: u32 = 80;
    pub(crate) const COMPRESSED: u32 = 81;
    pub(crate) const COMPRESSED2: u32 = 83;
}

/// `PERF_RECORD_MISC_KERNEL`: it happened in the kernel.
pub(super) const MISC_KERNEL: u16 = 1;

/// `PERF_TYPE_TRACEPOINT`.
pub(super) const TYPE_TRACEPOINT: u32 = 2;

/// Bits of `sample_type`, in the order in which the values lie in a sample (but for IDENTIFIER, which is first).
pub(super) mod sample {
    pub(crate) const IP: u64 = 1 << 0;
    pub(crate) const TID: u64 = 1 << 1;
    pub(crate) const TIME: u64 = 1 << 2;
    pub(crate) const ADDR: u64 = 1 << 3;
    pub(crate) const READ: u64 = 1 << 4;
    pub(crate) const CALLCHAIN: u64 = 1 << 5;
    pub(crate) const ID: u64 = 1 << 6;
    pub(crate) const CPU: u64 = 1 << 7;
    pub(crate) const PERIOD: u64 = 1 << 8;
    pub(crate) const STREAM_ID: u64 = 1 << 9;
    pub(crate) const RAW: u64 = 1 << 10;
    pub(crate) const IDENTIFIER: u64 = 1 << 16;

    /// Those of 8 bytes that come first, in the order in which they lie in a sample.
    pub(crate) const FIXED: [u64; 9] =
        [IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD];
}

/// Bits of `read_format`.
pub(super) mod read_format {
    pub(crate) const TOTAL_TIME_ENABLED: u64 = 1;
    pub(crate) const TOTAL_TIME_RUNNING: u64 = 2;
    pub(crate) const ID: u64 = 4;
    pub(crate) const GROUP: u64 = 8;
    pub(crate) const LOST: u64 = 16;
}

/// Bits of the flags of `perf_event_attr`.
pub(super) mod flag {
    pub(crate) const COMM: u64 = 1 << 9;
    pub(crate) const FREQ: u64 = 1 << 10;
    pub(crate) const TASK: u64 = 1 << 13;
    pub(crate) const SAMPLE_ID_ALL: u64 = 1 << 18;
    pub(crate) const USE_CLOCKID: u64 = 1 << 25;
}

/// `PERF_ATTR_SIZE_VER7`. We have nothing to say beyond the first 96 bytes, but perf until 6.3 looks for a stream's ids behind
/// as many bytes as its own `perf_event_attr` has, which since 5.13 are these.
pub(super) const ATTR_BYTES: usize = 128;

/// Header features.
pub(super) mod feature {
    pub(crate) const TRACING_DATA: u32 = 1;
    pub(crate) const HOSTNAME: u32 = 3;
    pub(crate) const OSRELEASE: u32 = 4;
    pub(crate) const VERSION: u32 = 5;
    pub(crate) const ARCH: u32 = 6;
    pub(crate) const NRCPUS: u32 = 7;
    pub(crate) const CPUDESC: u32 = 8;
    pub(crate) const CPUID: u32 = 9;
    pub(crate) const TOTAL_MEM: u32 = 10;
    pub(crate) const CMDLINE: u32 = 11;
    pub(crate) const EVENT_DESC: u32 = 12;
    pub(crate) const SAMPLE_TIME: u32 = 21;
    pub(crate) const CLOCKID: u32 = 23;
    pub(crate) const COMPRESSED: u32 = 27;
    pub(crate) const CLOCK_DATA: u32 = 29;
    /// Ours: which VM each process was, as lines of `pid<TAB>name`. perf skips what it does not know.
    pub(crate) const VM_NAMES: u32 = 255;
}

/// `PERF_COMP_ZSTD`.
pub(super) const COMPRESSED_ZSTD: u32 = 1;

/// `CLOCK_MONOTONIC`.
pub(super) const CLOCK_MONOTONIC: u32 = 1;

/// What the version feature of our files begins with.
pub(super) const OUR_VERSION: &str = "kvm-collector ";

/// The number at a place, if the bytes reach that far.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// As [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}
