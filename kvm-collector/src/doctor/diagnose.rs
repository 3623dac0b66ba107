//! Turns facts about the host and the result of the probe into checks.

use super::{Check, CommandCheck, Diagnosis, EventCounts, Facts, Refusal, Status, TestGuestError};
use crate::host::clock::UnknownOffset;
use crate::host::kernel::{Kernel, Lockdown};
use crate::host::kvm::{Device, Kvm, Presence};
use crate::host::namespaces::ForeignIds;
use crate::host::privileges::{Barrier, Privileges};
use crate::host::sandbox::InForce;
use crate::host::tracefs::Tracefs;
use crate::tracefs::access_advice;

/// Builds the diagnosis from the facts about the host, the event counts of the test guest, the sandbox that is in force, and the
/// results for commands.
#[must_use]
pub fn diagnose(
    facts: &Facts,
    counts: &Result<EventCounts, TestGuestError>,
    in_force: Option<&InForce>,
    mut commands: Vec<CommandCheck>,
) -> Diagnosis {
    let checks = vec![
        kernel(&facts.kernel),
        privileges(&facts.privileges, &facts.kernel),
        sandbox(in_force),
        pid_namespace(facts.ids),
        time_namespace(facts.clock_offset_ns),
        lockdown(facts.kernel.lockdown),
        btf(facts.kernel.btf),
        tracefs(facts.tracefs.as_ref(), facts.kernel.lockdown),
        kvm_modules(&facts.kvm),
        device(facts.kvm.device),
        events(facts.tracefs.as_ref()),
        exit_events(counts, &facts.kvm),
    ];
    let exits_fire = counts.as_ref().ok().map(EventCounts::exit_events_fire);
    if exits_fire != Some(true) {
        let is_known = exits_fire.is_some();
        for command in &mut commands {
            refuse_without_exit_events(command, is_known);
        }
    }
    Diagnosis::new(exits_fire, checks, commands)
}

/// Changes the result of a command that needs events which do not fire, or of which that is unknown.
fn refuse_without_exit_events(command: &mut CommandCheck, is_known: bool) {
    if !command.needs_exit_events || !command.works() {
        return;
    }
    let (status, error) = match is_known {
        true => (
            Status::Fail,
            "its programs work, but kvm_exit and kvm_entry do not fire",
        ),
        false => (
            Status::Skip,
            "its programs work, but it is unknown whether kvm_exit and kvm_entry fire",
        ),
    };
    command.status = status;
    command.refusal = Some(Refusal {
        error: error.to_owned(),
        advice: "see exits fire".to_owned(),
    });
}

fn kernel(kernel: &Kernel) -> Check {
    Check::ok(
        "kernel",
        format!("{} on {}", kernel.release, std::env::consts::ARCH),
    )
}

fn privileges(privileges: &Privileges, kernel: &Kernel) -> Check {
    let setting = |name, value: Option<i32>| {
        value
            .map(|value| format!(", {name}={value}"))
            .unwrap_or_default()
    };
    let settings = [
        setting(
            "unprivileged_bpf_disabled",
            kernel.unprivileged_bpf_disabled,
        ),
        setting("perf_event_paranoid", kernel.perf_event_paranoid),
    ]
    .concat();
    let user = if privileges.euid == 0 {
        "root".to_owned()
    } else {
        format!("user {}", privileges.euid)
    };
    if privileges.in_user_namespace {
        return Check::not_ok(
            "privileges",
            Status::Fail,
            format!("{user}, in a user namespace{settings}"),
            Barrier::UserNamespace.to_string(),
        );
    }
    let missing = privileges.missing();
    if missing.is_empty() {
        return Check::ok(
            "privileges",
            format!("{user}, can load and attach BPF programs{settings}"),
        );
    }
    let missing = missing.join(" and ");
    let advice =
        format!("run as root, or grant {missing} to kvm-collector (and read access to tracefs)");
    Check::not_ok(
        "privileges",
        Status::Fail,
        format!("{user}, without {missing}{settings}"),
        advice,
    )
}

fn sandbox(in_force: Option<&InForce>) -> Check {
    const NAME: &str = "sandbox";
    match in_force {
        None => Check::ok(NAME, "not tried, because of --no-sandbox"),
        Some(all) if all.is_complete() => Check::ok(NAME, all.to_text()),
        Some(part) => Check::not_ok(
            NAME,
            Status::Warn,
            part.to_text(),
            "commands work, but parse recordings and guests' data with more rights than they need; see docs/security.md",
        ),
    }
}

fn pid_namespace(ids: Result<(), ForeignIds>) -> Check {
    const NAME: &str = "pid namespace";
    match ids {
        Ok(()) => Check::ok(NAME, "ids in /proc are the kernel's process ids"),
        Err(foreign) => Check::not_ok(
            NAME,
            Status::Warn,
            "selection by -p, --tid and --vm, and names of VMs and threads, are not available",
            foreign.to_string(),
        ),
    }
}

fn time_namespace(offset_ns: Result<i64, UnknownOffset>) -> Check {
    const NAME: &str = "time namespace";
    match offset_ns {
        Ok(0) => Check::ok(NAME, "this process has the same clock as the kernel"),
        Ok(offset_ns) => Check::ok(
            NAME,
            format!(
                "the clock of this process is {} s {} the kernel's; reports use the kernel's clock",
                offset_ns.unsigned_abs() / 1_000_000_000,
                if offset_ns > 0 { "ahead of" } else { "behind" }
            ),
        ),
        Err(unknown) => Check::not_ok(
            NAME,
            Status::Fail,
            "the offset of this process's clock is unknown",
            unknown.to_string(),
        ),
    }
}

fn lockdown(lockdown: Option<Lockdown>) -> Check {
    const NAME: &str = "lockdown";
    match lockdown {
        None => Check::ok(NAME, "unknown: the kernel does not report it"),
        Some(Lockdown::None) => Check::ok(NAME, "none"),
        Some(Lockdown::Integrity) => Check::ok(NAME, "integrity: tracing is allowed"),
        Some(Lockdown::Confidentiality) => {
            let found = "confidentiality: the kernel blocks BPF tracing and tracefs";
            Check::not_ok(NAME, Status::Fail, found, Barrier::Lockdown.to_string())
        }
    }
}

fn btf(is_available: bool) -> Check {
    // The programs are classic tracepoint programs. They get field offsets from the format files.
    Check::ok(
        "btf",
        if is_available {
            "/sys/kernel/btf/vmlinux"
        } else {
            "not available; kvm-collector does not need it"
        },
    )
}

fn tracefs(tracefs: Option<&Tracefs>, lockdown: Option<Lockdown>) -> Check {
    const NAME: &str = "tracefs";
    match tracefs {
        _ if lockdown == Some(Lockdown::Confidentiality) => {
            Check::not_ok(NAME, Status::Skip, "blocked by lockdown", "see lockdown")
        }
        None => {
            let advice = "mount -t tracefs none /sys/kernel/tracing";
            Check::not_ok(NAME, Status::Fail, "not mounted", advice)
        }
        Some(Tracefs {
            path,
            readable: false,
            ..
        }) => {
            let advice = access_advice(path);
            Check::not_ok(
                NAME,
                Status::Fail,
                format!("{}: no read permission", path.display()),
                advice,
            )
        }
        Some(Tracefs { path, .. }) => Check::ok(NAME, path.display().to_string()),
    }
}

fn kvm_modules(kvm: &Kvm) -> Check {
    const NAME: &str = "kvm";
    let presence = |presence| match presence {
        Presence::Module => "module",
        Presence::BuiltIn => "built in",
    };
    match (kvm.core, &kvm.flavour) {
        (None, None) => {
            let advice = "run `modprobe kvm_amd` or `modprobe kvm_intel`; if that fails, enable virtualization in the firmware";
            Check::not_ok(NAME, Status::Fail, "not loaded", advice)
        }
        (Some(core), None) if cfg!(target_arch = "x86_64") => {
            let advice = "run `modprobe kvm_amd` or `modprobe kvm_intel`: guests cannot run without one of them";
            Check::not_ok(
                NAME,
                Status::Warn,
                format!(
                    "kvm ({}), but neither kvm_amd nor kvm_intel",
                    presence(core)
                ),
                advice,
            )
        }
        (core, flavour) => {
            let mut found: Vec<_> = core
                .map(|core| format!("kvm ({})", presence(core)))
                .into_iter()
                .collect();
            found.extend(flavour.as_ref().map(|flavour| {
                let nested = flavour
                    .nested
                    .map(|on| if on { ", nested on" } else { ", nested off" });
                format!(
                    "{} ({}{})",
                    flavour.name,
                    presence(flavour.presence),
                    nested.unwrap_or_default()
                )
            }));
            Check::ok(NAME, found.join(" and "))
        }
    }
}

fn device(device: Device) -> Check {
    const NAME: &str = "/dev/kvm";
    match device {
        Device::Usable => Check::ok(NAME, "usable"),
        Device::Forbidden => {
            let advice =
                "to use the built-in guest, run as root or as a member of the device's group";
            Check::not_ok(NAME, Status::Warn, "no permission", advice)
        }
        Device::Other => {
            let advice = "the file is not KVM's device: in a container, use the host's device (`docker run --device /dev/kvm`)";
            Check::not_ok(NAME, Status::Warn, "does not answer as KVM", advice)
        }
        Device::Missing => {
            let advice = "load the KVM module for this processor: VMs, including the built-in guest, need /dev/kvm";
            Check::not_ok(NAME, Status::Warn, "does not exist", advice)
        }
    }
}

fn events(tracefs: Option<&Tracefs>) -> Check {
    const NAME: &str = "events";
    match tracefs {
        None
        | Some(Tracefs {
            readable: false, ..
        }) => Check::not_ok(NAME, Status::Skip, "cannot read tracefs", "see tracefs"),
        Some(Tracefs { kvm_events: 0, .. }) => {
            let advice = "load the kvm module, which provides them";
            Check::not_ok(NAME, Status::Fail, "no kvm events", advice)
        }
        Some(tracefs) => Check::ok(
            NAME,
            format!(
                "{} kvm, {} kvmmmu",
                tracefs.kvm_events, tracefs.kvmmmu_events
            ),
        ),
    }
}

fn exit_events(counts: &Result<EventCounts, TestGuestError>, kvm: &Kvm) -> Check {
    const NAME: &str = "exits fire";
    let counts = match counts {
        Ok(counts) => counts,
        Err(error) => {
            let advice = "fix this problem, then run `kvm-collector doctor` again: the built-in guest shows which events fire";
            return Check::not_ok(NAME, Status::Skip, error.message_with_causes(), advice);
        }
    };
    let found = format!(
        "a test guest caused {} exits to user space; events: kvm_userspace_exit {}, kvm_exit {}, kvm_entry {}",
        counts.expected_userspace_exits,
        counts.kvm_userspace_exit,
        counts.kvm_exit,
        counts.kvm_entry
    );
    if counts.kvm_userspace_exit != counts.expected_userspace_exits {
        let advice = "the number of kvm_userspace_exit events is wrong: please report this with the output of `kvm-collector doctor --json`";
        return Check::not_ok(NAME, Status::Warn, found, advice);
    }
    if counts.exit_events_fire() {
        return Check::ok(NAME, found);
    }
    let kvm_name = kvm
        .flavour
        .as_ref()
        .map_or("this KVM", |flavour| flavour.name.as_str());
    let advice = format!(
        "{kvm_name} does not emit kvm_exit and kvm_entry, which `exits` needs; \
         use `stat` and `trace` with other events"
    );
    Check::not_ok(NAME, Status::Warn, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::write_text, guest::GuestError, host::kvm::Flavour};

    fn healthy_host() -> Facts {
        let flavour = Flavour {
            name: "kvm_amd".to_owned(),
            presence: Presence::Module,
            nested: Some(true),
        };
        Facts {
            privileges: Privileges {
                sys_admin: true,
                ..Privileges::default()
            },
            ids: Ok(()),
            clock_offset_ns: Ok(0),
            kernel: Kernel {
                release: "6.1".to_owned(),
                btf: true,
                ..Kernel::default()
            },
            kvm: Kvm {
                device: Device::Usable,
                core: Some(Presence::Module),
                flavour: Some(flavour),
            },
            tracefs: Some(Tracefs {
                path: "/t".into(),
                readable: true,
                kvm_events: 70,
                kvmmmu_events: 15,
            }),
        }
    }

    fn works(command: &'static str, needs_exit_events: bool) -> CommandCheck {
        CommandCheck {
            command,
            status: Status::Ok,
            refusal: None,
            without: Vec::new(),
            needs_exit_events,
        }
    }

    fn diagnose(facts: &Facts, counts: &Result<EventCounts, TestGuestError>) -> Diagnosis {
        let commands = vec![works("stat", false), works("exits", true)];
        super::diagnose(facts, counts, None, commands)
    }

    #[test]
    fn a_host_where_no_command_works_is_not_usable() {
        let mut stat = works("stat", false);
        stat.status = Status::Fail;
        let diagnosis = super::diagnose(&healthy_host(), &ALL_EVENTS_FIRE, None, vec![stat]);
        assert!(!diagnosis.usable, "{diagnosis:?}");
    }

    fn statuses(
        facts: &Facts,
        counts: &Result<EventCounts, TestGuestError>,
    ) -> Vec<(&'static str, Status)> {
        let not_ok = diagnose(facts, counts)
            .checks
            .into_iter()
            .filter(|check| check.status != Status::Ok);
        not_ok.map(|check| (check.name, check.status)).collect()
    }

    const ALL_EVENTS_FIRE: Result<EventCounts, TestGuestError> = Ok(EventCounts {
        expected_userspace_exits: 5,
        kvm_userspace_exit: 5,
        kvm_exit: 9,
        kvm_entry: 9,
    });

    #[test]
    fn healthy_host_passes_all_checks() {
        let diagnosis = diagnose(&healthy_host(), &ALL_EVENTS_FIRE);
        assert!(
            diagnosis.usable && diagnosis.exits_fire == Some(true),
            "{diagnosis:?}"
        );
        assert_eq!(statuses(&healthy_host(), &ALL_EVENTS_FIRE), []);
    }

    #[test]
    fn host_without_kvm_exit_is_usable_with_a_warning() {
        let counts = Ok(EventCounts {
            expected_userspace_exits: 5,
            kvm_userspace_exit: 5,
            kvm_exit: 0,
            kvm_entry: 0,
        });
        let diagnosis = diagnose(&healthy_host(), &counts);
        assert!(
            diagnosis.usable && diagnosis.exits_fire == Some(false),
            "{diagnosis:?}"
        );
        assert_eq!(
            statuses(&healthy_host(), &counts),
            [("exits fire", Status::Warn)]
        );
        let commands = diagnosis.commands.iter().map(|it| it.status);
        assert!(commands.eq([Status::Ok, Status::Fail]));
    }

    #[test]
    fn a_host_where_no_guest_runs_may_lack_exit_events() {
        let diagnosis = diagnose(
            &healthy_host(),
            &Err(TestGuestError::Guest(GuestError::NoKvm)),
        );
        assert!(
            diagnosis.usable && diagnosis.exits_fire.is_none(),
            "{diagnosis:?}"
        );
        let commands = diagnosis.commands.iter().map(|it| it.status);
        assert!(commands.eq([Status::Ok, Status::Skip]));
        let error = &diagnosis.commands[1].refusal.as_ref().unwrap().error;
        assert!(error.contains("unknown whether kvm_exit"), "{error}");
        let mut text = Vec::new();
        write_text(&mut text, &diagnosis, None).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.ends_with("can work here: stat. It is unknown whether these work: exits.\n"),
            "{text}"
        );
    }

    #[test]
    fn container_checks_name_their_namespace() {
        let check = |facts: &Facts, name| {
            let checks = diagnose(facts, &ALL_EVENTS_FIRE).checks;
            checks.into_iter().find(|check| check.name == name).unwrap()
        };
        let mut facts = healthy_host();
        facts.privileges.in_user_namespace = true;
        facts.clock_offset_ns = Ok(-86_400_500_000_000);
        // Capabilities in a user namespace do not count.
        let privileges = check(&facts, "privileges");
        assert_eq!(privileges.status, Status::Fail);
        assert!(privileges.advice.unwrap().contains("user namespace"));
        let time = check(&facts, "time namespace");
        assert_eq!(time.status, Status::Ok);
        assert!(time.found.contains("86400 s behind"), "{}", time.found);
        // tracefs is missing although the kernel is not locked down.
        facts.tracefs = None;
        assert_eq!(check(&facts, "tracefs").status, Status::Fail);
    }

    #[test]
    fn each_problem_is_reported_by_its_own_check() {
        let nothing = Facts {
            privileges: Privileges {
                euid: 1000,
                ..Privileges::default()
            },
            ids: Err(ForeignIds::ChildNamespace),
            clock_offset_ns: Err(UnknownOffset),
            kernel: Kernel {
                lockdown: Some(Lockdown::Confidentiality),
                ..Kernel::default()
            },
            kvm: Kvm {
                device: Device::Missing,
                core: None,
                flavour: None,
            },
            tracefs: None,
        };
        let diagnosis = diagnose(&nothing, &Err(TestGuestError::NoTracefs));
        assert!(!diagnosis.usable && diagnosis.exits_fire.is_none());
        let expected = [
            ("privileges", Status::Fail),
            ("pid namespace", Status::Warn),
            ("time namespace", Status::Fail),
            ("lockdown", Status::Fail),
            ("tracefs", Status::Skip),
            ("kvm", Status::Fail),
            ("/dev/kvm", Status::Warn),
            ("events", Status::Skip),
            ("exits fire", Status::Skip),
        ];
        assert_eq!(
            statuses(&nothing, &Err(TestGuestError::NoTracefs)),
            expected
        );
        assert!(
            diagnosis
                .checks
                .iter()
                .filter(|check| check.status != Status::Ok)
                .all(|check| check.advice.is_some())
        );
    }
}
