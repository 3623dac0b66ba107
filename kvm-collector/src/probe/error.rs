//! Errors of loading and attaching eBPF programs and of reading their maps.

use std::io;

use aya::{EbpfError, maps::MapError, programs::ProgramError, util::KernelVersion};

use super::request::PlanError;
use crate::host;

/// Why nothing could be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Built without the kernel half.
    #[error(
        "this kvm-collector was built without its eBPF object: run `cargo xtask build-ebpf`, then build it again"
    )]
    NoObject,
    /// The request cannot be met.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel does not allow it.
    #[error(
        "the kernel does not let this process load eBPF programs: {}",
        host::privileges::remedy()
    )]
    Privilege(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object is none.
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
        /// The event it is for.
        event: String,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The event is not there, or may not be watched.
    #[error("cannot attach to the tracepoint `{event}`: was the kvm module unloaded?")]
    Attach {
        /// The event.
        event: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map could not be read.
    #[error("cannot read the eBPF map `{name}`")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// The kernel does not say when programs have ended.
    #[error("cannot wait until the eBPF programs have ended")]
    Wait(#[source] io::Error),
    /// The processor reorders writes, and the kernel cannot keep the order of what the programs write.
    #[error(
        "Linux {0} cannot compile the eBPF instructions that keep the order of writes on this processor: use Linux 5.18 or later"
    )]
    Unordered(KernelVersion),
    /// A map could not be made part of this process's memory.
    #[error("cannot map the eBPF map `{name}` into memory")]
    Mapping {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object is not the one this program was written for.
    #[error(
        "the eBPF object has no `{0}`: run `cargo xtask build-ebpf`, then build kvm-collector again"
    )]
    Missing(String),
}

/// Why an event's program was not loaded.
pub(super) fn not_loaded(event: &str, source: ProgramError) -> ProbeError {
    if refused(&source) {
        return ProbeError::Privilege(source.into());
    }
    ProbeError::Program {
        event: event.to_owned(),
        source,
    }
}

/// Why an event's program was not attached.
pub(super) fn not_attached(
    event: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> ProbeError {
    if refused(&source) {
        return ProbeError::Privilege(source.into());
    }
    ProbeError::Attach {
        event: event.to_owned(),
        source: source.into(),
    }
}

/// Did the kernel say EPERM or EACCES anywhere below? (A rejection by the verifier is EACCES too,
/// but comes with a log.)
pub(super) fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
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
