//! What the commands that time exits have in common.

use std::path::Path;

use anyhow::bail;

use crate::{
    host,
    model::EventKind,
    probe::MapSizes,
    timing::{DetailEvent, ReplayOptions, TimingRequest},
    tracefs::Format,
};

/// Finds the format of an event, by system and name; `None` where there is no such event.
pub(super) type Find<'a> = dyn Fn(&str, &str) -> anyhow::Result<Option<Format>> + 'a;

/// A kind of event, with the format that says where its fields lie.
pub(super) fn detail(find: &Find<'_>, kind: EventKind) -> anyhow::Result<DetailEvent> {
    let format = needed(find, "kvm", &kind.event, &format!("`{}`", kind.name))?;
    Ok(DetailEvent { kind, format })
}

/// The format of an event that `what` takes.
fn needed(find: &Find<'_>, system: &str, name: &str, what: &str) -> anyhow::Result<Format> {
    find(system, name)?.ok_or_else(|| {
        anyhow::anyhow!(
            "{what} takes {system}:{name}, which is not there: `kvm-collector list` shows what this kernel has, and a recording has what was recorded (`record -e 'kvm:*,{system}:{name}'`)"
        )
    })
}

/// Exits by their reason, or `counted` in their place; with `preempt`, also when threads were ready and did
/// not run.
pub(super) fn pairing(
    find: &Find<'_>,
    counted: Option<EventKind>,
    preempt: bool,
) -> anyhow::Result<TimingRequest> {
    Ok(TimingRequest {
        exit: find("kvm", "kvm_exit")?,
        entry: find("kvm", "kvm_entry")?,
        userspace_exit: find("kvm", "kvm_userspace_exit")?,
        wakeup: find("kvm", "kvm_vcpu_wakeup")?,
        switch: match preempt {
            true => Some(needed(find, "sched", "sched_switch", "--preempt")?),
            false => None,
        },
        counted_event: counted.map(|kind| detail(find, kind)).transpose()?,
        ..TimingRequest::default()
    })
}

/// What exits are made of, as far as a recording has it, and how they are timed. Given a way to find the formats of the
/// recording's events, `pairing` says what is wanted.
pub(super) fn of_recording(
    formats: &[Format],
    path: &Path,
    pairing: impl FnOnce(&Find<'_>) -> anyhow::Result<TimingRequest>,
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
pub(super) fn pairing_of_recording(find: &Find<'_>) -> anyhow::Result<TimingRequest> {
    let has_switches = find("sched", "sched_switch")?.is_some();
    pairing(find, None, has_switches)
}

/// Room for the vCPUs there are, or for so many rows.
pub(super) fn sizes(max_rows: Option<u32>) -> MapSizes {
    let vms = host::vm::list(Path::new("/proc")).unwrap_or_default().vms;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let sizes = MapSizes::for_host(vms.iter().map(|vm| vm.vcpus.len()).sum(), cpus);
    MapSizes {
        exit_rows: max_rows.unwrap_or(sizes.exit_rows),
        ..sizes
    }
}
