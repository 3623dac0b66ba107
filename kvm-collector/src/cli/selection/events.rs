//! The option that selects events.

use std::path::Path;

use clap::Args;

use super::GlobList;
use crate::cli::usage::UsageError;
use crate::tracefs::{EventsError, Format, Tracefs, events};

/// The option that selects events.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(in crate::cli) struct EventArgs {
    /// Select events by name, with globs: kvm_exit, 'kvm:*' [default: kvm:*; in a recording, all]
    ///
    /// A name can have a system prefix ('kvmmmu:*', sched:sched_switch). Events of systems other
    /// than kvm and kvmmmu are limited to vCPU threads.
    #[arg(short, long = "event", value_name = "GLOB")]
    events: Vec<GlobList>,
}

impl EventArgs {
    /// Returns the option with these patterns.
    pub(in crate::cli) fn with_patterns(patterns: &[String]) -> Self {
        Self {
            events: vec![GlobList(patterns.to_vec())],
        }
    }

    /// Returns the given patterns.
    pub(in crate::cli) fn given(&self) -> Vec<String> {
        GlobList::all(&self.events)
    }

    /// Reads the formats of the selected events from tracefs.
    pub(in crate::cli) fn formats(&self, tracefs: &Tracefs) -> anyhow::Result<Vec<Format>> {
        self.formats_with(tracefs, &[])
    }

    /// Reads the formats of the selected events and of the events in `required`, with their systems.
    pub(in crate::cli) fn formats_with(
        &self,
        tracefs: &Tracefs,
        required: &[&str],
    ) -> anyhow::Result<Vec<Format>> {
        let patterns = self.patterns(required, "kvm:*");
        let formats = tracefs
            .select_events(&patterns)?
            .iter()
            .map(|event| tracefs.read_format(event))
            .collect::<Result<_, _>>()?;
        Ok(formats)
    }

    /// Returns the patterns of the option, or `default`, and one for each event in `required`.
    fn patterns(&self, required: &[&str], default: &str) -> Vec<String> {
        let mut patterns = self.given();
        if patterns.is_empty() {
            patterns.push(default.to_owned());
        }
        patterns.extend(required.iter().map(|name| (*name).to_owned()));
        patterns
    }

    /// Returns the formats of the selected events of a recording and of the events in `required`, with their systems.
    ///
    /// # Errors
    /// When the recording has no event that matches a pattern.
    pub(in crate::cli) fn select_from(
        &self,
        formats: &[Format],
        required: &[&str],
        file: &Path,
    ) -> anyhow::Result<Vec<Format>> {
        let all: Vec<_> = formats.iter().map(Format::event_name).collect();
        let describe = |error| match error {
            EventsError::Unknown {
                pattern,
                suggestion,
            } => {
                let file = file.display();
                let message = format!(
                    "no event in {file} matches `{pattern}`{suggestion} (`kvm-collector list events -i {file}` shows all)"
                );
                UsageError(message).into()
            }
            other => anyhow::Error::from(other),
        };
        let selected = events::select(&all, &self.patterns(required, "*")).map_err(describe)?;
        let is_selected = |format: &&Format| selected.contains(&format.event_name());
        Ok(formats.iter().filter(is_selected).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(system: &str, name: &str) -> Format {
        let text = format!(
            "name: {name}\nID: 1\nformat:\n\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n\nprint fmt: \"%d\", REC->a\n"
        );
        Format::parse(system, &text).unwrap()
    }

    fn selected(patterns: &[&str]) -> Vec<String> {
        let recorded = [
            format("kvm", "kvm_exit"),
            format("kvm", "kvm_pio"),
            format("sched", "sched_switch"),
        ];
        let events = EventArgs {
            events: patterns.iter().map(|it| GlobList::from(*it)).collect(),
        };
        let selected = events
            .select_from(&recorded, &[], Path::new("kvm.data"))
            .unwrap();
        selected.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn all_events_of_a_recording_are_selected_by_default() {
        assert_eq!(selected(&[]), ["kvm_exit", "kvm_pio", "sched_switch"]);
        assert_eq!(selected(&["kvm:*"]), ["kvm_exit", "kvm_pio"]);
        assert_eq!(selected(&["sched_switch"]), ["sched_switch"]);
        assert_eq!(selected(&["kvm_{pio,exit}"]), ["kvm_exit", "kvm_pio"]);
        let lists = ["kvm_{pio,nothing},sched*", "kvm_exit"];
        assert_eq!(selected(&lists), ["kvm_exit", "kvm_pio", "sched_switch"]);
    }
}
