//! Which events there are, and choosing among them.

use std::{fmt, fs, io, path::PathBuf};

use globset::{Glob, GlobMatcher};

use super::{Format, FormatError, Tracefs};

/// The event systems of KVM: `events/kvm` and, for x86's MMU, `events/kvmmmu`.
pub const SYSTEMS: [&str; 2] = ["kvm", "kvmmmu"];

/// An event, as `kvm:kvm_exit`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName {
    /// `kvm` or `kvmmmu`; or another one, as `sched`.
    pub system: String,
    /// `kvm_exit`, say.
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

/// Why events cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// No KVM events at all.
    #[error(
        "this kernel has no KVM events (no {}): the kvm module is not loaded: run `modprobe kvm_amd` or `modprobe kvm_intel`",
        .0.display()
    )]
    KvmNotLoaded(PathBuf),
    /// A pattern that is no pattern.
    #[error("`{pattern}` is no event pattern")]
    BadPattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// A pattern that matches nothing.
    #[error(
        "no event matches `{pattern}`: this kernel has {count} {of} events{similar}; `kvm-collector list events` shows those of KVM"
    )]
    Unknown {
        /// What was given.
        pattern: String,
        /// How many events there are,
        count: usize,
        /// `KVM`'s or of another system.
        of: String,
        /// `, among them ...`, or nothing.
        similar: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A format file that cannot be understood.
    #[error("cannot understand the format of `{event}`")]
    Format {
        /// The event.
        event: EventName,
        /// Why.
        #[source]
        source: FormatError,
    },
}

impl Format {
    /// Is it of one of KVM's own systems?
    #[must_use]
    pub fn is_of_kvm(&self) -> bool {
        SYSTEMS.contains(&self.system.as_str())
    }

    /// Is it this event's?
    #[must_use]
    pub fn is(&self, system: &str, name: &str) -> bool {
        self.system == system && self.name == name
    }

    /// Which event's format it is.
    #[must_use]
    pub fn event(&self) -> EventName {
        EventName {
            system: self.system.clone(),
            name: self.name.clone(),
        }
    }
}

impl Tracefs {
    /// All KVM events of the running kernel, sorted.
    ///
    /// # Errors
    /// [`EventsError::KvmNotLoaded`] if there are none.
    pub fn events(&self) -> Result<Vec<EventName>, EventsError> {
        let mut events = Vec::new();
        for system in SYSTEMS {
            events.extend(self.events_of(system)?);
        }
        if events.is_empty() {
            return Err(EventsError::KvmNotLoaded(self.root().join("events/kvm")));
        }
        events.sort();
        Ok(events)
    }

    /// The events that match any of the patterns, as [`select`] has it. A pattern is about KVM's events, unless it names
    /// another system: `sched:sched_switch`, `irq:*`.
    ///
    /// # Errors
    /// When a pattern matches none, or there are no KVM events.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<EventName>, EventsError> {
        let own = self.events()?;
        let (others, of_kvm): (Vec<_>, Vec<_>) = patterns
            .iter()
            .cloned()
            .partition(|it| other_system(it).is_some());
        let mut chosen = select(&own, &of_kvm)?;
        for pattern in others {
            let there = self.events_of(other_system(&pattern).unwrap_or_default())?;
            for event in select(&there, &[pattern])? {
                if !chosen.contains(&event) {
                    chosen.push(event);
                }
            }
        }
        Ok(chosen)
    }

    /// The events of a system; none if there is no such system.
    fn events_of(&self, system: &str) -> Result<Vec<EventName>, EventsError> {
        let path = self.root().join("events").join(system);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(EventsError::Read { path, source }),
        };
        // Beside the events' folders lie `enable` and `filter`.
        let folders = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut events: Vec<_> = folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| EventName::from((system, name.as_str())))
            .collect();
        events.sort();
        Ok(events)
    }

    /// Reads and understands an event's format file.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn format(&self, event: &EventName) -> Result<Format, EventsError> {
        let text = self.format_text(event)?;
        Format::parse(&event.system, &text).map_err(|source| EventsError::Format {
            event: event.clone(),
            source,
        })
    }

    /// An event's format file as it is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn format_text(&self, event: &EventName) -> Result<String, EventsError> {
        let EventName { system, name } = event;
        let path = self
            .root()
            .join("events")
            .join(system)
            .join(name)
            .join("format");
        fs::read_to_string(&path).map_err(|source| EventsError::Read { path, source })
    }
}

/// The events that match any of the patterns (`kvm_exit`, `kvm:kvm_exit`, `kvmmmu:*`, `kvm_p?o`),
/// in the order of `events`.
///
/// # Errors
/// When a pattern matches none.
pub fn select(events: &[EventName], patterns: &[String]) -> Result<Vec<EventName>, EventsError> {
    let mut chosen = vec![false; events.len()];
    for pattern in patterns {
        let matches = matcher(pattern)?;
        let mut any = false;
        for (event, chosen) in events.iter().zip(&mut chosen) {
            if matches(event) {
                any = true;
                *chosen = true;
            }
        }
        if !any {
            return Err(EventsError::Unknown {
                pattern: pattern.clone(),
                count: events.len(),
                of: other_system(pattern).unwrap_or("KVM").to_owned(),
                similar: similar(events, pattern),
            });
        }
    }
    Ok(events
        .iter()
        .zip(chosen)
        .filter(|(_, chosen)| *chosen)
        .map(|(event, _)| event.clone())
        .collect())
}

/// The system that a pattern names, if it is none of KVM's: `sched` of `sched:sched_switch`. It has to be a name, as `*`
/// would mean all of the kernel's events.
fn other_system(pattern: &str) -> Option<&str> {
    let (system, _) = pattern.split_once(':')?;
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
    (system.chars().all(is_name) && !SYSTEMS.contains(&system)).then_some(system)
}

fn matcher(pattern: &str) -> Result<impl Fn(&EventName) -> bool, EventsError> {
    let glob = |text: &str| -> Result<GlobMatcher, EventsError> {
        Glob::new(text)
            .map(|glob| glob.compile_matcher())
            .map_err(|source| EventsError::BadPattern {
                pattern: pattern.to_owned(),
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

/// The names most like what was asked for, as words for a message.
fn similar(events: &[EventName], pattern: &str) -> String {
    /// Below this, names have little in common but `kvm_`.
    const ALIKE: f64 = 0.88;
    let asked = pattern.rsplit(':').next().unwrap_or(pattern);
    let mut alike: Vec<_> = events
        .iter()
        .map(|event| (strsim::jaro_winkler(&event.name, asked), event))
        .filter(|(likeness, event)| *likeness >= ALIKE || event.name.contains(asked))
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = alike
        .iter()
        .take(3)
        .map(|(_, event)| event.to_string())
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(", among them {}", names.join(", "))
    }
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

    fn chosen(patterns: &[&str]) -> String {
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
    fn patterns_choose_by_system_and_name() {
        assert_eq!(chosen(&["kvm:*"]), "kvm_entry kvm_exit vcpu_match_mmio");
        assert_eq!(chosen(&["kvm_exit"]), "kvm_exit");
        assert_eq!(
            chosen(&["kvm:kvm_exit", "kvmmmu:*"]),
            "kvm_exit kvm_mmu_get_page"
        );
        assert_eq!(
            chosen(&["*"]),
            "kvm_entry kvm_exit vcpu_match_mmio kvm_mmu_get_page"
        );
        assert_eq!(chosen(&["kvm_e{ntry,xit}"]), "kvm_entry kvm_exit");
    }

    #[test]
    fn an_unknown_event_is_an_error_that_helps() {
        assert_eq!(
            chosen(&["kvm_exti"]),
            "error: no event matches `kvm_exti`: this kernel has 4 KVM events, among them kvm:kvm_exit, kvm:kvm_entry; `kvm-collector list events` shows those of KVM"
        );
        assert!(chosen(&["kvm_e[xit"]).contains("no event pattern"));
    }

    #[test]
    fn other_systems_are_chosen_by_name_only() {
        assert_eq!(other_system("sched:sched_switch"), Some("sched"));
        assert_eq!(other_system("irq:*"), Some("irq"));
        for pattern in [
            "sched_switch",
            "*",
            "*:*",
            "s*:sched_switch",
            "kvm:*",
            "kvmmmu:*",
        ] {
            assert_eq!(other_system(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_kernel_without_kvm_says_what_to_do() {
        let root = std::env::temp_dir();
        let error = Tracefs::at(root.join("no-such-tracefs"))
            .events()
            .unwrap_err();
        assert!(error.to_string().contains("modprobe kvm_amd"), "{error}");
    }
}
