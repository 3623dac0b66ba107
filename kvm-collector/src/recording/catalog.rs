//! What a recording says of itself before its events: which events, how their records are laid out, and where it is from.

use std::collections::HashMap;

use super::{
    abi::{OUR_VERSION, RECORD_HEADER, feature, u32_at, u64_at},
    sample::Attr,
    tracing_data,
};

/// Ids this close together are looked up in a table.
const MOST_IN_TABLE: u64 = 1 << 20;

/// More ids than this no recording has: 4096 CPUs, and all events of a kernel.
const MOST_IDS: usize = 1 << 24;

/// What is known of the events of a recording, and of the recording.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(crate) attrs: Vec<Attr>,
    ids: Vec<(u64, u32)>,
    lookup: Lookup,
    /// Where a sample has its id, in bytes behind the record's header.
    id_at: Option<usize>,
    /// The system and the text of each event's format.
    pub formats: Vec<(String, String)>,
    /// The host's name.
    pub hostname: Option<String>,
    /// Its processor.
    pub cpu: Option<String>,
    /// Its CPUs that were online.
    pub cpus_online: Option<u32>,
    /// The command line that recorded it.
    pub command: Vec<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// What recorded it, with its version.
    pub version: Option<String>,
    /// The clock of [`Catalog::clocks`], and `CLOCK_REALTIME` and that clock at the same moment, in ns.
    pub clocks: Option<(u32, u64, u64)>,
    /// Which VM each process was: see `source::VmNames`.
    pub vm_names: String,
}

/// From a sample's id to its event's attr.
#[derive(Debug)]
enum Lookup {
    /// From the lowest id on.
    Table(u64, Vec<u32>),
    Map(HashMap<u64, u32>),
}

impl Default for Lookup {
    fn default() -> Self {
        Self::Table(0, Vec::new())
    }
}

const NONE: u32 = u32::MAX;

impl Catalog {
    /// Was it recorded by this program? Then the ids of lost events are those of the events that were lost.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.version
            .as_ref()
            .is_some_and(|it| it.starts_with(OUR_VERSION))
    }

    /// The clock of the samples' times, if it was chosen.
    #[must_use]
    pub fn clock(&self) -> Option<u32> {
        self.attrs.first().and_then(|attr| attr.clock)
    }

    /// Adds an event's attr with its samples' ids. False if it is none, or there are too many.
    pub(super) fn add_attr(&mut self, attr: &[u8], ids: &[u8]) -> bool {
        let Some(attr) = Attr::read(attr) else {
            return false;
        };
        let Ok(index) = u32::try_from(self.attrs.len()) else {
            return false;
        };
        if self.ids.len() + ids.len() / 8 > MOST_IDS {
            return false;
        }
        self.attrs.push(attr);
        let ids = ids.chunks_exact(8).filter_map(|id| u64_at(id, 0));
        self.ids.extend(ids.map(|id| (id, index)));
        true
    }

    /// A record of a stream that adds an event's attr.
    pub(super) fn header_attr(&mut self, record: &[u8]) -> bool {
        let Some(body) = record.get(RECORD_HEADER..) else {
            return false;
        };
        let size = u32_at(body, 4).and_then(|it| usize::try_from(it).ok());
        let parts = size.and_then(|size| body.split_at_checked(size));
        parts.is_some_and(|(attr, ids)| self.add_attr(attr, ids))
    }

    /// A record of a stream that has a feature.
    pub(super) fn header_feature(&mut self, record: &[u8]) {
        if let Some(number) = u64_at(record, RECORD_HEADER)
            && let Some(content) = record.get(RECORD_HEADER + 8..)
        {
            self.feature(u32::try_from(number).unwrap_or(0), content);
        }
    }

    /// The features that are of use here.
    pub(super) const FEATURES: [u32; 9] = [
        feature::TRACING_DATA,
        feature::HOSTNAME,
        feature::CPUDESC,
        feature::NRCPUS,
        feature::CMDLINE,
        feature::OSRELEASE,
        feature::VERSION,
        feature::CLOCK_DATA,
        feature::VM_NAMES,
    ];

    pub(super) fn feature(&mut self, number: u32, content: &[u8]) {
        match number {
            feature::TRACING_DATA => self.tracing_data(content),
            feature::HOSTNAME => self.hostname = string(content),
            feature::CPUDESC => self.cpu = string(content),
            feature::NRCPUS => self.cpus_online = u32_at(content, 4),
            feature::CMDLINE => self.command = strings(content),
            feature::OSRELEASE => self.release = string(content),
            feature::VERSION => self.version = string(content),
            feature::CLOCK_DATA => {
                self.clocks = u32_at(content, 4)
                    .zip(u64_at(content, 8))
                    .zip(u64_at(content, 16))
                    .map(|((clock, wall), time)| (clock, wall, time));
            }
            feature::VM_NAMES => self.vm_names = String::from_utf8_lossy(content).into_owned(),
            _ => {}
        }
    }

    pub(super) fn tracing_data(&mut self, data: &[u8]) {
        if let Some(formats) = tracing_data::read(data)
            && self.formats.is_empty()
        {
            self.formats = formats;
        }
    }

    /// All attrs are there: ids can be looked up.
    pub(super) fn complete(&mut self) {
        let first = self.attrs.first();
        self.id_at = first.and_then(|it| Some(8 * it.id_in_sample()?));
        let lowest = self.ids.iter().map(|it| it.0).min().unwrap_or(0);
        let highest = self.ids.iter().map(|it| it.0).max().unwrap_or(0);
        self.lookup = if highest - lowest < MOST_IN_TABLE {
            let length = usize::try_from(highest - lowest + 1).unwrap_or(0);
            let mut table = vec![NONE; length];
            for (id, attr) in &self.ids {
                table[usize::try_from(id - lowest).unwrap_or(0)] = *attr;
            }
            Lookup::Table(lowest, table)
        } else {
            Lookup::Map(self.ids.iter().copied().collect())
        };
    }

    /// The attr of an id.
    #[inline]
    pub(crate) fn attr_of(&self, id: u64) -> Option<usize> {
        let found = match &self.lookup {
            Lookup::Table(lowest, table) => {
                let place = usize::try_from(id.checked_sub(*lowest)?).ok()?;
                *table.get(place)?
            }
            Lookup::Map(map) => *map.get(&id)?,
        };
        (found != NONE).then_some(found as usize)
    }

    /// When a record that is no sample happened; 0 if it does not say.
    pub(crate) fn time_of(&self, record: &[u8]) -> u64 {
        self.attrs.first().map_or(0, |it| it.time_of(record))
    }

    /// On which CPU a record that is no sample was written, if it says so.
    pub(crate) fn cpu_of(&self, record: &[u8]) -> Option<u32> {
        self.attrs.first()?.cpu_of(record)
    }

    /// The attr of a sample, given what is behind the record's header.
    #[inline]
    pub(crate) fn attr_of_sample(&self, body: &[u8]) -> Option<usize> {
        if self.attrs.len() == 1 {
            return Some(0);
        }
        let id = u64_at(body, self.id_at?)?;
        self.attr_of(id)
    }
}

/// A string as perf writes it.
fn string(content: &[u8]) -> Option<String> {
    let text = content.get(4..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Strings as perf writes them: how many, and each with its length before it.
fn strings(content: &[u8]) -> Vec<String> {
    let mut rest = content.get(4..).unwrap_or_default();
    let mut all = Vec::new();
    // Each takes 4 bytes at least, so a count that is wrong asks for no more than there is.
    for _ in 0..u32_at(content, 0).unwrap_or(0) {
        let Some(text) = string(rest) else { break };
        all.push(text);
        let length = u32_at(rest, 0).and_then(|it| usize::try_from(it).ok());
        let next = length.and_then(|it| it.checked_add(4));
        rest = next.and_then(|it| rest.get(it..)).unwrap_or_default();
    }
    all
}
