//! Errors of loading and attaching eBPF programs and of reading their maps.

use std::io;

use aya::{EbpfError, maps::MapError, programs::ProgramError, util::KernelVersion};

use super::request::PlanError;
use crate::host;

/// An error of the eBPF programs or their maps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The collector was built without the eBPF object.
    #[error(
        "this kvm-collector was built without its eBPF object: run `cargo xtask build-ebpf`, then build it again"
    )]
    NoObject,
    /// The request cannot be satisfied.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The process lacks the privilege.
    #[error(
        "the kernel does not let this process load eBPF programs: {}",
        host::privileges::remedy()
    )]
    Privilege(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object cannot be parsed.
    #[error(
        "the eBPF object is damaged: run `cargo xtask build-ebpf`, then build kvm-collector again"
    )]
    Object(#[from] object::Error),
    /// The object was rejected.
    #[error("cannot load the eBPF object")]
    Load(#[source] EbpfError),
    /// A program was rejected.
    #[error("cannot load the eBPF program for `{event}`")]
    Program {
        /// The program's event.
        event: String,
        /// The kernel's or aya's error.
        #[source]
        source: ProgramError,
    },
    /// A program could not be attached.
    #[error("cannot attach to the tracepoint `{event}`: was the kvm module unloaded?")]
    Attach {
        /// The event.
        event: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map could not be read.
    #[error("cannot read the eBPF map `{name}`")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// The cause.
        #[source]
        source: MapError,
    },
    /// The kernel cannot wait until running programs have ended.
    #[error("cannot wait until the eBPF programs have ended")]
    Wait(#[source] io::Error),
    /// The processor reorders writes, and the kernel does not support the instructions that prevent it.
    #[error(
        "Linux {0} cannot compile the eBPF instructions that keep the order of writes on this processor: use Linux 5.18 or later"
    )]
    Unordered(KernelVersion),
    /// A map could not be mapped into memory.
    #[error("cannot map the eBPF map `{name}` into memory")]
    Mapping {
        /// Name of the map.
        name: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The object lacks a program or map.
    #[error(
        "the eBPF object has no `{0}`: run `cargo xtask build-ebpf`, then build kvm-collector again"
    )]
    Missing(String),
}

impl ProbeError {
    /// Returns the message and its causes in one line: the step that failed and the kernel's error. Of a verifier's log, it
    /// has only the last line, which names the reason.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut next: Option<&(dyn std::error::Error + 'static)> = match self {
            // The advice in its message is that of a command that ends.
            Self::Privilege(source) => Some(source.as_ref()),
            other => Some(other),
        };
        let mut text = String::new();
        while let Some(error) = next {
            let message = match error.downcast_ref() {
                Some(ProgramError::LoadError { verifier_log, .. }) => {
                    match last_line(&verifier_log.to_string()) {
                        Some(line) => format!("the kernel refuses the program: {line}"),
                        None => "the kernel refuses the program".to_owned(),
                    }
                }
                _ => error.to_string(),
            };
            next = error.source();
            // Some messages contain that of their cause.
            if text.ends_with(&message) {
                continue;
            }
            if !text.is_empty() {
                text += ": ";
            }
            text += &message;
        }
        // Messages of the kernel and of aya may have several lines.
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Last line of a verifier's log, without the statistics that follow the reason.
fn last_line(log: &str) -> Option<&str> {
    let is_statistics = |line: &&str| {
        ["processed ", "verification time ", "stack depth "]
            .iter()
            .any(|start| line.starts_with(start))
    };
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !is_statistics(line))
}

/// Returns the error for a program that was not loaded.
pub(super) fn not_loaded(event: &str, source: ProgramError) -> ProbeError {
    if is_permission_error(&source) {
        return ProbeError::Privilege(source.into());
    }
    ProbeError::Program {
        event: event.to_owned(),
        source,
    }
}

/// Returns the error for a program that was not attached.
pub(super) fn not_attached(
    event: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> ProbeError {
    if is_permission_error(&source) {
        return ProbeError::Privilege(source.into());
    }
    ProbeError::Attach {
        event: event.to_owned(),
        source: source.into(),
    }
}

/// Returns whether the cause is EPERM or EACCES. A rejection by the verifier is EACCES too, but has a log.
pub(super) fn is_permission_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref()
            && !verifier_log.to_string().trim().is_empty()
        {
            return false;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_the_verifier_is_before_its_statistics() {
        let log = "0: R1=ctx()\n1: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\nstack depth 0\n";
        assert_eq!(last_line(log), Some("R0 !read_ok"));
        assert_eq!(last_line("\n"), None);
    }

    #[test]
    fn a_summary_has_the_step_and_the_cause() {
        let error = ProbeError::Mapping {
            name: "ROWS",
            source: io::Error::from_raw_os_error(libc::EINVAL),
        };
        assert_eq!(
            error.summary(),
            "cannot map the eBPF map `ROWS` into memory: Invalid argument (os error 22)"
        );
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(
            ProbeError::Privilege(refused.into()).summary(),
            "Operation not permitted (os error 1)"
        );
    }
}
