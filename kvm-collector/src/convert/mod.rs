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
    model::{Event, Loss, Segment, StreamItem},
    recording::ReadError,
    source::Names,
    timing::TimingError,
    tracefs::{EventName, Format},
};

/// What a target is handed. Each takes what it has a use for.
pub trait Sink {
    /// What comes next in the recording. Where exits are requested, of events only the exits are passed on.
    ///
    /// # Errors
    /// When writing fails.
    fn item(&mut self, item: &StreamItem<'_>, formats: &[Format], names: &Names) -> io::Result<()> {
        match item {
            StreamItem::Event(event) => self.event(event, formats, names),
            item => self.lost(item, formats),
        }
    }

    /// If the item is a loss, and not only a mark, passes it on as a gap.
    ///
    /// # Errors
    /// When writing fails.
    fn lost(&mut self, item: &StreamItem<'_>, formats: &[Format]) -> io::Result<()> {
        match *item {
            StreamItem::Lost {
                slot,
                count,
                time_ns,
                ..
            } if count > 0 => {
                let event = slot.and_then(|slot| formats.get(slot)).map(Format::event);
                self.gap(&Gap {
                    lost: count,
                    event: event.as_ref(),
                    time_ns,
                })
            }
            _ => Ok(()),
        }
    }

    /// An event; `formats` are those of all slots.
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
    fn guest(&mut self, _guest: &Segment, _names: &Names) -> io::Result<()> {
        Ok(())
    }

    /// An exit, and those of its parts that are known by their times.
    ///
    /// # Errors
    /// When writing fails.
    fn exit(&mut self, _exit: &Segment, _parts: &[Segment], _names: &Names) -> io::Result<()> {
        Ok(())
    }

    /// Events are missing.
    ///
    /// # Errors
    /// When writing fails.
    fn gap(&mut self, _gap: &Gap<'_>) -> io::Result<()> {
        Ok(())
    }

    /// What the target itself found missing; known once it is finished.
    fn loss(&self) -> Loss {
        Loss::default()
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
    Timing(#[from] TimingError),
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}
