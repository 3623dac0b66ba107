//! Reads a recording and shows the progress on the terminal.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use super::stderr::write_stderr;
use crate::{
    format::units::plural,
    model::StreamItem,
    recording::ReadError,
    source::{PlaybackContext, PlaybackOptions, Recording, RecordingSummary},
};

/// Minimum time between two updates of the progress line.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);

/// Number of events between two checks of the clock.
const EVENTS_PER_CLOCK_CHECK: u64 = 1 << 16;

/// Reads a recording and passes each item to `each`. `shows_progress`: shows a progress line if stderr
/// is a terminal.
///
/// # Errors
/// When the recording cannot be read, or the first error that `each` returns.
pub fn read_recording<E: From<ReadError>>(
    recording: Recording,
    options: &PlaybackOptions,
    shows_progress: bool,
    mut each: impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
) -> Result<RecordingSummary, E> {
    if !shows_progress || !io::stderr().is_terminal() {
        return recording.play(options, each);
    }
    let mut last_shown = Instant::now();
    let mut is_shown = false;
    let summary = recording.play(options, |item, context| {
        if let StreamItem::Event(event) = item
            && context.events.is_multiple_of(EVENTS_PER_CLOCK_CHECK)
            && last_shown.elapsed() >= PROGRESS_PERIOD
        {
            last_shown = Instant::now();
            is_shown = true;
            let start_ns = context.start_ns.unwrap_or(event.time_ns);
            let elapsed = Duration::from_nanos(event.time_ns.saturating_sub(start_ns));
            // The cursor returns to the start of the line, so the next output overwrites it.
            write_stderr(format_args!(
                "{}, {:.1} s of the recording\x1b[K\r",
                plural(context.events, "event"),
                elapsed.as_secs_f64()
            ));
        }
        each(item, context)
    });
    if is_shown {
        write_stderr("\r\x1b[K");
    }
    summary
}
