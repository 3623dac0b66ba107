//! Says why a result is empty: what occurred nevertheless, and which options left it out.

mod contents;
mod live;
mod recorded;

use super::selection::{EventArgs, ReasonArgs, TargetArgs};
use crate::{
    format::units::{count, plural},
    model::EventKind,
};

pub(super) use live::explain as explain_live;
pub(super) use recorded::explain as explain_recorded;

/// What was requested but did not occur.
#[derive(Debug)]
pub(super) enum Requested {
    /// Events of any name.
    Events,
    /// VM exits.
    Exits,
    /// Events of a kind during VM exits.
    Kind(EventKind),
}

impl Requested {
    /// Returns the name in plural.
    fn name(&self) -> String {
        match self {
            Self::Events => "events".to_owned(),
            Self::Exits => "VM exits".to_owned(),
            Self::Kind(kind) => format!("events of kind {}", kind.name),
        }
    }
}

/// What was requested, and the options that select.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) requested: Requested,
    pub(super) target: &'a TargetArgs,
    pub(super) reasons: Option<&'a ReasonArgs>,
    pub(super) events: Option<&'a EventArgs>,
}

impl Request<'_> {
    /// Returns all options that select, as they are given.
    fn option_texts(&self) -> Vec<String> {
        let target = self.target.options().into_iter().map(|it| it.text);
        let reasons = self.reasons.and_then(ReasonArgs::text);
        let events = self.events.and_then(EventArgs::text);
        target.chain(reasons).chain(events).collect()
    }
}

/// Maximum number of names in a message.
const MAX_NAMES: usize = 5;

/// Returns the first names and whether there are more: `npf, hlt, ...`.
pub(super) fn list(names: &[String]) -> String {
    let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
    let first: Vec<_> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    format!("{}{more}", first.join(", "))
}

/// Returns the most frequent names with their counts: `npf (1,945), hlt (12)`. Counts of equal names are added.
fn list_by_count(counts: impl IntoIterator<Item = (String, u64)>) -> String {
    let mut by_name = std::collections::BTreeMap::<String, u64>::new();
    for (name, number) in counts {
        let sum = by_name.entry(name).or_default();
        *sum = sum.saturating_add(number);
    }
    let mut sorted: Vec<_> = by_name.into_iter().collect();
    sorted.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let names = sorted.into_iter();
    let names: Vec<_> = names
        .map(|(name, it)| format!("{name} ({})", count(it)))
        .collect();
    list(&names)
}

/// Says which exit reasons occurred but are not selected; `None` if there are none.
fn explain_reasons(request: &Request<'_>, unselected: &[(String, u64)]) -> Option<String> {
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

/// Returns a message that says why nothing of a recording matched that can be read only once. `unselected`
/// has the names and numbers of exit reasons that occurred but are not selected.
pub(super) fn explain_input(request: &Request<'_>, unselected: &[(String, u64)]) -> String {
    let name = request.requested.name();
    explain_reasons(request, unselected).unwrap_or_else(|| {
        match request.option_texts().as_slice() {
            [] => format!("no {name} in this recording"),
            options => format!("no {name} of this recording matched {}", options.join(" ")),
        }
    })
}
