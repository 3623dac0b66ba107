//! Builds requests to time exits, for `exits`, `top`, `trace` and `convert`.

use std::path::Path;

use anyhow::bail;

use crate::{
    host,
    model::EventKind,
    probe::MapSizes,
    timing::{DetailEvent, ReplayOptions, TimingRequest},
    tracefs::Format,
};

/// Returns the format of an event by system and name; `None` if there is no such event.
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
        anyhow::anyhow!(
            "{what} takes {system}:{name}, which is not there: `kvm-collector list` shows what this kernel has, and a recording has what was recorded (`record -e 'kvm:*,{system}:{name}'`)"
        )
    })
}

/// Builds the request to time exits by reason, or events of kind `counted` instead. With `preempt`, also the
/// time that threads were preempted.
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

/// Returns the events of a recording that are needed to time exits, and the options of the replay. `pairing`
/// builds the request from a function that finds the formats of the recording's events.
pub(super) fn replay_options(
    formats: &[Format],
    path: &Path,
    pairing: impl FnOnce(&FindFormat<'_>) -> anyhow::Result<TimingRequest>,
) -> anyhow::Result<(Vec<Format>, ReplayOptions)> {
    let find = |system: &str, name: &str| {
        let format = formats.iter().find(|it| it.is_event(system, name));
        Ok(format.cloned())
    };
    let (exit, entry) = (find("kvm", "kvm_exit")?, find("kvm", "kvm_entry")?);
    if exit.is_none() || entry.is_none() {
        let there: Vec<_> = formats
            .iter()
            .map(|it| it.event_name().to_string())
            .collect();
        bail!(
            "{} has no kvm_exit and kvm_entry events, which exits are made of: it has {}",
            path.display(),
            there.join(", ")
        );
    }
    let pairing = pairing(&find)?;
    let thread_end = find("sched", "sched_process_exit")?;
    let details = pairing.counted_event.iter().chain(&pairing.cause_events);
    let all = [
        &pairing.exit,
        &pairing.userspace_exit,
        &pairing.wakeup,
        &pairing.switch,
        &entry,
        &thread_end,
    ]
    .into_iter()
    .flatten()
    .chain(details.map(|it| &it.format));
    let mut chosen: Vec<Format> = Vec::new();
    for format in all {
        if !chosen
            .iter()
            .any(|it| it.is_event(&format.system, &format.name))
        {
            chosen.push(format.clone());
        }
    }
    let options = ReplayOptions::new(pairing, &chosen);
    Ok((chosen, options))
}

/// As [`pairing`], with all that a recording has.
pub(super) fn recorded_timing_request(find: &FindFormat<'_>) -> anyhow::Result<TimingRequest> {
    let has_switches = find("sched", "sched_switch")?.is_some();
    timing_request(find, None, has_switches)
}

/// Returns map sizes for the vCPUs of this host, or for this number of rows.
pub(super) fn map_sizes(max_rows: Option<u32>) -> MapSizes {
    let vms = host::vm::list(Path::new("/proc")).unwrap_or_default().vms;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let sizes = MapSizes::for_host(vms.iter().map(|vm| vm.vcpus.len()).sum(), cpus);
    MapSizes {
        exit_rows: max_rows.unwrap_or(sizes.exit_rows),
        ..sizes
    }
}
