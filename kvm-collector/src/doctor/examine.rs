//! Judging a host by its facts.

use std::path::Path;

use super::{Check, Diagnosis, Fired, ProbeError, Status};
use crate::host::clock::{self, UnknownOffset};
use crate::host::kernel::{self, Kernel, Lockdown};
use crate::host::kvm::{self, Device, Kvm, Presence};
use crate::host::namespaces::{self, ForeignIds};
use crate::host::privileges::{self, Barrier, Privileges};
use crate::host::tracefs::{self, Tracefs};

/// Everything the doctor knows without an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What this process may do.
    pub privileges: Privileges,
    /// Whether the ids in `/proc` are the kernel's.
    pub ids: Result<(), ForeignIds>,
    /// How far this process's clock is ahead of the kernel's.
    pub clock_offset_ns: Result<i64, UnknownOffset>,
    /// The kernel and its settings.
    pub kernel: Kernel,
    /// KVM.
    pub kvm: Kvm,
    /// The tracing files, if mounted.
    pub tracefs: Option<Tracefs>,
}

impl Facts {
    /// Reads the machine at `root`; the privileges and namespaces are always this process'.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        Self {
            privileges: privileges::read(),
            ids: namespaces::check_kernel_ids(),
            clock_offset_ns: clock::namespace_offset_ns(),
            kernel: kernel::read(root),
            kvm: kvm::read(root),
            tracefs: tracefs::read(root),
        }
    }
}

/// Judges the facts and what the experiment showed.
#[must_use]
pub fn examine(facts: &Facts, fired: &Result<Fired, ProbeError>) -> Diagnosis {
    let checks = vec![
        kernel(&facts.kernel),
        privileges(&facts.privileges, &facts.kernel),
        pid_namespace(facts.ids),
        time_namespace(facts.clock_offset_ns),
        lockdown(facts.kernel.lockdown),
        btf(facts.kernel.btf),
        tracefs(facts.tracefs.as_ref(), facts.kernel.lockdown),
        module(&facts.kvm),
        device(facts.kvm.device),
        events(facts.tracefs.as_ref()),
        firing(fired, &facts.kvm),
    ];
    Diagnosis {
        exits_fire: fired.as_ref().ok().map(Fired::exits),
        checks,
    }
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
    let who = if privileges.euid == 0 {
        "root".to_owned()
    } else {
        format!("user {}", privileges.euid)
    };
    if privileges.in_user_namespace {
        return Check::not_ok(
            "privileges",
            Status::Fail,
            format!("{who}, in a user namespace{settings}"),
            Barrier::UserNamespace.to_string(),
        );
    }
    let missing = privileges.missing();
    if missing.is_empty() {
        return Check::ok(
            "privileges",
            format!("{who}, may load and attach BPF programs{settings}"),
        );
    }
    let missing = missing.join(" and ");
    let advice = format!("run as root, or give it {missing} (and read access to tracefs)");
    Check::not_ok(
        "privileges",
        Status::Fail,
        format!("{who}, without {missing}{settings}"),
        advice,
    )
}

fn pid_namespace(ids: Result<(), ForeignIds>) -> Check {
    const NAME: &str = "pid namespace";
    match ids {
        Ok(()) => Check::ok(NAME, "/proc has the kernel's process ids"),
        Err(foreign) => Check::not_ok(
            NAME,
            Status::Warn,
            "-p, --tid, --vm and the names of VMs and threads cannot be used",
            foreign.to_string(),
        ),
    }
}

fn time_namespace(offset_ns: Result<i64, UnknownOffset>) -> Check {
    const NAME: &str = "time namespace";
    match offset_ns {
        Ok(0) => Check::ok(NAME, "the kernel's clock"),
        Ok(offset_ns) => Check::ok(
            NAME,
            format!(
                "its clock is {} s {} the kernel's; times here are the kernel's",
                offset_ns.unsigned_abs() / 1_000_000_000,
                if offset_ns > 0 { "ahead of" } else { "behind" }
            ),
        ),
        Err(unknown) => Check::not_ok(
            NAME,
            Status::Fail,
            "the clock's offset is not known",
            unknown.to_string(),
        ),
    }
}

fn lockdown(lockdown: Option<Lockdown>) -> Check {
    const NAME: &str = "lockdown";
    match lockdown {
        None => Check::ok(NAME, "the kernel does not say"),
        Some(Lockdown::None) => Check::ok(NAME, "none"),
        Some(Lockdown::Integrity) => Check::ok(NAME, "integrity: tracing is allowed"),
        Some(Lockdown::Confidentiality) => {
            let found = "confidentiality: reading the kernel by BPF and tracefs is closed";
            Check::not_ok(NAME, Status::Fail, found, Barrier::Lockdown.to_string())
        }
    }
}

fn btf(there: bool) -> Check {
    // The programs are classic tracepoint programs whose offsets come from the format files.
    Check::ok(
        "btf",
        if there {
            "/sys/kernel/btf/vmlinux"
        } else {
            "none; nothing here needs it"
        },
    )
}

fn tracefs(tracefs: Option<&Tracefs>, lockdown: Option<Lockdown>) -> Check {
    const NAME: &str = "tracefs";
    match tracefs {
        _ if lockdown == Some(Lockdown::Confidentiality) => {
            Check::not_ok(NAME, Status::Skip, "closed", "see lockdown")
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
            let advice = "run as root, or remount it for a group: mount -o remount,gid=GID,mode=0750 /sys/kernel/tracing";
            Check::not_ok(
                NAME,
                Status::Fail,
                format!("{}, but it may not be read", path.display()),
                advice,
            )
        }
        Some(Tracefs { path, .. }) => Check::ok(NAME, path.display().to_string()),
    }
}

fn module(kvm: &Kvm) -> Check {
    const NAME: &str = "kvm";
    let presence = |presence| match presence {
        Presence::Module => "module",
        Presence::BuiltIn => "built in",
    };
    match (kvm.core, &kvm.flavour) {
        (None, None) => {
            let advice = "modprobe kvm_amd or modprobe kvm_intel; if that fails, enable virtualization in the firmware";
            Check::not_ok(NAME, Status::Fail, "not loaded", advice)
        }
        (Some(core), None) if cfg!(target_arch = "x86_64") => {
            let advice = "modprobe kvm_amd or modprobe kvm_intel: without one there are no guests, and so no events";
            Check::not_ok(
                NAME,
                Status::Warn,
                format!("kvm ({}) without a vendor's part", presence(core)),
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
                "the built-in guest needs it: run as root, or as a member of the device's group";
            Check::not_ok(NAME, Status::Warn, "there, but not for this user", advice)
        }
        Device::Missing => {
            let advice = "the built-in guest needs it, and so does every other: load the kvm module for this processor";
            Check::not_ok(NAME, Status::Warn, "not there", advice)
        }
    }
}

fn events(tracefs: Option<&Tracefs>) -> Check {
    const NAME: &str = "events";
    match tracefs {
        None
        | Some(Tracefs {
            readable: false, ..
        }) => Check::not_ok(NAME, Status::Skip, "cannot be looked at", "see tracefs"),
        Some(Tracefs { kvm_events: 0, .. }) => {
            let advice = "they come and go with the kvm module: load it";
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

fn firing(fired: &Result<Fired, ProbeError>, kvm: &Kvm) -> Check {
    const NAME: &str = "exits fire";
    let fired = match fired {
        Ok(fired) => fired,
        Err(error) => {
            let advice =
                "not tried; what fires is known once the built-in guest can run and be traced";
            return Check::not_ok(NAME, Status::Skip, error.describe(), advice);
        }
    };
    let found = format!(
        "a guest made {} exits to user space: kvm_userspace_exit {}, kvm_exit {}, kvm_entry {}",
        fired.made, fired.userspace_exit, fired.exit, fired.entry
    );
    if fired.userspace_exit != fired.made {
        let advice = "the events do not match what the guest did: please report this, with `kvm-collector doctor --json`";
        return Check::not_ok(NAME, Status::Warn, found, advice);
    }
    if fired.exits() {
        return Check::ok(NAME, found);
    }
    let who = kvm
        .flavour
        .as_ref()
        .map_or("this KVM", |flavour| flavour.name.as_str());
    let advice = format!(
        "{who} runs guests without the two events that `exits` pairs, so it has nothing to show here; \
         `stat` and `trace` work with the events there are"
    );
    Check::not_ok(NAME, Status::Warn, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kvm::Flavour;

    fn good() -> Facts {
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

    fn statuses(facts: &Facts, fired: &Result<Fired, ProbeError>) -> Vec<(&'static str, Status)> {
        let not_ok = examine(facts, fired)
            .checks
            .into_iter()
            .filter(|check| check.status != Status::Ok);
        not_ok.map(|check| (check.name, check.status)).collect()
    }

    const ALL_FIRE: Result<Fired, ProbeError> = Ok(Fired {
        made: 5,
        userspace_exit: 5,
        exit: 9,
        entry: 9,
    });

    #[test]
    fn a_good_host_has_nothing_to_complain_of() {
        let diagnosis = examine(&good(), &ALL_FIRE);
        assert!(
            diagnosis.works() && diagnosis.exits_fire == Some(true),
            "{diagnosis:?}"
        );
        assert_eq!(statuses(&good(), &ALL_FIRE), []);
    }

    #[test]
    fn a_host_without_kvm_exit_works_but_is_warned() {
        let fired = Ok(Fired {
            made: 5,
            userspace_exit: 5,
            exit: 0,
            entry: 0,
        });
        let diagnosis = examine(&good(), &fired);
        assert!(
            diagnosis.works() && diagnosis.exits_fire == Some(false),
            "{diagnosis:?}"
        );
        assert_eq!(statuses(&good(), &fired), [("exits fire", Status::Warn)]);
    }

    #[test]
    fn a_container_is_said_to_be_one() {
        let check = |facts: &Facts, name| {
            let checks = examine(facts, &ALL_FIRE).checks;
            checks.into_iter().find(|check| check.name == name).unwrap()
        };
        let mut facts = good();
        facts.privileges.in_user_namespace = true;
        facts.clock_offset_ns = Ok(-86_400_500_000_000);
        // Capabilities of a user namespace are none here.
        let privileges = check(&facts, "privileges");
        assert_eq!(privileges.status, Status::Fail);
        assert!(privileges.advice.unwrap().contains("user namespace"));
        let time = check(&facts, "time namespace");
        assert_eq!(time.status, Status::Ok);
        assert!(time.found.contains("86400 s behind"), "{}", time.found);
        // Without tracefs, the reason is lockdown only where there is one.
        facts.tracefs = None;
        assert_eq!(check(&facts, "tracefs").status, Status::Fail);
    }

    #[test]
    fn each_cause_is_named_where_it_lies() {
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
        let diagnosis = examine(&nothing, &Err(ProbeError::NoTracefs));
        assert!(!diagnosis.works() && diagnosis.exits_fire.is_none());
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
        assert_eq!(statuses(&nothing, &Err(ProbeError::NoTracefs)), expected);
        assert!(
            diagnosis
                .checks
                .iter()
                .filter(|check| check.status != Status::Ok)
                .all(|check| check.advice.is_some())
        );
    }
}
