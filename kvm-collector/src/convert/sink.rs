//! The interface of what a conversion writes to.

use std::io;

use crate::{
    model::{Event, Loss, Segment, StreamItem},
    source::{PlaybackContext, RecordedNames},
    tracefs::{EventName, Format},
};

/// Receives the contents of a recording in order of time. Targets implement the methods for what they
/// write, and ignore the rest.
pub trait Sink {
    /// Receives an item of the recording's stream. If exits are converted, this is called only for items
    /// that are not events.
    ///
    /// # Errors
    /// If writing fails.
    fn item(
        &mut self,
        item: &StreamItem<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        match item {
            StreamItem::Event(event) => self.event(event, formats, context),
            item => self.write_loss_as_gap(item, formats),
        }
    }

    /// Returns the number of exits that were written, if the sink itself times them.
    fn exits_written(&self) -> Option<u64> {
        None
    }

    /// Receives an item before the requested range of the recording. Exits in progress may end later.
    ///
    /// # Errors
    /// If the item cannot be stored.
    fn skip_item(
        &mut self,
        _item: &StreamItem<'_>,
        _formats: &[Format],
        _context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Calls [`Sink::gap`] if the item is a number of lost events. Ignores markers and other items.
    ///
    /// # Errors
    /// If writing fails.
    fn write_loss_as_gap(&mut self, item: &StreamItem<'_>, formats: &[Format]) -> io::Result<()> {
        match *item {
            StreamItem::Lost {
                slot,
                count,
                time_ns,
                ..
            } if count > 0 => {
                let event = slot
                    .and_then(|slot| formats.get(slot))
                    .map(Format::event_name);
                self.gap(&Gap {
                    lost: count,
                    event: event.as_ref(),
                    time_ns,
                })
            }
            _ => Ok(()),
        }
    }

    /// Receives an event. `formats` has the format for each slot.
    ///
    /// # Errors
    /// If writing fails.
    fn event(
        &mut self,
        _event: &Event<'_>,
        _formats: &[Format],
        _context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Receives a segment during which a vCPU was in the guest.
    ///
    /// # Errors
    /// If writing fails.
    fn guest(&mut self, _guest: &Segment, _names: &RecordedNames) -> io::Result<()> {
        Ok(())
    }

    /// Receives an exit, and the segments of its parts with known times.
    ///
    /// # Errors
    /// If writing fails.
    fn exit(
        &mut self,
        _exit: &Segment,
        _parts: &[Segment],
        _names: &RecordedNames,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Receives a gap.
    ///
    /// # Errors
    /// If writing fails.
    fn gap(&mut self, _gap: &Gap<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Returns the loss that the sink itself causes or detects. Complete after [`Sink::finish`].
    fn own_loss(&self) -> Loss {
        Loss::default()
    }

    /// Ends the output. Targets also write the loss in `end`.
    ///
    /// # Errors
    /// If writing fails.
    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()>;
}

/// A point in time at which the recording lost events.
#[derive(Debug, Clone, Copy)]
pub struct Gap<'a> {
    /// Number of lost events.
    pub lost: u64,
    /// The lost event. `None` if it is unknown or several.
    pub event: Option<&'a EventName>,
    /// The time before which the events were lost. 0 if it is unknown.
    pub time_ns: u64,
}

/// Facts about a recording that are known at its end.
#[derive(Debug, Clone, Copy)]
pub struct RecordingEnd<'a> {
    /// The time of the last event.
    pub time_ns: u64,
    /// What the recording lacks.
    pub loss: &'a Loss,
    /// A description of the damage, if the recording is damaged or incomplete.
    pub defect: Option<&'a str>,
}
