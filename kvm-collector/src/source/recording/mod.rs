//! A recording as a source: its events in the order of time.

mod ahead;
mod choice;
mod names;
mod player;
mod scan;

use std::path::Path;

use globset::GlobMatcher;

pub use self::names::Names;
use self::{choice::Choice, player::Player, scan::Scanner};
use crate::{
    model::{Event, Loss},
    probe::Filter,
    recording::{Catalog, ReadError, Reader, Runs},
    tracefs::Format,
};

/// What a recording gives.
#[derive(Debug, Clone, Copy)]
pub enum Played<'a> {
    /// An event.
    Event(Event<'a>),
    /// Events that are missing here.
    Lost {
        /// Which, if the recording knows: the index of its format.
        slot: Option<usize>,
        /// How many.
        lost: u64,
        /// Before this time.
        time_ns: u64,
    },
}

/// Which events are asked for.
#[derive(Debug, Default)]
pub struct Selection {
    /// By process, thread, vCPU and exit reason.
    pub filter: Filter,
    /// By the VM's name.
    pub vms: Vec<GlobMatcher>,
    /// Nobody looks at what is raw of them. It may be left out, which takes less time and memory.
    pub without_raw: bool,
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// What is missing.
    pub loss: Loss,
    /// Events given out after one with a later time.
    pub late: u64,
    /// What is wrong with the recording, in words.
    pub defect: Option<String>,
    /// Names, as of the last event.
    pub names: Names,
    /// The processes seen, whether asked for or not.
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
    choices: Vec<Choice>,
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
            choices: vec![Choice::default(); catalog.attrs.len()],
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

    /// Chooses events; an event's slot is its place in `chosen`.
    pub fn choose(&mut self, chosen: &[Format]) {
        let attrs = self.catalog.attrs.iter();
        let choice = |attr| Choice::of(attr, &self.formats, chosen);
        self.choices = attrs.map(choice).collect();
    }

    /// Gives out the events asked for, in order, until `each` returns false.
    ///
    /// # Errors
    /// When the recording cannot be read, or the first error of `each`.
    pub fn play<E: From<ReadError>>(
        self,
        selection: &Selection,
        mut each: impl FnMut(&Played<'_>, &Names) -> Result<bool, E>,
    ) -> Result<Ended, E> {
        let scanner = Scanner::new(&self.catalog, &self.choices, selection);
        let player = Player::new(&self.catalog, &self.choices, selection);
        ahead::read(self.runs, scanner, |next| player.play(next, &mut each))
    }
}
