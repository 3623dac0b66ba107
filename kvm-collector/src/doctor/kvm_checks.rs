//! Checks of KVM and its events.

use super::{Check, EventCounts, Status, TestGuestError};
use crate::host::{
    kvm::{Device, Kvm, Presence},
    tracefs::Tracefs,
};

pub(super) fn kvm_modules(kvm: &Kvm) -> Check {
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

pub(super) fn device(device: Device) -> Check {
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

pub(super) fn events(tracefs: Option<&Tracefs>) -> Check {
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

pub(super) fn exit_events(counts: &Result<EventCounts, TestGuestError>, kvm: &Kvm) -> Check {
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
