//! vCPUs have numbers and can be selected on every kernel, also where only the names of their threads tell them.

use std::{collections::BTreeMap, process::id, thread};

use kvm_collector::{
    probe::{AttachedPrograms, MapSizes, Request},
    timing::{Filter, TimingRequest},
    tracefs::{Format, Tracefs},
};
use kvm_ebpf_common::VCPU_UNKNOWN;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    arch::{KINDS, REASON_FIELD, VCPUS_FROM_THREAD_NAMES},
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    counts::event_count,
    endless_vm::{EndlessVm, run},
    exits::{REQUIREMENTS, counts_by_code},
    ftrace_instance::FtraceInstance,
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    temp_files::TempDir,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "vcpus_of_named_threads_are_numbered",
            REQUIREMENTS,
            vcpus_are_numbered,
        ),
        test(
            "programs_read_vcpus_from_thread_names",
            &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs],
            programs_read_names,
        ),
    ]
}

/// The number of exits by vCPU and reason.
type Counts = BTreeMap<(u64, u64), u64>;

/// The guest names its threads as QEMU does.
fn vcpus_are_numbered() -> Result<(), Failed> {
    const ALL: &[&str] = &["--json", "--by", "vm,vcpu,reason"];
    const SECOND: &[&str] = &["--json", "--vcpu", "1"];
    const EVENTS: &[&str] = &["-e", "kvm_exit,kvm_entry"];
    let guest = Guest::prepare(&["-k", KINDS, "-n", "500", "--vcpus", "2"])?;
    let folder = TempDir::new("named-vcpus")?;
    let file = folder.file("kvm.data");
    let process = ["-p", &guest.pid];
    let start =
        |parts: &[&[&str]]| RunningCollector::start(&[&parts.concat(), &process[..]].concat());
    let mut oracle = FtraceInstance::new()?;
    oracle.add_histogram("kvm/kvm_exit", &format!("common_pid,{REASON_FIELD}"))?;
    oracle.add_histogram("kvm/kvm_entry", "common_pid")?;
    let all = start(&[&["exits"], ALL])?;
    let second = start(&[&["exits"], SECOND])?;
    let stat = start(&[&["stat"], SECOND, EVENTS])?;
    let trace = start(&[&["trace"], SECOND, EVENTS])?;
    let record = start(&[&["record", "-o", &file], EVENTS])?;
    let tids = guest.tids.clone();
    guest.run()?;
    let [all, second, stat, trace] =
        [all, second, stat, trace].map(|it| it.end().and_then(|it| it.expect_code(0)));
    record.end()?.expect_code(0)?;

    let expected = exits_of_threads(&oracle, &tids)?;
    let of_second = expected.iter().filter(|((vcpu, _), _)| *vcpu == 1);
    let of_second: BTreeMap<u64, u64> = of_second
        .map(|((_, code), count)| (*code, *count))
        .collect();
    let exits: u64 = of_second.values().sum();
    ensure(exits > 500, || format!("only {exits} exits of vCPU 1"))?;
    let entries = oracle.count_in_threads("kvm/kvm_entry", &tids[1..])?;

    let (all, second, stat) = (all?.report()?, second?.report()?, stat?.report()?);
    ensure_equal("all exits", exits_of_vcpus(&all)?, expected.clone())?;
    ensure_equal(
        "exits of vCPU 1",
        counts_by_code(&second)?,
        of_second.clone(),
    )?;
    ensure_equal("kvm_exit", event_count(&stat, "kvm:kvm_exit")?, exits)?;
    ensure_equal("kvm_entry", event_count(&stat, "kvm:kvm_entry")?, entries)?;
    let lines = trace?.json()?;
    ensure_equal("lines of the trace", lines.len() as u64, exits + entries)?;
    ensure(lines.iter().all(|it| it["tid"] == tids[1]), || {
        format!("the trace has another thread than {}", tids[1])
    })?;
    let from_file = |args: &[&str]| {
        let input = ["exits", "-i", &file];
        run_collector(&[&input, args].concat())?
            .expect_code(0)?
            .report()
    };
    let recorded = from_file(ALL)?;
    ensure_equal("all recorded exits", exits_of_vcpus(&recorded)?, expected)?;
    let recorded_second = from_file(SECOND)?;
    ensure_equal(
        "recorded exits of vCPU 1",
        counts_by_code(&recorded_second)?,
        of_second,
    )?;
    for report in [&all, &second, &stat, &recorded, &recorded_second] {
        ensure_nothing_lost(report)?;
        let is_said = report["vcpus_from_thread_names"] == true;
        ensure_equal(
            "where vCPU numbers are from",
            is_said,
            VCPUS_FROM_THREAD_NAMES,
        )?;
    }
    let text = run_collector(&["exits", "-i", &file])?
        .expect_code(0)?
        .stdout;
    let is_said = text.contains("vCPU numbers from thread names");
    ensure_equal("the heading", is_said, VCPUS_FROM_THREAD_NAMES)
}

/// Returns what ftrace has counted. The index of a vCPU is that of its thread in `tids`.
fn exits_of_threads(oracle: &FtraceInstance, tids: &[u32]) -> Result<Counts, Failed> {
    let mut counts = Counts::new();
    for (keys, count) in oracle.read_histogram("kvm/kvm_exit", &["common_pid", REASON_FIELD])? {
        if let Some(vcpu) = tids.iter().position(|tid| u64::from(*tid) == keys[0]) {
            counts.insert((vcpu as u64, keys[1]), count);
        }
    }
    Ok(counts)
}

fn exits_of_vcpus(report: &Value) -> Result<Counts, Failed> {
    let mut counts = Counts::new();
    for row in get_list(report, "rows")? {
        let key = (get_number(row, "vcpu")?, get_number(row, "reason_code")?);
        counts.insert(key, get_number(row, "count")?);
    }
    Ok(counts)
}

/// The programs know vCPUs by the names of threads if no format has the index. Here, the formats of this kernel do not have it
/// any more.
fn programs_read_names() -> Result<(), Failed> {
    const RUNS: u32 = 1000;
    let tracefs = Tracefs::find_or_mount()?;
    let format = |name: &str| -> Result<Format, Failed> {
        let mut format = tracefs.read_format(&("kvm", name).into())?;
        format.fields.retain(|field| field.name != "vcpu_id");
        Ok(format)
    };
    let timing = TimingRequest {
        entry: Some(format("kvm_entry")?),
        exit: Some(format("kvm_exit")?),
        userspace_exit: Some(format("kvm_userspace_exit")?),
        ..TimingRequest::default()
    };
    let events = [format("kvm_userspace_exit")?];
    let filter = Filter {
        vcpus: vec![7],
        ..Filter::default()
    };
    let request = Request {
        events: &events,
        emit: false,
        per_thread: false,
        timing: None,
        entry_format: timing.entry.as_ref(),
        filter: &filter,
        skip_processes: false,
        sizes: MapSizes::default(),
        log: false,
    };
    let timed = Request {
        events: &[],
        timing: Some(&timing),
        ..request
    };
    // The verifier accepts the programs that time exits, with a selection and without one.
    AttachedPrograms::new(&timed)?;
    let all = Filter::default();
    AttachedPrograms::new(&Request {
        filter: &all,
        ..timed
    })?;

    let mut attached = AttachedPrograms::new(&request)?;
    attached.start()?;
    let vm = EndlessVm::new()?;
    let names = ["CPU 0/KVM", "crosvm_vcpu7", "worker", "vcpu12"];
    for (index, name) in (0..).zip(names) {
        let mut vcpu = vm.vcpu(index)?;
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || run(&mut vcpu, RUNS))?;
        thread.join().map_err(|_| "a thread panicked")??;
    }
    attached.stop()?;
    attached.read_notifications();
    let threads = attached.vcpu_threads();
    let mut vcpus: Vec<u32> = threads
        .filter(|(_, thread)| thread.tgid() == id())
        .map(|(_, thread)| thread.vcpu)
        .collect();
    vcpus.sort_unstable();
    ensure_equal("vCPUs", vcpus, vec![0, 7, 12, VCPU_UNKNOWN])?;
    let counts = attached.slot_counts()?[0];
    let unattributed = counts.unattributed;
    ensure_equal("events of vCPU 7", counts.seen, u64::from(RUNS))?;
    // Those of the thread whose name says nothing. Other VMs may run on this host.
    ensure(unattributed >= u64::from(RUNS), || {
        format!("only {unattributed} unattributed")
    })
}
