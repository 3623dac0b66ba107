//! Replays a recording, and writes it to a [`Sink`].

use super::{
    error::ConvertError,
    sink::{RecordingEnd, Sink},
};
use crate::{
    model::{Loss, StreamItem},
    source::{PlaybackContext, PlaybackOptions, RecordedNames, Recording, RecordingSummary},
    timing::{CompleteSegment, ExitAssembler, Replay, ReplayOptions},
    tracefs::Format,
};

/// What to convert.
#[derive(Debug)]
pub struct ConvertOptions {
    /// Formats of the selected events, by slot.
    pub formats: Vec<Format>,
    /// The time range and the VMs to convert.
    pub playback: PlaybackOptions,
    /// Whether sinks need the vCPU of every event, in [`PlaybackContext::vcpu`].
    pub identifies_vcpus: bool,
    /// How to time exits. `None` converts events.
    pub exit_replay: Option<ReplayOptions>,
    /// The numbers of the exit reasons to convert. `None` converts all.
    pub reasons: Option<Vec<u32>>,
}

/// The result of a conversion.
#[derive(Debug)]
pub struct ConvertSummary {
    /// Facts about the recording.
    pub recording: RecordingSummary,
    /// Data that is missing from the output, such as lost events.
    pub loss: Loss,
    /// Number of exits written. `None` if events were converted.
    pub exits_written: Option<u64>,
}

/// Replays a recording, and writes it to a sink. `player` is [`Recording::play`], or a function that calls it and
/// reports progress.
///
/// # Errors
/// If the recording cannot be read or the sink cannot be written.
pub fn convert_recording(
    mut recording: Recording,
    options: ConvertOptions,
    sink: &mut dyn Sink,
    player: impl FnOnce(
        Recording,
        &PlaybackOptions,
        &mut dyn FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), ConvertError>,
    ) -> Result<RecordingSummary, ConvertError>,
) -> Result<ConvertSummary, ConvertError> {
    recording.select_events(&options.formats);
    if options.identifies_vcpus {
        recording.identify_vcpus();
    }
    let formats = options.formats;
    let mut exits = match options.exit_replay {
        Some(replay) => Some(ExitConverter::new(replay, options.reasons)?),
        None => None,
    };
    let summary = player(recording, &options.playback, &mut |item, context| {
        match &mut exits {
            Some(exits) if context.is_before_range => exits.skip_item(item),
            Some(exits) => exits.add_item(item, &formats, context, sink)?,
            None if context.is_before_range => sink.skip_item(item, &formats, context)?,
            None => sink.item(item, &formats, context)?,
        }
        Ok(())
    })?;
    let mut loss = summary.loss;
    let end_ns = summary.period_ns.map_or(0, |it| it.1);
    if let Some(exits) = &mut exits {
        exits.finish_segments(end_ns);
        // What is in progress at the end of a range is in the range in which it ends.
        if !summary.ended_early {
            exits.write_segments(&summary.names, sink)?;
        }
        loss = loss.plus(&exits.replay.read_exits(&mut |_| {}).loss);
    }
    sink.finish(&RecordingEnd {
        time_ns: end_ns,
        loss: &loss,
        defect: summary.defect.as_deref(),
    })?;
    Ok(ConvertSummary {
        recording: summary,
        loss: loss.plus(&sink.own_loss()),
        exits_written: match exits {
            Some(exits) => Some(exits.written),
            None => sink.exits_written(),
        },
    })
}

/// Times exits, and writes them to the sink when they are complete.
struct ExitConverter {
    replay: Replay,
    assembler: ExitAssembler,
    reasons: Option<Vec<u32>>,
    written: u64,
}

impl ExitConverter {
    fn new(options: ReplayOptions, reasons: Option<Vec<u32>>) -> Result<Self, ConvertError> {
        let mut replay = Replay::new(ReplayOptions {
            collects_totals: false,
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

    /// Times the exits in progress before the requested range of the recording. Writes nothing.
    fn skip_item(&mut self, item: &StreamItem<'_>) {
        self.replay.add_item(item);
        for segment in self.replay.drain_segments() {
            self.assembler.add(&segment, |_| ());
        }
    }

    fn add_item(
        &mut self,
        item: &StreamItem<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), ConvertError> {
        self.replay.add_item(item);
        self.write_segments(context.names, sink)?;
        if !matches!(item, StreamItem::Event(_)) {
            sink.item(item, formats, context)?;
        }
        Ok(())
    }

    /// Writes the segments that are complete.
    fn write_segments(
        &mut self,
        names: &RecordedNames,
        sink: &mut dyn Sink,
    ) -> Result<(), ConvertError> {
        for segment in self.replay.drain_segments() {
            let (reasons, written) = (&self.reasons, &mut self.written);
            let is_selected = |code: u64| {
                reasons
                    .as_ref()
                    .is_none_or(|it| it.iter().any(|it| u64::from(*it) == code))
            };
            let result = self.assembler.add(&segment, |assembled| match assembled {
                CompleteSegment::Guest(guest) => sink.guest(guest, names),
                CompleteSegment::Exit(segment, exit, parts) if is_selected(exit.key.code) => {
                    *written += 1;
                    sink.exit(segment, parts, names)
                }
                CompleteSegment::Exit(..) => Ok(()),
            });
            result.transpose()?;
        }
        Ok(())
    }

    /// Ends the segments that are in progress.
    fn finish_segments(&mut self, end_ns: u64) {
        self.replay.advance(end_ns);
        self.replay.finish_segments();
    }
}
