//! A recording as one page of HTML: everything is in the file, and it loads nothing from anywhere.
//!
//! Tables and bars are written here and need no script. What has to be drawn comes from the JSON in
//! the page; `page.js` draws it. All text goes through [`escape`].

mod data;
mod escape;
mod rows;
mod split;

use std::io::{self, Write};

use escape::Text;

use super::units::{count, duration, rate};
use crate::{
    model::LossEntry,
    view::{Overview, RecordedExits},
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Even what got past all escaping could not send anything anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// In the place of a number that the recording does not tell.
const UNKNOWN: &str = "<span class=\"zero\" title=\"not recorded\">-</span>";

/// Writes a recording as a page.
///
/// # Errors
/// When writing fails.
pub fn overview(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
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
<a class="skip" href="#main">Skip to the numbers</a>
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
        split::section(&exits.rows, out)?;
    }
    timeline(overview, out)?;
    if let Ok(exits) = &overview.exits {
        histograms(exits, out)?;
        rows::exits(&exits.rows, out)?;
    }
    rows::events(&overview.stat, out)?;
    write!(
        out,
        r#"</main>
<footer>Written by kvm-collector {}. Times of exits are from kvm_exit to the next kvm_entry of the same thread; percentiles are right to within 5 %.</footer>
<script type="application/json" id="data">{}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#,
        env!("CARGO_PKG_VERSION"),
        data::json(overview)?,
    )
}

/// What the recording says of itself.
fn facts(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let facts = &overview.facts;
    writeln!(out, "<dl class=\"facts\">")?;
    let mut fact = |name: &str, text: &str| {
        writeln!(
            out,
            "<div><dt>{}</dt><dd>{}</dd></div>",
            Text(name),
            Text(text)
        )
    };
    if let Some(wall_ns) = facts.began_wall_ns {
        let since = std::time::Duration::from_nanos(wall_ns);
        if let Some(time) = std::time::UNIX_EPOCH.checked_add(since) {
            let time = humantime::format_rfc3339_seconds(time);
            fact("began", &time.to_string())?;
        }
    }
    fact("length", &duration(overview.timeline.elapsed_ns))?;
    for (name, text) in &facts.others {
        fact(name, text)?;
    }
    writeln!(out, "</dl>")
}

/// What is missing from the numbers, or that nothing is.
fn notices(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let loss = overview.loss();
    let mut all = Vec::new();
    if let Some(defect) = &overview.facts.defect {
        all.push(format!(
            "This is only part of a recording: {defect}. What comes before that is all there is."
        ));
    }
    for LossEntry {
        name,
        count: number,
        meaning,
    } in loss.entries()
    {
        // The defect is one of what is damaged, and has been said.
        let said = u64::from(name == "damaged" && overview.facts.defect.is_some());
        match number {
            Some(number) if number > said => {
                all.push(format!("{} {meaning}.", count(number - said)));
            }
            _ => {}
        }
    }
    if let Err(why) = &overview.exits {
        all.push(format!(
            "{why} So there are only events here, and no exits with their times."
        ));
    }
    if overview.stat.events.iter().all(|it| it.count == 0) {
        all.push("There is no event in this recording.".into());
    }
    if all.is_empty() {
        return writeln!(
            out,
            "<p class=\"complete\">Complete: no event was lost, and nothing is damaged.</p>"
        );
    }
    writeln!(
        out,
        "<section class=\"notices\" aria-label=\"What is missing\">\n<ul>"
    )?;
    for text in all {
        writeln!(out, "<li>{}</li>", Text(text))?;
    }
    writeln!(out, "</ul>\n</section>")
}

/// A VM as HTML. Where its name ends with its process, that is not said again.
fn vm(name: &str, pid: u32) -> String {
    match name.strip_suffix(&format!("-{pid}")) {
        Some(_) => Text(name).to_string(),
        None => format!("{} <small>pid {pid}</small>", Text(name)),
    }
}

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
            "in exits, not idle",
            duration(rows.time_ns.saturating_sub(rows.idle_ns)),
        ),
        ("idle, all vCPUs", duration(rows.idle_ns)),
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

#[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
fn per_s(number: u64, elapsed_ns: u64) -> f64 {
    match elapsed_ns {
        0 => 0.0,
        _ => number as f64 * 1e9 / elapsed_ns as f64,
    }
}

/// A place for what the script draws.
fn timeline(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    let bin = duration(overview.timeline.bin_ns);
    writeln!(
        out,
        r#"<section aria-labelledby="h-timeline">
<h2 id="h-timeline">Over time</h2>
<p class="note">In steps of {bin}. Arrow keys move through the chart; Home and End go to its ends.</p>"#
    )?;
    if overview.exits.is_ok() {
        split::legend(out)?;
    }
    writeln!(
        out,
        r#"<p class="script-only"><label>Show <select id="track"></select></label></p>
<div id="timeline" class="charts"></div>
<p id="readout" class="readout" role="status"></p>
<noscript><p>The charts are drawn by a script, which does not run here. All tables are complete without it.</p></noscript>
</section>"#
    )
}

fn histograms(exits: &RecordedExits, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        r#"<section aria-labelledby="h-histograms">
<h2 id="h-histograms">How long exits take</h2>
<p class="note">Exits by their time, for each reason; the scales of time are the same. Lines mark the median and the 99th percentile.{}</p>
<div id="histograms" class="grid"></div>
<noscript><p>The histograms are drawn by a script, which does not run here.</p></noscript>
</section>"#,
        match exits.reasons.rows.len() {
            more if more > data::MOST_HISTOGRAMS => format!(
                " These are the {} reasons that took the most time, of {more}.",
                data::MOST_HISTOGRAMS
            ),
            _ => String::new(),
        }
    )
}

#[cfg(test)]
mod tests;
