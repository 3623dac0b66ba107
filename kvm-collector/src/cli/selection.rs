//! Options that select VMs, vCPUs, threads and events, shared by all commands.

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

/// Options that select VMs, vCPUs and threads.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct TargetArgs {
    /// Select VMs by the process id of the VMM
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,

    /// Select VMs by name; globs work. `kvm-collector list` shows the names. VMs that start later
    /// are included
    #[arg(long = "vm", value_name = "NAME", value_delimiter = ',')]
    vms: Vec<String>,

    /// Fail if no VM of --vm is running, instead of waiting for one
    #[arg(long, requires = "vms")]
    no_wait: bool,

    /// Select vCPUs by index
    #[arg(long = "vcpu", value_name = "N", value_delimiter = ',')]
    vcpus: Vec<u32>,

    /// Select threads by thread id
    #[arg(long = "tid", value_name = "TID", value_delimiter = ',')]
    tids: Vec<u32>,
}

impl TargetArgs {
    /// Returns the selection for the running kernel.
    ///
    /// # Errors
    /// If a process or thread does not exist; if the kernel's clock cannot be read; or if ids or VM names are selected
    /// but `/proc` has other ids than the kernel. A VM that is not running is not an error: it may start later.
    pub(super) fn for_running_kernel(&self) -> anyhow::Result<Selection> {
        clock::namespace_offset_ns()?;
        self.check_ids()?;
        for &pid in &self.pids {
            if !host::process::is_process(pid) {
                bail!("no process {pid}{}", describe_running_vms());
            }
        }
        self.check_named_vms_run()?;
        for &tid in &self.tids {
            if !host::process::is_thread(tid) {
                bail!("no thread {tid}: `kvm-collector list` shows the vCPUs' threads");
            }
        }
        self.for_recording()
    }

    /// Fails if the selection needs a lookup in a `/proc` whose ids are not the kernel's. Warns that VM names are
    /// unknown otherwise.
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

    /// Describes the selection for a heading: ` of VM web-1, vCPU 0`. Empty if everything is selected.
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

    /// Returns the selection for a recording. Whether it matches anything is known only after reading.
    pub(super) fn for_recording(&self) -> anyhow::Result<Selection> {
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

    /// Checks, after a recording was read, that each selected VM, process and thread occurred in it.
    pub(super) fn check_all_seen(&self, seen: &[(u32, String)], file: &Path) -> anyhow::Result<()> {
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

    /// Warns about selected VMs that are not running yet; with `--no-wait`, fails.
    fn check_named_vms_run(&self) -> anyhow::Result<()> {
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
                bail!("no VM is named `{pattern}`{}", describe_running_vms());
            }
            log::warn!(
                "no VM is named `{pattern}` yet{}; VMs that start from now on are included (--no-wait makes this an error)",
                describe_running_vms()
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

/// Describes the running VMs, as the end of a sentence.
fn describe_running_vms() -> String {
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

/// Options that select events.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct EventArgs {
    /// Select events by name; globs work, with or without the system (`kvm_exit`, `kvm:*`,
    /// `kvmmmu:*`). Events of other systems (`sched:sched_switch`, `irq:*`) are limited to vCPU
    /// threads [default: kvm:*; all events of a recording]
    #[arg(short, long = "event", value_name = "GLOB", value_delimiter = ',')]
    events: Vec<String>,
}

impl EventArgs {
    /// Reads the formats of the selected events.
    pub(super) fn formats(&self, tracefs: &Tracefs) -> anyhow::Result<Vec<Format>> {
        self.formats_with(tracefs, &[])
    }

    /// Reads the formats of the selected events and of the events in `needed`.
    pub(super) fn formats_with(
        &self,
        tracefs: &Tracefs,
        needed: &[&str],
    ) -> anyhow::Result<Vec<Format>> {
        let patterns = self.patterns_with(needed, "kvm:*");
        let formats = tracefs
            .select_events(&patterns)?
            .iter()
            .map(|event| tracefs.read_format(event))
            .collect::<Result<_, _>>()?;
        Ok(formats)
    }
}

impl EventArgs {
    fn patterns_with(&self, needed: &[&str], all: &str) -> Vec<String> {
        let mut patterns = self.events.clone();
        if patterns.is_empty() {
            patterns.push(all.to_owned());
        }
        patterns.extend(needed.iter().map(|name| format!("kvm:{name}")));
        patterns
    }

    /// Returns the selected events of a recording, and those in `needed`.
    pub(super) fn select_from(
        &self,
        formats: &[Format],
        needed: &[&str],
        file: &Path,
    ) -> anyhow::Result<Vec<Format>> {
        let all: Vec<_> = formats.iter().map(Format::event_name).collect();
        let chosen =
            events::select(&all, &self.patterns_with(needed, "*")).map_err(
                |error| match error {
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
                },
            )?;
        let is_chosen = |format: &&Format| chosen.contains(&format.event_name());
        Ok(formats.iter().filter(is_chosen).cloned().collect())
    }
}

/// Opens the running kernel's tracefs. Mounts it if necessary.
pub(super) fn open_tracefs() -> anyhow::Result<Tracefs> {
    let barrier = privileges::tracing_barrier();
    // In this mode tracefs has no events, even if it can be mounted.
    if let Some(Barrier::Lockdown) = barrier {
        bail!("tracefs cannot be used: {}", Barrier::Lockdown);
    }
    Tracefs::find_or_mount().map_err(|error| match barrier {
        Some(barrier) => anyhow!("tracefs cannot be used: {barrier}"),
        None => error.into(),
    })
}

/// Reads the format of an event of the `kvm` system; `None` if this kernel does not have the event.
pub(super) fn find_kvm_format(tracefs: &Tracefs, name: &str) -> anyhow::Result<Option<Format>> {
    find_format(tracefs, "kvm", name)
}

/// Reads the format of an event; `None` if this kernel does not have it. Events of other systems than
/// KVM's that are requested here exist in every kernel.
pub(super) fn find_format(
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

/// Option that selects exit reasons.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct ReasonArgs {
    /// Select exits by reason; globs work, case does not matter (hlt, npf, 'EPT_*')
    #[arg(long = "reason", value_name = "NAME", value_delimiter = ',')]
    reasons: Vec<String>,
}

impl ReasonArgs {
    /// Returns whether no reason is selected, which means all.
    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Returns the numbers of the selected reasons; `None` if none are selected.
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
        let events = EventArgs {
            events: patterns.iter().map(|it| (*it).to_owned()).collect(),
        };
        let chosen = events
            .select_from(&there, &[], Path::new("kvm.data"))
            .unwrap();
        chosen.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn all_events_of_a_recording_are_selected_by_default() {
        assert_eq!(chosen(&[]), ["kvm_exit", "kvm_pio", "sched_switch"]);
        assert_eq!(chosen(&["kvm:*"]), ["kvm_exit", "kvm_pio"]);
        assert_eq!(chosen(&["sched_switch"]), ["sched_switch"]);
    }

    #[test]
    fn the_heading_describes_the_selection() {
        let all = TargetArgs {
            pids: Vec::new(),
            vms: Vec::new(),
            no_wait: false,
            vcpus: Vec::new(),
            tids: Vec::new(),
        };
        assert_eq!(all.heading(), "");
        let some = TargetArgs {
            vms: vec!["web-*".to_owned()],
            vcpus: vec![0, 1],
            ..all
        };
        assert_eq!(some.heading(), " of VM web-*, vCPU 0 or 1");
    }
}
