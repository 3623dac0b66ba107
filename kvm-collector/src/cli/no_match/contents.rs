//! Counts everything that a recording has, whatever is selected, to say what a selection left out.

use std::{collections::HashMap, path::Path};

use kvm_ebpf_common::VCPU_UNKNOWN;

use crate::{
    model::{Event, StreamItem, VmName, capacity::MAX_KNOWN_TASKS},
    recording::{ReadError, can_be_read_again},
    source::{PlaybackOptions, Recording},
    tracefs::{EventName, Field, Format, ReasonNames},
};

/// What is equal in events that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Class {
    slot: usize,
    tgid: u32,
    tid: u32,
    /// The vCPU that the thread ran last.
    vcpu: u32,
    /// Instruction set and number of the exit reason; 0 for other events.
    reason: (u32, u32),
}

/// Events of one kind of one thread.
#[derive(Debug)]
pub(super) struct Occurrence {
    /// Index of the recording.
    pub(super) recording: usize,
    pub(super) event: EventName,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) vcpu: u32,
    pub(super) vm: VmName,
    /// Whether the process is a VM.
    pub(super) is_vm: bool,
    /// Number and name of the exit reason.
    pub(super) reason: Option<(u32, String)>,
    pub(super) count: u64,
}

impl Occurrence {
    pub(super) fn is_event(&self, name: &str) -> bool {
        self.event.system == "kvm" && self.event.name == name
    }
}

/// The number of events of recordings, in all and by recording, thread, event and exit reason.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) events: u64,
    pub(super) occurrences: Vec<Occurrence>,
}

/// The fields of an event that are read.
struct Fields {
    reason: Option<(Field, Field)>,
}

impl Fields {
    fn new(format: &Format) -> Self {
        let field = |name| format.field(name).cloned();
        let (isa, code) = ReasonNames::reason_fields(Some(format));
        let is_exit = format.is_event("kvm", "kvm_exit");
        Self {
            reason: field(isa).zip(field(code)).filter(|_| is_exit),
        }
    }
}

fn read(field: &Field, event: &Event<'_>) -> u32 {
    let number = field.read_u64(event.raw).unwrap_or(0);
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

/// Why a recording cannot be counted.
enum CountError {
    Read,
    /// Too many threads or reasons: the numbers would be wrong.
    TooMany,
}

impl From<ReadError> for CountError {
    fn from(_: ReadError) -> Self {
        Self::Read
    }
}

impl Contents {
    /// Reads recordings once more, as [`Contents::read`]. Adds their events.
    pub(super) fn read_all<'a>(paths: impl Iterator<Item = &'a Path>) -> Option<Self> {
        let mut all = Self::default();
        for (index, path) in paths.enumerate() {
            let mut one = Self::read(path)?;
            for occurrence in &mut one.occurrences {
                occurrence.recording = index;
            }
            all.events = all.events.saturating_add(one.events);
            all.occurrences.extend(one.occurrences);
        }
        Some(all)
    }

    /// Reads a recording once more. `None` if that is not possible: because it is not a regular file, because it
    /// has changed, or because it has more threads than are stored.
    fn read(path: &Path) -> Option<Self> {
        if !can_be_read_again(path) {
            return None;
        }
        let mut recording = Recording::open(path).ok()?;
        let formats = recording.formats().to_vec();
        recording.select_events(&formats);
        recording.identify_vms();
        recording.identify_vcpus();
        let fields: Vec<_> = formats.iter().map(Fields::new).collect();
        let mut counts: HashMap<Class, u64> = HashMap::new();
        let mut events = 0;
        let options = PlaybackOptions::default();
        let summary = recording.play(&options, |item, context| {
            let StreamItem::Event(event) = item else {
                return Ok::<_, CountError>(());
            };
            events += event.represented_events();
            let Some(fields) = fields.get(event.slot) else {
                return Ok(());
            };
            let reason = fields.reason.as_ref();
            let class = Class {
                slot: event.slot,
                tgid: event.tgid,
                tid: event.tid,
                vcpu: context.vcpu.unwrap_or(VCPU_UNKNOWN),
                reason: reason.map_or((0, 0), |(isa, code)| (read(isa, event), read(code, event))),
            };
            *counts.entry(class).or_default() += event.represented_events();
            match counts.len() > MAX_KNOWN_TASKS {
                true => Err(CountError::TooMany),
                false => Ok(()),
            }
        });
        let summary = summary.ok()?;
        let occurrences = counts.into_iter().filter_map(|(class, count)| {
            let format = formats.get(class.slot)?;
            let (isa, code) = class.reason;
            let reason = fields.get(class.slot)?.reason.as_ref();
            let reason = reason.map(|_| (code, ReasonNames::new(Some(format)).name(isa, code)));
            Some(Occurrence {
                recording: 0,
                event: format.event_name(),
                pid: class.tgid,
                tid: class.tid,
                vcpu: class.vcpu,
                vm: summary.names.vm_name(class.tgid),
                is_vm: summary.names.is_vm(class.tgid),
                reason,
                count,
            })
        });
        Some(Self {
            events,
            occurrences: occurrences.collect(),
        })
    }
}
