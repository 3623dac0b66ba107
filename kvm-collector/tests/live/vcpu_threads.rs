//! vCPU threads: where all of their time goes, and that they come and go without anything being lost.

use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, equal, list, nothing_lost, number},
    exit_reasons,
    exits::{REQUIREMENTS, by_code},
    guest::Guest,
    requirements::test,
    running_collector::RunningCollector,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_vcpus_time_is_all_accounted_for", REQUIREMENTS, all_time),
        test(
            "places_of_ended_threads_are_used_again",
            REQUIREMENTS,
            come_and_go,
        ),
    ]
}

/// Guest, kernel, VMM and halted: from its first exit to its end a vCPU is in one of them.
fn all_time() -> Result<(), Failed> {
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
    let watch =
        RunningCollector::start(&["exits", "--json", "--by", "vcpu,reason", "-p", &guest.pid])?;
    let began = std::time::Instant::now();
    let made = guest.run()?;
    let took = u64::try_from(began.elapsed().as_nanos())?;
    let report = watch.end()?.expect_code(0)?.report()?;
    let vcpus = list(&report, "vcpus")?;
    equal("vCPUs", vcpus.len(), made.indices()?.len())?;
    for vcpu in vcpus {
        let mut sum = 0;
        for part in ["guest_ns", "kernel_ns", "vmm_ns", "halted_ns"] {
            sum += number(vcpu, part)?;
        }
        ensure(number(vcpu, "guest_ns")? > 0, || {
            format!("never in the guest: {vcpu}")
        })?;
        // The guest's process began before and ends after its vCPUs.
        ensure(sum <= took && sum >= took / 2, || {
            format!("{sum} ns of {took}: {vcpu}")
        })?;
        // And the parts are the rows'.
        let mut of_rows = [0; 3];
        for row in list(&report, "rows")? {
            if row["vcpu"] == vcpu["vcpu"] {
                for (sum, part) in of_rows.iter_mut().zip(["kernel_ns", "vmm_ns", "halted_ns"]) {
                    *sum += number(row, part)?;
                }
                let parts =
                    number(row, "kernel_ns")? + number(row, "vmm_ns")? + number(row, "halted_ns")?;
                equal("the parts' sum", parts, number(row, "time_ns")?)?;
            }
        }
        let of_vcpu = ["kernel_ns", "vmm_ns", "halted_ns"].map(|part| number(vcpu, part));
        for (of_rows, of_vcpu) in of_rows.iter().zip(of_vcpu) {
            equal("a part", *of_rows, of_vcpu?)?;
        }
    }
    Ok(())
}

/// More threads and rows, one after the other, than the tables have room for.
fn come_and_go() -> Result<(), Failed> {
    let watch =
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
        // As long as the collector may take to look.
        std::thread::sleep(std::time::Duration::from_millis(450));
    }
    let report = watch.end()?.expect_code(0)?.report()?;
    nothing_lost(&report)?;
    for (pid, made) in expected {
        let mut of_vm = report.clone();
        let rows = list(&report, "rows")?.iter();
        of_vm["rows"] = rows.filter(|row| row["pid"] == pid).cloned().collect();
        let mut counted = exit_reasons::without_host_exits(by_code(&of_vm)?);
        // vCPUs that start together may fault more than once for a page.
        for fault in ["npf", "EPT_VIOLATION"] {
            let code = exit_reasons::reason_code(fault)?;
            if let (Some(counted), Some(made)) = (counted.get_mut(&code), made.get(&code)) {
                ensure((*made..=*made + 5 * 4).contains(counted), || {
                    format!("{counted} page faults, of which the guest made {made}")
                })?;
                *counted = *made;
            }
        }
        equal(&format!("exits of {pid}"), counted, made)?;
    }
    Ok(())
}
