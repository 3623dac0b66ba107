//! The kernel is locked down.

use std::fs;

use libtest_mimic::Failed;

use crate::{check::ensure, process::run_collector};

pub(super) fn lockdown() -> Result<(), Failed> {
    const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
    if !fs::exists(LOCKDOWN)? {
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "securityfs",
            "/sys/kernel/security",
            "securityfs",
            none,
            None,
        )?;
    }
    fs::write(LOCKDOWN, "confidentiality")?;
    let words = ["locked down", LOCKDOWN, "lockdown=integrity"];
    for args in [
        &["stat", "-d", "100ms"][..],
        &["exits", "-d", "100ms"],
        &["trace", "-d", "100ms"],
        &["record", "-d", "100ms", "-o", "/dev/null"],
        &["top", "--once"],
        &["list"],
    ] {
        run_collector(args)?
            .expect_code(1)?
            .expect_message(&words)?;
    }
    let doctor = run_collector(&["doctor"])?.expect_code(1)?;
    for word in words {
        ensure(doctor.stdout.contains(word), || doctor.stdout.clone())?;
    }
    Ok(())
}
