//! Sections of the page whose contents the `exits` command prints too.

use std::{fs, path::Path, process::Command};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    COMPLETE, between, check, create_folder, create_page, simulated_recording::RecordingContents,
    visible_column,
};

/// Runs `exits` on the recording of a page. Returns its JSON objects.
fn exits(page: &Path, options: &[&str]) -> Result<Vec<Value>, Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(["exits", "--json", "-i"])
        .arg(page.with_extension("data"))
        .args(options)
        .output()?;
    check(
        output.status.success(),
        String::from_utf8_lossy(&output.stderr),
    )?;
    let lines = String::from_utf8(output.stdout)?;
    let objects = lines.lines().map(serde_json::from_str);
    Ok(objects.collect::<Result<_, _>>()?)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or(u64::MAX)
}

/// Returns the parts of the page between each occurrence of `from` and the next `to`.
fn all_between<'a>(html: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let parts = html.split(from).skip(1);
    parts
        .filter_map(|it| it.split_once(to).map(|it| it.0))
        .collect()
}

pub(crate) fn check_causes() -> Result<(), Failed> {
    let page = create_page(&create_folder("causes")?, COMPLETE)?;
    let html = fs::read_to_string(&page)?;
    let reports = exits(&page, &["--by", "vm,vcpu,reason", "--causes", "5"])?;
    let rows = list(&reports[0]["rows"]);
    let causes = rows.iter().flat_map(|row| list(&row["causes"]));
    let expected: Vec<_> = causes
        .map(|it| {
            let cause = it["cause"].as_str().unwrap_or_default();
            let name = it["cause_name"].as_str().unwrap_or_default();
            (format!("{cause} ({name})"), number(it, "at_least"))
        })
        .collect();
    let lines = all_between(&html, "<tr class=\"cause\">", "</tr>");
    let found = lines.iter().map(|line| {
        let count = between(line, "<td class=\"n\">", "</td>")?.replace(',', "");
        let name = between(line, "<td colspan=\"3\">", "</td>")?;
        Ok((name.to_owned(), count.parse()?))
    });
    let found: Vec<(String, u64)> = found.collect::<Result<_, Failed>>()?;
    check(found.len() == 18, format!("{} causes", found.len()))?;
    check(found == expected, format!("{found:?}, {expected:?}"))
}

pub(crate) fn check_findings() -> Result<(), Failed> {
    let page = create_page(&create_folder("findings")?, COMPLETE)?;
    let html = fs::read_to_string(&page)?;
    let section = between(&html, "<dl class=\"findings\">", "</dl>")?;
    let mut found: Vec<_> = all_between(section, "<dt>", "</dt>")
        .into_iter()
        .map(str::to_owned)
        .collect();
    found.sort();
    let reports = exits(&page, &["--by", "vm,reason", "--advice"])?;
    let rows = list(&reports[0]["rows"]);
    let advice = rows.iter().flat_map(|row| list(&row["advice"]));
    let mut expected: Vec<_> = advice
        .filter_map(|it| Some(it["topic"].as_str()?.to_owned()))
        .collect();
    expected.sort();
    expected.dedup();
    check(!found.is_empty(), "there are no findings")?;
    check(found == expected, format!("{found:?}, {expected:?}"))?;
    check(
        section.contains("<li><strong>web-1-") && section.contains(", io</strong>: "),
        "the finding does not name its row",
    )
}

pub(crate) fn check_slowest() -> Result<(), Failed> {
    const START: usize = 0;
    const TIME: usize = 5;
    let page = create_page(&create_folder("slowest")?, COMPLETE)?;
    let html = fs::read_to_string(&page)?;
    let mut slow = exits(&page, &["--slow", "1ns"])?;
    slow.retain(|it| it["view"] == "slow_exit");
    check(slow.len() > 1000, format!("{} exits", slow.len()))?;
    slow.sort_by_key(|it| std::cmp::Reverse(number(it, "duration_ns") - number(it, "halted_ns")));
    let expected: Vec<_> = slow[..20]
        .iter()
        .map(|it| number(it, "duration_ns"))
        .collect();
    let times = visible_column(&html, "slowest", TIME)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations below 2^53 ns"
    )]
    let found: Vec<_> = times.iter().map(|it| *it as u64).collect();
    check(found == expected, format!("{found:?}, {expected:?}"))?;
    let starts = visible_column(&html, "slowest", START)?;
    check(
        starts.iter().all(|it| (0.0..6e9).contains(it)),
        format!("{starts:?}"),
    )?;
    check(
        html.contains("<time datetime=\"2025-10-09T08:53:2"),
        "the exits have no date",
    )
}

/// What is not recorded has no column, no entry in a legend and no line in the header.
pub(crate) fn check_unknown_facts() -> Result<(), Failed> {
    let folder = create_folder("unknown_facts")?;
    let contents = RecordingContents {
        is_anonymous: true,
        ..COMPLETE
    };
    let page = create_page(&folder, contents)?;
    let html = fs::read_to_string(&page)?;
    for text in [
        "data-key=\"preempted\"",
        "<i class=\"p-preempted\"></i>",
        "<dt>host</dt>",
        "<dt>selection</dt>",
        "(none)",
        "busy",
    ] {
        check(!html.contains(text), format!("there is `{text}`"))?;
    }
    for text in [
        "<dt>kernel</dt><dd>6.18.0</dd>",
        "<dt>command</dt><dd>kvm-collector record -d 6s</dd>",
        "data-key=\"cost-share\"",
        "Each step of the chart is 10 ms long.",
    ] {
        check(html.contains(text), format!("there is no `{text}`"))?;
    }
    let again = fs::read_to_string(create_page(&folder, contents)?)?;
    check(html == again, "the page of the same recording differs")
}
