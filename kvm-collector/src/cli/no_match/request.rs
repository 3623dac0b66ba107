//! What was requested but did not occur, and the texts that several messages share.

use std::path::Path;

use crate::cli::selection::{EventArgs, ReasonArgs, TargetArgs};
use crate::{
    bounds::join_first,
    format::units::{count, plural},
    model::EventKind,
    outside_text::OutsideText,
    tracefs::Format,
};

/// What was requested but did not occur.
#[derive(Debug)]
pub(in crate::cli) enum Requested {
    /// Events of any name.
    Events,
    /// VM exits.
    Exits,
    /// Events of a kind during VM exits.
    Kind(EventKind),
}

impl Requested {
    /// Returns the name in plural.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Events => "events".to_owned(),
            Self::Exits => "VM exits".to_owned(),
            Self::Kind(kind) => format!("events of kind {}", kind.name),
        }
    }
}

/// What was requested, and the options that select.
#[derive(Debug)]
pub(in crate::cli) struct Request<'a> {
    pub(in crate::cli) requested: Requested,
    pub(in crate::cli) target: &'a TargetArgs,
    pub(in crate::cli) reasons: Option<&'a ReasonArgs>,
    pub(in crate::cli) events: Option<&'a EventArgs>,
}

impl Request<'_> {
    /// Returns all options that select, as they are given.
    pub(super) fn option_texts(&self) -> Vec<String> {
        let target = self.target.options().into_iter().map(|it| it.text);
        let reasons = self.reasons.and_then(ReasonArgs::text);
        let events = self.events.and_then(EventArgs::text);
        target.chain(reasons).chain(events).collect()
    }
}

/// A recording, and what is selected of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct RecordingSelection<'a> {
    pub(in crate::cli) path: &'a Path,
    /// Codes of the selected exit reasons; `None` for all.
    pub(in crate::cli) codes: Option<&'a [u32]>,
    /// Formats of the selected events, if events are selected.
    pub(in crate::cli) formats: &'a [Format],
    /// Whether only a part of the time is selected.
    pub(in crate::cli) is_part: bool,
}

/// Maximum width of a name with its explanation in a message.
const MAX_WIDTH: usize = 120;

/// Maximum number of names in a message.
const MAX_NAMES: usize = 5;

/// Returns the first names and whether there are more: `npf, hlt, ...`.
pub(in crate::cli) fn list(names: &[String]) -> String {
    let shown = |name: &String| OutsideText::new(name).shortened(MAX_WIDTH).into_owned();
    match names {
        [] => "none".to_owned(),
        names => join_first(names.iter().map(shown), MAX_NAMES),
    }
}

/// Returns the most frequent names with their counts: `npf (1,945), hlt (12)`. Counts of equal names are added.
pub(super) fn list_by_count(counts: impl IntoIterator<Item = (String, u64)>) -> String {
    let mut by_name = std::collections::BTreeMap::<String, u64>::new();
    for (name, number) in counts {
        let sum = by_name.entry(name).or_default();
        *sum = sum.saturating_add(number);
    }
    let mut sorted: Vec<_> = by_name.into_iter().collect();
    sorted.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let names = sorted.into_iter();
    let names: Vec<_> = names
        .map(|(name, it)| format!("{} ({})", OutsideText::new(&name).as_name(), count(it)))
        .collect();
    list(&names)
}

/// Says which exit reasons occurred but are not selected; `None` if there are none.
pub(super) fn explain_reasons(
    request: &Request<'_>,
    unselected: &[(String, u64)],
) -> Option<String> {
    let exits = unselected.iter().map(|it| it.1);
    let exits = exits.fold(0, u64::saturating_add);
    let option = request.reasons.and_then(ReasonArgs::text)?;
    (exits > 0).then(|| {
        format!(
            "no {} matched: {} occurred, none of them with {option}; reasons seen: {}",
            request.requested.name(),
            plural(exits, "VM exit"),
            list_by_count(unselected.iter().cloned())
        )
    })
}
