//! The running kernel as a source: attaches the eBPF programs and reads their tables.

mod event_counts;
mod exits;
mod idle_vms;
mod options;
mod processes;
mod row_extremes;

use std::os::fd::OwnedFd;

use kvm_ebpf_common::VcpuThread;

use super::vm_event_counts::VmEventCounts;
use crate::{
    host::{self, VmName, VmNames, clock},
    model::{Causes, ExitTotals, Loss, pid_of},
    probe::{AttachedPrograms, ProbeError, ProgramRuns, Request, Rings},
    timing::{ExitedThreads, recent_extremes},
};
pub use idle_vms::IdleVms;
pub use options::LiveOptions;
use processes::Processes;
use row_extremes::RowExtremes;

/// A measurement of the running kernel.
#[derive(Debug)]
pub struct Live {
    options: LiveOptions,
    attached: AttachedPrograms,
    processes: Processes,
    row_extremes: RowExtremes,
    exited: ExitedThreads,
    /// The event counts of exited threads.
    exited_counts: VmEventCounts,
    /// Exits that were omitted because their VM's name was unknown when their thread had ended.
    unattributed: u64,
    start_ns: u64,
    /// When the measurement was stopped; `None` while it runs.
    end_ns: Option<u64>,
}

impl Live {
    /// Attaches the eBPF programs and starts to count.
    ///
    /// # Errors
    /// [`ProbeError`] if the programs cannot be loaded or attached.
    pub fn start(options: LiveOptions) -> Result<Self, ProbeError> {
        let filter = options.selection.kernel_filter();
        let request = Request {
            events: &options.events,
            emit: options.emits_events,
            per_thread: options.per_vm || options.counts_by_name(),
            timing: options.timing.as_ref(),
            entry_format: options.entry.as_ref(),
            filter: &filter,
            skip_processes: options.selection.is_by_name(),
            sizes: options.sizes,
            log: options.logs_programs,
        };
        let attached = AttachedPrograms::new(&request)?;
        for program in attached.programs() {
            log::info!(
                "{} on {}: {} instructions verified, {} bytes of machine code",
                program.program,
                program.event,
                program.verified_instructions.unwrap_or(0),
                program.jited_bytes
            );
        }
        let mut live = Self {
            processes: Processes::new(options.selection.clone()),
            options,
            attached,
            row_extremes: RowExtremes::default(),
            exited: ExitedThreads::default(),
            exited_counts: VmEventCounts::default(),
            unattributed: 0,
            start_ns: 0,
            end_ns: None,
        };
        if live.options.selection.is_by_name() {
            // A context switch between a selected VM and another one concerns the selected VM. The
            // programs must know from the start which one is not selected.
            live.processes.add_running_vms();
            live.skip_unselected()?;
        }
        live.start_ns = clock::monotonic_ns();
        live.attached.start()?;
        Ok(live)
    }

    /// Does what the methods of this type do with the eBPF programs and maps, without an effect.
    ///
    /// # Errors
    /// [`ProbeError`] if this process may not do it.
    pub fn try_access(&mut self) -> Result<(), ProbeError> {
        self.attached.try_access()
    }

    /// Returns when the measurement started, in ns of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// Returns the options of the measurement.
    #[must_use]
    pub fn options(&self) -> &LiveOptions {
        &self.options
    }

    /// Stops counting. The counts so far can still be read.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be written.
    pub fn stop(&mut self) -> Result<(), ProbeError> {
        self.end_ns = Some(clock::monotonic_ns());
        self.attached.stop()
    }

    fn now_ns(&self) -> u64 {
        self.end_ns.unwrap_or_else(clock::monotonic_ns)
    }

    /// Takes the rings; see [`AttachedPrograms::take_rings`].
    pub fn take_rings(&mut self) -> Option<Rings> {
        self.attached.take_rings()
    }

    /// Returns the size of the rings; see [`AttachedPrograms::ring_bytes`].
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.attached.ring_bytes()
    }

    /// Returns how often each program ran; see [`AttachedPrograms::runs`].
    ///
    /// # Errors
    /// [`ProbeError`] if the kernel does not report them.
    pub fn runs(&self) -> Result<Vec<ProgramRuns>, ProbeError> {
        self.attached.runs()
    }

    /// Returns a descriptor that becomes readable when the programs have sent notifications about new or
    /// ended threads. Call [`Live::handle_notifications`] then. `None` if threads need not be known.
    ///
    /// # Errors
    /// If the process has too many open files.
    pub fn notifications_fd(&self) -> std::io::Result<Option<OwnedFd>> {
        self.attached.notifications_fd()
    }

    /// Sets the process id and the arguments of the command that the collector runs, for the name of its VM.
    pub fn set_command(&mut self, pid: u32, command: &[String]) {
        self.processes.set_command(pid, command);
    }

    /// Reads the names of new VMs while they still run, stores the counts of exited threads, and
    /// prints the log messages of the eBPF programs. Call it regularly.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be read or written.
    pub fn update_threads(&mut self) -> Result<(), ProbeError> {
        self.attached.flush_log();
        self.handle_notifications()?;
        if host::namespaces::check_kernel_ids().is_ok() {
            self.attached.mark_ended_threads(host::process::has_ended);
        }
        self.store_exited_threads(self.attached.epoch())
    }

    /// Handles the notifications about new threads: reads the names of their VMs, and decides whether the
    /// VMs are selected.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be written.
    pub fn handle_notifications(&mut self) -> Result<(), ProbeError> {
        for notification in self.attached.read_notifications() {
            self.processes.add_notification(&notification);
        }
        self.skip_unselected()
    }

    /// Stores the counts of exited threads and frees their entries. `epoch` is the current epoch of
    /// the rows' extremes.
    fn store_exited_threads(&mut self, epoch: u64) -> Result<(), ProbeError> {
        // Once the measurement has stopped, no thread counts any more.
        let is_stopped = self.end_ns.is_some();
        let has_exited = |tgid, tid| is_stopped || host::process::has_ended(tgid, tid);
        let exited: Vec<_> = self
            .attached
            .ended_vcpu_threads()
            .filter(|(_, thread)| thread.task == 0 || has_exited(thread.tgid(), thread.tid()))
            .collect();
        for (index, thread) in exited {
            let thread = self.processes.with_process_id(index, thread);
            self.store_exited_vcpu_thread(index, &thread, epoch)?;
            self.processes.remove_vcpu_thread(index);
        }
        let exited: Vec<_> = self
            .attached
            .ended_counted_threads()
            .filter(|thread| has_exited(thread.tgid, thread.tid))
            .collect();
        for thread in exited {
            let process = self.processes.of_counted_thread(&thread);
            if self.processes.decide(process) != Some(false) {
                let counts = self.attached.thread_counts(thread.index);
                self.exited_counts.add(process, counts);
            }
            self.attached.free_counted_thread(thread.index)?;
            self.processes.remove_counted_thread(thread.index);
        }
        Ok(())
    }

    /// Returns whether a thread is selected, `None` if that is not known yet. The programs also have entries for threads
    /// that run other vCPUs than the selected ones.
    fn decide_vcpu_thread(&mut self, thread: &VcpuThread) -> Option<bool> {
        let filter = &self.options.selection.filter;
        if !filter.matches_vcpu(thread.tid(), thread.vcpu) {
            return Some(false);
        }
        self.processes.decide(thread.tgid())
    }

    fn store_exited_vcpu_thread(
        &mut self,
        index: u32,
        thread: &VcpuThread,
        epoch: u64,
    ) -> Result<(), ProbeError> {
        let is_selected = self.decide_vcpu_thread(thread);
        for (row_index, row, causes) in self.attached.exit_rows(index) {
            let recent = recent_extremes(&row.stats, epoch);
            let extremes = self.row_extremes.take(row_index, recent);
            match is_selected {
                Some(true) => {
                    let totals = ExitTotals::from_stats(&row.stats, extremes);
                    let causes = causes.as_ref().map(Causes::from);
                    self.exited
                        .add_row(thread, row.key, &totals, recent, causes);
                }
                Some(false) => {}
                None => self.unattributed += row.stats.count,
            }
        }
        if is_selected == Some(true) {
            self.exited.add_thread(thread);
            if let Some(key) = thread.clock.open_key() {
                self.exited.add_open_exit(thread, key);
            }
        }
        self.attached.free_vcpu_thread(index)
    }

    /// Returns the names of the VMs that had events.
    #[must_use]
    pub fn names(&self) -> &VmNames {
        self.processes.names()
    }

    /// Returns whether the process with this number is selected. A process with a name that is needed but
    /// unknown is not.
    pub fn is_selected(&mut self, pid: u32) -> bool {
        self.processes.decide_latest(pid) == Some(true)
    }

    /// Returns the name of the VM of a process, by the process's number. Looks it up if it is not
    /// known yet.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> Option<VmName> {
        let known = self.names().current_name(tgid).cloned();
        known.or_else(|| host::vm::name_of(tgid))
    }

    /// Decides about processes at their first event, so that the programs skip those that are not
    /// selected.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be written.
    pub fn decide_processes(
        &mut self,
        pids: impl IntoIterator<Item = u32>,
    ) -> Result<(), ProbeError> {
        if !self.options.selection.is_by_name() {
            return Ok(());
        }
        for pid in pids {
            self.processes.add(pid);
        }
        self.skip_unselected()
    }

    /// Tells the programs which processes they can skip.
    fn skip_unselected(&mut self) -> Result<(), ProbeError> {
        for process in self.processes.take_newly_skipped() {
            self.attached.skip_process(pid_of(process))?;
        }
        Ok(())
    }

    /// Returns a loss with only the number of events for which the kernel ran no program.
    fn missed(&self) -> Loss {
        Loss {
            missed: self.attached.missed(),
            ..Loss::default()
        }
    }
}
