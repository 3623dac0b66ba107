//! Restricts the system calls with seccomp.
//!
//! System calls that are not in the lists of `system_calls.rs` fail with EPERM. Among them are those that run programs, trace processes, create sockets, mount file systems, load eBPF
//! programs or kernel modules, and change users.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::{
    status::Layer,
    system_calls::{
        BPF_COMMANDS, BPF_MAP_CREATE, COMMON, COMMON_OLDER, IOCTLS, MEASUREMENT, PR_GET_AUXV,
    },
};

/// What a command does that not all commands do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Profile {
    /// It measures the running kernel.
    pub(super) is_measurement: bool,
    /// It inspects other processes.
    pub(super) inspects_others: bool,
    /// It may have to end a command.
    pub(super) ends_command: bool,
    /// It stops its process group.
    pub(super) stops_group: bool,
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Restricts all threads of this process.
pub(super) fn restrict(profile: Profile) -> Layer {
    match install(profile) {
        Ok(number) => Layer::On(format!("{number} system calls allowed")),
        Err(error) => Layer::Off(error),
    }
}

fn install(profile: Profile) -> Result<usize, String> {
    let rules = rules(profile).map_err(|error| error.to_string())?;
    let number = rules.len();
    let missing = u32::try_from(libc::ENOSYS).unwrap_or_default();
    let forbidden = u32::try_from(libc::EPERM).unwrap_or_default();
    // The flags of `clone3` are in memory, where a filter cannot check them. If it is missing, the C library uses `clone`.
    let without_clone3 = compile(
        Rules::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(missing),
    )?;
    let filter = compile(rules, SeccompAction::Errno(forbidden), SeccompAction::Allow)?;
    for filter in [&without_clone3, &filter] {
        seccompiler::apply_filter_all_threads(filter).map_err(|error| describe(&error))?;
    }
    Ok(number)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = std::env::consts::ARCH.try_into();
    let filter = arch.and_then(|arch| SeccompFilter::new(rules, otherwise, action, arch));
    let program = filter.and_then(TryInto::try_into);
    program.map_err(|error| error.to_string())
}

fn describe(error: &seccompiler::Error) -> String {
    use seccompiler::Error;
    match error {
        Error::Seccomp(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            "the kernel does not have it".to_owned()
        }
        error => error.to_string(),
    }
}

/// Returns the allowed system calls. One without rules is allowed with any arguments.
fn rules(profile: Profile) -> Result<Rules, seccompiler::BackendError> {
    let mut allowed: Vec<_> = [COMMON, COMMON_OLDER].concat();
    // The main filter allows what the first one refuses.
    allowed.push(libc::SYS_clone3);
    let mut rules = Rules::new();
    rules.insert(libc::SYS_ioctl, one_of(1, IOCTLS.iter().copied())?);
    rules.insert(
        libc::SYS_prctl,
        one_of(
            0,
            [libc::PR_SET_NAME, libc::PR_SET_VMA, PR_GET_AUXV].map(bits),
        )?,
    );
    // Memory must not become executable.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![without_bits(2, bits(libc::PROT_EXEC))?]);
    }
    let namespaces = libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWUTS;
    rules.insert(libc::SYS_clone, vec![without_bits(0, bits(namespaces))?]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, one_of(0, [own])?);
    // 0 is the process group.
    let group = profile.stops_group.then_some(0);
    rules.insert(libc::SYS_kill, one_of(0, group.into_iter().chain([own]))?);
    if profile.is_measurement {
        allowed.extend(MEASUREMENT);
        let commands = BPF_COMMANDS.iter().copied().chain([BPF_MAP_CREATE]);
        rules.insert(libc::SYS_bpf, one_of(0, commands)?);
    }
    if profile.ends_command {
        allowed.push(libc::SYS_kill);
    }
    if profile.inspects_others {
        allowed.push(libc::SYS_kcmp);
    }
    rules.extend(allowed.into_iter().map(|it| (it, Vec::new())));
    Ok(rules)
}

/// Converts a constant of the C library to the bits of an argument.
fn bits(constant: libc::c_int) -> u64 {
    constant.cast_unsigned().into()
}

/// Returns rules that are met if an argument has one of these values.
fn one_of(
    argument: u8,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let rule = |value| rule(argument, SeccompCmpOp::Eq, value);
    values.into_iter().map(rule).collect()
}

/// Returns a rule that is met if an argument has none of these bits.
fn without_bits(argument: u8, bits: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    rule(argument, SeccompCmpOp::MaskedEq(bits), 0)
}

/// The kernel uses the lower half of these arguments.
fn rule(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_all_architectures_compile() {
        let all = Profile {
            is_measurement: true,
            inspects_others: true,
            ends_command: true,
            stops_group: true,
        };
        for profile in [Profile::default(), all] {
            for arch in ["x86_64", "aarch64"] {
                let filter = SeccompFilter::new(
                    rules(profile).unwrap(),
                    SeccompAction::Errno(1),
                    SeccompAction::Allow,
                    arch.try_into().unwrap(),
                );
                let program: BpfProgram = filter.unwrap().try_into().unwrap();
                assert!(program.len() < 4096, "{}", program.len());
            }
        }
    }

    #[test]
    fn dangerous_system_calls_are_not_allowed() {
        let rules = rules(Profile {
            is_measurement: true,
            inspects_others: true,
            ends_command: true,
            stops_group: true,
        })
        .unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_mount,
            libc::SYS_setuid,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_perf_event_open,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }
}
