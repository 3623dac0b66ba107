//! `convert --to html`: the page says what was recorded, whatever it is called, and a browser shows it.
//!
//! Pictures for people to look at are left in `target/html/`.

mod browser;
mod made;

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
use made::Made;

const WHOLE: Made = Made {
    seconds: 6,
    lost: false,
    exits: true,
};

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("hostile_names_are_text", hostile_names),
        Trial::test("a_recording_without_exits_shows_events", without_exits),
        Trial::test("the_timeline_adds_up_to_what_exits_says", adds_up),
        Trial::test("what_is_no_recording_writes_no_page", no_recording),
        in_browser("the_script_runs_and_sorts", sorts),
        in_browser("the_script_runs_without_exits", runs_without_exits),
        in_browser("there_are_pictures", pictures),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A trial that is ignored with the reason where there is no browser.
fn in_browser(name: &'static str, run: fn(&Browser, &Path) -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(name, move || {
        let folder = folder(name)?;
        match Browser::find(&folder) {
            Err(reason) => Ok(Completion::ignored_with(reason)),
            Ok(browser) => run(&browser, &folder).map(|()| Completion::Completed),
        }
    })
}

fn folder(name: &str) -> Result<PathBuf, Failed> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../html");
    let folder = target.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

/// Records, converts, and returns the page's path.
fn page(folder: &Path, made: Made) -> Result<PathBuf, Failed> {
    let recording = folder.join("kvm.data");
    made::record(&recording, made);
    let page = folder.join("kvm.html");
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(["convert", "--to", "html", "-i"])
        .arg(&recording)
        .arg("-o")
        .arg(&page)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    check(output.status.success(), said)?;
    Ok(page)
}

fn check(holds: bool, otherwise: impl ToString) -> Result<(), Failed> {
    match holds {
        true => Ok(()),
        false => Err(otherwise.to_string().into()),
    }
}

/// All between two texts, the first time they are there.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Result<&'a str, Failed> {
    let found = text.split_once(from).and_then(|it| it.1.split_once(to));
    found
        .map(|it| it.0)
        .ok_or_else(|| format!("no `{from}` with a `{to}` behind it").into())
}

fn hostile_names() -> Result<(), Failed> {
    let folder = folder("hostile_names")?;
    let made = Made {
        lost: true,
        ..WHOLE
    };
    let html = fs::read_to_string(page(&folder, made)?)?;
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
        "a script ends too early",
    )?;
    for text in ["http://", "https://", "url(", "@import"] {
        let rest = html.replace("http://www.w3.org/2000/svg", "");
        check(
            !rest.contains(text),
            format!("something is loaded: `{text}`"),
        )?;
    }
    check(
        html.contains("1,234 events did not fit into the buffer"),
        "no word of the loss",
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

fn without_exits() -> Result<(), Failed> {
    let folder = folder("without_exits")?;
    let made = Made {
        exits: false,
        ..WHOLE
    };
    let html = fs::read_to_string(page(&folder, made)?)?;
    check(
        html.contains("no kvm_exit and kvm_entry events"),
        "it does not say so",
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

/// Two ways to the same numbers: spans spread over bins, and exits timed one by one.
fn adds_up() -> Result<(), Failed> {
    let path = folder("adds_up")?.join("kvm.data");
    made::record(&path, WHOLE);
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
    let reading = replay.read_exits(&mut |exits| groups.add_exits(exits));
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
    let report = timeline.report(&|_| String::new());
    let mut found = BTreeMap::new();
    for track in &report.tracks {
        let parts = TimePart::ALL.map(|part| track.parts_ns[part as usize].iter().sum::<u64>());
        let vcpu = track.vcpu.ok_or("a vCPU without a number")?;
        found.insert((track.pid, vcpu), (track.exits.iter().sum(), parts));
    }
    check(found.len() == 6, format!("{} vCPUs", found.len()))?;
    check(
        found == expected,
        format!("{found:?}\ninstead of {expected:?}"),
    )
}

fn no_recording() -> Result<(), Failed> {
    let folder = folder("no_recording")?;
    let page = folder.join("kvm.html");
    fs::write(&page, "mine")?;
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(["convert", "--to", "html", "-i", "Cargo.toml", "-o"])
        .arg(&page)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    check(output.status.code() == Some(1), "no failure")?;
    check(
        fs::read_to_string(&page)? == "mine",
        "the file was written to",
    )
}

/// What a column has in the rows of a table, in their order, of those that are not hidden.
fn column(dom: &str, table: &str, column: usize) -> Result<Vec<f64>, Failed> {
    let table = between(dom, &format!("<table id=\"{table}\""), "</table>")?;
    let body = between(table, "<tbody>", "</tbody>")?;
    let rows = body
        .split("<tr")
        .skip(1)
        .filter(|row| !row.starts_with(" hidden"));
    let cell = |row: &str| {
        let cell = row.split("<td").nth(column + 1)?;
        between(cell, "data-v=\"", "\"").ok()?.parse().ok()
    };
    rows.map(|row| cell(row).ok_or_else(|| format!("no number in {row}").into()))
        .collect()
}

fn ran(dom: &str) -> Result<(), Failed> {
    if let Ok(error) = between(dom, "data-error=\"", "\"") {
        return Err(format!("the script failed: {error}").into());
    }
    check(
        dom.contains("data-ready"),
        "the script did not come to its end",
    )
}

fn sorts(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    const COUNT: usize = 3;
    const MEAN: usize = 13;
    let page = page(
        folder,
        Made {
            lost: true,
            ..WHOLE
        },
    )?;
    let dom = browser.dom(&page, "#sort=count")?;
    ran(&dom)?;
    for text in ["<b>x", "<img"] {
        check(!dom.contains(text), format!("`{text}` became markup"))?;
    }
    let counts = column(&dom, "exits", COUNT)?;
    check(counts.len() == 36, format!("{} rows", counts.len()))?;
    check(counts.is_sorted_by(|a, b| a >= b), format!("{counts:?}"))?;
    check(
        dom.matches("class=\"lost-mark\"").count() == 2,
        "the loss is not marked",
    )?;
    check(
        dom.contains("class=\"f-halted\""),
        "no share of time is drawn",
    )?;
    check(
        dom.matches("<figure>").count() == 6,
        "not a histogram for each reason",
    )?;
    let dom = browser.dom(&page, "#sort=-mean&filter=web-1%20io")?;
    ran(&dom)?;
    let means = column(&dom, "exits", MEAN)?;
    check(
        means.len() == 2 && means[0] <= means[1],
        format!("{means:?}"),
    )
}

fn runs_without_exits(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = page(
        folder,
        Made {
            exits: false,
            ..WHOLE
        },
    )?;
    let dom = browser.dom(&page, "#sort=count")?;
    ran(&dom)?;
    check(dom.contains("events/s"), "no timeline of events")
}

fn pictures(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = page(
        folder,
        Made {
            lost: true,
            ..WHOLE
        },
    )?;
    for (name, size, dark) in [
        ("light", (1280, 2600), false),
        ("dark", (1280, 2600), true),
        ("phone", (390, 4200), false),
        ("phone-dark", (390, 4200), true),
    ] {
        browser.picture(&page, size, dark, &folder.join(format!("{name}.png")))?;
    }
    Ok(())
}
