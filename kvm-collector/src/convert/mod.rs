//! Recordings as files of other tools: one module for each target, which is handed what a recording has, in
//! order and one by one, so that nothing grows with the recording.

mod csv;
mod parquet;
mod perfetto;
mod play;
mod rows;
mod text;

use std::io;

pub use csv::Csv;
pub use parquet::Parquet;
pub use perfetto::Perfetto;
pub use play::{Conversion, Done, play};
pub use rows::{Cell, Column, Columns, Kind, Rows, Table};
pub use text::Text;

use crate::{
    model::{Event, Loss, Stretch},
    probe::PlanError,
    recording::ReadError,
    source::Names,
    tracefs::{EventName, Format},
};

/// What a target is handed. Each takes what it has a use for.
pub trait Sink {
    /// An event; `format` is that of its slot.
    ///
    /// # Errors
    /// When writing fails, as for all of these.
    fn event(&mut self, _event: &Event<'_>, _formats: &[Format], _names: &Names) -> io::Result<()> {
        Ok(())
    }

    /// A vCPU was in the guest.
    ///
    /// # Errors
    /// When writing fails.
    fn guest(&mut self, _guest: &Stretch, _names: &Names) -> io::Result<()> {
        Ok(())
    }

    /// An exit, and those of its parts that are known by their times.
    ///
    /// # Errors
    /// When writing fails.
    fn exit(&mut self, _exit: &Stretch, _parts: &[Stretch], _names: &Names) -> io::Result<()> {
        Ok(())
    }

    /// Events are missing.
    ///
    /// # Errors
    /// When writing fails.
    fn gap(&mut self, _gap: &Gap<'_>) -> io::Result<()> {
        Ok(())
    }

    /// There is no more. Whatever is missing has to be in the file, too.
    ///
    /// # Errors
    /// When writing fails.
    fn finish(&mut self, end: &End<'_>) -> io::Result<()>;
}

/// A place where events are missing.
#[derive(Debug, Clone, Copy)]
pub struct Gap<'a> {
    /// How many.
    pub lost: u64,
    /// Of which event, if that is known.
    pub event: Option<&'a EventName>,
    /// Before this time; 0 if the recording does not say.
    pub time_ns: u64,
}

/// What is known of a recording at its end.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The last event's time.
    pub time_ns: u64,
    /// All that is missing.
    pub loss: &'a Loss,
    /// Why it is only a part, if it is.
    pub defect: Option<&'a str>,
}

/// Why a recording could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its events do not have what exits are made of.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}
