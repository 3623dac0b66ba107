//! The built-in guest on this host's KVM: every mode and kind of exit, and the options of `guest`.
//!
//! Without a usable /dev/kvm, the tests are reported as ignored, not as passed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use kvm_collector::guest::{self, GuestError, Isa, Kind, Mode, Plan};
use kvm_collector::host::kvm::{self, Device};
use kvm_collector::host::vm;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let no_kvm = kvm::read(Path::new("/")).device != Device::Usable;
    let mut tests = vec![
        Trial::test("all_vcpus_of_all_vms_make_their_exits", check_all_vcpus),
        Trial::test("interrupted_runs_are_counted_separately", check_interrupts),
        Trial::test(
            "a_waiting_guest_is_found_by_name_and_thread",
            check_waiting_guest,
        ),
        Trial::test(
            "the_guest_ends_when_its_input_is_closed",
            check_closed_input,
        ),
        Trial::test("sleep_is_userspace_time", check_sleep),
        Trial::test("a_timer_is_kernel_time", check_timer),
        Trial::test("threads_run_on_the_given_cpu", check_cpu_affinity),
        Trial::test("a_missing_cpu_is_an_error", check_missing_cpu),
        Trial::test("many_vms_raise_the_limit_of_open_files", check_many_vms),
    ];
    for mode in [Mode::Real, Mode::Long] {
        for kind in Kind::ALL {
            // KVM in software has no hypercall instruction, and handles these exceptions and states differently.
            let needs_extension = matches!(
                kind,
                Kind::Hypercall | Kind::Xsetbv | Kind::Ud | Kind::TripleFault
            );
            let is_impossible = needs_extension && Isa::detect().is_none();
            let test = Trial::test(format!("{mode}_{kind}"), move || check_kind(mode, kind));
            tests.push(test.with_ignored_flag(is_impossible));
        }
    }
    let tests = tests
        .into_iter()
        .map(|test| {
            let is_ignored = no_kvm || test.has_ignored_flag();
            test.with_ignored_flag(is_ignored)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// Runs a guest with one kind of exit, and checks the exits to user space that it reports.
fn check_kind(mode: Mode, kind: Kind) -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![kind],
        exits: 20,
        mode,
        ..Plan::default()
    };
    let report = guest::run(&plan).map_err(describe)?;
    let mut expected = BTreeMap::from([("KVM_EXIT_IO", 2)]);
    if let Some(reason) = kind.userspace_exit() {
        *expected.entry(reason).or_default() += if Kind::ONCE.contains(&kind) { 1 } else { 20 };
    }
    let vcpu = &report.vms[0].vcpus[0];
    let reasons = &vcpu.userspace_exits;
    check(
        *reasons == expected,
        format!("{reasons:?} instead of {expected:?}"),
    )?;
    check(
        vcpu.userspace_exits_total == vcpu.eintr + expected.values().sum::<u64>(),
        "the total is not the sum of the exits",
    )
}

fn check_all_vcpus() -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![Kind::Io, Kind::PageFault, Kind::Hlt],
        exits: 100,
        vms: 2,
        vcpus: 3,
        ..Plan::default()
    };
    let report = guest::run(&plan).map_err(describe)?;
    check(
        report.vms.len() == 2 && report.vms.iter().all(|vm| vm.vcpus.len() == 3),
        "not 2 VMs of 3 vCPUs",
    )?;
    let expected = BTreeMap::from([("KVM_EXIT_HLT", 100), ("KVM_EXIT_IO", 102)]);
    let are_as_expected = report
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .all(|vcpu| vcpu.userspace_exits == expected);
    check(are_as_expected, format!("{report:?}"))
}

/// Interrupts `KVM_RUN` by stopping and continuing the process.
fn check_interrupts() -> Result<(), Failed> {
    let mut guest = WaitingGuest::start(&["--kind", "cpuid,io", "-n", "30000"])?;
    guest.start_vcpus()?;
    for signal in ["-STOP", "-CONT"].repeat(5) {
        std::thread::sleep(Duration::from_millis(20));
        Command::new("kill")
            .args([signal, &guest.child.id().to_string()])
            .status()?;
    }
    let report: serde_json::Value = serde_json::from_str(&guest.read_line()?)?;
    let vcpu = &report["vms"][0]["vcpus"][0];
    let total = vcpu["userspace_exits_total"].as_u64();
    let eintr = vcpu["eintr"].as_u64().ok_or("no eintr")?;
    check(
        vcpu["userspace_exits"]["KVM_EXIT_IO"] == 30_002,
        vcpu.to_string(),
    )?;
    check(total == Some(30_002 + eintr), vcpu.to_string())
}

fn check_waiting_guest() -> Result<(), Failed> {
    let guest = WaitingGuest::start(&["--name", "a,b", "--vcpus", "2"])?;
    let found = vm::list(Path::new("/proc"))?;
    let vm = found
        .vms
        .iter()
        .find(|vm| vm.tgid == guest.child.id())
        .ok_or("the guest is not among the VMs")?;
    check(vm.name == "a,b", format!("{vm:?}"))?;
    let vcpus: Vec<_> = vm
        .vcpus
        .iter()
        .map(|vcpu| (vcpu.index, u64::from(vcpu.tid)))
        .collect();
    let expected: Vec<_> = (0..2_u32)
        .map(|index| (Some(index), guest.tid(index)))
        .collect();
    check(
        vcpus == expected,
        format!("{vcpus:?} instead of {expected:?}"),
    )
}

fn check_closed_input() -> Result<(), Failed> {
    let mut guest = WaitingGuest::start(&[])?;
    drop(guest.child.stdin.take());
    let status = guest.child.wait()?;
    check(status.code() == Some(1), format!("{status}"))
}

fn check_sleep() -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![Kind::Io, Kind::Cpuid],
        exits: 20,
        sleep: Duration::from_millis(1),
        ..Plan::default()
    };
    let times = guest::run(&plan).map_err(describe)?.vms[0].vcpus[0].time_breakdown;
    // The first exit sleeps, too. The last exit and those that the kernel handles do not.
    check(times.userspace_ns >= 21_000_000, format!("{times:?}"))?;
    check(times.elapsed_ns >= times.userspace_ns, format!("{times:?}"))?;
    // Sleeping uses no CPU time.
    check(times.cpu_ns < times.elapsed_ns, format!("{times:?}"))
}

fn check_timer() -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![Kind::Timer],
        exits: 20,
        timer: Duration::from_millis(2),
        ..Plan::default()
    };
    let times = guest::run(&plan).map_err(describe)?.vms[0].vcpus[0].time_breakdown;
    let kernel_ns = times.elapsed_ns - times.userspace_ns;
    check(kernel_ns >= 40_000_000, format!("{times:?}"))
}

fn check_cpu_affinity() -> Result<(), Failed> {
    let guest = WaitingGuest::start(&["--cpu", "0", "--vcpus", "2"])?;
    for vcpu in 0..2 {
        let (pid, tid) = (guest.child.id(), guest.tid(vcpu));
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"))?;
        check(status.contains("Cpus_allowed_list:\t0\n"), status)?;
    }
    Ok(())
}

fn check_missing_cpu() -> Result<(), Failed> {
    // No machine has CPU 1023, and a CPU set cannot contain the second.
    for cpu in [1023, u32::MAX] {
        let plan = Plan {
            cpus: vec![cpu],
            ..Plan::default()
        };
        let error = describe(guest::run(&plan).err().ok_or("the guest ran")?);
        check(error.contains(&format!("CPU {cpu}")), error)?;
    }
    Ok(())
}

/// Starts 130 VMs with 8 vCPUs each. They need more open files than the soft limit allows.
fn check_many_vms() -> Result<(), Failed> {
    let out = Command::new("prlimit")
        .args(["--nofile=1024:2000", env!("CARGO_BIN_EXE_kvm-collector")])
        .args(["guest", "--json", "--vms", "130", "--vcpus", "8", "-n", "3"])
        .output()?;
    let messages = String::from_utf8_lossy(&out.stderr).into_owned();
    check(out.status.success(), messages)?;
    let report: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let vms = report["vms"].as_array().map_or(0, Vec::len);
    check(vms == 130, format!("{vms} VMs"))?;

    let out = Command::new("prlimit")
        .args(["--nofile=100:200", env!("CARGO_BIN_EXE_kvm-collector")])
        .args(["guest", "--vms", "130", "--vcpus", "8", "-n", "3"])
        .output()?;
    let messages = String::from_utf8_lossy(&out.stderr).into_owned();
    // 130 VMs need 9 files each; the process itself needs some more.
    let names_limits =
        messages.contains("1234 open files") && messages.contains("the limit is 200");
    check(out.status.code() == Some(1) && names_limits, messages)
}

/// A `guest` process that waits for a line on its input before its vCPUs start.
struct WaitingGuest {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    ready: serde_json::Value,
}

impl WaitingGuest {
    fn start(args: &[&str]) -> Result<Self, Failed> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
            .args(["guest", "--json", "--wait-start"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut guest = Self {
            child,
            out,
            ready: serde_json::Value::Null,
        };
        guest.ready = serde_json::from_str(&guest.read_line()?)?;
        Ok(guest)
    }

    fn read_line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line)
    }

    fn start_vcpus(&mut self) -> Result<(), Failed> {
        Ok(self
            .child
            .stdin
            .as_mut()
            .ok_or("no input")?
            .write_all(b"\n")?)
    }

    fn tid(&self, vcpu: u32) -> u64 {
        let vcpus = &self.ready["ready"]["vms"][0]["vcpus"];
        vcpus[vcpu as usize]["tid"].as_u64().unwrap_or_default()
    }
}

impl Drop for WaitingGuest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn check(is_true: bool, message: impl Into<String>) -> Result<(), Failed> {
    if is_true {
        Ok(())
    } else {
        Err(message.into().into())
    }
}

/// Returns the error with its causes in one line.
fn describe(error: GuestError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
