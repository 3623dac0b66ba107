//! Programs that do nothing. They show the minimum cost of any program on an event.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{Ebpf, EbpfLoader, programs::Program};

use super::{
    ProbeError,
    error::{not_attached, not_loaded},
    load::OBJECT,
    tracepoint,
};
use crate::tracefs::Format;

/// A program that does nothing, attached to events. It is detached when dropped.
pub struct EmptyPrograms {
    _ebpf: Ebpf,
    _links: Vec<OwnedFd>,
}

impl std::fmt::Debug for EmptyPrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmptyPrograms").finish_non_exhaustive()
    }
}

impl EmptyPrograms {
    /// Attaches the program to events: with `raw` as a raw tracepoint program, otherwise as a classic one.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn attach(events: &[Format], raw: bool) -> Result<Self, ProbeError> {
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .map_max_entries("AYA_LOGS", 4096)
            .load(OBJECT)
            .map_err(ProbeError::Load)?;
        let name = if raw { "empty_raw" } else { "empty" };
        let mut links = Vec::new();
        let all = "all events";
        match ebpf.program_mut(name) {
            Some(Program::TracePoint(classic)) => {
                classic.load().map_err(|error| not_loaded(all, error))?;
                let fd = classic.fd().map_err(|error| not_loaded(all, error))?;
                for event in events {
                    let link = tracepoint::attach(fd.as_fd(), event.id)
                        .map_err(|error| not_attached(&event.event_name().to_string(), error))?;
                    links.push(link);
                }
            }
            Some(Program::RawTracePoint(raw)) => {
                raw.load().map_err(|error| not_loaded(all, error))?;
                for event in events {
                    raw.attach(&event.name)
                        .map_err(|error| not_attached(&event.event_name().to_string(), error))?;
                }
            }
            _ => return Err(ProbeError::Missing(name.to_owned())),
        }
        Ok(Self {
            _ebpf: ebpf,
            _links: links,
        })
    }
}
