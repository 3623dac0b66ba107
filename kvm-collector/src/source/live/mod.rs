//! The running kernel as a source: attaches the eBPF programs and reads their tables.

mod options;
mod processes;
mod row_extremes;

use std::os::fd::OwnedFd;

use kvm_ebpf_common::{SlotCounts, VcpuThread};

use super::vm_event_counts::VmEventCounts;
use crate::{
    host::{self, VmNames, clock},
    model::{
        Causes, CountsSnapshot, EventCount, ExitReading, ExitTotals, Loss, ThreadExits, VmCounts,
        pid_of,
    },
    probe::{AttachedPrograms, ProbeError, ProgramRuns, Request, Rings},
    timing::{ExitedThreads, RunningVcpus, read_open_exit, recent_extremes, vcpu_id_of},
    tracefs::Format,
};
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
    /// [`ProbeError`] if the kernel cannot be asked for the statistics.
    pub fn runs(&self) -> Result<Vec<ProgramRuns>, ProbeError> {
        self.attached.runs()
    }

    /// Returns a descriptor that becomes readable when the programs have sent notifications about new or
    /// ended threads. [`Live::handle_notifications`] must be called then. `None` if threads need not be
    /// known.
    ///
    /// # Errors
    /// If the process cannot have another file descriptor.
    pub fn notifications_fd(&self) -> std::io::Result<Option<OwnedFd>> {
        self.attached.notifications_fd()
    }

    /// Reads the names of new VMs while they still run, stores the counts of exited threads, and
    /// prints the log messages of the eBPF programs. To be called regularly.
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
            .filter(|(_, it)| it.task == 0 || has_exited(it.tgid(), it.tid()))
            .collect();
        for (index, thread) in exited {
            let thread = self.processes.with_process_id(index, thread);
            self.store_exited_vcpu_thread(index, &thread, epoch)?;
            self.processes.remove_vcpu_thread(index);
        }
        let exited: Vec<_> = self
            .attached
            .ended_counted_threads()
            .filter(|it| has_exited(it.tgid, it.tid))
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

    fn store_exited_vcpu_thread(
        &mut self,
        index: u32,
        thread: &VcpuThread,
        epoch: u64,
    ) -> Result<(), ProbeError> {
        let is_selected = self.processes.decide(thread.tgid());
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

    /// Returns the snapshot at the start of the measurement, in which all counts are 0.
    #[must_use]
    pub fn zero_counts(&self) -> CountsSnapshot {
        let slots = vec![SlotCounts::default(); self.options.events.len()];
        CountsSnapshot {
            time_ns: self.start_ns,
            events: self.event_counts_from_slots(&slots),
            vms: Vec::new(),
            loss: Loss::default(),
        }
    }

    /// Reads the total count of each event since the start. This is cheaper than
    /// [`Live::read_counts`].
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be read.
    pub fn read_event_counts(&self) -> Result<Vec<EventCount>, ProbeError> {
        Ok(self.event_counts_from_slots(&self.attached.slot_counts()?))
    }

    fn event_counts_from_slots(&self, slots: &[SlotCounts]) -> Vec<EventCount> {
        let events = self.options.events.iter().zip(slots);
        let count = |(format, slot): (&Format, &SlotCounts)| EventCount {
            event: format.event_name(),
            count: slot.seen,
            lost: slot.lost,
        };
        events.map(count).collect()
    }

    /// Reads the count of each event since the start; also by VM, if requested.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be read or written.
    pub fn read_counts(&mut self) -> Result<CountsSnapshot, ProbeError> {
        self.attached.flush_log();
        let time_ns = self.now_ns();
        self.handle_notifications()?;
        self.store_exited_threads(self.attached.epoch())?;
        let slots = self.attached.slot_counts()?;
        let mut loss = self.missed();
        loss.lost = slots.iter().map(|slot| slot.lost).sum();
        loss.unattributed = slots.iter().map(|slot| slot.unattributed).sum();
        loss.map_full = self.attached.timing_counters().threads_full;
        let mut events = self.event_counts_from_slots(&slots);
        let (vms, unattributed) = self.read_vm_counts();
        loss.unattributed += unattributed;
        if self.options.counts_by_name() {
            for (slot, event) in events.iter_mut().enumerate() {
                event.count = vms.iter().filter_map(|vm| vm.counts.get(slot)).sum();
            }
        }
        Ok(CountsSnapshot {
            time_ns,
            events,
            vms: if self.options.per_vm { vms } else { Vec::new() },
            loss,
        })
    }

    /// Reads the counts of each selected VM. Also returns the number of events that were omitted
    /// because the name of their VM is unknown.
    fn read_vm_counts(&mut self) -> (Vec<VmCounts>, u64) {
        let mut vms = self.exited_counts.clone();
        for thread in self.attached.counted_threads().collect::<Vec<_>>() {
            let process = self.processes.of_counted_thread(&thread);
            if self.processes.decide(process) != Some(false) {
                vms.add(process, self.attached.thread_counts(thread.index));
            }
        }
        let (selected, unknown): (Vec<_>, Vec<_>) = vms
            .into_counts()
            .partition(|(tgid, _)| *tgid == 0 || self.processes.decide(*tgid) == Some(true));
        let names = self.processes.names();
        let counts = |(tgid, counts)| VmCounts {
            tgid,
            name: names.display_name(tgid).to_owned(),
            counts,
        };
        let unattributed = unknown.iter().flat_map(|(_, counts)| counts).sum();
        (selected.into_iter().map(counts).collect(), unattributed)
    }

    /// Returns whether the process with this number is selected. A process with a name that is needed but
    /// unknown is not.
    pub fn is_selected(&mut self, pid: u32) -> bool {
        self.processes.decide_latest(pid) == Some(true)
    }

    /// Returns the name of the VM of a process, by the process's number. Looks it up if it is not
    /// known yet.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> Option<String> {
        let known = self.names().current_name(tgid).map(str::to_owned);
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

    /// Passes all timed exits since the start to `each`: one row per thread and key, those of
    /// exited threads included.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be read or written.
    pub fn read_exits(
        &mut self,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) -> Result<ExitReading, ProbeError> {
        self.attached.flush_log();
        let now_ns = self.now_ns();
        // Exited threads are stored before the epoch ends. Exits that happen between the end of the
        // epoch and the reading count for the extremes of both epochs.
        self.handle_notifications()?;
        self.store_exited_threads(self.attached.epoch())?;
        let epoch = match self.end_ns {
            None => self.attached.next_epoch()?,
            Some(_) => self.attached.epoch(),
        };
        let threads = self.attached.vcpu_threads();
        let mut threads: Vec<_> = threads
            .map(|(index, thread)| (index, self.processes.with_process_id(index, thread)))
            .collect();
        let read_start_ns = clock::monotonic_ns();
        threads.retain(|(_, thread)| self.processes.decide(thread.tgid()) == Some(true));
        for (index, thread) in &threads {
            self.read_rows(*index, thread, epoch, each);
        }
        log::debug!(
            "the tables of {} vCPU threads were read in {} us",
            threads.len(),
            clock::monotonic_ns().saturating_sub(read_start_ns) / 1000
        );
        let mut vcpus = Vec::with_capacity(threads.len());
        let running = RunningVcpus::from_threads(threads.iter().map(|it| &it.1));
        let mut migrated = 0;
        for (_, thread) in &threads {
            let (times, has_migrated) =
                read_open_exit(thread, &running, &self.exited, now_ns, each);
            vcpus.push(times);
            migrated += u64::from(has_migrated);
        }
        self.exited.read_rows(&running, each);
        vcpus.extend(self.exited.vcpu_times());
        let counters = self.attached.timing_counters();
        let mut loss = self.missed();
        loss.lost = counters.slow_lost + counters.interrupted;
        loss.unmatched = counters.unmatched;
        loss.moved = counters.moved + self.exited.moved_exits() + migrated;
        loss.map_full = counters.rows_full + counters.threads_full + self.exited.dropped_exits();
        loss.unattributed = counters.unattributed + self.unattributed;
        Ok(ExitReading {
            time_ns: now_ns.saturating_sub(self.start_ns),
            vcpus,
            loss,
        })
    }

    /// Passes the rows of a running thread to `each`.
    fn read_rows(
        &mut self,
        index: u32,
        thread: &VcpuThread,
        epoch: u64,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) {
        for (row_index, row, causes) in self.attached.exit_rows(index) {
            let recent = recent_extremes(&row.stats, epoch);
            let extremes = self.row_extremes.merge(row_index, recent);
            each(&ThreadExits {
                vcpu_id: vcpu_id_of(thread),
                key: row.key,
                totals: &ExitTotals::from_stats(&row.stats, extremes),
                recent,
                causes: causes.as_ref().map(Causes::from).as_ref(),
            });
        }
    }

    /// Tells the programs which processes they can skip.
    fn skip_unselected(&mut self) -> Result<(), ProbeError> {
        for process in self.processes.take_newly_skipped() {
            self.attached.skip_process(pid_of(process))?;
        }
        Ok(())
    }

    fn missed(&self) -> Loss {
        Loss {
            missed: self.attached.missed(),
            ..Loss::default()
        }
    }
}
