//! Runs all views on one recording. The fuzz target `recording` uses this, too.

use kvm_collector::{
    model::{EventCount, StreamItem},
    recording::ReadError,
    source::{PlaybackOptions, Recording, TimeLimits},
    timing::{Replay, ReplayOptions, TimingRequest},
    view::{
        EventCounter, ExitLineOptions, ExitLines, ItemNames, ReportOrigin, SelectedBy, Timeline,
        TraceClock, TraceFormat, TraceLines,
    },
};

/// Counts, times and prints the events of a recording, in intervals, and builds a timeline from them. Asserts that the
/// results agree.
pub(crate) fn run_all_views(recording: Recording) {
    run_all_views_within(
        recording,
        TimeLimits {
            interval_ns: Some(1_000_000),
            ..TimeLimits::default()
        },
    );
}

/// As [`run_all_views`], with this range and these intervals.
pub(crate) fn run_all_views_within(recording: Recording, limits: TimeLimits) {
    let mut recording = recording;
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let is_sampled = recording.is_sampled(&formats);
    let options = ReplayOptions {
        is_sampled,
        ..ReplayOptions::new(TimingRequest::from_formats(&formats), &formats)
    };
    let mut replay = Replay::new(options).ok();
    if let Some(replay) = &mut replay {
        replay.log_segments();
    }
    let line_options = ExitLineOptions {
        min_ns: 0,
        per_exit: true,
        json: true,
        is_sampled,
    };
    let names = ItemNames {
        comm: "",
        vcpu: None,
        vm_name: &|_| Some("vm".into()),
    };
    let mut exits = ExitLines::new(
        &formats,
        line_options,
        ReportOrigin::new(SelectedBy::default()),
    )
    .ok();
    let mut lines = TraceLines::new(formats.len(), TraceFormat::Json, TraceClock::Mono, false);
    let (mut timeline, mut counter) = (Timeline::default(), EventCounter::new(&formats, true));
    let (mut line, mut out) = (Vec::new(), Vec::new());
    let (mut intervals, mut items) = (0u64, 0u64);
    let playback = PlaybackOptions {
        limits,
        ..PlaybackOptions::default()
    };
    let summary = recording.play(&playback, |item, context| {
        items += 1;
        counter.add_item(item);
        timeline.add_item(item);
        if let Some(replay) = &mut replay {
            replay.add_item(item);
            for segment in replay.drain_segments() {
                assert!(segment.from_ns <= segment.to_ns);
                timeline.add_segment(&segment);
            }
        }
        match item {
            StreamItem::Event(event) => {
                line.clear();
                formats[event.slot].print(event.raw, &mut line);
                let _ = context.names.comm(event.thread());
            }
            StreamItem::IntervalEnd { .. } => {
                intervals += 1;
                if let Some(replay) = &mut replay {
                    replay.read_exits(&mut |_| {});
                }
            }
            _ => {}
        }
        if let Some(exits) = &mut exits {
            out.clear();
            exits
                .add_item(item, true, &formats, names, &mut lines, &mut out)
                .expect("memory");
        }
        Ok::<_, ReadError>(())
    });
    // At most two intervals end per event, and one at the end.
    assert!(intervals <= 2 * items + 1);
    if let Ok(summary) = summary {
        let end_ns = summary.period_ns.map_or(0, |it| it.1);
        let counts = counter.counts(end_ns, &|_| "".into(), summary.loss);
        let mut timed_exits = 0u64;
        if let Some(mut replay) = replay {
            replay.advance(end_ns);
            replay.finish_segments();
            for segment in replay.drain_segments() {
                timeline.add_segment(&segment);
            }
            replay.read_exits(&mut |exits| {
                timed_exits = timed_exits.saturating_add(exits.totals.count);
            });
        }
        if let Some(exits) = &mut exits {
            exits.finish(&mut lines, &mut out).expect("memory");
        }
        let is_exit = |it: &&EventCount| it.event.name == "kvm_exit";
        let exits = counts.events.iter().filter(is_exit);
        let exits = exits.fold(0u64, |sum, it| sum.saturating_add(it.count));
        assert!(timed_exits <= exits, "{timed_exits} of {exits}");
    }
    let _ = timeline.report(&|_| "".into());
}
