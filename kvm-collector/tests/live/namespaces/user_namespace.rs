//! The collector runs in a user namespace.

use libtest_mimic::Failed;

use super::collector_with;
use crate::{check::ensure, container::command_in_namespaces, process::run_command};

pub(super) fn user_namespace() -> Result<(), Failed> {
    for args in [
        &["stat"][..],
        &["exits"],
        &["trace"],
        &["record", "-o", "/dev/null"],
    ] {
        let command = collector_with(args, &["-d", "100ms"]);
        run_command(&mut command_in_namespaces("user", &command)?)?
            .expect_code(1)?
            .expect_message(&["user namespace", "root of the host"])?;
    }
    let doctor = run_command(&mut command_in_namespaces(
        "user",
        &collector_with(&["doctor"], &[]),
    )?)?
    .expect_code(1)?;
    ensure(doctor.stdout.contains("in a user namespace"), || {
        doctor.stdout
    })
}
