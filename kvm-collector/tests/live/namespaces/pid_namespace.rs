//! The collector runs in a pid namespace, like in a container.

use libtest_mimic::Failed;
use serde_json::Value;

use super::{EVENT, collector_with, start_endless_guest};
use crate::{
    check::{ensure, ensure_equal, get_list, get_number},
    container::Container,
    process::{FinishedProcess, run_command},
    requirements::collector_command,
    temp_files::TempFile,
};

/// Returns the name and process id of each VM in a report.
fn read_vms(report: &Value) -> Result<Vec<(String, u64)>, Failed> {
    let vm = |vm: &Value| {
        let name = vm["vm"].as_str().ok_or("a VM without a name")?;
        Ok((name.to_owned(), get_number(vm, "pid")?))
    };
    get_list(report, "vms")?.iter().map(vm).collect()
}

/// A VM in a container has the same process id in the container as another VM has on the host.
pub(super) fn pid_namespace() -> Result<(), Failed> {
    let outer = start_endless_guest(collector_command(), "outer")?;
    let container = Container::new("pid mount uts ipc proc")?;
    let inner = container.command_with_id(&outer.pid, &collector_command())?;
    let inner = start_endless_guest(inner, "inner")?;
    ensure_equal("the process id of the inner VM", &inner.pid, &outer.pid)?;
    let recording = TempFile::new("recording");

    let tid = inner.tids[0].to_string();
    let refused: [(&[&str], &str); 6] = [
        (&["stat", "--vm", "inner"], "--vm"),
        (&["exits", "--vm", "inner"], "--vm"),
        (&["trace", "-p", &inner.pid], "-p"),
        (&["trace", "--tid", &tid], "--tid"),
        (&["top", "--once", "--vm", "inner"], "--vm"),
        (&["record", "--vm", "inner", "-o", recording.arg()?], "--vm"),
    ];
    for (args, option) in refused {
        let output = container.run(&collector_with(args, &["-d", "100ms"]))?;
        let texts = [option, "pid namespace", "--pid=host", "/proc"];
        let output = output.expect_code(1)?.expect_message(&texts)?;
        ensure_equal("stdout", output.stdout.as_str(), "")?;
    }

    // Without a selection, the collector sees all VMs of the host, with the process ids of the host. It only knows the names
    // that the kernel has: those of threads.
    let expect_warning = |output: FinishedProcess| {
        let texts = ["warn", "names of VMs and threads", "pid namespace"];
        output.expect_code(0)?.expect_message(&texts)
    };
    let stat = collector_with(&["stat", "--per-vm", "--json", "-d", "500ms"], EVENT);
    let output = expect_warning(container.run(&stat)?)?;
    ensure_equal("warnings", output.stderr.matches("warn").count(), 1)?;
    let vms = read_vms(&output.report()?)?;
    ensure(vms.len() >= 2, || format!("VMs are missing: {vms:?}"))?;
    let has_kernel_name = |(name, pid): &(String, u64)| *name == format!("CPU 0/KVM-{pid}");
    ensure(vms.iter().all(has_kernel_name), || {
        format!("a VM has a name of this container's /proc: {vms:?}")
    })?;
    ensure(
        vms.iter().any(|(_, pid)| pid.to_string() == outer.pid),
        || format!("the kernel's id {} is missing: {vms:?}", outer.pid),
    )?;
    let trace = collector_with(&["trace", "--json", "-d", "300ms"], EVENT);
    let mut lines = expect_warning(container.run(&trace)?)?.json()?;
    // Only events of this VM, since for threads that end the kernel reports the name.
    let outer_pid: u64 = outer.pid.parse()?;
    lines.retain(|line| line["pid"] == outer_pid);
    ensure(!lines.is_empty(), || "no events".into())?;
    ensure(lines.iter().all(|line| line["comm"] == "<...>"), || {
        format!("a thread has a name: {lines:?}")
    })?;
    let top = ["top", "--once", "--kind", "pio", "-d", "300ms"];
    let top = expect_warning(container.run(&collector_with(&top, &[]))?)?;
    let row = format!("CPU 0/KVM-{}", outer.pid);
    ensure(
        top.stdout.contains(&row) && !top.stdout.contains("inner"),
        || format!("no `{row}`, or another VM's name: {}", top.stdout),
    )?;

    // A recording has no names either. Its processes can be selected in any pid namespace.
    let record = ["record", "-d", "300ms", "-o", recording.arg()?];
    expect_warning(container.run(&collector_with(&record, EVENT))?)?;
    let recorded = [
        "stat",
        "--per-vm",
        "--json",
        "-i",
        recording.arg()?,
        "-p",
        &outer.pid,
    ];
    let recorded = collector_with(&recorded, &[]);
    for output in [
        run_command(&mut collector_with(
            &[
                "stat",
                "--per-vm",
                "--json",
                "-i",
                recording.arg()?,
                "-p",
                &outer.pid,
            ],
            &[],
        ))?,
        container.run(&recorded)?,
    ] {
        let vms = read_vms(&output.expect_code(0)?.report()?)?;
        ensure_equal("VMs", vms, vec![("?".to_owned(), outer.pid.parse()?)])?;
    }

    let listed = container.run(&collector_with(&["list", "vms"], &[]))?;
    let listed = listed.expect_code(0)?.expect_message(&["pid namespace"])?;
    ensure(
        listed.stdout.contains("inner") && !listed.stdout.contains("outer"),
        || format!("not the VMs of the container: {}", listed.stdout),
    )?;
    let doctor = container
        .run(&collector_with(&["doctor"], &[]))?
        .expect_code(0)?;
    // The guest of `doctor` runs in the container, and its events are counted there.
    for word in ["--pid=host", "a test guest caused", "-> see pid namespace"] {
        ensure(doctor.stdout.contains(word), || {
            format!("no `{word}`: {}", doctor.stdout)
        })?;
    }
    Ok(())
}

/// The collector runs in a pid namespace, but has the `/proc` of the host.
pub(super) fn pid_namespace_with_host_proc() -> Result<(), Failed> {
    let guest = start_endless_guest(collector_command(), "outer")?;
    let container = Container::new("pid")?;
    for selection in [["--vm", "outer"], ["-p", &guest.pid]] {
        let args = ["stat", "--per-vm", "--json", "-d", "300ms"];
        let stat = collector_with(&[&args[..], &selection].concat(), EVENT);
        let output = container.run(&stat)?.expect_code(0)?;
        ensure_equal("stderr", output.stderr.as_str(), "")?;
        let vms = read_vms(&output.report()?)?;
        ensure_equal("VMs", vms, vec![("outer".into(), guest.pid.parse()?)])?;
    }
    let trace = ["trace", "--json", "-d", "300ms", "--tid"];
    let trace = collector_with(&[&trace[..], &[&guest.tids[0].to_string()]].concat(), EVENT);
    let lines = container.run(&trace)?.expect_code(0)?.json()?;
    ensure(!lines.is_empty(), || "no events".into())?;
    ensure(lines.iter().all(|line| line["comm"] == "CPU 0/KVM"), || {
        format!("not the name of the thread: {lines:?}")
    })?;
    // `doctor` finds its own guest by the process ids of the host.
    let doctor = container.run(&collector_with(&["doctor", "--json"], &[]))?;
    let diagnosis: Value = serde_json::from_str(&doctor.expect_code(0)?.stdout)?;
    for check in get_list(&diagnosis, "checks")? {
        if check["name"] == "exits fire" {
            let found = check["found"].as_str().unwrap_or_default();
            ensure(!found.contains("kvm_userspace_exit 0"), || found.to_owned())?;
            ensure(check["status"] != "skip", || found.to_owned())?;
        }
    }
    Ok(())
}
