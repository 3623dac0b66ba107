//! What a recording stores about the host that it was made on, and about the recorded events.

use crate::{host::machine::Machine, tracefs::kernel_types::KernelTypeTable};

/// An event of a recording, with its format.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    /// The event system, such as `kvm`.
    pub system: String,
    /// The name, such as `kvm_exit`.
    pub name: String,
    /// The number of the tracepoint, from its format file.
    pub id: u16,
    /// The text of its format file.
    pub format: String,
}

/// The host, the command and the time of a recording.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Kernel, CPUs and memory of the host.
    pub machine: Machine,
    /// The command line that records.
    pub command: Vec<String>,
    /// `CLOCK_REALTIME` and `CLOCK_MONOTONIC`, read at the same time, in ns.
    pub clocks: (u64, u64),
    /// The formats that the kernel provides besides those of the events.
    pub kernel_formats: KernelFormats,
    /// The kernel's types that the events' print formats use.
    pub kernel_types: KernelTypeTable,
}

/// Files of tracefs that perf stores in each recording besides the formats of the events.
#[derive(Debug, Clone, Default)]
pub struct KernelFormats {
    /// The file `events/header_page`.
    pub header_page: Vec<u8>,
    /// The file `events/header_event`.
    pub header_event: Vec<u8>,
    /// The file `printk_formats`.
    pub printk_formats: Vec<u8>,
}
