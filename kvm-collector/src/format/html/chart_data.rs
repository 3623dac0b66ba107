//! The JSON from which the page's script draws the charts.

use std::io;

use serde::Serialize;

use super::escape;
use crate::{
    format::units::{plural, rough_duration},
    view::{ExitRow, Overview, TimePart, TimelineTrack},
};

/// Maximum number of histograms; the reasons with the most time come first.
pub(super) const MAX_HISTOGRAMS: usize = 24;

#[derive(Serialize)]
struct Data<'a> {
    /// Date of the start: seconds since 1970, and ns of that second; `None` if it is not known.
    start: Option<(u64, u64)>,
    elapsed_ns: u64,
    bin_ns: u64,
    bins: usize,
    events: &'a [u64],
    lost: &'a [u64],
    parts: [&'static str; 6],
    tracks: Vec<Track<'a>>,
    histograms: Vec<Histogram<'a>>,
}

#[derive(Serialize)]
struct Track<'a> {
    name: String,
    exits: &'a [u64],
    /// Time by part and bin, in thousandths of a bin: precise enough for a chart, and a quarter of
    /// the size of ns.
    parts: Vec<Vec<u64>>,
}

#[derive(Serialize)]
struct Histogram<'a> {
    reason: &'a str,
    count: u64,
    p50_ns: u64,
    p99_ns: u64,
    /// The same as text.
    p50: String,
    p99: String,
    /// Lower bound, upper bound (exclusive) and count of each bucket that is not empty.
    buckets: Vec<(u64, u64, u64)>,
}

/// Returns the data as JSON that is safe within a `<script>` element.
pub(super) fn json(overview: &Overview) -> io::Result<String> {
    let timeline = &overview.timeline;
    let thousandths = |ns: &u64| ns.saturating_mul(1000) / timeline.bin_ns.max(1);
    let parts = |track: &'_ TimelineTrack| -> Vec<Vec<u64>> {
        let parts = track.parts_ns.iter();
        parts
            .map(|part| match part.iter().all(|ns| *ns == 0) {
                true => Vec::new(),
                false => part.iter().map(thousandths).collect(),
            })
            .collect()
    };
    let rows = overview.exits.as_ref().ok();
    let rows = rows.map_or(&[][..], |it| &it.reasons.rows);
    let start_ns = timeline
        .start_ns
        .and_then(|start_ns| overview.facts.wall_ns(start_ns));
    escape::json(&Data {
        start: start_ns.map(|ns| (ns / 1_000_000_000, ns % 1_000_000_000)),
        elapsed_ns: timeline.elapsed_ns,
        bin_ns: timeline.bin_ns,
        bins: timeline.bins,
        events: &timeline.events,
        lost: &timeline.lost,
        parts: TimePart::ALL.map(TimePart::name),
        tracks: timeline
            .tracks
            .iter()
            .map(|it| Track {
                name: track_name(it, timeline.merged_vcpus),
                exits: &it.exits,
                parts: parts(it),
            })
            .collect(),
        histograms: rows
            .iter()
            .take(MAX_HISTOGRAMS)
            .filter_map(histogram)
            .collect(),
    })
}

fn track_name(track: &TimelineTrack, merged_vcpus: usize) -> String {
    match (track.pid, track.vcpu) {
        (0, _) => plural(merged_vcpus as u64, "other vCPU"),
        (_, Some(vcpu)) => format!("{} (pid {}) vCPU {vcpu}", track.vm, track.pid),
        (_, None) => format!("{} (pid {}) thread {}", track.vm, track.pid, track.tid),
    }
}

fn histogram(row: &ExitRow) -> Option<Histogram<'_>> {
    let buckets = row.histogram.iter().flatten();
    let buckets: Vec<_> = buckets
        .filter(|it| it.count > 0)
        // The last bucket is unbounded. For the chart, it ends at the longest duration.
        .map(|it| {
            (
                it.from_ns,
                it.to_ns.min(row.max_ns.max(it.from_ns) + 1),
                it.count,
            )
        })
        .collect();
    (!buckets.is_empty()).then(|| Histogram {
        reason: row.reason.as_deref().unwrap_or("?"),
        count: row.count,
        p50_ns: row.p50_ns,
        p99_ns: row.p99_ns,
        p50: rough_duration(row.p50_ns),
        p99: rough_duration(row.p99_ns),
        buckets,
    })
}
