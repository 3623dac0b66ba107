//! A recording as a source: its events in the order of time.

mod ahead;
mod attr_selection;
mod names;
mod player;
mod scan;
mod time;

use std::path::Path;

use self::{attr_selection::AttrSelection, player::Player, scan::Scanner};
pub use self::{names::Names, time::Limits};
use crate::{
    model::{Loss, StreamItem},
    recording::{Catalog, ReadError, Reader, Runs},
    timing::{Attribution, Selection},
    tracefs::Format,
};

/// What is requested of a recording.
#[derive(Debug, Clone, Default)]
pub struct PlayOptions {
    /// Which events.
    pub selection: Selection,
    /// How much of it, and in which intervals.
    pub limits: Limits,
    /// Nobody looks at the events' records. They may be left out, which takes less time and memory.
    pub without_raw: bool,
}

/// What is known of a recording when an item is passed on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Names of threads and VMs.
    pub names: &'a Names,
    /// What is missing so far.
    pub loss: &'a Loss,
    /// Events passed on so far.
    pub events: u64,
    /// The time of the first one.
    pub began_ns: Option<u64>,
}

/// What was in a recording.
#[derive(Debug, Default)]
pub struct RecordingSummary {
    /// The time of its first selected event; `None` if there was none.
    pub began_ns: Option<u64>,
    /// The time of its last one, or where the requested time ends.
    pub end_ns: u64,
    /// Events passed on.
    pub events: u64,
    /// What is missing.
    pub loss: Loss,
    /// What is wrong with the recording, in words.
    pub defect: Option<String>,
    /// Names, as of the last event.
    pub names: Names,
    /// The processes seen, selected or not, if the selection is by process.
    pub processes: Vec<(u32, String)>,
}

/// A recording that is played.
#[derive(Debug)]
pub struct Recording {
    catalog: Catalog,
    runs: Runs,
    /// All events in it, sorted by name.
    formats: Vec<Format>,
    /// Of each attr.
    attrs: Vec<AttrSelection>,
}

impl Recording {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::new(Reader::open(path)?))
    }

    /// Plays what a reader reads.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let catalog = reader.catalog();
        let mut formats: Vec<Format> = Vec::new();
        for (system, text) in &catalog.formats {
            match Format::parse(system, text) {
                Ok(format) => formats.push(format),
                Err(error) => log::warn!(
                    "{}: the format of an event of {system} cannot be understood, its events are left out: {error}",
                    reader.path().display()
                ),
            }
        }
        let is_recorded = |format: &Format| {
            let id = Some(u64::from(format.id));
            catalog.attrs.iter().any(|attr| attr.tracepoint == id)
        };
        formats.retain(is_recorded);
        formats.sort_by_key(Format::event);
        formats.dedup_by_key(|it| it.id);
        let (catalog, runs) = reader.into_parts();
        Self {
            attrs: vec![AttrSelection::default(); catalog.attrs.len()],
            catalog,
            runs,
            formats,
        }
    }

    /// What it says of itself.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// All events in it, sorted by name.
    #[must_use]
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// Selects events; an event's slot is its index in `selected`.
    pub fn choose(&mut self, selected: &[Format]) {
        let attrs = self.catalog.attrs.iter();
        let selection = |attr| AttrSelection::of(attr, &self.formats, selected);
        self.attrs = attrs.map(selection).collect();
    }

    /// Does it hold only a sample of these events? Then each stands for several.
    #[must_use]
    pub fn is_sampled(&self, formats: &[Format]) -> bool {
        let mut attrs = self.catalog.attrs.iter();
        attrs.any(|attr| {
            let is_this = |format: &Format| Some(u64::from(format.id)) == attr.tracepoint;
            attr.is_sampled && formats.iter().any(is_this)
        })
    }

    /// Passes on what is selected, in the order of time.
    ///
    /// # Errors
    /// When the recording cannot be read, or the first error of `each`.
    pub fn play<E: From<ReadError>>(
        self,
        options: &PlayOptions,
        mut each: impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<RecordingSummary, E> {
        let format_of = |it: &AttrSelection| it.format.and_then(|index| self.formats.get(index));
        let attribution = Attribution::new(
            self.attrs.iter().map(|it| {
                // Which threads are vCPU threads is learnt from events that need not be selected.
                let format = format_of(it);
                format.filter(|format| it.slot.is_some() || Attribution::identifies(format))
            }),
            options.selection.clone(),
        );
        let attrs = self.attrs.iter().enumerate();
        let wanted = attrs
            .map(|(index, it)| {
                let is_wanted = it.slot.is_some() || attribution.learns_from(index);
                is_wanted.then_some(it.min_bytes)
            })
            .collect();
        let keeps_records =
            !options.without_raw || attribution.needs_records() || self.is_sampled(&self.formats);
        let scanner = Scanner::new(&self.catalog, wanted, keeps_records);
        let player = Player::new(&self.catalog, &self.attrs, attribution, options);
        ahead::read(self.runs, scanner, |next| player.play(next, &mut each))
    }
}
