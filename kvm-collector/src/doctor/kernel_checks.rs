//! Checks of the kernel and of tracefs.

use super::{Check, Status};
use crate::{
    host::{
        kernel::{Kernel, Lockdown},
        privileges::Barrier,
        tracefs::Tracefs,
    },
    tracefs::access_advice,
};

pub(super) fn kernel(kernel: &Kernel) -> Check {
    Check::ok(
        "kernel",
        format!("{} on {}", kernel.release, std::env::consts::ARCH),
    )
}

pub(super) fn lockdown(lockdown: Option<Lockdown>) -> Check {
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

pub(super) fn btf(is_available: bool) -> Check {
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

pub(super) fn tracefs(tracefs: Option<&Tracefs>, lockdown: Option<Lockdown>) -> Check {
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
