//! Playing a recording once, into a target.

use super::{ConvertError, End, Sink};
use crate::{
    model::{Loss, StreamItem},
    source::{Context, Names, PlayOptions, Recording, RecordingSummary},
    timing::{Assembled, ExitAssembler, Replay, ReplayOptions},
    tracefs::Format,
};

/// What is converted.
#[derive(Debug)]
pub struct Conversion {
    /// The selected events, in the order of their slots.
    pub formats: Vec<Format>,
    /// How much of the recording, and of whom.
    pub options: PlayOptions,
    /// How exits are made of the events; without, there are only events.
    pub exits: Option<ReplayOptions>,
    /// Only exits for these reasons, by number; `None` for all.
    pub reasons: Option<Vec<u32>>,
}

/// What was converted.
#[derive(Debug)]
pub struct Done {
    /// What was in the recording.
    pub summary: RecordingSummary,
    /// What is missing from the result.
    pub loss: Loss,
    /// Exits written; `None` if only events were requested.
    pub exits: Option<u64>,
}

/// Plays a recording into a target. `player` is [`Recording::play`], or does it and says how far it is.
///
/// # Errors
/// When the recording cannot be read, or the target not be written.
pub fn play(
    mut recording: Recording,
    conversion: Conversion,
    sink: &mut dyn Sink,
    player: impl FnOnce(
        Recording,
        &PlayOptions,
        &mut dyn FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), ConvertError>,
    ) -> Result<RecordingSummary, ConvertError>,
) -> Result<Done, ConvertError> {
    recording.choose(&conversion.formats);
    let formats = conversion.formats;
    let mut exits = match conversion.exits {
        Some(options) => Some(Exits::new(options, conversion.reasons)?),
        None => None,
    };
    let summary = player(recording, &conversion.options, &mut |item, context| {
        match &mut exits {
            Some(exits) => exits.take(item, &formats, context.names, sink)?,
            None => sink.item(item, &formats, context.names)?,
        }
        Ok(())
    })?;
    let mut loss = summary.loss;
    if let Some(exits) = &mut exits {
        exits.end(summary.end_ns, &summary.names, sink)?;
        loss = loss.plus(&exits.replay.exits(&mut |_| {}).loss);
    }
    sink.finish(&End {
        time_ns: summary.end_ns,
        loss: &loss,
        defect: summary.defect.as_deref(),
    })?;
    Ok(Done {
        summary,
        loss: loss.plus(&sink.loss()),
        exits: exits.map(|it| it.written),
    })
}

/// Exits, as far as the recording was played.
struct Exits {
    replay: Replay,
    assembler: ExitAssembler,
    reasons: Option<Vec<u32>>,
    written: u64,
}

impl Exits {
    fn new(options: ReplayOptions, reasons: Option<Vec<u32>>) -> Result<Self, ConvertError> {
        let mut replay = Replay::new(ReplayOptions {
            has_totals: false,
            ..options
        })?;
        replay.log_segments();
        Ok(Self {
            replay,
            assembler: ExitAssembler::default(),
            reasons,
            written: 0,
        })
    }

    fn take(
        &mut self,
        item: &StreamItem<'_>,
        formats: &[Format],
        names: &Names,
        sink: &mut dyn Sink,
    ) -> Result<(), ConvertError> {
        self.replay.take(item);
        self.write(names, sink)?;
        if !matches!(item, StreamItem::Event(_)) {
            sink.item(item, formats, names)?;
        }
        Ok(())
    }

    /// Writes the segments that have ended by now.
    fn write(&mut self, names: &Names, sink: &mut dyn Sink) -> Result<(), ConvertError> {
        for segment in self.replay.segments() {
            let (reasons, written) = (&self.reasons, &mut self.written);
            let is_selected = |code: u64| {
                reasons
                    .as_ref()
                    .is_none_or(|it| it.iter().any(|it| u64::from(*it) == code))
            };
            let result = self.assembler.add(&segment, |assembled| match assembled {
                Assembled::Guest(guest) => sink.guest(guest, names),
                Assembled::Exit(segment, exit, parts) if is_selected(exit.key.code) => {
                    *written += 1;
                    sink.exit(segment, parts, names)
                }
                Assembled::Exit(..) => Ok(()),
            });
            result.transpose()?;
        }
        Ok(())
    }

    /// Writes what had not ended when the recording did.
    fn end(&mut self, end_ns: u64, names: &Names, sink: &mut dyn Sink) -> Result<(), ConvertError> {
        self.replay.advance(end_ns);
        self.replay.end_segments();
        self.write(names, sink)
    }
}
