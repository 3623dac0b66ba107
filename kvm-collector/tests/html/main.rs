//! `convert --to html`: the contents of the page, and its script in a browser.
//!
//! The tests write screenshots for developers to `target/html/`.

mod browser;
mod layout;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod sections;
mod simulated_recording;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use browser::Browser;
use kvm_collector::{
    source::{PlaybackOptions, Recording},
    timing::{Replay, ReplayOptions, TimingRequest},
    view::{ExitGroups, GroupBy, TimePart, Timeline},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use simulated_recording::{RecordingContents, write_recording};

const COMPLETE: RecordingContents = RecordingContents {
    seconds: 6,
    has_loss: false,
    has_exits: true,
    is_anonymous: false,
    host: 0,
    day: 0,
};

fn main() -> ExitCode {
    let tests = vec![
        Trial::test("names_with_markup_are_escaped", check_escaped_names),
        Trial::test(
            "a_recording_without_exits_shows_events",
            check_page_without_exits,
        ),
        Trial::test("the_timeline_adds_up_to_the_totals", check_timeline_sums),
        Trial::test("causes_are_those_of_exits", sections::check_causes),
        Trial::test("findings_are_those_of_exits", sections::check_findings),
        Trial::test("slowest_exits_are_those_of_exits", sections::check_slowest),
        Trial::test("unknown_facts_are_left_out", sections::check_unknown_facts),
        Trial::test("other_files_do_not_overwrite_the_page", check_other_file),
        browser_test("the_script_sorts_and_filters", check_script),
        browser_test("the_script_runs_without_exits", check_script_without_exits),
        browser_test("all_columns_can_be_reached", layout::check_columns),
        browser_test("causes_open_without_a_script", layout::check_causes),
        browser_test("the_axis_has_times_of_day", layout::check_time_zones),
        browser_test("screenshots_are_written", layout::write_screenshots),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// Creates a test that is ignored, with the reason, if no browser is installed.
fn browser_test(name: &'static str, run: fn(&Browser, &Path) -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(name, move || {
        let folder = create_folder(name)?;
        match Browser::find(&folder) {
            Err(reason) => Ok(Completion::ignored_with(reason)),
            Ok(browser) => run(&browser, &folder).map(|()| Completion::Completed),
        }
    })
}

fn create_folder(name: &str) -> Result<PathBuf, Failed> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../html");
    let folder = target.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

/// Converts a recording with these contents. Returns the path of the page.
fn create_page(folder: &Path, contents: RecordingContents) -> Result<PathBuf, Failed> {
    let recording = folder.join("kvm.data");
    write_recording(&recording, contents);
    let page = folder.join("kvm.html");
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(["convert", "--to", "html", "-i"])
        .arg(&recording)
        .arg("-o")
        .arg(&page)
        .output()?;
    let messages = String::from_utf8_lossy(&output.stderr);
    check(output.status.success(), messages)?;
    Ok(page)
}

fn check(is_true: bool, message: impl ToString) -> Result<(), Failed> {
    match is_true {
        true => Ok(()),
        false => Err(message.to_string().into()),
    }
}

/// Returns the text between the first occurrences of two strings.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Result<&'a str, Failed> {
    let found = text.split_once(from).and_then(|it| it.1.split_once(to));
    found
        .map(|it| it.0)
        .ok_or_else(|| format!("no `{from}` that `{to}` follows").into())
}

fn check_escaped_names() -> Result<(), Failed> {
    let folder = create_folder("escaped_names")?;
    let contents = RecordingContents {
        has_loss: true,
        ..COMPLETE
    };
    let html = fs::read_to_string(create_page(&folder, contents)?)?;
    for text in ["<b>x", "<img", "<host>"] {
        check(!html.contains(text), format!("`{text}` became markup"))?;
    }
    for text in [
        "&lt;/script&gt;&lt;b&gt;x",
        "&lt;img src=x&gt;",
        "&lt;host&gt;",
        "web-1",
    ] {
        check(html.contains(text), format!("`{text}` is not there"))?;
    }
    check(
        html.matches("</script>").count() == 2,
        "the page does not have two scripts",
    )?;
    for text in ["http://", "https://", "url(", "@import"] {
        let rest = html.replace("http://www.w3.org/2000/svg", "");
        check(
            !rest.contains(text),
            format!("the page loads something: `{text}`"),
        )?;
    }
    check(
        html.contains("1,234 events did not fit into the buffer"),
        "the loss is not reported",
    )?;
    let data = between(&html, "id=\"data\">", "</script>")?;
    let data: serde_json::Value = serde_json::from_str(data)?;
    let lost: u64 = array(&data["lost"]).sum();
    check(lost == 1234, format!("{lost} lost in the timeline"))?;
    check(
        data["bins"].as_u64().is_some_and(|it| it <= 600),
        "too many bins",
    )
}

fn array(value: &serde_json::Value) -> impl Iterator<Item = u64> {
    let values = value.as_array().into_iter().flatten();
    values.filter_map(serde_json::Value::as_u64)
}

fn check_page_without_exits() -> Result<(), Failed> {
    let folder = create_folder("without_exits")?;
    let contents = RecordingContents {
        has_exits: false,
        ..COMPLETE
    };
    let html = fs::read_to_string(create_page(&folder, contents)?)?;
    check(
        html.contains("no kvm_exit and kvm_entry events"),
        "the page does not say that there are no exits",
    )?;
    check(
        !html.contains("<table id=\"exits\""),
        "there is a table of exits",
    )?;
    check(
        html.contains("kvm:kvm_vcpu_wakeup"),
        "the event is not there",
    )
}

/// Compares the sums over the bins of the timeline with the totals of the exits.
fn check_timeline_sums() -> Result<(), Failed> {
    let path = create_folder("timeline_sums")?.join("kvm.data");
    write_recording(&path, COMPLETE);
    let mut recording = Recording::open(&path)?;
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let options = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
    let mut replay = Replay::new(options)?;
    replay.log_segments();
    let mut timeline = Timeline::default();
    recording.play(&PlaybackOptions::default(), |item, _| {
        timeline.add_item(item);
        replay.add_item(item);
        for segment in replay.drain_segments() {
            timeline.add_segment(&segment);
        }
        Ok::<_, kvm_collector::recording::ReadError>(())
    })?;
    replay.finish_segments();
    for segment in replay.drain_segments() {
        timeline.add_segment(&segment);
    }
    let mut groups = ExitGroups::new(&[GroupBy::Vcpu], None);
    let reading = replay.read_exits(&mut |exits| groups.add_exits(exits, |_| false));
    groups.add_vcpus(&reading.vcpus);
    let mut expected = BTreeMap::new();
    for (vcpu_id, it) in groups.vcpus() {
        let parts = [
            it.guest_ns,
            it.kernel_ns,
            it.vmm_ns,
            it.halted_ns,
            it.preempted_ns,
            it.open_ns,
        ];
        expected.insert((vcpu_id.tgid, vcpu_id.vcpu), (it.exits, parts));
    }
    let report = timeline.report(&|_| "".into());
    let mut found = BTreeMap::new();
    for track in &report.tracks {
        let parts = TimePart::ALL.map(|part| track.parts_ns[part as usize].iter().sum::<u64>());
        let vcpu = track.vcpu.ok_or("a vCPU without an index")?;
        found.insert((track.pid, vcpu), (track.exits.iter().sum(), parts));
    }
    check(found.len() == 6, format!("{} vCPUs", found.len()))?;
    check(
        found == expected,
        format!("{found:?}\ninstead of {expected:?}"),
    )
}

fn check_other_file() -> Result<(), Failed> {
    let folder = create_folder("other_file")?;
    let page = folder.join("kvm.html");
    fs::write(&page, "mine")?;
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(["convert", "--to", "html", "-i", "Cargo.toml", "-o"])
        .arg(&page)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    check(output.status.code() == Some(2), "the exit code")?;
    check(
        fs::read_to_string(&page)? == "mine",
        "the file was overwritten",
    )
}

/// Returns the numbers in a column of a table, without those in hidden rows.
fn visible_column(dom: &str, table: &str, column: usize) -> Result<Vec<f64>, Failed> {
    let table = between(dom, &format!("<table id=\"{table}\""), "</table>")?;
    let rows = table
        .split("<tbody")
        .skip(1)
        .filter(|row| !row.starts_with(" hidden"));
    let cell = |row: &str| {
        let cell = row.split("<td").nth(column + 1)?;
        between(cell, "data-v=\"", "\"").ok()?.parse().ok()
    };
    rows.map(|row| cell(row).ok_or_else(|| format!("no number in {row}").into()))
        .collect()
}

fn check_script_has_run(dom: &str) -> Result<(), Failed> {
    if let Ok(error) = between(dom, "data-error=\"", "\"") {
        return Err(format!("the script failed: {error}").into());
    }
    check(
        dom.contains("data-ready"),
        "the script did not run to its end",
    )
}

fn check_script(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    const COUNT: usize = 3;
    const MEAN: usize = 12;
    let page = create_page(
        folder,
        RecordingContents {
            has_loss: true,
            ..COMPLETE
        },
    )?;
    let dom = browser.dom(&page, "#sort=count")?;
    check_script_has_run(&dom)?;
    for text in ["<b>x", "<img"] {
        check(!dom.contains(text), format!("`{text}` became markup"))?;
    }
    let counts = visible_column(&dom, "exits", COUNT)?;
    check(counts.len() == 36, format!("{} rows", counts.len()))?;
    check(counts.is_sorted_by(|a, b| a >= b), format!("{counts:?}"))?;
    check(
        dom.matches("class=\"lost-mark\"").count() == 2,
        "the loss is not marked",
    )?;
    check(
        dom.contains("class=\"f-halted\""),
        "the time breakdown is not drawn",
    )?;
    check(
        dom.matches("<figure>").count() == 6,
        "not a histogram for each reason",
    )?;
    let dom = browser.dom(&page, "#sort=-mean&filter=web-1%20io")?;
    check_script_has_run(&dom)?;
    let means = visible_column(&dom, "exits", MEAN)?;
    check(
        means.len() == 2 && means[0] <= means[1],
        format!("{means:?}"),
    )
}

fn check_script_without_exits(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = create_page(
        folder,
        RecordingContents {
            has_exits: false,
            ..COMPLETE
        },
    )?;
    let dom = browser.dom(&page, "#sort=count")?;
    check_script_has_run(&dom)?;
    check(
        dom.contains("events/s"),
        "the page has no timeline of events",
    )
}
