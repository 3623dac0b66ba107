//! Checks of what this process may do, and of its namespaces.

use super::{Check, Status};
use crate::host::{
    clock::UnknownOffset,
    kernel::Kernel,
    namespaces::ForeignIds,
    privileges::{Barrier, Privileges},
    sandbox::InForce,
};

pub(super) fn privileges(privileges: &Privileges, kernel: &Kernel) -> Check {
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

pub(super) fn sandbox(in_force: Option<&InForce>) -> Check {
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

pub(super) fn pid_namespace(ids: Result<(), ForeignIds>) -> Check {
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

pub(super) fn time_namespace(offset_ns: Result<i64, UnknownOffset>) -> Check {
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
