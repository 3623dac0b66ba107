//! Builds requests to time exits, for `exits`, `top`, `trace` and `convert`.

use std::path::Path;

use anyhow::bail;

use super::{no_match, usage::UsageError};
use crate::{
    host,
    model::EventKind,
    probe::MapSizes,
    timing::{DetailEvent, ReplayOptions, TimingRequest},
    tracefs::Format,
};

/// A function that returns the format of an event by system and name; `None` if there is no such event.
pub(super) type FindFormat<'a> = dyn Fn(&str, &str) -> anyhow::Result<Option<Format>> + 'a;

/// Adds the event's format to a kind of event.
pub(super) fn read_detail_format(
    find: &FindFormat<'_>,
    kind: EventKind,
) -> anyhow::Result<DetailEvent> {
    let format = require_format(find, "kvm", &kind.event, &format!("`{}`", kind.name))?;
    Ok(DetailEvent { kind, format })
}

/// Returns the format of an event that `what` needs.
fn require_format(
    find: &FindFormat<'_>,
    system: &str,
    name: &str,
    what: &str,
) -> anyhow::Result<Format> {
    find(system, name)?.ok_or_else(|| {
        let option = match system {
            "sched" => "--preempt".to_owned(),
            _ => format!("-e 'kvm:*,{system}:{name}'"),
        };
        let message = format!(
            "{what} needs the event {system}:{name}, which this kernel or recording does not have: `kvm-collector list events` shows the events of this kernel; `record {option}` records it"
        );
        UsageError(message).into()
    })
}

/// Builds the request to time exits by reason, or to count events of kind `counted`. With `preempt`,
/// preempted time is measured too.
pub(super) fn timing_request(
    find: &FindFormat<'_>,
    counted: Option<EventKind>,
    preempt: bool,
) -> anyhow::Result<TimingRequest> {
    Ok(TimingRequest {
        exit: find("kvm", "kvm_exit")?,
        entry: find("kvm", "kvm_entry")?,
        userspace_exit: find("kvm", "kvm_userspace_exit")?,
        wakeup: find("kvm", "kvm_vcpu_wakeup")?,
        switch: match preempt {
            true => Some(require_format(find, "sched", "sched_switch", "--preempt")?),
            false => None,
        },
        counted_event: counted
            .map(|kind| read_detail_format(find, kind))
            .transpose()?,
        ..TimingRequest::default()
    })
}

/// Returns the formats of a recording's events that are needed to time exits, and the options of the
/// replay. `build_request` builds the request from a function that finds these formats.
pub(super) fn replay_options(
    formats: &[Format],
    path: &Path,
    build_request: impl FnOnce(&FindFormat<'_>) -> anyhow::Result<TimingRequest>,
) -> anyhow::Result<(Vec<Format>, ReplayOptions)> {
    let find = |system: &str, name: &str| {
        let format = formats.iter().find(|it| it.is_event(system, name));
        Ok(format.cloned())
    };
    let (exit, entry) = (find("kvm", "kvm_exit")?, find("kvm", "kvm_entry")?);
    if exit.is_none() || entry.is_none() {
        let names: Vec<_> = formats
            .iter()
            .map(|it| it.event_name().to_string())
            .collect();
        bail!(
            "{} does not have the events kvm_exit and kvm_entry, so exits cannot be timed: it has {}; `record -e 'kvm:*'` records them",
            path.display(),
            no_match::list(&names)
        );
    }
    let request = build_request(&find)?;
    let thread_end = find("sched", "sched_process_exit")?;
    let details = request.counted_event.iter().chain(&request.cause_events);
    let all = [
        &request.exit,
        &request.userspace_exit,
        &request.wakeup,
        &request.switch,
        &entry,
        &thread_end,
    ]
    .into_iter()
    .flatten()
    .chain(details.map(|it| &it.format));
    let mut selected: Vec<Format> = Vec::new();
    for format in all {
        if !selected
            .iter()
            .any(|it| it.is_event(&format.system, &format.name))
        {
            selected.push(format.clone());
        }
    }
    let options = ReplayOptions::new(request, &selected);
    Ok((selected, options))
}

/// Builds the request to time exits of a recording by reason. Preempted time is measured if the recording
/// has `sched_switch`.
pub(super) fn recorded_timing_request(find: &FindFormat<'_>) -> anyhow::Result<TimingRequest> {
    let has_switches = find("sched", "sched_switch")?.is_some();
    timing_request(find, None, has_switches)
}

/// Returns the events by which exits are given causes by default: those that the kernel or recording has.
pub(super) fn default_cause_events(find: &FindFormat<'_>) -> anyhow::Result<Vec<DetailEvent>> {
    DetailEvent::default_causes(|name| find("kvm", name))
}

/// Returns map sizes for the number of vCPUs of this host. `max_rows` overrides the number of exit rows.
pub(super) fn map_sizes(max_rows: Option<u32>) -> MapSizes {
    let vms = host::vm::list(Path::new("/proc")).unwrap_or_default().vms;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let sizes = MapSizes::for_host(vms.iter().map(|vm| vm.vcpus.len()).sum(), cpus);
    MapSizes {
        exit_rows: max_rows.unwrap_or(sizes.exit_rows),
        ..sizes
    }
}
