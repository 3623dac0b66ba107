//! The built-in guest on the host's own KVM: it runs to its end in every way it offers, and is found while it waits.
//!
//! Without a usable /dev/kvm the tests that need it are reported as ignored, not as passed.

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
    let mut trials = vec![
        Trial::test("counts_of_all_vcpus_of_all_vms", all_vcpus),
        Trial::test("interrupted_runs_are_counted_apart", interrupted),
        Trial::test(
            "a_waiting_guest_is_found_by_name_and_thread",
            found_while_waiting,
        ),
        Trial::test("a_guest_whose_starter_dies_ends", starter_dies),
        Trial::test("user_spaces_time_is_what_it_slept", slept),
        Trial::test("a_timer_is_waited_for", waited_for_the_timer),
        Trial::test("threads_are_bound_to_their_cpus", bound),
        Trial::test("a_cpu_that_is_not_there_is_named", no_such_cpu),
        Trial::test("many_vms_have_room_for_their_files", many_vms),
    ];
    for mode in [Mode::Real, Mode::Long] {
        for kind in Kind::ALL {
            let impossible = kind == Kind::Hypercall && Isa::detect().is_none();
            let trial = Trial::test(format!("{mode}_{kind}"), move || one_kind(mode, kind));
            trials.push(trial.with_ignored_flag(impossible));
        }
    }
    let trials = trials
        .into_iter()
        .map(|trial| {
            let ignored = no_kvm || trial.has_ignored_flag();
            trial.with_ignored_flag(ignored)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn one_kind(mode: Mode, kind: Kind) -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![kind],
        exits: 20,
        mode,
        ..Plan::default()
    };
    let made = guest::run(&plan).map_err(chain)?;
    let mut expected = BTreeMap::from([("KVM_EXIT_IO", 2)]);
    if let Some(reason) = kind.userspace_exit() {
        *expected.entry(reason).or_default() += 20;
    }
    let vcpu = &made.vms[0].vcpus[0];
    let reasons = &vcpu.userspace_exits;
    check(
        *reasons == expected,
        format!("{reasons:?} instead of {expected:?}"),
    )?;
    check(
        vcpu.userspace_exits_total == vcpu.eintr + expected.values().sum::<u64>(),
        "the total is not the sum",
    )
}

fn all_vcpus() -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![Kind::Io, Kind::PageFault, Kind::Hlt],
        exits: 100,
        vms: 2,
        vcpus: 3,
        ..Plan::default()
    };
    let made = guest::run(&plan).map_err(chain)?;
    check(
        made.vms.len() == 2 && made.vms.iter().all(|vm| vm.vcpus.len() == 3),
        "not 2 VMs of 3 vCPUs",
    )?;
    let expected = BTreeMap::from([("KVM_EXIT_HLT", 100), ("KVM_EXIT_IO", 102)]);
    let all_alike = made
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .all(|vcpu| vcpu.userspace_exits == expected);
    check(all_alike, format!("{made:?}"))
}

/// Stopping and continuing a process takes its threads out of the guest.
fn interrupted() -> Result<(), Failed> {
    let mut guest = Waiting::start(&["--kind", "cpuid,io", "-n", "30000"])?;
    guest.go()?;
    for signal in ["-STOP", "-CONT"].repeat(5) {
        std::thread::sleep(Duration::from_millis(20));
        Command::new("kill")
            .args([signal, &guest.child.id().to_string()])
            .status()?;
    }
    let report: serde_json::Value = serde_json::from_str(&guest.line()?)?;
    let vcpu = &report["vms"][0]["vcpus"][0];
    let total = vcpu["userspace_exits_total"].as_u64();
    let eintr = vcpu["eintr"].as_u64().ok_or("no eintr")?;
    check(
        vcpu["userspace_exits"]["KVM_EXIT_IO"] == 30_002,
        vcpu.to_string(),
    )?;
    check(total == Some(30_002 + eintr), vcpu.to_string())
}

fn found_while_waiting() -> Result<(), Failed> {
    let guest = Waiting::start(&["--name", "a,b", "--vcpus", "2"])?;
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

fn starter_dies() -> Result<(), Failed> {
    let mut guest = Waiting::start(&[])?;
    drop(guest.child.stdin.take());
    let status = guest.child.wait()?;
    check(status.code() == Some(1), format!("{status}"))
}

fn slept() -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![Kind::Io, Kind::Cpuid],
        exits: 20,
        sleep: Duration::from_millis(1),
        ..Plan::default()
    };
    let times = guest::run(&plan).map_err(chain)?.vms[0].vcpus[0].time_breakdown;
    // The exit at the beginning sleeps too; the one at the end does not, nor does any of the kernel's.
    check(times.userspace_ns >= 21_000_000, format!("{times:?}"))?;
    check(times.elapsed_ns >= times.userspace_ns, format!("{times:?}"))?;
    // A sleeper uses no CPU.
    check(times.cpu_ns < times.elapsed_ns, format!("{times:?}"))
}

fn waited_for_the_timer() -> Result<(), Failed> {
    let plan = Plan {
        kinds: vec![Kind::Timer],
        exits: 20,
        timer: Duration::from_millis(2),
        ..Plan::default()
    };
    let times = guest::run(&plan).map_err(chain)?.vms[0].vcpus[0].time_breakdown;
    // In the kernel, that is.
    let kernel_ns = times.elapsed_ns - times.userspace_ns;
    check(kernel_ns >= 40_000_000, format!("{times:?}"))
}

fn bound() -> Result<(), Failed> {
    let guest = Waiting::start(&["--cpu", "0", "--vcpus", "2"])?;
    for vcpu in 0..2 {
        let (pid, tid) = (guest.child.id(), guest.tid(vcpu));
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"))?;
        check(status.contains("Cpus_allowed_list:\t0\n"), status)?;
    }
    Ok(())
}

fn no_such_cpu() -> Result<(), Failed> {
    // No machine has the first; the second no set of CPUs has room for.
    for cpu in [1023, u32::MAX] {
        let plan = Plan {
            cpus: vec![cpu],
            ..Plan::default()
        };
        let error = chain(guest::run(&plan).err().ok_or("it ran")?);
        check(error.contains(&format!("CPU {cpu}")), error)?;
    }
    Ok(())
}

/// 130 VMs with 8 vCPUs each are more files than a process may have open unless it asks.
fn many_vms() -> Result<(), Failed> {
    let out = Command::new("prlimit")
        .args(["--nofile=1024:2000", env!("CARGO_BIN_EXE_kvm-collector")])
        .args(["guest", "--json", "--vms", "130", "--vcpus", "8", "-n", "3"])
        .output()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    check(out.status.success(), said)?;
    let report: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let vms = report["vms"].as_array().map_or(0, Vec::len);
    check(vms == 130, format!("{vms} VMs"))?;

    let out = Command::new("prlimit")
        .args(["--nofile=100:200", env!("CARGO_BIN_EXE_kvm-collector")])
        .args(["guest", "--vms", "130", "--vcpus", "8", "-n", "3"])
        .output()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    // 130 x 9, and some for the rest.
    let clear = said.contains("1234 open files") && said.contains("the limit is 200");
    check(out.status.code() == Some(1) && clear, said)
}

/// A guest in a process of its own that waits for its start.
struct Waiting {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    ready: serde_json::Value,
}

impl Waiting {
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
        guest.ready = serde_json::from_str(&guest.line()?)?;
        Ok(guest)
    }

    fn line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line)
    }

    fn go(&mut self) -> Result<(), Failed> {
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

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn check(holds: bool, otherwise: impl Into<String>) -> Result<(), Failed> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}

/// An error with its causes, in one line.
fn chain(error: GuestError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
