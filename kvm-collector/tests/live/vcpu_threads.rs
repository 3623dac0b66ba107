//! The time of vCPU threads is complete, and more threads than table entries can run one after the other.

use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    exit_reasons,
    exits::{REQUIREMENTS, counts_by_code},
    guest::Guest,
    requirements::test,
    running_collector::RunningCollector,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("the_time_of_a_vcpu_is_complete", REQUIREMENTS, check_times),
        test(
            "entries_of_ended_threads_are_reused",
            REQUIREMENTS,
            reuse_entries,
        ),
    ]
}

/// From its first exit to its end, all time of a vCPU is guest, kernel, VMM or halted time.
fn check_times() -> Result<(), Failed> {
    let guest = Guest::prepare(&[
        "-k",
        "io,cpuid,msr,page-fault",
        "-n",
        "2000",
        "--vcpus",
        "2",
        "--sleep",
        "100us",
    ])?;
    let collector =
        RunningCollector::start(&["exits", "--json", "--by", "vcpu,reason", "-p", &guest.pid])?;
    let start = std::time::Instant::now();
    let guest_report = guest.run()?;
    let elapsed_ns = u64::try_from(start.elapsed().as_nanos())?;
    let report = collector.end()?.expect_code(0)?.report()?;
    let vcpus = get_list(&report, "vcpus")?;
    ensure_equal("vCPUs", vcpus.len(), guest_report.indices()?.len())?;
    for vcpu in vcpus {
        let mut sum = 0;
        for part in ["guest_ns", "kernel_ns", "vmm_ns", "halted_ns"] {
            sum += get_number(vcpu, part)?;
        }
        ensure(get_number(vcpu, "guest_ns")? > 0, || {
            format!("no guest time: {vcpu}")
        })?;
        // The guest's process starts before its vCPUs and ends after them.
        ensure(sum <= elapsed_ns && sum >= elapsed_ns / 2, || {
            format!("{sum} ns of {elapsed_ns} ns: {vcpu}")
        })?;
        // The parts of the vCPU are the sums of its rows.
        let mut row_sums = [0; 3];
        for row in get_list(&report, "rows")? {
            if row["vcpu"] == vcpu["vcpu"] {
                for (sum, part) in row_sums
                    .iter_mut()
                    .zip(["kernel_ns", "vmm_ns", "halted_ns"])
                {
                    *sum += get_number(row, part)?;
                }
                let parts = get_number(row, "kernel_ns")?
                    + get_number(row, "vmm_ns")?
                    + get_number(row, "halted_ns")?;
                ensure_equal("sum of the parts", parts, get_number(row, "total_ns")?)?;
            }
        }
        let vcpu_sums = ["kernel_ns", "vmm_ns", "halted_ns"].map(|part| get_number(vcpu, part));
        for (row_sum, vcpu_sum) in row_sums.iter().zip(vcpu_sums) {
            ensure_equal("a part", *row_sum, vcpu_sum?)?;
        }
    }
    Ok(())
}

/// Runs more threads one after the other than the tables have entries and rows.
fn reuse_entries() -> Result<(), Failed> {
    let collector =
        RunningCollector::start(&["exits", "--json", "--by", "vm,reason", "--max-rows", "48"])?;
    let mut expected = Vec::new();
    for round in 0..12 {
        let guest = Guest::prepare(&[
            "-k",
            "io,cpuid",
            "-n",
            &format!("{}", 50 + round),
            "--vcpus",
            "4",
        ])?;
        let pid = guest.pid.parse::<u64>()?;
        expected.push((pid, guest.run()?.exits()?));
        // The collector frees the entries of ended threads within this time.
        std::thread::sleep(std::time::Duration::from_millis(450));
    }
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    for (pid, guest_counts) in expected {
        let mut vm_report = report.clone();
        let rows = get_list(&report, "rows")?.iter();
        vm_report["rows"] = rows.filter(|row| row["pid"] == pid).cloned().collect();
        let mut counts = exit_reasons::without_host_exits(counts_by_code(&vm_report)?);
        // Several vCPUs that start at the same time may fault for the same page.
        for fault in ["npf", "EPT_VIOLATION"] {
            let code = exit_reasons::reason_code(fault)?;
            if let (Some(count), Some(expected)) = (counts.get_mut(&code), guest_counts.get(&code))
            {
                ensure((*expected..=*expected + 5 * 4).contains(count), || {
                    format!("{count} page faults, of which the guest knows {expected}")
                })?;
                *count = *expected;
            }
        }
        ensure_equal(&format!("exits of {pid}"), counts, guest_counts)?;
    }
    Ok(())
}
