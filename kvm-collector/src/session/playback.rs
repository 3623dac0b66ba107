//! Reading a recording, with a line on the terminal that says how far it is.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use crate::{
    model::StreamItem,
    recording::ReadError,
    source::{PlaybackContext, PlaybackOptions, Recording, RecordingSummary},
};

/// How often the line changes.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// Events between two looks at the clock.
const EVENTS_BETWEEN_LOOKS: u64 = 1 << 16;

/// Plays a recording; with `shows_progress`, says on a terminal how far it is, unless reports go there.
///
/// # Errors
/// When the recording cannot be read, or the first error of `each`.
pub fn play<E: From<ReadError>>(
    recording: Recording,
    options: &PlaybackOptions,
    shows_progress: bool,
    mut each: impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
) -> Result<RecordingSummary, E> {
    let shows = shows_progress && io::stderr().is_terminal();
    if !shows {
        return recording.play(options, each);
    }
    let mut shown = Instant::now();
    let mut is_shown = false;
    let played = recording.play(options, |item, context| {
        if let StreamItem::Event(event) = item
            && context.events.is_multiple_of(EVENTS_BETWEEN_LOOKS)
            && shown.elapsed() >= SHOWN_EVERY
        {
            shown = Instant::now();
            is_shown = true;
            let began_ns = context.start_ns.unwrap_or(event.time_ns);
            let elapsed = Duration::from_nanos(event.time_ns.saturating_sub(began_ns));
            // The next line is written over it.
            eprint!(
                "{} events, {:.1} s of the recording\x1b[K\r",
                context.events,
                elapsed.as_secs_f64()
            );
        }
        each(item, context)
    });
    if is_shown {
        eprint!("\r\x1b[K");
    }
    played
}
