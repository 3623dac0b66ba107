//! Lists the trace events of the running kernel, and selects events by pattern.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use globset::GlobMatcher;

use super::{
    Format, FormatError, Tracefs, access_advice, did_you_mean, kernel_types::RunningKernel,
    mount::MOUNT_POINT, similar_names,
};
use crate::bounds::{GlobError, Letters, compile_glob, excerpt, read_system_file};

/// The event systems of KVM: `events/kvm` and, for x86's MMU, `events/kvmmmu`.
pub const KVM_SYSTEMS: [&str; 2] = ["kvm", "kvmmmu"];

/// The full name of a trace event, such as `kvm:kvm_exit`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName {
    /// The event system (the group in tracefs), such as `kvm` or `sched`.
    pub system: String,
    /// The name within the system, such as `kvm_exit`.
    pub name: String,
}

impl From<(&str, &str)> for EventName {
    fn from((system, name): (&str, &str)) -> Self {
        Self {
            system: system.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.system, self.name)
    }
}

/// Reasons why events cannot be listed, selected or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// The kernel has no KVM events.
    #[error(
        "this kernel has no KVM events (no {}): the kvm module is not loaded: run `modprobe kvm_amd` or `modprobe kvm_intel`",
        .0.display()
    )]
    KvmNotLoaded(PathBuf),
    /// A pattern is not a valid glob.
    #[error("`{pattern}` is not a valid event pattern")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// The error in it.
        #[source]
        source: GlobError,
    },
    /// A pattern matches no event.
    #[error(
        "no event matches `{pattern}`{suggestion} (`kvm-collector list events` shows all KVM events)"
    )]
    Unknown {
        /// The pattern.
        pattern: String,
        /// Similar names, as `: did you mean ...?`; empty if there are none.
        suggestion: String,
    },
    /// A pattern names an event system that the kernel does not have.
    #[error("no event matches `{pattern}`: this kernel has no event system `{system}`{suggestion}")]
    UnknownSystem {
        /// The pattern.
        pattern: String,
        /// The system that the pattern names.
        system: String,
        /// Similar names, as `: did you mean ...?`; empty if there are none.
        suggestion: String,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}{}", .path.display(), advice(.source))]
    Read {
        /// The path of the file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A format file cannot be parsed.
    #[error("cannot parse the format of `{event}`")]
    Format {
        /// The event that has this format.
        event: EventName,
        /// The parser's error.
        #[source]
        source: FormatError,
    },
}

impl Format {
    /// Whether the event belongs to one of [`KVM_SYSTEMS`].
    #[must_use]
    pub fn is_kvm_event(&self) -> bool {
        KVM_SYSTEMS.contains(&self.system.as_str())
    }

    /// Whether this is the format of the event `system:name`.
    #[must_use]
    pub fn is_event(&self, system: &str, name: &str) -> bool {
        self.system == system && self.name == name
    }

    /// Returns the full name of the event as text, such as `kvm:kvm_exit`.
    #[must_use]
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// Returns the full name of the event.
    #[must_use]
    pub fn event_name(&self) -> EventName {
        EventName {
            system: self.system.clone(),
            name: self.name.clone(),
        }
    }
}

/// Returns the advice for a file of tracefs that cannot be read.
fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(": {}", access_advice(Path::new(MOUNT_POINT))),
        _ => String::new(),
    }
}

impl Tracefs {
    /// Returns all KVM events of the running kernel, sorted.
    ///
    /// # Errors
    /// [`EventsError::KvmNotLoaded`] if there are none.
    pub fn kvm_events(&self) -> Result<Vec<EventName>, EventsError> {
        let mut events = Vec::new();
        for system in KVM_SYSTEMS {
            events.extend(self.system_events(system)?);
        }
        if events.is_empty() {
            return Err(EventsError::KvmNotLoaded(self.root().join("events/kvm")));
        }
        events.sort();
        Ok(events)
    }

    /// Returns the events that match any of the patterns (see [`select`]). A pattern selects among
    /// KVM's events, unless it names another system, like `sched:sched_switch` and `irq:*`.
    ///
    /// # Errors
    /// If a pattern matches no event, or there are no KVM events.
    pub fn select_events(&self, patterns: &[String]) -> Result<Vec<EventName>, EventsError> {
        let kvm_events = self.kvm_events()?;
        let (other_patterns, kvm_patterns): (Vec<_>, Vec<_>) = patterns
            .iter()
            .cloned()
            .partition(|it| non_kvm_system(it).is_some());
        let mut selected = select(&kvm_events, &kvm_patterns)?;
        for pattern in other_patterns {
            let system = non_kvm_system(&pattern).unwrap_or_default();
            let events = self.system_events(system)?;
            if events.is_empty() {
                return Err(self.unknown_system(&pattern, system));
            }
            for event in select(&events, &[pattern])? {
                if !selected.contains(&event) {
                    selected.push(event);
                }
            }
        }
        Ok(selected)
    }

    fn unknown_system(&self, pattern: &str, system: &str) -> EventsError {
        let entries = fs::read_dir(self.root().join("events"));
        let names: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let similar = similar_names(names.iter().map(String::as_str), system);
        EventsError::UnknownSystem {
            pattern: pattern.to_owned(),
            system: system.to_owned(),
            suggestion: did_you_mean(&similar),
        }
    }

    /// Returns the events of a system. Empty if there is no such system.
    fn system_events(&self, system: &str) -> Result<Vec<EventName>, EventsError> {
        let path = self.root().join("events").join(system);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(EventsError::Read { path, source }),
        };
        // Each event is a directory. The files `enable` and `filter` are not events.
        let directories = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut events: Vec<_> = directories
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| EventName::from((system, name.as_str())))
            .collect();
        events.sort();
        Ok(events)
    }

    /// Reads and parses an event's format file.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn read_format(&self, event: &EventName) -> Result<Format, EventsError> {
        let text = self.read_format_text(event)?;
        let types = Arc::new(RunningKernel);
        Format::parse_with_types(&event.system, &text, types).map_err(|source| {
            EventsError::Format {
                event: event.clone(),
                source,
            }
        })
    }

    /// Reads the text of an event's format file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_format_text(&self, event: &EventName) -> Result<String, EventsError> {
        let EventName { system, name } = event;
        let path = self
            .root()
            .join("events")
            .join(system)
            .join(name)
            .join("format");
        read_system_file(&path).map_err(|source| EventsError::Read { path, source })
    }
}

/// Returns the events that match any of the patterns, in the order of `events`. A pattern is a glob
/// for a name (`kvm_exit`, `kvm_p?o`) or for a system and a name (`kvm:kvm_exit`, `kvmmmu:*`).
///
/// # Errors
/// If a pattern matches no event.
pub fn select(events: &[EventName], patterns: &[String]) -> Result<Vec<EventName>, EventsError> {
    let mut selected = vec![false; events.len()];
    for pattern in patterns {
        let matches = matcher(pattern)?;
        let mut has_match = false;
        for (event, is_selected) in events.iter().zip(&mut selected) {
            if matches(event) {
                has_match = true;
                *is_selected = true;
            }
        }
        if !has_match {
            return Err(EventsError::Unknown {
                pattern: pattern.clone(),
                suggestion: suggestion(events, pattern),
            });
        }
    }
    Ok(events
        .iter()
        .zip(selected)
        .filter(|(_, is_selected)| *is_selected)
        .map(|(event, _)| event.clone())
        .collect())
}

/// Returns the system that a pattern names, unless it is one of KVM's: `sched` for
/// `sched:sched_switch`. A glob is not accepted as a system, because `*:*` would select all events of
/// the kernel.
fn non_kvm_system(pattern: &str) -> Option<&str> {
    let (system, _) = pattern.split_once(':')?;
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
    (system.chars().all(is_name) && !KVM_SYSTEMS.contains(&system)).then_some(system)
}

fn matcher(pattern: &str) -> Result<impl Fn(&EventName) -> bool, EventsError> {
    let glob = |text: &str| -> Result<GlobMatcher, EventsError> {
        compile_glob(text, Letters::CaseSensitive).map_err(|source| EventsError::BadPattern {
            pattern: excerpt(pattern).into_owned(),
            source,
        })
    };
    let (system, name) = match pattern.split_once(':') {
        Some((system, name)) => (Some(glob(system)?), glob(name)?),
        None => (None, glob(pattern)?),
    };
    Ok(move |event: &EventName| {
        system
            .as_ref()
            .is_none_or(|system| system.is_match(&event.system))
            && name.is_match(&event.name)
    })
}

/// Returns event names similar to the pattern, as `: did you mean ...?`.
fn suggestion(events: &[EventName], pattern: &str) -> String {
    let name = pattern.rsplit(':').next().unwrap_or(pattern);
    let similar = similar_names(events.iter().map(|event| event.name.as_str()), name);
    let full_names: Vec<_> = similar
        .into_iter()
        .filter_map(|name| events.iter().find(|event| event.name == name))
        .map(ToString::to_string)
        .collect();
    let full_names: Vec<_> = full_names.iter().map(String::as_str).collect();
    did_you_mean(&full_names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<EventName> {
        [
            "kvm:kvm_entry",
            "kvm:kvm_exit",
            "kvm:vcpu_match_mmio",
            "kvmmmu:kvm_mmu_get_page",
        ]
        .map(|event| {
            let (system, name) = event.split_once(':').unwrap();
            EventName {
                system: system.into(),
                name: name.into(),
            }
        })
        .to_vec()
    }

    fn selected(patterns: &[&str]) -> String {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        match select(&events(), &patterns) {
            Ok(events) => events
                .iter()
                .map(|event| event.name.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn patterns_select_by_system_and_name() {
        assert_eq!(selected(&["kvm:*"]), "kvm_entry kvm_exit vcpu_match_mmio");
        assert_eq!(selected(&["kvm_exit"]), "kvm_exit");
        assert_eq!(
            selected(&["kvm:kvm_exit", "kvmmmu:*"]),
            "kvm_exit kvm_mmu_get_page"
        );
        assert_eq!(
            selected(&["*"]),
            "kvm_entry kvm_exit vcpu_match_mmio kvm_mmu_get_page"
        );
        assert_eq!(selected(&["kvm_e{ntry,xit}"]), "kvm_entry kvm_exit");
    }

    #[test]
    fn errors_for_unknown_events_suggest_similar_names() {
        assert_eq!(
            selected(&["kvm_exti"]),
            "error: no event matches `kvm_exti`: did you mean kvm:kvm_exit or kvm:kvm_entry? (`kvm-collector list events` shows all KVM events)"
        );
        assert!(selected(&["kvm_e[xit"]).contains("not a valid event pattern"));
    }

    #[test]
    fn other_systems_must_be_named_without_wildcards() {
        assert_eq!(non_kvm_system("sched:sched_switch"), Some("sched"));
        assert_eq!(non_kvm_system("irq:*"), Some("irq"));
        for pattern in [
            "sched_switch",
            "*",
            "*:*",
            "s*:sched_switch",
            "kvm:*",
            "kvmmmu:*",
        ] {
            assert_eq!(non_kvm_system(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn error_without_kvm_events_suggests_modprobe() {
        let root = std::env::temp_dir();
        let error = Tracefs::at(root.join("no-such-tracefs"))
            .kvm_events()
            .unwrap_err();
        assert!(error.to_string().contains("modprobe kvm_amd"), "{error}");
    }
}
