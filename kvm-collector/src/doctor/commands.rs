//! Tries what the measuring commands do: creates and maps their maps, loads and attaches their eBPF programs, starts and
//! stops them. It uses the code of the commands, so its result is that of the commands.

use super::{CommandCheck, Facts, FailedOption, Refusal, Status};
use crate::{
    host::privileges::Privileges,
    probe::ProbeError,
    source::{Live, LiveOptions},
    tracefs::Format,
};

/// A measuring command, with the options that need other programs or maps.
#[derive(Debug)]
pub struct MeasuringCommand {
    /// Name of the command.
    pub name: &'static str,
    /// The options. An option with a value is one string; the value follows a `=`.
    pub options: &'static [&'static str],
    /// Whether the command needs the events `kvm_exit` and `kvm_entry`.
    pub needs_exit_events: bool,
}

/// Returns what a command requests from the kernel with these options, or why it requests nothing.
pub type RequestWith<'a> = dyn Fn(&[&str]) -> Result<LiveOptions, Refusal> + 'a;

/// Tries a command: without options, with all of them, and if that fails with each of them. Detaches and unloads everything
/// afterwards.
#[must_use]
pub fn try_command(
    command: &MeasuringCommand,
    request: &RequestWith<'_>,
    facts: &Facts,
) -> CommandCheck {
    try_with(command, request, facts, &try_request)
}

/// As [`try_command`], with the function that tries a request.
fn try_with(
    command: &MeasuringCommand,
    request: &RequestWith<'_>,
    facts: &Facts,
    run: &dyn Fn(LiveOptions) -> Result<(), ProbeError>,
) -> CommandCheck {
    let outcome = |options: &[&str]| match request(options) {
        Ok(options) => run(options).map_err(|error| explain(&error, facts)),
        Err(refusal) => Err((Status::Fail, refusal)),
    };
    if let Err((status, refusal)) = outcome(&[]) {
        return CommandCheck::new(command.name, status, Some(refusal));
    }
    let mut check = CommandCheck {
        needs_exit_events: command.needs_exit_events,
        ..CommandCheck::new(command.name, Status::Ok, None)
    };
    if let Err((_, refusal)) = outcome(command.options) {
        let failed = command.options.iter().filter_map(|&option| {
            let (_, refusal) = outcome(&[option]).err()?;
            Some(FailedOption { option, refusal })
        });
        check.without = failed.collect();
        if check.without.is_empty() {
            let option = "all options together";
            check.without.push(FailedOption { option, refusal });
        }
    }
    if !check.without.is_empty() {
        check.status = Status::Warn;
    }
    check
}

/// Does what a command does until its first reading, with one event for each kind of program.
fn try_request(mut options: LiveOptions) -> Result<(), ProbeError> {
    keep_one_event_per_program(&mut options.events);
    Live::start(options)?.stop()
}

/// Removes events whose programs differ from that of another event only in numbers.
fn keep_one_event_per_program(events: &mut Vec<Format>) {
    let mut kinds = Vec::new();
    events.retain(|event| {
        let kind = (event.is_kvm_event(), event.has_dynamic_fields());
        let is_new = !kinds.contains(&kind);
        if is_new {
            kinds.push(kind);
        }
        is_new
    });
}

/// Returns the result for a command that cannot be tried, because tracefs cannot be read.
#[must_use]
pub fn command_without_tracefs(command: &'static str, facts: &Facts) -> CommandCheck {
    let refusal = Refusal {
        error: "the events are unknown, because tracefs cannot be read".to_owned(),
        advice: untried(&facts.privileges, "see tracefs"),
    };
    CommandCheck::new(command, Status::Skip, Some(refusal))
}

/// The oldest kernel on which the tests run. On arm64, the programs need Linux 5.18, and their error says so.
const OLDEST_KERNEL: &str = "5.10";

/// Returns what an error means for the command: [`Status::Skip`] if a missing privilege prevented the attempt.
fn explain(error: &ProbeError, facts: &Facts) -> (Status, Refusal) {
    let privileges = &facts.privileges;
    let is_privileged = privileges.missing().is_empty() && !privileges.in_user_namespace;
    let (status, advice) = match error {
        ProbeError::Privilege(_) if !is_privileged => (Status::Skip, untried(privileges, "")),
        ProbeError::Privilege(_) => (
            Status::Fail,
            privileges.remedy(facts.kernel.perf_event_paranoid),
        ),
        ProbeError::Mapping { .. } => (
            Status::Fail,
            format!(
                "use Linux {OLDEST_KERNEL} or later: this kernel cannot map the memory of eBPF maps, or there is not enough memory"
            ),
        ),
        ProbeError::Load(_) => (
            Status::Fail,
            format!(
                "use Linux {OLDEST_KERNEL} or later, with CONFIG_BPF_SYSCALL and enough free memory"
            ),
        ),
        ProbeError::Program { .. } => (
            Status::Fail,
            format!(
                "use Linux {OLDEST_KERNEL} or later; if it is, please report this with the output of `kvm-collector doctor --json`"
            ),
        ),
        _ => (
            Status::Fail,
            "please report this with the output of `kvm-collector doctor --json`".to_owned(),
        ),
    };
    let error = error.summary();
    (status, Refusal { error, advice })
}

/// Says what could not be tried, and which privilege that needs; `otherwise` if none is missing.
fn untried(privileges: &Privileges, otherwise: &str) -> String {
    let missing = privileges.missing();
    let advice = match (privileges.in_user_namespace, missing.as_slice()) {
        (true, _) => "run as root of the host".to_owned(),
        (false, []) => otherwise.to_owned(),
        (false, missing) => format!("run as root, or grant {}", missing.join(" and ")),
    };
    format!("not tried: create and map maps, load and attach programs; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(privileges: Privileges) -> Facts {
        Facts {
            privileges,
            ..Facts::read(std::path::Path::new("/nonexistent"))
        }
    }

    fn root() -> Facts {
        facts(Privileges {
            sys_admin: true,
            ..Privileges::default()
        })
    }

    const STAT: MeasuringCommand = MeasuringCommand {
        name: "stat",
        options: &["--per-vm", "--other"],
        needs_exit_events: false,
    };

    fn try_stat(
        facts: &Facts,
        run: &dyn Fn(LiveOptions) -> Result<(), ProbeError>,
    ) -> CommandCheck {
        let request = |options: &[&str]| {
            Ok(LiveOptions {
                per_vm: options.contains(&"--per-vm"),
                ..LiveOptions::default()
            })
        };
        try_with(&STAT, &request, facts, run)
    }

    fn mapping_error() -> ProbeError {
        ProbeError::Mapping {
            name: "ROWS",
            source: std::io::Error::from_raw_os_error(libc::EINVAL),
        }
    }

    #[test]
    fn a_refused_map_is_a_failure_with_the_error_of_the_kernel() {
        let check = try_stat(&root(), &|_| Err(mapping_error()));
        assert_eq!(check.status, Status::Fail);
        let refusal = check.refusal.unwrap();
        assert!(
            refusal.error.contains("`ROWS`") && refusal.error.contains("Invalid argument"),
            "{refusal:?}"
        );
        assert!(refusal.advice.contains(OLDEST_KERNEL), "{refusal:?}");
    }

    #[test]
    fn options_that_do_not_work_are_named() {
        let refuse = |options: LiveOptions| {
            if options.per_vm {
                Err(mapping_error())
            } else {
                Ok(())
            }
        };
        let check = try_stat(&root(), &refuse);
        let without: Vec<_> = check.without.iter().map(|it| it.option).collect();
        assert_eq!((check.status, without), (Status::Warn, vec!["--per-vm"]));
        assert_eq!(try_stat(&root(), &|_| Ok(())).status, Status::Ok);
    }

    #[test]
    fn missing_privileges_and_refusals_are_different() {
        let refuse = |_| {
            Err(ProbeError::Privilege(
                std::io::Error::from_raw_os_error(libc::EPERM).into(),
            ))
        };
        let check = try_stat(&facts(Privileges::default()), &refuse);
        assert_eq!(check.status, Status::Skip);
        assert!(
            check
                .refusal
                .unwrap()
                .advice
                .contains("CAP_BPF and CAP_PERFMON")
        );
        let check = try_stat(&root(), &refuse);
        assert_eq!(check.status, Status::Fail);
        assert!(
            check
                .refusal
                .unwrap()
                .error
                .contains("Operation not permitted")
        );
    }
}
