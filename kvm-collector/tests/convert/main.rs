//! What is made of recordings, read by the tools it is made for: Perfetto's own messages, and DuckDB. They are
//! installed from PyPI; where that is not to be had, these trials are skipped, and say so.

mod made;
mod python;

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Command, ExitCode, Output},
};

use kvm_collector::{
    convert::{ConvertOptions, RecordingEnd, Sink, convert_recording},
    model::{Exit, ExitEnd, ExitPart, Segment, VcpuState},
    source::{PlaybackOptions, RecordedNames, Recording},
    timing::{Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

use made::{BEGAN_NS, Folder, PID};

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("stretches_are_what_happened", segments),
        Trial::test("stretches_add_up_to_the_exits", sums),
        Trial::test("csv_has_all_rows_and_what_is_missing", csv),
        Trial::test("lines_are_those_of_trace", lines),
        Trial::test("damaged_recordings_give_what_there_is", damaged),
        Trial::test("what_cannot_be_is_said", errors),
        Trial::test("ten_million_events_take_little_memory", memory).with_ignored_flag(true),
        python::trial("perfetto_reads_tracks_and_slices", perfetto),
        python::trial("perfetto_counts_exits", perfetto_counts),
        python::trial("duckdb_reads_exits", duckdb_exits),
        python::trial("duckdb_reads_events", duckdb_events),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn run(arguments: &[&str], input: &Path, output: &Path) -> Result<Output, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
    command.args(arguments).arg("-i").arg(input);
    let output = command.arg("-o").arg(output).output()?;
    Ok(output)
}

/// Runs `convert`; returns what it says.
fn convert(arguments: &[&str], input: &Path, output: &Path) -> Result<String, Failed> {
    let done = run(&[&["convert"], arguments].concat(), input, output)?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() {
        Ok(said)
    } else {
        Err(said.into())
    }
}

#[derive(Default)]
struct Collected {
    all: Vec<Segment>,
    parts: Vec<Segment>,
}

impl Sink for Collected {
    fn guest(&mut self, guest: &Segment, _: &RecordedNames) -> io::Result<()> {
        self.all.push(*guest);
        Ok(())
    }

    fn exit(&mut self, exit: &Segment, parts: &[Segment], _: &RecordedNames) -> io::Result<()> {
        self.all.push(*exit);
        self.parts.extend_from_slice(parts);
        Ok(())
    }

    fn finish(&mut self, _: &RecordingEnd<'_>) -> io::Result<()> {
        Ok(())
    }
}

fn options(formats: &[Format]) -> ReplayOptions {
    let switch = formats.iter().find(|it| it.name == "sched_switch");
    let pairing = TimingRequest {
        switch: switch.cloned(),
        ..TimingRequest::from_formats(formats)
    };
    ReplayOptions::new(pairing, formats)
}

fn collect(path: &Path) -> Result<Collected, Failed> {
    let recording = Recording::open(path)?;
    let formats = recording.formats().to_vec();
    let conversion = ConvertOptions {
        exit_replay: Some(options(&formats)),
        formats,
        playback: PlaybackOptions::default(),
        reasons: None,
    };
    let mut collected = Collected::default();
    convert_recording(
        recording,
        conversion,
        &mut collected,
        |recording, options, each| recording.play(options, each),
    )?;
    Ok(collected)
}

fn segments() -> Result<(), Failed> {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    made::one_of_each(&path);
    let collected = collect(&path)?;
    let seen = |it: &Segment| {
        let what = match it.state {
            VcpuState::Guest => "guest".to_owned(),
            VcpuState::Part(part) => format!("{part:?}"),
            VcpuState::Exit(Exit { key, end, .. }) => format!("{:#x} {end:?}", key.code),
        };
        let vcpu = it.vcpu_id.vcpu;
        (vcpu, it.from_ns - BEGAN_NS, it.to_ns - BEGAN_NS, what)
    };
    let all: Vec<_> = collected.all.iter().map(seen).collect();
    let is = |vcpu, from, to, what: &str| (vcpu, from, to, what.to_owned());
    assert_eq!(
        all,
        [
            is(0, 2_000, 2_500, "0x400 Entry"),
            is(0, 2_500, 3_000, "guest"),
            is(0, 3_000, 4_000, "0x7b Entry"),
            is(0, 4_000, 5_000, "guest"),
            is(0, 5_000, 6_000, "0x78 Entry"),
            is(0, 6_000, 7_000, "guest"),
            is(0, 7_000, 7_000, "0x400 UnknownEnd"),
            is(0, 8_000, 9_000, "guest"),
            is(0, 9_000, 9_100, "0x7b Entry"),
            is(0, 9_100, 9_100, "guest"),
            is(1, 8_100, 9_100, "0x78 InProgress"),
        ]
    );
    let parts: Vec<_> = collected.parts.iter().map(seen).collect();
    let name = |part: ExitPart| format!("{part:?}");
    assert_eq!(
        parts,
        [
            (0, 3_100, 4_000, name(ExitPart::Vmm)),
            (0, 3_300, 3_600, name(ExitPart::Preempted)),
            (0, 5_200, 5_900, name(ExitPart::Halted)),
        ]
    );
    Ok(())
}

/// One by one they are what the sums are of.
fn sums() -> Result<(), Failed> {
    type Sum = (u64, u64, u64, [u64; 4]);
    let folder = Folder::new();
    for (name, make) in [
        ("one", made::one_of_each as fn(&Path)),
        ("many", |path| made::many(path, 20_000)),
    ] {
        let path = folder.file(name);
        make(&path);
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        let mut guest_ns: BTreeMap<_, u64> = BTreeMap::new();
        for segment in collect(&path)?.all {
            let ns = segment.to_ns - segment.from_ns;
            let VcpuState::Exit(exit) = segment.state else {
                *guest_ns.entry(segment.vcpu_id).or_default() += ns;
                continue;
            };
            let sum = sums.entry((segment.vcpu_id, exit.key)).or_default();
            sum.0 += 1;
            sum.1 += u64::from(exit.end == ExitEnd::InProgress);
            sum.2 += u64::from(exit.end == ExitEnd::UnknownEnd);
            if exit.end == ExitEnd::Entry {
                let parts = exit.parts;
                let all = [ns, parts.vmm_ns, parts.halted_ns, parts.preempted_ns];
                for (sum, ns) in sum.3.iter_mut().zip(all) {
                    *sum += ns;
                }
            }
        }
        let mut recording = Recording::open(&path)?;
        let formats = recording.formats().to_vec();
        recording.select_events(&formats);
        let mut replay = Replay::new(options(&formats))?;
        recording.play(&PlaybackOptions::default(), |item, _| {
            replay.add_item(item);
            Ok::<_, kvm_collector::recording::ReadError>(())
        })?;
        let mut expected: BTreeMap<_, Sum> = BTreeMap::new();
        let reading = replay.read_exits(&mut |exits| {
            let it = exits.totals;
            let sum = expected.entry((exits.vcpu_id, exits.key)).or_default();
            sum.0 += it.count;
            sum.1 += it.open;
            sum.2 += it.untimed;
            let all = [it.total_ns, it.vmm_ns, it.halted_ns, it.preempted_ns];
            for (sum, ns) in sum.3.iter_mut().zip(all) {
                *sum += ns;
            }
        });
        assert_eq!(sums, expected, "{name}");
        for vcpu in reading.vcpus {
            let ns = guest_ns.remove(&vcpu.vcpu_id).unwrap_or(0);
            assert_eq!(ns, vcpu.guest_ns, "{name}: {:?}", vcpu.vcpu_id);
        }
    }
    Ok(())
}

fn csv() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("exits.csv"));
    made::one_of_each(&path);
    let said = convert(&["--to", "csv"], &path, &out)?;
    assert!(
        said.contains("42 events lost; 1 exits have no entry after them"),
        "{said}"
    );
    let text = fs::read_to_string(&out)?;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "time_ns,time,cpu,pid,tid,comm,vm,vcpu,reason,reason_code,isa,duration_ns,kernel_ns,vmm_ns,halted_ns,\
         preempted_ns,guest_rip,open,untimed,lost"
    );
    let io = lines.iter().find(|it| it.contains(",io,")).ok_or("no io")?;
    assert!(
        io.ends_with(",io,123,2,1000,100,600,0,300,18446744071578848184,false,false,"),
        "{io}"
    );
    assert!(io.starts_with("5000003000,1700000000000003000,0,"), "{io}");
    assert!(
        lines
            .iter()
            .any(|it| it.ends_with(",npf,1024,2,,,,,,18446744071578852184,false,true,")),
        "{text}"
    );
    assert!(text.contains(",gap:kvm_exit,") && text.contains(",loss:lost,"));
    convert(
        &["--to", "csv", "--reason", "hlt", "--vcpu", "1"],
        &path,
        &out,
    )?;
    let text = fs::read_to_string(&out)?;
    assert_eq!(text.matches(",hlt,").count(), 1, "{text}");
    assert_eq!(text.matches(",io,").count(), 0, "{text}");
    Ok(())
}

fn lines() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("out"));
    made::many(&path, 500);
    for (ours, traces) in [
        (&["--to", "text", "--rows", "events"][..], &["trace"][..]),
        (&["--to", "json", "--rows", "events"], &["trace", "--json"]),
        (&["--to", "text"], &["trace", "--per-exit"]),
        (&["--to", "json"], &["trace", "--json", "--per-exit"]),
    ] {
        convert(ours, &path, &out)?;
        let converted = fs::read_to_string(&out)?;
        run(traces, &path, &out)?;
        assert!(converted.lines().count() > 400);
        assert!(converted == fs::read_to_string(&out)?, "{ours:?}");
    }
    Ok(())
}

fn damaged() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("out"));
    made::many(&path, 20_000);
    let whole = fs::read(&path)?;
    fs::write(&path, &whole[..whole.len() / 2])?;
    for to in ["perfetto", "parquet", "csv", "json", "text"] {
        let said = convert(&["--to", to], &path, &out)?;
        assert!(said.contains("only part of a recording"), "{to}: {said}");
        assert!(fs::metadata(&out)?.len() > 10_000, "{to}");
        let strict = run(&["convert", "--strict", "--to", to], &path, &out)?;
        assert_eq!(strict.status.code(), Some(3), "{to}");
    }
    Ok(())
}

/// It takes minutes: only with `--ignored`.
fn memory() -> Result<(), Failed> {
    const MOST_KB: u64 = 600_000;
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("out"));
    made::many(&path, 4_200_000);
    for arguments in [
        "--to perfetto",
        "--to parquet",
        "--to parquet --rows events",
        "--to csv",
        "--to json",
    ] {
        let began = std::time::Instant::now();
        let (path, out) = (path.display(), out.display());
        let binary = env!("CARGO_BIN_EXE_kvm-collector");
        let line =
            format!("ulimit -v {MOST_KB}; exec {binary} convert -i {path} {arguments} -o {out}");
        let done = Command::new("sh").args(["-c", &line]).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments}: {said}");
        let bytes = fs::metadata(folder.file("out"))?.len();
        eprintln!("{arguments}: {:?}, {bytes} bytes: {said}", began.elapsed());
    }
    Ok(())
}

fn errors() -> Result<(), Failed> {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    made::one_of_each(&path);
    let fails = |arguments: &[&str], input: &Path, output: &Path| -> Result<String, Failed> {
        let done = run(&[&["convert", "--to"], arguments].concat(), input, output)?;
        assert!(!done.status.success());
        Ok(String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let said = fails(&["csv"], &path, &path)?;
    assert!(said.contains("is the recording itself"), "{said}");
    let said = fails(&["csv"], &path, Path::new("/nowhere/out"))?;
    assert!(said.contains("cannot write to /nowhere/out"), "{said}");
    for to in ["perfetto", "parquet", "csv", "json", "text"] {
        let said = fails(&[to], &path, Path::new("/dev/full"))?;
        assert!(said.contains("cannot write to /dev/full"), "{to}: {said}");
        assert!(said.contains("No space left"), "{to}: {said}");
    }
    let said = fails(&["csv"], &folder.file("no.data"), &folder.file("out"))?;
    assert!(said.contains("no.data"), "{said}");
    Ok(())
}

fn perfetto() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("kvm.pftrace"));
    made::one_of_each(&path);
    convert(&["--to", "perfetto"], &path, &out)?;
    let trace = python::script("tracks.py", &out.to_string_lossy())?;
    assert_eq!(trace["clock"], 3, "CLOCK_MONOTONIC");
    let tracks: Vec<_> = trace["tracks"].as_array().into_iter().flatten().collect();
    let of_kind = |kind: &str| -> Vec<_> {
        let is_it = |it: &&&Value| it["kind"] == kind;
        tracks
            .iter()
            .filter(is_it)
            .map(|it| (it["name"].as_str(), it["pid"].as_u64()))
            .collect()
    };
    let pid = Some(u64::from(PID));
    assert_eq!(of_kind("process").len(), 1);
    assert_eq!(of_kind("process")[0].1, pid);
    assert_eq!(
        of_kind("thread"),
        [(Some("vCPU 0"), pid), (Some("vCPU 1"), pid)]
    );
    assert_eq!(of_kind("counter").len(), 1);
    assert_eq!(of_kind("track"), [(Some("lost"), Some(0))]);
    let ns = |it: &Value| it.as_u64().map_or(0, |it| it - BEGAN_NS);
    let slices = trace["slices"].as_array().into_iter().flatten().map(|it| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        (
            text("track"),
            text("name"),
            it["depth"].as_u64(),
            ns(&it["from"]),
            ns(&it["to"]),
        )
    });
    let is = |track: &str, name: &str, depth, from, to| {
        (track.to_owned(), name.to_owned(), Some(depth), from, to)
    };
    assert_eq!(
        slices.collect::<Vec<_>>(),
        [
            is("vCPU 0", "npf", 0, 2_000, 2_500),
            is("vCPU 0", "guest", 0, 2_500, 3_000),
            is("vCPU 0", "io", 0, 3_000, 4_000),
            is("vCPU 0", "VMM user space", 1, 3_100, 4_000),
            is("vCPU 0", "preempted", 2, 3_300, 3_600),
            is("vCPU 0", "guest", 0, 4_000, 5_000),
            is("vCPU 0", "hlt", 0, 5_000, 6_000),
            is("vCPU 0", "halted", 1, 5_200, 5_900),
            is("vCPU 0", "guest", 0, 6_000, 7_000),
            is("vCPU 0", "guest", 0, 8_000, 9_000),
            is("vCPU 1", "hlt", 0, 8_100, 9_100),
            is("vCPU 0", "io", 0, 9_000, 9_100),
            is("vCPU 0", "guest", 0, 9_100, 9_100),
        ]
    );
    assert_eq!(
        trace["slices"][0]["notes"]["guest_rip"],
        0xffff_ffff_8100_0000 + 2_000u64
    );
    assert_eq!(trace["slices"][10]["notes"]["open"], true);
    let instants = &trace["instants"];
    assert_eq!(instants[0]["name"], "npf");
    assert_eq!(instants[0]["notes"]["untimed"], true);
    assert_eq!(instants[1]["name"], "lost kvm_exit");
    assert_eq!(instants[1]["notes"]["lost"], 42);
    assert_eq!(ns(&instants[1]["at"]), 7_500);
    assert_eq!(instants[2]["name"], "incomplete recording");
    assert_eq!(instants[2]["notes"]["unmatched"], 1);
    Ok(())
}

fn perfetto_counts() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("kvm.pftrace"));
    made::many(&path, 25_000);
    convert(&["--to", "perfetto"], &path, &out)?;
    let trace = python::script("tracks.py", &out.to_string_lossy())?;
    let counts = trace["counts"].as_array().into_iter().flatten();
    // 25 ms of an exit each us, less those without a time, which end at the next exit.
    let counts: Vec<_> = counts.map(|it| it["value"].as_u64().unwrap_or(0)).collect();
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>() / 100, 25_000, "{counts:?}");
    assert!((999_000..=1_001_000).contains(&counts[0]), "{counts:?}");
    let slices = trace["slices"].as_array().into_iter().flatten();
    assert!(slices.count() > 49_000);
    Ok(())
}

fn duckdb_exits() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("exits.parquet"));
    made::many(&path, 300_000);
    convert(&["--to", "parquet"], &path, &out)?;
    let from = format!("from '{}'", out.display());
    let json = folder.file("exits.json");
    let done = run(&["exits", "--json", "--preempt"], &path, &json)?;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let report: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let rows = python::script(
        "duck.py",
        &format!(
            "select reason, count(*), sum(duration_ns), sum(vmm_ns), sum(halted_ns), sum(kernel_ns), min(duration_ns), \
             max(duration_ns), count(*) filter (untimed or open) {from} group by reason"
        ),
    )?;
    let rows: BTreeMap<String, Vec<String>> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let cell = |it: &Value| {
                it.as_str()
                    .map_or_else(|| it.to_string(), ToOwned::to_owned)
            };
            let cells: Vec<_> = row.as_array().into_iter().flatten().map(cell).collect();
            (cells[0].clone(), cells[1..].to_vec())
        })
        .collect();
    let expected: BTreeMap<String, Vec<String>> = report["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let keys = [
                "count",
                "time_ns",
                "vmm_ns",
                "halted_ns",
                "kernel_ns",
                "min_ns",
                "max_ns",
            ];
            let mut cells: Vec<_> = keys.map(|key| row[key].to_string()).into();
            let number = |key: &str| row[key].as_u64().unwrap_or(0);
            cells.push((number("open") + number("untimed")).to_string());
            (row["reason"].as_str().unwrap_or_default().to_owned(), cells)
        })
        .collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows, expected);
    let types = python::script("duck.py", &format!("describe select * {from}"))?;
    let types: BTreeMap<_, _> = types
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| Some((it[0].as_str()?, it[1].as_str()?)))
        .collect();
    assert_eq!(types.len(), 19);
    for (name, kind) in [
        ("time_ns", "BIGINT"),
        ("cpu", "UINTEGER"),
        ("vm", "VARCHAR"),
        ("guest_rip", "UBIGINT"),
        ("open", "BOOLEAN"),
    ] {
        assert_eq!(types[name], kind, "{name}");
    }
    assert!(types["time"].starts_with("TIMESTAMP"), "{types:?}");
    let groups = format!(
        "select count(distinct row_group_id) from parquet_metadata('{}')",
        out.display()
    );
    assert_eq!(
        python::script("duck.py", &groups)?[0][0],
        2,
        "written as it is read"
    );
    Ok(())
}

fn duckdb_events() -> Result<(), Failed> {
    let folder = Folder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("events.parquet"));
    made::one_of_each(&path);
    convert(&["--to", "parquet", "--rows", "events"], &path, &out)?;
    let json = folder.file("stat.json");
    run(&["stat", "--json"], &path, &json)?;
    let report: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let counts = format!(
        "select event, count(*) from '{}' group by event order by event",
        out.display()
    );
    let counts = python::script("duck.py", &counts)?;
    let mut counted: Vec<_> = report["events"].as_array().into_iter().flatten().collect();
    counted.retain(|it| it["count"] != 0);
    counted.sort_by_key(|it| it["event"].as_str().map(ToOwned::to_owned));
    assert_eq!(counted.len(), 5, "{report}");
    for (row, event) in counts.as_array().into_iter().flatten().zip(counted) {
        let name = event["event"].as_str().unwrap_or_default();
        assert_eq!(name.split(':').nth(1), row[0].as_str());
        assert_eq!(event["count"], row[1], "{name}");
    }
    let fields = format!(
        "select text, fields->>'$.exit_reason.name' from '{}' where event = 'kvm_exit' order by time_ns limit 1",
        out.display()
    );
    let row = &python::script("duck.py", &fields)?[0];
    assert!(
        row[0]
            .as_str()
            .is_some_and(|it| it.starts_with("vcpu 0 reason npf rip ")),
        "{row}"
    );
    assert_eq!(row[1], "npf");
    let said = format!(
        "select value::varchar from parquet_kv_metadata('{}') where key::varchar like '%loss%'",
        out.display()
    );
    let said = python::script("duck.py", &said)?;
    assert!(said.to_string().contains("42"), "{said}");
    Ok(())
}
