//! Says why the result of one or several recordings is empty.

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::{
    contents::{Contents, Occurrence},
    request::{RecordingSelection, Request, Requested, explain_reasons, list_by_count},
};
use crate::{
    cli::selection::{Subject, TargetOption, TargetValues},
    format::units::{count, plural},
    model::EventKind,
};

/// An option that selects.
enum Selector<'a> {
    Target(TargetOption),
    /// The option that selects the [`RecordingSelection::codes`] of each recording.
    Reasons(&'a [RecordingSelection<'a>], String),
    /// The option that selects the [`RecordingSelection::formats`] of each recording.
    Events(&'a [RecordingSelection<'a>], String),
}

impl Selector<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Target(option) => &option.text,
            Self::Reasons(_, text) | Self::Events(_, text) => text,
        }
    }

    fn is_by_event(&self) -> bool {
        matches!(self, Self::Events(..))
    }

    fn selects(&self, it: &Occurrence) -> bool {
        match self {
            Self::Target(option) => option.selects(Subject {
                pid: it.pid,
                tid: it.tid,
                vcpu: it.vcpu,
                vm: &it.vm,
            }),
            // Other events than exits have no reason to select by.
            Self::Reasons(recordings, _) => {
                let codes = recordings[it.recording].codes;
                let reason = it.reason.as_ref();
                reason.is_none_or(|(code, _)| codes.is_none_or(|it| it.contains(code)))
            }
            Self::Events(recordings, _) => {
                let mut formats = recordings[it.recording].formats.iter();
                formats.any(|format| format.is_event(&it.event.system, &it.event.name))
            }
        }
    }

    /// Describes what could be selected instead.
    fn seen(&self, occurrences: &[&Occurrence]) -> String {
        let (what, names): (_, fn(&Occurrence) -> String) = match self {
            Self::Target(option) => match option.values {
                TargetValues::Processes(..) => ("VMs", |it| it.vm.name.clone()),
                TargetValues::Vcpus(_) => ("vCPUs", |it| match it.vcpu {
                    VCPU_UNKNOWN => "unknown".to_owned(),
                    vcpu => vcpu.to_string(),
                }),
                TargetValues::Threads(_) => ("threads", |it| it.tid.to_string()),
            },
            Self::Reasons(..) => ("reasons", |it| match &it.reason {
                Some((_, name)) => name.clone(),
                None => it.event.name.clone(),
            }),
            Self::Events(..) => ("events", |it| it.event.name.clone()),
        };
        let is_of_vms = matches!(self, Self::Target(option) if matches!(option.values, TargetValues::Processes(..)));
        let shown = occurrences.iter().filter(|it| it.is_vm || !is_of_vms);
        let counts = shown.map(|it| (names(it), it.count));
        let seen = match list_by_count(counts) {
            names if names.is_empty() => "none".to_owned(),
            names => names,
        };
        format!("{what} seen: {seen}")
    }
}

/// Returns a message that says why nothing of a recording matched. It reads the recording once more, if that is
/// possible. `unselected` has the names and numbers of exit reasons that occurred but are not selected.
pub(in crate::cli) fn explain(
    request: &Request<'_>,
    recording: RecordingSelection<'_>,
    unselected: &[(String, u64)],
) -> String {
    explain_all(request, &[recording], unselected)
}

/// As [`explain`], of several recordings.
pub(in crate::cli) fn explain_all(
    request: &Request<'_>,
    recordings: &[RecordingSelection<'_>],
    unselected: &[(String, u64)],
) -> String {
    let contents = Contents::read_all(recordings.iter().map(|it| it.path));
    let owner = Owner::new(recordings);
    if recordings.iter().any(|it| it.is_part) {
        return explain_part(request, &owner, contents.as_ref());
    }
    contents
        .and_then(|contents| explain_contents(request, recordings, &contents))
        .or_else(|| explain_reasons(request, unselected))
        .unwrap_or_else(|| {
            let name = request.requested.name();
            let these = owner.these;
            match request.option_texts().as_slice() {
                [] => format!("no {name} in {these}"),
                options => format!("no {name} of {these} matched {}", options.join(" ")),
            }
        })
}

/// What the recordings are called in a sentence.
struct Owner {
    /// The file, or the number of recordings.
    name: String,
    these: &'static str,
    whole: &'static str,
    has: &'static str,
}

impl Owner {
    fn new(recordings: &[RecordingSelection<'_>]) -> Self {
        match recordings {
            [one] => Self {
                name: one.path.display().to_string(),
                these: "this recording",
                whole: "the whole recording",
                has: "has",
            },
            several => Self {
                name: format!("the {} recordings", several.len()),
                these: "these recordings",
                whole: "the whole recordings",
                has: "have",
            },
        }
    }
}

/// Says that the selected time has nothing, and what the whole recording has.
fn explain_part(request: &Request<'_>, owner: &Owner, contents: Option<&Contents>) -> String {
    let name = request.requested.name();
    let options = match request.option_texts().as_slice() {
        [] => String::new(),
        options => format!(" matched {}", options.join(" ")),
    };
    let whole = contents.map_or_else(String::new, |contents| {
        let all = contents.occurrences.iter();
        let all = total(all.filter(|it| is_requested(it, &request.requested)));
        format!("; {} {} {}", owner.whole, owner.has, count(all))
    });
    format!(
        "no {name} in the selected time of {}{options}{whole}",
        owner.name
    )
}

/// `None` if the options do not explain it.
fn explain_contents(
    request: &Request<'_>,
    recordings: &[RecordingSelection<'_>],
    contents: &Contents,
) -> Option<String> {
    let owner = Owner::new(recordings);
    let (file, has) = (&owner.name, owner.has);
    let name = request.requested.name();
    if contents.events == 0 {
        return Some(format!(
            "no {name}: {file} {has} no events, because none of the recorded events occurred"
        ));
    }
    let mut base: Vec<_> = contents
        .occurrences
        .iter()
        .filter(|it| is_requested(it, &request.requested))
        .collect();
    if base.is_empty() {
        return Some(explain_none(contents, request, &owner));
    }
    let mut selectors = selectors(request, recordings);
    // If the selected events occurred, another option left them out.
    if let Some(at) = selectors.iter().position(Selector::is_by_event)
        && base.iter().any(|it| selectors[at].selects(it))
        && selectors.len() > 1
    {
        let events = selectors.remove(at);
        base.retain(|it| events.selects(it));
    }
    let all = total(base.iter().copied());
    let selected_by =
        |selector: &Selector<'_>| total(base.iter().copied().filter(|it| selector.selects(it)));
    let without_match: Vec<_> = selectors.iter().filter(|it| selected_by(it) == 0).collect();
    let reason = match without_match.as_slice() {
        [] if selectors.is_empty() => return None,
        [] => {
            let each: Vec<_> = selectors
                .iter()
                .map(|it| format!("{} with {}", count(selected_by(it)), it.text()))
                .collect();
            format!(
                "none of them with all of these options: {}",
                each.join(", ")
            )
        }
        selectors => {
            let texts: Vec<_> = selectors.iter().map(|it| it.text()).collect();
            let seen: Vec<_> = selectors.iter().map(|it| it.seen(&base)).collect();
            format!(
                "none of them with {}; {}",
                texts.join(" or "),
                seen.join("; ")
            )
        }
    };
    Some(format!(
        "no {name} matched: {file} {has} {}, {reason}",
        count(all)
    ))
}

fn total<'a>(occurrences: impl Iterator<Item = &'a Occurrence>) -> u64 {
    occurrences.map(|it| it.count).fold(0, u64::saturating_add)
}

fn is_requested(occurrence: &Occurrence, requested: &Requested) -> bool {
    match requested {
        Requested::Events => true,
        Requested::Exits => occurrence.is_event("kvm_exit"),
        Requested::Kind(kind) => occurrence.is_event(&kind.event),
    }
}

fn selectors<'a>(
    request: &Request<'_>,
    recordings: &'a [RecordingSelection<'a>],
) -> Vec<Selector<'a>> {
    let targets = request.target.options().into_iter().map(Selector::Target);
    let reasons = request.reasons.and_then(|it| it.text());
    let has_codes = recordings.iter().any(|it| it.codes.is_some());
    let reasons = reasons
        .filter(|_| has_codes)
        .map(|text| Selector::Reasons(recordings, text));
    let events = request.events.and_then(|it| it.text());
    let events = events.map(|text| Selector::Events(recordings, text));
    targets.chain(reasons).chain(events).collect()
}

/// Says what occurred if the requested kind of event did not, whatever is selected.
fn explain_none(contents: &Contents, request: &Request<'_>, owner: &Owner) -> String {
    let (file, has, name) = (&owner.name, owner.has, request.requested.name());
    let of_event = |event: &str| {
        let all = contents.occurrences.iter();
        total(all.filter(|it| it.is_event(event)))
    };
    let exits = of_event("kvm_exit");
    match &request.requested {
        Requested::Kind(kind) if exits > 0 => {
            let kinds = EventKind::builtin_kinds().into_iter();
            let seen = kinds
                .map(|it| (it.name, of_event(&it.event)))
                .filter(|(_, count)| *count > 0);
            format!(
                "no {name}: {file} {has} {}, but none of them has the event {}; kinds seen: {}",
                plural(exits, "VM exit"),
                kind.event,
                list_by_count(seen)
            )
        }
        _ => {
            let all = contents.occurrences.iter();
            let seen = all.map(|it| (it.event.name.clone(), it.count));
            format!(
                "no {name}: {file} {has} {}, but none of kvm_exit; events seen: {}",
                plural(contents.events, "event"),
                list_by_count(seen)
            )
        }
    }
}
