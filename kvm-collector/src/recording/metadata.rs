//! The metadata of a recording: its events and their formats, and facts about the host.

use std::collections::HashMap;

use super::{
    abi::{OWN_FEATURE_MARK, RECORD_HEADER, VERSION_PREFIX, feature, u32_at, u64_at},
    attr::EventAttr,
    event_names,
    strings::{read_string, read_strings},
    tracing_data,
};
use crate::tracefs::kernel_types::KernelTypeTable;

/// The maximum length of the table for id lookups. Ids that are further apart are stored in a hash map.
const MAX_TABLE_LEN: u64 = 1 << 20;

/// The maximum number of ids: enough for all events of a kernel on 4096 CPUs.
const MAX_IDS: usize = 1 << 24;

/// Events and facts that a recording stores besides its samples.
#[derive(Debug, Default)]
pub struct Metadata {
    pub(crate) attrs: Vec<EventAttr>,
    /// The names of the events, in the order of `attrs`; empty if they are not known.
    event_names: Vec<String>,
    /// Whether `perf stat record` made the recording, which has no samples.
    has_only_counts: bool,
    /// Whether the samples are in further files of the same directory (`perf record --threads`).
    pub(super) has_directory: bool,
    ids: Vec<(u64, u32)>,
    lookup: Lookup,
    /// Offset of the event id in the body of a sample.
    id_offset: Option<usize>,
    /// The system and the format text of each event.
    pub formats: Vec<(String, String)>,
    /// The name of the host.
    pub hostname: Option<String>,
    /// The kernel's types that the print formats use. Only recordings of `kvm-collector record` have them.
    pub kernel_types: KernelTypeTable,
    /// The id of the host's boot. Only recordings of `kvm-collector record` have it.
    pub boot_id: Option<String>,
    /// The CPU model.
    pub cpu: Option<String>,
    /// The vendor and model number of the CPU, in perf's format.
    pub cpu_id: Option<String>,
    /// The number of CPUs that were online.
    pub cpus_online: Option<u32>,
    /// The command line of the recorder.
    pub command: Vec<String>,
    /// The kernel release, as in `uname -r`.
    pub release: Option<String>,
    /// The version of perf, or the name and version of another recorder.
    pub version: Option<String>,
    /// The id of a clock, then `CLOCK_REALTIME` and this clock, read at the same time, in ns.
    pub clock_pair: Option<(u32, u64, u64)>,
    /// The times of the first and the last sample, in ns.
    pub sample_times_ns: Option<(u64, u64)>,
    /// The names of the VMs, in the format of `host::VmNames`.
    pub vm_names: String,
}

/// Maps an event id to the index of the event's attribute.
#[derive(Debug)]
enum Lookup {
    /// The lowest id, and the index for each id from it on.
    Table(u64, Vec<u32>),
    Map(HashMap<u64, u32>),
}

impl Default for Lookup {
    fn default() -> Self {
        Self::Table(0, Vec::new())
    }
}

/// Stands for an id without an event in the lookup table.
const NO_ATTR: u32 = u32::MAX;

impl Metadata {
    /// Whether this program made the recording. In our recordings, the ids in LOST records identify the
    /// lost events. In perf's recordings, they do not.
    #[must_use]
    pub fn is_recorded_by_us(&self) -> bool {
        self.version
            .as_ref()
            .is_some_and(|it| it.starts_with(VERSION_PREFIX))
    }

    /// Returns the value of the field `isa` of `kvm_exit` on the recorded host (`KVM_ISA_VMX` or
    /// `KVM_ISA_SVM`, arch/x86/kvm/trace.h), from the vendor of its CPU. `None` if that is unknown, or if
    /// the CPU is not an x86 CPU.
    #[must_use]
    pub fn isa(&self) -> Option<u32> {
        let vendor = self.cpu_id.as_ref()?.split([',', '-']).next()?;
        match vendor {
            "GenuineIntel" | "CentaurHauls" | "  Shanghai  " => Some(1),
            "AuthenticAMD" | "HygonGenuine" => Some(2),
            _ => None,
        }
    }

    /// Returns the id of the clock of the samples' times. `None` means perf's own clock.
    #[must_use]
    pub fn sample_clock(&self) -> Option<u32> {
        self.attrs.first().and_then(|attr| attr.clock)
    }

    /// Returns `CLOCK_REALTIME` and the clock of the events, read at the same time, in ns. `None` if the
    /// recording does not contain the date for this clock.
    #[must_use]
    pub fn wall_and_event_ns(&self) -> Option<(u64, u64)> {
        let (clock, wall_ns, event_ns) = self.clock_pair?;
        (self.sample_clock() == Some(clock)).then_some((wall_ns, event_ns))
    }

    /// Returns the offset from the clock of the events to `CLOCK_REALTIME`, which is to be added with
    /// wrapping. `None` if the recording does not contain it.
    #[must_use]
    pub fn wall_offset_ns(&self) -> Option<u64> {
        let (wall_ns, event_ns) = self.wall_and_event_ns()?;
        Some(wall_ns.wrapping_sub(event_ns))
    }

    /// Adds the attribute of an event and the ids that identify the event in samples. Returns false if
    /// the attribute is malformed or there are too many ids.
    pub(super) fn add_attr(&mut self, attr: &[u8], ids: &[u8]) -> bool {
        let Some(attr) = EventAttr::parse(attr) else {
            return false;
        };
        let Ok(index) = u32::try_from(self.attrs.len()) else {
            return false;
        };
        if self.ids.len() + ids.len() / 8 > MAX_IDS {
            return false;
        }
        self.attrs.push(attr);
        let ids = ids.chunks_exact(8).filter_map(|id| u64_at(id, 0));
        self.ids.extend(ids.map(|id| (id, index)));
        true
    }

    /// Adds the attribute in a HEADER_ATTR record. Returns false if the record is malformed.
    pub(super) fn add_header_attr(&mut self, record: &[u8]) -> bool {
        let Some(body) = record.get(RECORD_HEADER..) else {
            return false;
        };
        let size = u32_at(body, 4).and_then(|it| usize::try_from(it).ok());
        let attr_and_ids = size.and_then(|size| body.split_at_checked(size));
        attr_and_ids.is_some_and(|(attr, ids)| self.add_attr(attr, ids))
    }

    /// Adds the feature in a HEADER_FEATURE record.
    pub(super) fn add_header_feature(&mut self, record: &[u8]) {
        if let Some(number) = u64_at(record, RECORD_HEADER)
            && let Some(content) = record.get(RECORD_HEADER + 8..)
        {
            self.add_feature(u32::try_from(number).unwrap_or(0), content);
        }
    }

    /// Adds the feature of ours in a padding record, if it has one.
    pub(super) fn add_hidden_feature(&mut self, record: &[u8]) {
        let body = record.get(RECORD_HEADER..).unwrap_or_default();
        if let Some(rest) = body.strip_prefix(OWN_FEATURE_MARK)
            && let Some(number) = u64_at(rest, 0).and_then(|it| u32::try_from(it).ok())
            && [feature::KERNEL_TYPES, feature::BOOT_ID].contains(&number)
        {
            self.add_feature(number, &rest[8..]);
        }
    }

    /// The features that [`Metadata::add_feature`] uses.
    pub(super) const USED_FEATURES: [u32; 16] = [
        feature::TRACING_DATA,
        feature::HOSTNAME,
        feature::CPUDESC,
        feature::CPUID,
        feature::NRCPUS,
        feature::CMDLINE,
        feature::EVENT_DESC,
        feature::OSRELEASE,
        feature::VERSION,
        feature::STAT,
        feature::SAMPLE_TIME,
        feature::DIR_FORMAT,
        feature::CLOCK_DATA,
        feature::KERNEL_TYPES,
        feature::BOOT_ID,
        feature::VM_NAMES,
    ];

    /// Adds a feature. Ignores features that are not in [`Metadata::USED_FEATURES`].
    pub(super) fn add_feature(&mut self, number: u32, content: &[u8]) {
        match number {
            feature::TRACING_DATA => self.add_tracing_data(content),
            feature::HOSTNAME => self.hostname = read_string(content),
            feature::CPUDESC => self.cpu = read_string(content),
            feature::CPUID => self.cpu_id = read_string(content),
            feature::NRCPUS => self.cpus_online = u32_at(content, 4),
            feature::EVENT_DESC => self.event_names = event_names::decode(content),
            feature::STAT => self.has_only_counts = true,
            feature::DIR_FORMAT => self.has_directory = true,
            feature::CMDLINE => self.command = read_strings(content),
            feature::OSRELEASE => self.release = read_string(content),
            feature::VERSION => self.version = read_string(content),
            feature::SAMPLE_TIME => {
                self.sample_times_ns = u64_at(content, 0).zip(u64_at(content, 8));
            }
            feature::CLOCK_DATA => {
                self.clock_pair = u32_at(content, 4)
                    .zip(u64_at(content, 8))
                    .zip(u64_at(content, 16))
                    .map(|((clock, realtime_ns), time_ns)| (clock, realtime_ns, time_ns));
            }
            feature::KERNEL_TYPES => {
                self.kernel_types = KernelTypeTable::from_text(&String::from_utf8_lossy(content));
            }
            feature::BOOT_ID => self.boot_id = read_string(content),
            feature::VM_NAMES => self.vm_names = String::from_utf8_lossy(content).into_owned(),
            _ => {}
        }
    }

    pub(super) fn add_tracing_data(&mut self, data: &[u8]) {
        if let Some(formats) = tracing_data::decode(data)
            && self.formats.is_empty()
        {
            self.formats = formats;
        }
    }

    /// Returns why the recording cannot have events of KVM that can be read, whatever its samples are.
    pub(super) fn unsuitable(&self) -> Option<String> {
        let tracepoints = self.attrs.iter().filter(|it| it.tracepoint.is_some());
        let mut tracepoints = tracepoints.peekable();
        if tracepoints.peek().is_none() {
            let what = if self.has_only_counts {
                "counts"
            } else {
                "samples"
            };
            let events = event_names::list(&self.attrs, &self.event_names);
            return Some(format!(
                "has no tracepoints, so it has no events of KVM: it has {what} of {events}"
            ));
        }
        let missing = tracepoints.find_map(EventAttr::missing_value)?;
        Some(format!(
            "has tracepoints, but their samples have no {missing}"
        ))
    }

    /// Prepares the lookup of ids. Call this after all attributes are added.
    pub(super) fn build_lookup(&mut self) {
        let first = self.attrs.first();
        self.id_offset = first.and_then(|it| Some(8 * it.sample_id_index()?));
        let lowest = self.ids.iter().map(|it| it.0).min().unwrap_or(0);
        let highest = self.ids.iter().map(|it| it.0).max().unwrap_or(0);
        self.lookup = if highest - lowest < MAX_TABLE_LEN {
            let length = usize::try_from(highest - lowest + 1).unwrap_or(0);
            let mut table = vec![NO_ATTR; length];
            for (id, attr) in &self.ids {
                table[usize::try_from(id - lowest).unwrap_or(0)] = *attr;
            }
            Lookup::Table(lowest, table)
        } else {
            Lookup::Map(self.ids.iter().copied().collect())
        };
    }

    /// Returns the index of the attribute of the event with this id.
    #[inline]
    pub(crate) fn attr_index(&self, id: u64) -> Option<usize> {
        let index = match &self.lookup {
            Lookup::Table(lowest, table) => {
                let offset = usize::try_from(id.checked_sub(*lowest)?).ok()?;
                *table.get(offset)?
            }
            Lookup::Map(map) => *map.get(&id)?,
        };
        (index != NO_ATTR).then_some(index as usize)
    }

    /// Returns the time of a record that is not a sample. 0 if it has no time.
    pub(crate) fn non_sample_time(&self, record: &[u8]) -> u64 {
        self.attrs
            .first()
            .map_or(0, |it| it.non_sample_time(record))
    }

    /// Returns the CPU of a record that is not a sample.
    pub(crate) fn non_sample_cpu(&self, record: &[u8]) -> Option<u32> {
        self.attrs.first()?.non_sample_cpu(record)
    }

    /// Returns the index of the attribute of a sample, given the body of its record.
    #[inline]
    pub(crate) fn sample_attr_index(&self, body: &[u8]) -> Option<usize> {
        if self.attrs.len() == 1 {
            return Some(0);
        }
        let id = u64_at(body, self.id_offset?)?;
        self.attr_index(id)
    }
}
