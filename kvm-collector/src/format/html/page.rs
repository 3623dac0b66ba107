//! Writes the page: its head, the sections in their order, the data of the charts and the script.

use std::io::{self, Write};

use super::{
    chart_data::{self, MAX_HISTOGRAMS},
    escape::Text,
    events_table, exits_table, findings, slowest, vcpu_times, wall_time,
};
use crate::{
    format::{
        describe_loss,
        units::{count, duration, exact_duration, rate},
    },
    view::{Overview, RecordedExits, TimePart},
};

const STYLE: &str = include_str!("page.css");

/// The parts of the script. They share one function, so that their names are not global.
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("script/units.js"),
    include_str!("script/clocks.js"),
    include_str!("script/timeline.js"),
    include_str!("script/histograms.js"),
    include_str!("script/tables.js"),
    include_str!("script/main.js"),
    "})();\n",
);

/// Forbids all network access, as a second line of defense behind the escaping.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// Writes the report of a recording as one HTML page.
///
/// # Errors
/// When writing fails.
pub fn write_overview(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let title = &overview.facts.file;
    write!(
        out,
        r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="kvm-collector {}">
<title>{} - KVM events</title>
<style>
{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>KVM events <span class="file">{}</span></h1>
"##,
        env!("CARGO_PKG_VERSION"),
        Text(title),
        Text(title),
    )?;
    facts(overview, out)?;
    writeln!(out, "</header>\n<main id=\"main\">")?;
    notices(overview, out)?;
    if let Ok(exits) = &overview.exits {
        tiles(overview, exits, out)?;
        findings::section(&exits.vms, out)?;
        vcpu_times::section(&exits.rows, out)?;
    }
    timeline(overview, out)?;
    if let Ok(exits) = &overview.exits {
        slowest::section(overview, exits, out)?;
        histograms(exits, out)?;
        exits_table::section(&exits.rows, out)?;
    }
    events_table::section(&overview.stat, out)?;
    write!(
        out,
        r#"</main>
<footer>Written by kvm-collector {}. The duration of an exit is the time from kvm_exit to the next kvm_entry of the same thread. Percentiles are accurate to 5 %.</footer>
<script type="application/json" id="data">{}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#,
        env!("CARGO_PKG_VERSION"),
        chart_data::json(overview)?,
    )
}

/// Writes the metadata of the recording.
fn facts(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let facts = &overview.facts;
    writeln!(out, "<dl class=\"facts\">")?;
    let mut fact =
        |name: &str, html: &str| writeln!(out, "<div><dt>{}</dt><dd>{html}</dd></div>", Text(name));
    let (start_ns, elapsed_ns) = (overview.timeline.start_ns, overview.timeline.elapsed_ns);
    let wall_ns = |ns: u64| facts.wall_ns(start_ns?.saturating_add(ns));
    if let Some((from_ns, to_ns)) = wall_ns(0).zip(wall_ns(elapsed_ns)) {
        let from = wall_time::date_and_time(from_ns, 3);
        let to = match wall_time::is_same_day(from_ns, to_ns) {
            true => wall_time::time_of_day(to_ns, 3),
            false => wall_time::date_and_time(to_ns, 3),
        };
        fact(
            "time",
            &format!("<span id=\"period\">{from} to {to} UTC</span>"),
        )?;
    }
    match start_ns {
        Some(_) => fact("duration", &duration(elapsed_ns))?,
        None => fact("duration", "unknown: the recording has no events")?,
    }
    for (name, text) in &facts.details {
        fact(name, &Text(text).to_string())?;
    }
    writeln!(out, "</dl>")
}

/// Writes which data is missing, or that the data is complete.
fn notices(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let loss = overview.loss();
    let mut all = Vec::new();
    if let Some(defect) = &overview.facts.defect {
        all.push(format!(
            "The recording is incomplete: {defect}. Only the events before that are used."
        ));
    }
    for entry in loss.entries() {
        // `damaged` includes the defect, which is reported above.
        let reported = u64::from(entry.name == "damaged" && overview.facts.defect.is_some());
        match entry.count {
            Some(number) if number > reported => {
                all.push(format!("{}.", describe_loss(&entry, number - reported)));
            }
            _ => {}
        }
    }
    if let Err(why) = &overview.exits {
        all.push(format!(
            "{why} The page therefore shows events only, without exits and their durations."
        ));
    }
    if overview.stat.events.iter().all(|it| it.count == 0) {
        all.push("This recording contains no events.".into());
    }
    if all.is_empty() {
        return writeln!(
            out,
            "<p class=\"complete\">Complete: no event was lost, and no record is damaged.</p>"
        );
    }
    writeln!(
        out,
        "<section class=\"notices\" aria-label=\"Missing data\">\n<ul>"
    )?;
    for text in all {
        writeln!(out, "<li>{}</li>", Text(text))?;
    }
    writeln!(out, "</ul>\n</section>")
}

/// Writes the key figures.
fn tiles(overview: &Overview, exits: &RecordedExits, out: &mut impl Write) -> io::Result<()> {
    let rows = &exits.rows;
    let mut vms: Vec<u32> = rows.vcpus.iter().map(|it| it.pid).collect();
    vms.sort_unstable();
    vms.dedup();
    writeln!(out, "<dl class=\"tiles\">")?;
    let events = overview.stat.events.iter().map(|it| it.count);
    let events = events.fold(0, u64::saturating_add);
    for (name, text) in [
        ("exits", count(rows.count)),
        (
            "exits per second",
            rate(per_s(rows.count, overview.timeline.elapsed_ns)),
        ),
        (
            "cost (time in exits without idle time)",
            duration(rows.total_ns.saturating_sub(rows.idle_ns)),
        ),
        ("idle time, all vCPUs", duration(rows.idle_ns)),
        (
            "VMs / vCPUs",
            format!(
                "{} / {}",
                count(vms.len() as u64),
                count(rows.vcpus.len() as u64)
            ),
        ),
        ("events", count(events)),
    ] {
        writeln!(out, "<div><dt>{name}</dt><dd>{text}</dd></div>")?;
    }
    writeln!(out, "</dl>")
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
fn per_s(number: u64, elapsed_ns: u64) -> f64 {
    match elapsed_ns {
        0 => 0.0,
        _ => number as f64 * 1e9 / elapsed_ns as f64,
    }
}

/// Writes the section in which the script draws the timeline.
fn timeline(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let bin = exact_duration(overview.timeline.bin_ns);
    writeln!(
        out,
        r#"<section aria-labelledby="h-timeline">
<h2 id="h-timeline">Over time</h2>
<p class="note">Each step of the chart is {bin} long. Arrow keys move the cursor; Home and End move it to the ends.</p>"#
    )?;
    if overview.exits.is_ok() {
        let is_used = |part: TimePart| {
            let mut all = overview.timeline.tracks.iter();
            all.any(|track| track.parts_ns[part as usize].iter().any(|ns| *ns > 0))
        };
        vcpu_times::legend(is_used, out)?;
    }
    writeln!(
        out,
        r#"<p class="script-only choices"><label>Show <select id="track"></select></label> <label>Times <select id="clock"></select></label></p>
<div id="timeline" class="charts"></div>
<p id="readout" class="readout" role="status"></p>
<noscript><p>The charts need JavaScript. The tables are complete without it.</p></noscript>
</section>"#
    )
}

/// Writes the section in which the script draws the histograms.
fn histograms(exits: &RecordedExits, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        r#"<section aria-labelledby="h-histograms">
<h2 id="h-histograms">How long exits take</h2>
<p class="note">Number of exits by duration, one histogram per exit reason. All have the same time scale. Dashed lines mark the median and the 99th percentile.{}</p>
<div id="histograms" class="grid"></div>
<noscript><p>The histograms need JavaScript.</p></noscript>
</section>"#,
        match exits.reasons.rows.len() {
            reasons if reasons > MAX_HISTOGRAMS => format!(
                " The histograms show the {MAX_HISTOGRAMS} of {reasons} reasons with the most time.",
            ),
            _ => String::new(),
        }
    )
}
