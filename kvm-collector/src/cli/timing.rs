//! Builds requests to time exits, for `exits`, `top`, `trace` and `convert`.

use std::path::Path;

use super::{event_formats::EventFormats, no_match, usage::bail_usage};
use crate::{
    host,
    model::EventKind,
    probe::MapSizes,
    timing::{DetailEvent, ReplayOptions, TimingRequest},
    tracefs::Format,
};

/// Builds the request to time exits by reason, or to count events of kind `counted`. Preempted time is
/// measured if [`EventFormats::switch`] returns a format.
pub(super) fn timing_request(
    formats: &EventFormats<'_>,
    counted: Option<EventKind>,
    is_preempt_required: bool,
) -> anyhow::Result<TimingRequest> {
    Ok(TimingRequest {
        exit: formats.find("kvm", "kvm_exit")?,
        entry: formats.find("kvm", "kvm_entry")?,
        userspace_exit: formats.find("kvm", "kvm_userspace_exit")?,
        wakeup: formats.find("kvm", "kvm_vcpu_wakeup")?,
        switch: formats.switch(is_preempt_required)?,
        counted_event: counted.map(|kind| formats.require_kind(kind)).transpose()?,
        ..TimingRequest::default()
    })
}

/// Checks that exits can be timed from a recording with events of these formats.
///
/// # Errors
/// When it has no exits or no entries.
pub(super) fn check_has_exits(formats: &[Format], path: &Path) -> anyhow::Result<()> {
    let recorded = EventFormats::Recording(formats, path);
    if recorded.find("kvm", "kvm_exit")?.is_some() && recorded.find("kvm", "kvm_entry")?.is_some() {
        return Ok(());
    }
    let names: Vec<_> = formats
        .iter()
        .map(|it| it.event_name().to_string())
        .collect();
    bail_usage!(
        "{} does not have the events kvm_exit and kvm_entry, so exits cannot be timed: it has {}; `record -e 'kvm:*'` records them",
        path.display(),
        no_match::list(&names)
    )
}

/// Returns the formats of a recording's events that are needed to time exits, and the options of the
/// replay. `build_request` builds the request from these formats.
pub(super) fn replay_options(
    formats: &[Format],
    path: &Path,
    build_request: impl FnOnce(&EventFormats<'_>) -> anyhow::Result<TimingRequest>,
) -> anyhow::Result<(Vec<Format>, ReplayOptions)> {
    check_has_exits(formats, path)?;
    let recorded = EventFormats::Recording(formats, path);
    let request = build_request(&recorded)?;
    let entry = recorded.find("kvm", "kvm_entry")?;
    let thread_end = recorded.find("sched", "sched_process_exit")?;
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

/// Returns the events by which exits are given causes by default: those that the kernel or recording has.
pub(super) fn default_cause_events(formats: &EventFormats<'_>) -> anyhow::Result<Vec<DetailEvent>> {
    DetailEvent::default_causes(|name| formats.find("kvm", name))
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
