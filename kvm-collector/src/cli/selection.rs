//! Which VMs, vCPUs, threads and events: the same options for every command.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use globset::{GlobBuilder, GlobMatcher};

use crate::{
    host::{
        self, clock, namespaces,
        privileges::{self, Barrier},
    },
    timing::{Filter, Selection},
    tracefs::{EventName, EventsError, Format, ReasonNames, Tracefs, UnknownReason, events},
};

/// Which VMs, vCPUs and threads.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Target {
    /// Only these processes (the VMM's)
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,

    /// Only VMs of these names (globs work; `kvm-collector list` shows the names). VMs that start later are included
    #[arg(long = "vm", value_name = "NAME", value_delimiter = ',')]
    vms: Vec<String>,

    /// Fail if no VM named with --vm is running, instead of waiting for it
    #[arg(long, requires = "vms")]
    no_wait: bool,

    /// Only these vCPUs, by index
    #[arg(long = "vcpu", value_name = "N", value_delimiter = ',')]
    vcpus: Vec<u32>,

    /// Only these threads
    #[arg(long = "tid", value_name = "TID", value_delimiter = ',')]
    tids: Vec<u32>,
}

impl Target {
    /// The selection, for the running kernel. A process or thread that does not exist is an error and not an empty
    /// report; VMs may still start. So is a host whose times, or whose ids where they are needed, cannot be known.
    pub(super) fn of_running(&self) -> anyhow::Result<Selection> {
        clock::namespace_offset_ns()?;
        self.check_ids()?;
        for &pid in &self.pids {
            if !host::process::is_process(pid) {
                bail!("no process {pid}{}", vms_in_words());
            }
        }
        self.warn_of_absent_vms()?;
        for &tid in &self.tids {
            if !host::process::is_thread(tid) {
                bail!("no thread {tid}: `kvm-collector list` shows the vCPUs' threads");
            }
        }
        self.selection()
    }

    /// Refuses what has to be looked up in `/proc` where the ids there are not the kernel's, and warns that names are not.
    fn check_ids(&self) -> anyhow::Result<()> {
        let Err(foreign) = namespaces::check_kernel_ids() else {
            return Ok(());
        };
        let options = [
            ("-p", self.pids.is_empty()),
            ("--vm", self.vms.is_empty()),
            ("--tid", self.tids.is_empty()),
        ];
        let given = options.into_iter().find(|(_, is_empty)| !is_empty);
        if let Some((option, _)) = given {
            bail!("{option} cannot be used here: {foreign}");
        }
        log::warn!("the names of VMs and threads cannot be looked up: {foreign}");
        Ok(())
    }

    /// What was asked for, as a heading has it: ` of VM web-1, vCPU 0`; nothing if that is all there is.
    pub(super) fn heading(&self) -> String {
        let pids: Vec<_> = self.pids.iter().map(u32::to_string).collect();
        let vcpus: Vec<_> = self.vcpus.iter().map(u32::to_string).collect();
        let tids: Vec<_> = self.tids.iter().map(u32::to_string).collect();
        let asked = [
            ("VM", &self.vms),
            ("process", &pids),
            ("vCPU", &vcpus),
            ("thread", &tids),
        ];
        let words = asked.into_iter().filter(|(_, which)| !which.is_empty());
        let words: Vec<_> = words
            .map(|(what, which)| format!("{what} {}", which.join(" or ")))
            .collect();
        match words.is_empty() {
            true => String::new(),
            false => format!(" of {}", words.join(", ")),
        }
    }

    /// The selection, for a recording: what there is becomes known when it is read.
    pub(super) fn selection(&self) -> anyhow::Result<Selection> {
        let vms = self.vms.iter().map(|pattern| vm_matcher(pattern));
        Ok(Selection {
            filter: Filter {
                tgids: self.pids.clone(),
                tids: self.tids.clone(),
                vcpus: self.vcpus.clone(),
                reasons: None,
            },
            vms: vms.collect::<anyhow::Result<_>>()?,
        })
    }

    /// After a recording was read: was there what was asked for?
    pub(super) fn check_seen(&self, seen: &[(u32, String)], file: &Path) -> anyhow::Result<()> {
        let there = || {
            let all = seen
                .iter()
                .take(8)
                .map(|(pid, name)| format!("{name} (pid {pid})"));
            let more = if seen.len() > 8 { ", ..." } else { "" };
            match seen.len() {
                0 => "it has no events of any".to_owned(),
                _ => format!("there are {}{more}", all.collect::<Vec<_>>().join(", ")),
            }
        };
        for &pid in &self.pids {
            if !seen.iter().any(|it| it.0 == pid) {
                bail!(
                    "no events of process {pid} in {}: {}",
                    file.display(),
                    there()
                );
            }
        }
        for pattern in &self.vms {
            let matcher = vm_matcher(pattern)?;
            if !seen.iter().any(|it| matcher.is_match(&it.1)) {
                bail!(
                    "no events of a VM named `{pattern}` in {}: {}",
                    file.display(),
                    there()
                );
            }
        }
        Ok(())
    }

    /// Says which of the VMs named are not there yet, or refuses with `--no-wait`.
    fn warn_of_absent_vms(&self) -> anyhow::Result<()> {
        if self.vms.is_empty() {
            return Ok(());
        }
        let vms = host::vm::list(Path::new("/proc"))
            .context("cannot look for VMs")?
            .vms;
        for pattern in &self.vms {
            let matcher = vm_matcher(pattern)?;
            if vms.iter().any(|vm| matcher.is_match(&vm.name)) {
                continue;
            }
            if self.no_wait {
                bail!("no VM is named `{pattern}`{}", vms_in_words());
            }
            log::warn!(
                "no VM is named `{pattern}` yet{}; VMs that start from now on are included (--no-wait makes this an error)",
                vms_in_words()
            );
        }
        Ok(())
    }
}

fn vm_matcher(pattern: &str) -> anyhow::Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).build();
    let glob = glob.with_context(|| format!("`{pattern}` is no pattern for VM names"))?;
    Ok(glob.compile_matcher())
}

/// What VMs there are, as the rest of a sentence.
fn vms_in_words() -> String {
    match host::vm::list(Path::new("/proc")) {
        Ok(found) if found.vms.is_empty() => ": no VM is running here".into(),
        Ok(host::vm::VmList { vms, .. }) => {
            let names: Vec<_> = vms
                .iter()
                .take(8)
                .map(|vm| format!("{} (pid {})", vm.name, vm.tgid))
                .collect();
            let more = if vms.len() > 8 { ", ..." } else { "" };
            format!(": the VMs here are {}{more}", names.join(", "))
        }
        Err(_) => String::new(),
    }
}

/// Which events.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Events {
    /// Only these events: globs, with or without the system (`kvm_exit`, `kvm:*`, `kvmmmu:*`). Those of another system
    /// (`sched:sched_switch`, `irq:*`) are watched where they are about a vCPU's thread [default: kvm:*, or all
    /// that a recording has]
    #[arg(short, long = "event", value_name = "GLOB", value_delimiter = ',')]
    events: Vec<String>,
}

impl Events {
    /// The formats of the events chosen.
    pub(super) fn formats(&self, tracefs: &Tracefs) -> anyhow::Result<Vec<Format>> {
        self.formats_and(tracefs, &[])
    }

    /// The formats of the events chosen, and of some that are needed whether chosen or not.
    pub(super) fn formats_and(
        &self,
        tracefs: &Tracefs,
        needed: &[&str],
    ) -> anyhow::Result<Vec<Format>> {
        let patterns = self.patterns_and(needed, "kvm:*");
        let formats = tracefs
            .select_events(&patterns)?
            .iter()
            .map(|event| tracefs.read_format(event))
            .collect::<Result<_, _>>()?;
        Ok(formats)
    }
}

impl Events {
    fn patterns_and(&self, needed: &[&str], all: &str) -> Vec<String> {
        let mut patterns = self.events.clone();
        if patterns.is_empty() {
            patterns.push(all.to_owned());
        }
        patterns.extend(needed.iter().map(|name| format!("kvm:{name}")));
        patterns
    }

    /// Those of a recording's events that are chosen, and some that are needed whether chosen or not.
    pub(super) fn among(
        &self,
        formats: &[Format],
        needed: &[&str],
        file: &Path,
    ) -> anyhow::Result<Vec<Format>> {
        let all: Vec<_> = formats.iter().map(Format::event_name).collect();
        let chosen =
            events::select(&all, &self.patterns_and(needed, "*")).map_err(|error| match error {
                EventsError::Unknown { pattern, .. } => {
                    let names: Vec<_> = all.iter().take(8).map(ToString::to_string).collect();
                    let more = if all.len() > 8 { ", ..." } else { "" };
                    anyhow!(
                        "no event matches `{pattern}`: {} has {} events: {}{more}",
                        file.display(),
                        all.len(),
                        names.join(", ")
                    )
                }
                other => other.into(),
            })?;
        let is_chosen = |format: &&Format| chosen.contains(&format.event_name());
        Ok(formats.iter().filter(is_chosen).cloned().collect())
    }
}

/// Opens the running kernel's tracefs, mounting it where it is not mounted.
pub(super) fn open_tracefs() -> anyhow::Result<Tracefs> {
    let barrier = privileges::tracing_barrier();
    // Also where it can be mounted, such a kernel has no events in it.
    if let Some(Barrier::Lockdown) = barrier {
        bail!("tracefs cannot be used: {}", Barrier::Lockdown);
    }
    Tracefs::find_or_mount().map_err(|error| match barrier {
        Some(barrier) => anyhow!("tracefs cannot be used: {barrier}"),
        None => error.into(),
    })
}

/// The format of an event of the `kvm` system, if this kernel has it.
pub(super) fn kvm_format(tracefs: &Tracefs, name: &str) -> anyhow::Result<Option<Format>> {
    format_of(tracefs, "kvm", name)
}

/// The format of an event, if this kernel has it. Every kernel has those of other systems than KVM's that
/// are asked for here.
pub(super) fn format_of(
    tracefs: &Tracefs,
    system: &str,
    name: &str,
) -> anyhow::Result<Option<Format>> {
    let event = EventName::from((system, name));
    if system == "kvm" && !tracefs.kvm_events()?.contains(&event) {
        return Ok(None);
    }
    Ok(Some(tracefs.read_format(&event)?))
}

/// Which exit reasons.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Reasons {
    /// Only exits for these reasons (globs; upper and lower case are one: hlt, npf, 'EPT_*')
    #[arg(long = "reason", value_name = "NAME", value_delimiter = ',')]
    reasons: Vec<String>,
}

impl Reasons {
    /// Were none named?
    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The numbers of the reasons that were named; `None` if none were.
    pub(super) fn codes(&self, exit: Option<&Format>) -> Result<Option<Vec<u32>>, UnknownReason> {
        if self.reasons.is_empty() {
            return Ok(None);
        }
        ReasonNames::new(exit)
            .matching_codes(&self.reasons)
            .map(Some)
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

    fn chosen(patterns: &[&str]) -> Vec<String> {
        let there = [
            format("kvm", "kvm_exit"),
            format("kvm", "kvm_pio"),
            format("sched", "sched_switch"),
        ];
        let events = Events {
            events: patterns.iter().map(|it| (*it).to_owned()).collect(),
        };
        let chosen = events.among(&there, &[], Path::new("kvm.data")).unwrap();
        chosen.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn of_a_recording_all_is_chosen_unless_something_is() {
        assert_eq!(chosen(&[]), ["kvm_exit", "kvm_pio", "sched_switch"]);
        assert_eq!(chosen(&["kvm:*"]), ["kvm_exit", "kvm_pio"]);
        assert_eq!(chosen(&["sched_switch"]), ["sched_switch"]);
    }

    #[test]
    fn a_heading_says_what_was_asked_for() {
        let all = Target {
            pids: Vec::new(),
            vms: Vec::new(),
            no_wait: false,
            vcpus: Vec::new(),
            tids: Vec::new(),
        };
        assert_eq!(all.heading(), "");
        let some = Target {
            vms: vec!["web-*".to_owned()],
            vcpus: vec![0, 1],
            ..all
        };
        assert_eq!(some.heading(), " of VM web-*, vCPU 0 or 1");
    }
}
