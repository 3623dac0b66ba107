//! Checks the options that select VMs, vCPUs and threads against what runs on this host.

use std::{io, path::Path};

use anyhow::{Context as _, bail};

use super::{
    TargetArgs,
    describe::{describe_other_process, describe_running_vms, similar_vms},
    target::vm_matcher,
};
use crate::{
    cli::{usage::bail_usage, warnings::Warnings},
    format::units::plural,
    host::{self, clock, namespaces, vm::VmList},
    timing::{Selection, matches_vm},
};

impl TargetArgs {
    /// Returns the selection for the running kernel.
    ///
    /// # Errors
    /// If a process or thread does not exist; if the clock of the kernel cannot be read; or if ids or VM names
    /// are selected, but the ids in `/proc` are not those of the kernel. A VM that is not running is an
    /// error only with `--no-wait`, because it may start later.
    pub(in crate::cli) fn for_running_kernel(&self) -> anyhow::Result<Selection> {
        clock::namespace_offset_ns()?;
        self.check_ids()?;
        for &tid in &self.tids {
            if !host::process::is_thread(tid) {
                bail_usage!("no thread {tid}: `kvm-collector list` shows the threads of all vCPUs");
            }
        }
        let patterns = self.vm_patterns();
        if !self.pids.is_empty() || !patterns.is_empty() {
            // Once for all values: it reads the open files of all processes.
            let running = host::vm::list(Path::new("/proc"));
            self.check_processes(running.as_ref().ok())?;
            self.check_names(&patterns, running)?;
        }
        self.for_recording()
    }

    /// Checks that the ids in `/proc` are those of the kernel. Otherwise fails if an option needs them, and
    /// warns that names are unknown if not.
    fn check_ids(&self) -> anyhow::Result<()> {
        let Err(foreign) = namespaces::check_kernel_ids() else {
            return Ok(());
        };
        let options = [
            ("-p", self.pids.is_empty()),
            ("--vm", self.vm_patterns().is_empty()),
            ("--tid", self.tids.is_empty()),
        ];
        let given = options.into_iter().find(|(_, is_empty)| !is_empty);
        if let Some((option, _)) = given {
            bail!("{option} cannot be used here: {foreign}");
        }
        log::warn!("cannot look up the names of VMs and threads: {foreign}");
        Ok(())
    }

    /// Checks that the selected processes exist. Warns about those that run no VM, and so have no events of KVM.
    fn check_processes(&self, running: Option<&VmList>) -> anyhow::Result<()> {
        let vms = running.map(|it| &*it.vms);
        if let Some(pid) = self.pids.iter().find(|it| !host::process::is_process(**it)) {
            bail_usage!("no process {pid}{}", describe_running_vms(vms));
        }
        // Without permission to read a process, it is unknown whether it runs a VM.
        let Some(VmList { vms, unreadable: 0 }) = running else {
            return Ok(());
        };
        let mut others = Warnings::default();
        for &pid in &self.pids {
            if !vms.iter().any(|vm| vm.tgid == pid) {
                others.warn(|| {
                    let comm = host::process::comm_at(pid, pid, u64::MAX).unwrap_or_default();
                    describe_other_process(pid, &comm, vms)
                });
            }
        }
        others.finish(|more| format!("no VM runs in {} of -p", plural(more, "more process")));
        Ok(())
    }

    /// Warns about selected VMs that are not running yet. With `--no-wait`, fails instead.
    fn check_names(&self, patterns: &[String], running: io::Result<VmList>) -> anyhow::Result<()> {
        if patterns.is_empty() {
            return Ok(());
        }
        let vms = running.context("cannot list the running VMs")?.vms;
        let mut absent = Warnings::default();
        for pattern in patterns {
            let matcher = vm_matcher(pattern)?;
            if vms.iter().any(|vm| matches_vm(&matcher, &vm.identity())) {
                continue;
            }
            let found = || {
                let similar = similar_vms(vms.iter().map(|vm| &*vm.name), pattern);
                format!("{}{similar}", describe_running_vms(Some(&vms)))
            };
            if self.no_wait {
                bail_usage!("no VM is named `{pattern}`{}", found());
            }
            absent.warn(|| {
                format!(
                    "no VM is named `{pattern}` yet, and VMs that start later are included (--no-wait makes this an error){}",
                    found()
                )
            });
        }
        absent.finish(|more| {
            format!(
                "no VM is named by {} of --vm yet",
                plural(more, "more glob")
            )
        });
        Ok(())
    }
}
