//! Restricts the system calls with seccomp.
//!
//! The lists have what the commands were measured to use (`strace`) and what the C library uses in its place. Other system calls
//! fail with EPERM. Among them are those that run programs, trace processes, create sockets, mount file systems, load eBPF
//! programs or kernel modules, and change users.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::status::Layer;

/// The system calls that every command uses, with any arguments.
const COMMON: &[c_long] = &[
    // Files. Landlock restricts which.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // The pair of sockets through which tokio receives signals.
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_socketpair,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Signals that arrive.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // The process and the clocks.
    libc::SYS_capget,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_umask,
    libc::SYS_uname,
];

/// The older variants of system calls above, which arm64 does not have.
#[cfg(target_arch = "x86_64")]
const COMMON_OLDER: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_OLDER: &[c_long] = &[];

/// What a measurement of the running kernel uses as well: it waits for its command, and starts the process that detaches programs.
const MEASUREMENT: &[c_long] = &[
    libc::SYS_chdir,
    libc::SYS_close_range,
    libc::SYS_pidfd_open,
    libc::SYS_setsid,
    libc::SYS_shutdown,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// The requests of `ioctl` that commands use: for the terminal and for descriptors. Others could put text into the terminal's
/// input, for example.
const IOCTLS: &[libc::c_ulong] = &[
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TCSETSF,
    libc::TCGETS2,
    libc::TCSETS2,
    libc::TCSETSW2,
    libc::TCSETSF2,
    libc::TCFLSH,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
];

/// The commands of `bpf` that are used after the programs are attached: those of maps, and information about programs.
const BPF_COMMANDS: &[u64] = &[
    1,  // BPF_MAP_LOOKUP_ELEM
    2,  // BPF_MAP_UPDATE_ELEM
    3,  // BPF_MAP_DELETE_ELEM
    4,  // BPF_MAP_GET_NEXT_KEY
    15, // BPF_OBJ_GET_INFO_BY_FD
];

/// `BPF_MAP_CREATE`, for kernels without `MEMBARRIER_CMD_GLOBAL`; see [`crate::probe`].
const BPF_MAP_CREATE: u64 = 0;

/// The request of `prctl` by which rustix reads the auxiliary vector.
const PR_GET_AUXV: libc::c_int = 0x4155_5856;

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
