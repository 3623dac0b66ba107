//! Constants and basic encodings of the perf.data format, from Linux's
//! tools/perf/Documentation/perf.data-file-format.txt and include/uapi/linux/perf_event.h.

/// The first 8 bytes of a perf.data file in this machine's byte order.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(if cfg!(target_endian = "little") {
    *b"PERFILE2"
} else {
    *b"2ELIFREP"
});

/// Size of the header of a file.
pub(super) const FILE_HEADER_BYTES: usize = 104;
/// Size of the header of a stream (pipe mode).
pub(super) const PIPE_HEADER_BYTES: usize = 16;

/// Size of the header of a record: type, misc, size.
pub(super) const RECORD_HEADER: usize = 8;

/// [`RECORD_HEADER`] in the type that a record stores its size in.
pub(super) const RECORD_HEADER_SIZE: u16 = 8;

/// Record types.
pub(super) mod record {
    pub(crate) const LOST: u32 = 2;
    pub(crate) const COMM: u32 = 3;
    pub(crate) const EXIT: u32 = 4;
    pub(crate) const FORK: u32 = 7;
    pub(crate) const SAMPLE: u32 = 9;
    pub(crate) const LOST_SAMPLES: u32 = 13;
    pub(crate) const HEADER_ATTR: u32 = 64;
    /// `PERF_RECORD_HEADER_EVENT_TYPE`, which is obsolete since Linux 3.x. All readers skip it, so it
    /// serves as padding.
    pub(crate) const PADDING: u32 = 65;
    pub(crate) const TRACING_DATA: u32 = 66;
    pub(crate) const FINISHED_ROUND: u32 = 68;
    pub(crate) const AUXTRACE: u32 = 71;
    pub(crate) const HEADER_FEATURE: u32 = 80;
    pub(crate) const COMPRESSED: u32 = 81;
    pub(crate) const COMPRESSED2: u32 = 83;
}

/// `PERF_RECORD_MISC_KERNEL`: the event happened in kernel mode.
pub(super) const MISC_KERNEL: u16 = 1;

/// `PERF_TYPE_SOFTWARE`.
pub(super) const TYPE_SOFTWARE: u32 = 1;

/// `PERF_TYPE_TRACEPOINT`.
pub(super) const TYPE_TRACEPOINT: u32 = 2;

/// `PERF_COUNT_SW_DUMMY`: the software event by which perf records names and mappings. It never occurs.
pub(super) const SOFTWARE_DUMMY: u64 = 9;

/// Bits of `sample_type`. A sample has the values in this order, except for IDENTIFIER, which is first.
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

    /// The values of 8 bytes at the start of a sample, in order.
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

/// Bits of the flags in `perf_event_attr`.
pub(super) mod flag {
    pub(crate) const COMM: u64 = 1 << 9;
    pub(crate) const FREQ: u64 = 1 << 10;
    pub(crate) const TASK: u64 = 1 << 13;
    pub(crate) const SAMPLE_ID_ALL: u64 = 1 << 18;
    pub(crate) const USE_CLOCKID: u64 = 1 << 25;
}

/// The size of `perf_event_attr` in our recordings (`PERF_ATTR_SIZE_VER7`). We set only the first 96
/// bytes. But in a stream, perf up to 6.3 expects the event ids after as many bytes as its own
/// `perf_event_attr` has, and that is 128 since 5.13.
pub(super) const ATTR_BYTES: usize = 128;

/// Numbers of header features.
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
    pub(crate) const STAT: u32 = 19;
    pub(crate) const SAMPLE_TIME: u32 = 21;
    pub(crate) const CLOCKID: u32 = 23;
    pub(crate) const DIR_FORMAT: u32 = 24;
    pub(crate) const COMPRESSED: u32 = 27;
    pub(crate) const CLOCK_DATA: u32 = 29;
    /// Our own feature: the kernel's types that the print formats use, as text of
    /// `tracefs::kernel_types::KernelTypeTable`.
    pub(crate) const KERNEL_TYPES: u32 = 253;
    /// Our own feature: the id of the host's boot. perf skips unknown features of files, but warns of them in streams.
    pub(crate) const BOOT_ID: u32 = 254;
    /// Our own feature: the names of the VMs, as lines of `pid<TAB>name`. perf skips unknown features.
    pub(crate) const VM_NAMES: u32 = 255;
}

/// `PERF_COMP_ZSTD`.
pub(super) const COMPRESSED_ZSTD: u32 = 1;

/// `CLOCK_MONOTONIC`.
pub(super) const CLOCK_MONOTONIC: u32 = 1;

/// The start of the body of a padding record that has one of our own features. The number of the feature
/// and its content follow.
pub(super) const OWN_FEATURE_MARK: &[u8; 8] = b"kvmcfeat";

/// The start of the feature VERSION in our recordings.
pub(super) const VERSION_PREFIX: &str = "kvm-collector ";

/// Reads 2 bytes at an offset. `None` if there are fewer.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// Reads 4 bytes at an offset. `None` if there are fewer.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Reads 8 bytes at an offset. `None` if there are fewer.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(
        bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// Appends a number as 32 bits.
pub(super) fn put_u32(to: &mut Vec<u8>, number: usize) {
    to.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
}

/// A part of a file (`struct perf_file_section`).
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
