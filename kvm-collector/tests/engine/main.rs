//! One engine: whatever is shown of a recording, and whatever is selected of it, follows the same rules. Each test goes
//! through the command line.

mod agree;
mod drive;
mod file;

use std::process::{Command, Output};

use serde_json::Value;

use file::{File, Item, OTHER, VM_A, VM_B, entry, event, exit, switch};

const CPUID: u64 = 0x72;
const HLT: u64 = 0x78;

fn run(file: &File, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .arg("-i")
        .arg(file.path())
        .output()
        .expect("it runs")
}

/// All JSON objects that a command prints.
fn reports(file: &File, args: &[&str]) -> Vec<Value> {
    let output = run(file, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn report(file: &File, args: &[&str]) -> Value {
    let mut reports = reports(file, args);
    assert_eq!(reports.len(), 1, "{args:?}");
    reports.remove(0)
}

/// The rows of one VM, without what depends on others.
fn rows_of(report: &Value, pid: u32) -> Vec<Vec<Value>> {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter()
        .filter(|row| row["pid"] == pid)
        .map(|row| {
            let fields = [
                "vcpu",
                "reason",
                "count",
                "time_ns",
                "kernel_ns",
                "vmm_ns",
                "halted_ns",
                "preempted_ns",
                "min_ns",
                "max_ns",
            ];
            fields.map(|field| row[field].clone()).to_vec()
        })
        .collect()
}

/// Two VMs: their threads take turns on one CPU with each other and with a third process.
fn contended() -> Vec<Item> {
    let (a, b, other) = ((VM_A, VM_A + 1), (VM_B, VM_B + 1), (OTHER, OTHER));
    let mut items = vec![
        exit(1_000, a, 0, CPUID),
        entry(2_000, a, 0),
        exit(3_000, b, 1, HLT),
        entry(4_000, b, 1),
    ];
    for round in 1..=10u64 {
        let at = round * 100_000;
        items.extend([
            exit(at, a, 0, CPUID),
            // To another VM's thread, and back by way of a third one: each switch happens in a thread that is not the
            // one that is put on the CPU.
            switch(at + 1_000, a, true, b.1),
            exit(at + 2_000, b, 1, HLT),
            switch(at + 10_000, b, true, other.1),
            switch(at + 30_000, other, false, b.1),
            entry(at + 31_000, b, 1),
            switch(at + 40_000, b, true, a.1),
            entry(at + 42_000, a, 0),
        ]);
    }
    items
}

#[test]
fn a_selection_shows_the_rows_of_what_it_selects() {
    let file = File::new(&contended());
    let base = ["exits", "--preempt", "--by", "vm,vcpu,reason", "--json"];
    let all = report(&file, &base);
    let preempted = |vm: u32| -> u64 {
        let rows = rows_of(&all, vm);
        rows.iter().filter_map(|row| row[7].as_u64()).sum()
    };
    assert_eq!((preempted(VM_A), preempted(VM_B)), (390_000, 200_000));
    for (vm, vcpu) in [(VM_A, 0), (VM_B, 1)] {
        let selectors = [
            vec!["-p".to_owned(), vm.to_string()],
            vec!["--vcpu".to_owned(), vcpu.to_string()],
            vec!["--tid".to_owned(), (vm + 1).to_string()],
        ];
        for selector in &selectors {
            let selector: Vec<_> = selector.iter().map(String::as_str).collect();
            let selected = report(&file, &[&base[..], &selector].concat());
            assert_eq!(rows_of(&selected, vm), rows_of(&all, vm), "{selector:?}");
            assert_eq!(selected["row_count"], 1, "{selector:?}");
            assert_eq!(selected["loss"], all["loss"], "{selector:?}");
        }
    }
}

#[test]
fn a_switch_counts_for_the_vcpu_that_it_is_about() {
    let file = File::new(&contended());
    let all = report(&file, &["stat", "--per-vm", "--json"]);
    let switches = |report: &Value, pid: u32| -> u64 {
        let vms = report["vms"].as_array().cloned().unwrap_or_default();
        let of_vm = vms.iter().find(|vm| vm["pid"] == pid);
        let events = of_vm.map_or(vec![], |vm| vm["events"].as_array().unwrap().clone());
        let of_event = events.iter().find(|it| it["event"] == "sched:sched_switch");
        of_event.map_or(0, |it| it["count"].as_u64().unwrap())
    };
    // Of each round's four: one from a vCPU of A; two from B's, and one to it. None is of whoever else ran.
    assert_eq!((switches(&all, VM_A), switches(&all, VM_B)), (10, 30));
    assert_eq!(switches(&all, OTHER), 0);
    // Selected alone, a VM also has those that leave another VM's thread for one of its own.
    for (vm, vcpu, count) in [(VM_A, "0", 20), (VM_B, "1", 40)] {
        let (pid, tid) = (vm.to_string(), (vm + 1).to_string());
        for selector in [["-p", &pid], ["--vcpu", vcpu], ["--tid", &tid]] {
            let args = [&["stat", "--per-vm", "--json"], &selector[..]].concat();
            let report = report(&file, &args);
            assert_eq!(switches(&report, vm), count, "{selector:?}");
            let events = report["events"].as_array().unwrap();
            let switch = events.iter().find(|it| it["event"] == "sched:sched_switch");
            assert_eq!(switch.unwrap()["count"], count, "{selector:?}");
        }
    }
}

/// Each kind of loss that a file can have: how it is made, its name, and how many there are.
fn losses() -> Vec<(&'static str, u64, File)> {
    let thread = (VM_A, VM_A + 1);
    let pair = |at: u64| [exit(at, thread, 0, CPUID), entry(at + 500, thread, 0)];
    let mut all = Vec::new();
    let lost = |time_ns, name, count| Item::Lost {
        time_ns,
        name,
        count,
    };
    let around = |middle: Vec<Item>| [&pair(1_000)[..], &middle, &pair(9_000)].concat();
    all.push(("lost", 40, File::new(&around(vec![lost(5_000, None, 40)]))));
    let of_event = around(vec![lost(5_000, Some("kvm_exit"), 7)]);
    all.push(("lost", 7, File::new(&of_event)));
    let untimed = File::new(&around(vec![lost(5_000, None, 3)]));
    // Without `sample_id_all`, a record that is no sample has no time.
    untimed.change_attrs(|attr| attr[42] &= !4);
    all.push(("lost", 3, untimed));
    let short = |time_ns| Item::Event {
        time_ns,
        thread,
        name: "kvm_exit",
        fields: vec![("isa", 2)],
        cut: Some(8),
    };
    let damaged = around(vec![short(4_000), short(5_000)]);
    all.push(("damaged", 2, File::new(&damaged)));
    let sampled = File::new(&around(vec![]));
    sampled.change_attrs(|attr| attr[16..24].copy_from_slice(&300u64.to_ne_bytes()));
    all.push(("sampled", 4 * 300, sampled));
    all
}

#[test]
fn every_loss_is_in_every_report_and_in_the_exit_code() {
    for (name, count, file) in losses() {
        for args in [&["stat", "--json"][..], &["exits", "--json"]] {
            let report = report(&file, args);
            assert_eq!(report["loss"][name], count, "{args:?} {name}");
            // Intervals add up to the total.
            let args = [args, &["-I", "2us"]].concat();
            let mut all = reports(&file, &args);
            let total = all.pop().expect("a total");
            let sum: u64 = all.iter().filter_map(|it| it["loss"][name].as_u64()).sum();
            assert_eq!(total["loss"][name], count, "{args:?} {name}");
            assert_eq!(sum, count, "{args:?} {name}");
        }
        let out = std::env::temp_dir().join(format!("kvm-collector-engine-{}", std::process::id()));
        let out = out.to_str().expect("a name");
        let mut commands = vec![
            vec!["stat", "--strict"],
            vec!["exits", "--strict"],
            vec!["trace", "--strict"],
            vec!["trace", "--per-exit", "--strict"],
        ];
        for to in ["csv", "json", "perfetto", "html"] {
            let convert = vec!["convert", "--to", to, "-o", out, "--strict"];
            commands.push(match (name, to) {
                // Of a sample, no exits can be made.
                ("sampled", "csv" | "json" | "perfetto") => continue,
                _ => convert,
            });
        }
        for args in commands {
            let output = run(&file, &args);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(3), "{args:?} {name}: {said}");
            let _ = std::fs::remove_file(out);
        }
    }
}

#[test]
fn nothing_is_timed_across_a_loss() {
    let thread = (VM_A, VM_A + 1);
    let across = |time_ns| {
        vec![
            exit(1_000, thread, 0, CPUID),
            entry(2_000, thread, 0),
            exit(3_000, thread, 0, CPUID),
            Item::Lost {
                time_ns,
                name: None,
                count: 100,
            },
            entry(5_000_000, thread, 0),
        ]
    };
    let timed = File::new(&across(4_000));
    let untimed = File::new(&across(4_000));
    untimed.change_attrs(|attr| attr[42] &= !4);
    for file in [timed, untimed] {
        let exits = report(&file, &["exits", "--json"]);
        assert_eq!(exits["rows"][0]["count"], 2);
        assert_eq!(exits["rows"][0]["untimed"], 1);
        assert_eq!(exits["rows"][0]["max_ns"], 1_000);
        assert_eq!(exits["loss"]["unmatched"], 1);
        let lines = run(&file, &["trace", "--per-exit"]);
        let lines = String::from_utf8(lines.stdout).expect("text");
        let exits: Vec<_> = lines.lines().filter(|it| it.contains("exit: ")).collect();
        assert_eq!(exits.len(), 1, "{lines}");
        assert!(exits[0].contains("1.000 us"), "{lines}");
        let long = run(&file, &["trace", "--min-duration", "100us"]);
        let long = String::from_utf8(long.stdout).expect("text");
        assert!(!long.contains("kvm_exit"), "{long}");
    }
}

#[test]
fn a_thread_number_that_is_used_again_begins_anew() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let (first, second) = ((VM_A, VM_A + 1), (VM_B, VM_A + 1));
    let ended = Item::End {
        time_ns: 3_000,
        thread: first,
    };
    let again = |middle: Option<Item>, second| {
        let mut items = vec![
            exit(1_000, first, 0, CPUID),
            entry(1_500, first, 0),
            exit(2_000, first, 0, CPUID),
        ];
        items.extend(middle);
        items.extend([
            entry(HOUR_NS, second, 0),
            exit(HOUR_NS + 1_000, second, 0, CPUID),
            entry(HOUR_NS + 1_700, second, 0),
        ]);
        File::new(&items)
    };
    // Of the same process, only the end of the first thread tells.
    for file in [again(Some(ended), first), again(None, second)] {
        let exits = report(&file, &["exits", "--json"]);
        assert_eq!(exits["rows"][0]["max_ns"], 700, "{exits}");
        let lines = run(&file, &["trace", "--per-exit"]);
        let lines = String::from_utf8(lines.stdout).expect("text");
        let count = lines.lines().filter(|it| it.contains("exit: ")).count();
        assert_eq!(count, 2, "{lines}");
        let long = run(&file, &["trace", "--min-duration", "1s"]);
        assert!(long.stdout.is_empty());
    }
}

/// Sums up a number of each row over reports.
fn sums(reports: &[Value], rows: &str, key: &str, field: &str) -> Vec<(String, u64)> {
    let mut sums = std::collections::BTreeMap::new();
    for row in reports
        .iter()
        .flat_map(|it| it[rows].as_array().expect("rows"))
    {
        let number = row[field].as_u64().unwrap_or(0);
        *sums.entry(row[key].to_string()).or_default() += number;
    }
    sums.into_iter().filter(|(_, sum)| *sum > 0).collect()
}

#[test]
fn intervals_add_up_to_the_total_over_any_gap() {
    let thread = (VM_A, VM_A + 1);
    // An exit across a boundary, one across a long gap, a leap of centuries, and a partial last interval.
    let mut at = 1_000;
    let mut items = Vec::new();
    for step in [100, 900_000, 3, 50_000_000_000, 17, 1 << 62, 400_000] {
        items.push(exit(at, thread, 0, if step % 2 == 0 { CPUID } else { HLT }));
        at += step;
        items.push(entry(at, thread, 0));
        at += 1_000;
    }
    let file = File::new(&items);
    for interval in ["1us", "300us", "1s"] {
        let mut stat = reports(&file, &["stat", "--json", "-I", interval]);
        let total = stat.pop().expect("a total");
        assert!(stat.len() <= 2 * items.len() + 1, "{}", stat.len());
        assert_eq!(
            sums(&stat, "events", "event", "count"),
            sums(std::slice::from_ref(&total), "events", "event", "count")
        );
        let elapsed: u64 = stat
            .iter()
            .map(|it| it["elapsed_ns"].as_u64().unwrap())
            .sum();
        assert_eq!(total["elapsed_ns"], elapsed, "{interval}");
        let mut exits = reports(&file, &["exits", "--json", "-I", interval]);
        let total = exits.pop().expect("a total");
        for field in ["count", "time_ns", "kernel_ns", "vmm_ns", "halted_ns"] {
            assert_eq!(
                sums(&exits, "rows", "reason", field),
                sums(std::slice::from_ref(&total), "rows", "reason", field),
                "{interval} {field}"
            );
        }
        // One after the other, without a gap between them.
        let mut end_ns = 0;
        for interval in &exits {
            assert_eq!(interval["start_ns"], end_ns);
            end_ns += interval["elapsed_ns"].as_u64().unwrap();
        }
        assert_eq!(total["elapsed_ns"], end_ns);
    }
}

#[test]
fn a_sample_is_an_estimate_and_has_no_times() {
    let thread = (VM_A, VM_A + 1);
    let items: Vec<_> = (1..=20u64)
        .flat_map(|step| {
            let at = step * 1_000_000;
            [exit(at, thread, 0, CPUID), entry(at + 700_000, thread, 0)]
        })
        .collect();
    let file = File::new(&items);
    file.change_attrs(|attr| attr[16..24].copy_from_slice(&300u64.to_ne_bytes()));
    let exits = report(&file, &["exits", "--json"]);
    let row = &exits["rows"][0];
    assert_eq!(
        (&row["count"], &row["untimed"]),
        (&6_000.into(), &6_000.into())
    );
    assert_eq!(row["time_ns"], 0);
    let stat = report(&file, &["stat", "--json"]);
    let of_exit = |it: &&Value| it["event"] == "kvm:kvm_exit";
    let events = stat["events"].as_array().unwrap();
    assert_eq!(events.iter().find(of_exit).unwrap()["count"], 6_000);
    let text = String::from_utf8(run(&file, &["exits"]).stdout).expect("text");
    assert!(text.contains("an estimate"), "{text}");
    let out = std::env::temp_dir().join("kvm-collector-engine-none.csv");
    let args = ["convert", "--to", "csv", "-o", out.to_str().unwrap()];
    let said = String::from_utf8(run(&file, &args).stderr).expect("text");
    assert!(said.contains("a sample of the events"), "{said}");
}

#[test]
fn a_duration_ends_where_it_says() {
    let file = File::new(&contended());
    let all = report(&file, &["stat", "--json", "-d", "250us"]);
    assert_eq!(all["elapsed_ns"], 250_000);
    let exits = report(&file, &["exits", "--json", "-d", "250us"]);
    assert_eq!(exits["elapsed_ns"], 250_000);
}

#[test]
fn a_field_event_is_shown_inside_the_exit_that_it_is_about() {
    let (a, other) = ((VM_A, VM_A + 1), (OTHER, OTHER));
    let file = File::new(&[
        exit(1_000, a, 0, CPUID),
        entry(1_500, a, 0),
        exit(2_000, a, 0, CPUID),
        switch(3_000, a, true, other.1),
        switch(4_000, other, false, a.1),
        event(5_000, a, "kvm_pio", &[("port", 0x3f8)]),
        entry(6_000, a, 0),
    ]);
    let lines = run(&file, &["trace", "--per-exit"]);
    let lines = String::from_utf8(lines.stdout).expect("text");
    let long = lines
        .lines()
        .find(|it| it.contains("4.000 us"))
        .expect("it is there");
    assert_eq!(long.matches("sched_switch").count(), 2, "{long}");
    assert!(long.contains("pio: "), "{long}");
}

/// Each bit of each record, one at a time: time may leap, threads and lengths may be any. (One bit of each byte,
/// to save time.)
#[test]
fn whatever_a_bit_says_all_views_end_and_agree() {
    let mut items = contended();
    items.truncate(24);
    items.push(Item::Lost {
        time_ns: 250_000,
        name: None,
        count: 3,
    });
    items.push(Item::End {
        time_ns: 260_000,
        thread: (VM_A, VM_A + 1),
    });
    let file = File::new(&items);
    let whole = std::fs::read(file.path()).expect("a file");
    // struct perf_file_header: where the records are.
    let number = |at: usize| {
        let number = u64::from_ne_bytes(whole[at..at + 8].try_into().unwrap());
        usize::try_from(number).expect("small")
    };
    let (from, length) = (number(40), number(48));
    for at in from..from + length {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(file.path(), &bytes).expect("a file");
        if let Ok(recording) = kvm_collector::source::Recording::open(file.path()) {
            drive::drive(recording);
        }
    }
}

/// Times are numbers below 2^63 ns, whatever a file says: those of three threads together are not.
#[test]
fn times_of_centuries_add_up_without_overflow() {
    const HLT_OF_VMM: &[(&str, u64)] = &[("reason", 5)];
    let mut items = Vec::new();
    for thread in (1..=3).map(|number| (VM_A, VM_A + number)) {
        let vcpu = u64::from(thread.1 - VM_A);
        items.extend([
            exit(1, thread, vcpu, HLT),
            event(2, thread, "kvm_userspace_exit", HLT_OF_VMM),
        ]);
    }
    // Each is halted, is in the VMM, and is out of the CPU for nearly all of that.
    let end = (1 << 63) - 10;
    for thread in (1..=3).map(|number| (VM_A, VM_A + number)) {
        let vcpu = u64::from(thread.1 - VM_A);
        items.push(entry(end, thread, vcpu));
        items.push(exit(end + 1, thread, vcpu, HLT));
        items.push(entry(end + 2, thread, vcpu));
        items.push(Item::End {
            time_ns: end + 3,
            thread,
        });
    }
    // Three threads run vCPUs of one index, in three VMs of one process, and are in the guest for nearly all of it.
    let threads = (1..=3).map(|number| (VM_B, VM_B + number));
    let mut guest: Vec<_> = threads
        .clone()
        .flat_map(|thread| [exit(3, thread, 0, CPUID), entry(4, thread, 0)])
        .collect();
    for thread in threads {
        guest.push(exit(end, thread, 0, CPUID));
        guest.push(Item::End {
            time_ns: end + 3,
            thread,
        });
    }
    items.splice(6..6, guest.drain(..6));
    items.extend(guest);
    let file = File::new(&items);
    let all = report(&file, &["exits", "--json"]);
    let vcpus = all["vcpus"].as_array().expect("vCPUs");
    let of_vm_b = vcpus.iter().find(|it| it["pid"] == VM_B);
    assert_eq!(of_vm_b.expect("it is there")["guest_ns"], u64::MAX);
    assert_eq!(all["time_ns"], u64::MAX);
    assert_eq!(all["idle_ns"], u64::MAX);
    for args in [
        &["exits", "--by", "vm"][..],
        &["exits", "--by", "reason", "--advice", "--causes", "3"],
        &["exits", "--hist", "--csv"],
        &["exits", "-I", "1s", "--json"],
        &["stat", "--per-vm"],
        &["trace", "--per-exit"],
    ] {
        let output = run(&file, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
    }
    let out =
        std::env::temp_dir().join(format!("kvm-collector-engine-long-{}", std::process::id()));
    let out = out.to_str().expect("a name");
    for to in ["csv", "json", "perfetto", "html", "parquet"] {
        let output = run(&file, &["convert", "--to", to, "-o", out]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{to}: {said}");
        let _ = std::fs::remove_file(out);
    }
}

/// VMs that come and go, and a file that never says that one has ended: neither takes more memory than there may be.
#[test]
fn a_file_of_ever_new_threads_takes_no_more_memory() {
    const VMS: u32 = 40_000;
    const MOST_KIB: u32 = 350 << 10;
    for ends in [true, false] {
        let mut items = Vec::new();
        for number in 0..VMS {
            let (tgid, at) = (VM_A + number, 1_000 + u64::from(number) * 1_000);
            let thread = (tgid, tgid);
            items.extend([
                exit(at, thread, 0, CPUID),
                event(at + 10, thread, "kvm_pio", &[("port", 0x3f8)]),
                entry(at + 100, thread, 0),
            ]);
            if ends {
                items.push(Item::End {
                    time_ns: at + 200,
                    thread,
                });
            }
        }
        let file = File::new(&items);
        drop(items);
        for args in [
            &["exits", "--json", "--by", "vm"][..],
            &["stat", "--json", "--per-vm"],
            &["trace", "--per-exit", "--json"],
        ] {
            let output = run_within(MOST_KIB, &file, args);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?}: {said}");
            let text = String::from_utf8(output.stdout).expect("text");
            if args[0] == "trace" {
                assert_eq!(text.lines().count(), VMS as usize);
                continue;
            }
            let report: Value = serde_json::from_str(&text).expect("JSON");
            let loss = &report["loss"];
            if args[0] == "exits" {
                assert_eq!(report["count"], VMS, "{loss}");
                assert_eq!(loss["map_full"], 0);
            } else {
                let vms = report["vms"].as_array().expect("VMs");
                let counts = vms.iter().flat_map(|it| it["events"].as_array().unwrap());
                let count: u64 = counts.map(|it| it["count"].as_u64().unwrap()).sum();
                let lost = loss["lost"].as_u64().expect("a number");
                assert_eq!(count + lost, 3 * u64::from(VMS));
                assert_eq!(lost == 0, ends);
            }
        }
    }
}

/// Runs a command that cannot have more memory of its own than so much.
fn run_within(kib: u32, file: &File, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -d \"$0\" && exec \"$@\"", &kib.to_string()])
        .arg(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .arg("-i")
        .arg(file.path())
        .output()
        .expect("it runs")
}
