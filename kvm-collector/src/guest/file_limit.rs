//! Limit of open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{GuestError, Plan};

/// Raises the soft limit of open files to what the plan needs: one file per VM and per vCPU.
///
/// # Errors
/// If the hard limit is lower.
pub(super) fn raise_file_limit(plan: &Plan) -> Result<(), GuestError> {
    let needed = needed_files(plan);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let too_many = |limit| GuestError::TooManyFiles {
        vms: plan.vms,
        vcpus: plan.vcpus,
        needed,
        limit,
    };
    if let Some(maximum) = limit.maximum
        && maximum < needed
    {
        return Err(too_many(maximum));
    }
    let raised = Rlimit {
        current: Some(needed),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| too_many(limit.current.unwrap_or(needed)))
}

/// Returns the number of open files that the plan needs, with a reserve for the rest of the process.
fn needed_files(plan: &Plan) -> u64 {
    const RESERVE: u64 = 64;
    u64::from(plan.vms) * (1 + u64::from(plan.vcpus)) + RESERVE
}
