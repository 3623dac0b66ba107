//! The running kernel as a source: programs attached by `probe`, read as samples.

use std::{collections::HashMap, os::fd::OwnedFd, path::Path};

use kvm_ebpf_common::{NOTICE_VCPU_THREAD, SlotCounts, ThreadNotice, VcpuThread};

use super::vm_event_counts::VmEventCounts;
use crate::{
    host::{self, VmNames, clock},
    model::{
        Causes, Counts, EventCount, ExitReading, ExitTotals, Loss, MinMax, ThreadExits, VmCounts,
        pid_of,
    },
    probe::{Attached, CountedEntry, MapSizes, ProbeError, ProgramRuns, Request, Rings},
    timing::{ExitedThreads, Pairing, RunningVcpus, Selection, Selector, recent, vcpu_id},
    tracefs::Format,
};

/// What to watch.
#[derive(Debug, Default)]
pub struct LiveOptions {
    /// Events to count.
    pub events: Vec<Format>,
    /// Send each event to user space as well.
    pub ship: bool,
    /// Count per VM as well.
    pub per_vm: bool,
    /// Time VM exits.
    pub pairing: Option<Pairing>,
    /// `kvm_entry`'s format, where there is one.
    pub entry: Option<Format>,
    /// Which VMs, vCPUs, threads and exit reasons.
    pub selection: Selection,
    /// Sizes of maps.
    pub sizes: MapSizes,
    /// The kernel half's own diagnostics.
    pub log: bool,
}

impl LiveOptions {
    /// Are events counted of VMs that are selected by name? The kernel side does not know names.
    fn counts_by_name(&self) -> bool {
        self.selection.is_by_name() && !self.events.is_empty() && !self.ship
    }
}

/// The running kernel, watched.
#[derive(Debug)]
pub struct Live {
    options: LiveOptions,
    attached: Attached,
    names: VmNames,
    /// The extremes of each row, up to the last epoch that was read.
    extremes: Vec<MinMax>,
    exited: ExitedThreads,
    /// What threads that have ended had counted, event by event.
    exited_counts: VmEventCounts,
    /// The process of each entry of the programs' tables: of vCPU threads, and of threads whose events are counted by
    /// themselves.
    vcpu_processes: HashMap<u32, u32>,
    counted_processes: HashMap<u32, u32>,
    /// The selection by process, applied to each process as it appears.
    selector: Selector,
    /// Exits and events that are left out, since the name of their VM was not known in time.
    unattributed: u64,
    began_ns: u64,
    /// When watching ended, if it has.
    ended_ns: Option<u64>,
}

impl Live {
    /// Attaches, and then begins to count.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn begin(options: LiveOptions) -> Result<Self, ProbeError> {
        let filter = options.selection.kernel_filter();
        let request = Request {
            events: &options.events,
            ship: options.ship,
            // By name, user space selects from what each process counted.
            per_thread: options.per_vm || options.counts_by_name(),
            pairing: options.pairing.as_ref(),
            entry: options.entry.as_ref(),
            filter: &filter,
            skip_processes: options.selection.is_by_name(),
            sizes: options.sizes,
            log: options.log,
        };
        let attached = Attached::new(&request)?;
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
            selector: Selector::new(options.selection.clone()),
            unattributed: 0,
            options,
            attached,
            names: VmNames::default(),
            extremes: Vec::new(),
            exited: ExitedThreads::default(),
            exited_counts: VmEventCounts::default(),
            vcpu_processes: HashMap::new(),
            counted_processes: HashMap::new(),
            began_ns: 0,
            ended_ns: None,
        };
        live.decide_about_running()?;
        live.began_ns = clock::monotonic_ns();
        live.attached.start()?;
        Ok(live)
    }

    /// Applies a selection by name to the VMs that run already. A context switch between a VM that is selected and one
    /// that is not is about the first: the programs have to know which one is not.
    fn decide_about_running(&mut self) -> Result<(), ProbeError> {
        if !self.options.selection.is_by_name() {
            return Ok(());
        }
        // Those that cannot be found now are decided about when they are seen.
        let vms = host::vm::list(Path::new("/proc")).map_or(Vec::new(), |it| it.vms);
        for vm in &vms {
            let process = self.names.learn(vm.tgid, None);
            self.process(process);
        }
        self.skip_unselected()
    }

    /// When it began, `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// What is watched.
    #[must_use]
    pub fn options(&self) -> &LiveOptions {
        &self.options
    }

    /// Stops watching: nothing is counted from here on, and what was counted can still be read.
    ///
    /// # Errors
    /// When the kernel half cannot be told.
    pub fn end(&mut self) -> Result<(), ProbeError> {
        self.ended_ns = Some(clock::monotonic_ns());
        self.attached.stop()
    }

    fn now_ns(&self) -> u64 {
        self.ended_ns.unwrap_or_else(clock::monotonic_ns)
    }

    /// See [`Attached::take_rings`].
    pub fn take_rings(&mut self) -> Option<Rings> {
        self.attached.take_rings()
    }

    /// See [`Attached::ring_bytes`].
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.attached.ring_bytes()
    }

    /// See [`Attached::runs`].
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn runs(&self) -> Result<Vec<ProgramRuns>, ProbeError> {
        self.attached.runs()
    }

    /// A descriptor that is readable when threads have come or gone: then [`Live::learn`] is due. `None` if threads
    /// need not be known.
    ///
    /// # Errors
    /// When there can be no further descriptor.
    pub fn notices_fd(&self) -> std::io::Result<Option<OwnedFd>> {
        self.attached.notices_fd()
    }

    /// To be called now and then: learns the names of new VMs while they live, stores
    /// what ended threads have counted, and passes on the diagnostics of the eBPF programs.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn look_around(&mut self) -> Result<(), ProbeError> {
        self.attached.flush_log();
        self.learn()?;
        if host::namespaces::kernel_ids().is_ok() {
            self.attached.end_gone_threads(host::process::has_ended);
        }
        self.store_ended_threads(self.attached.epoch())
    }

    /// To be called when threads have come or gone: learns which VMs are new, and decides about them.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn learn(&mut self) -> Result<(), ProbeError> {
        for notice in self.attached.read_notices() {
            let process = self.names.learn(notice.tgid, comm(&notice).as_deref());
            let processes = match notice.kind {
                NOTICE_VCPU_THREAD => &mut self.vcpu_processes,
                _ => &mut self.counted_processes,
            };
            processes.insert(notice.index, process);
            self.process(process);
        }
        self.skip_unselected()
    }

    /// Stores what threads have counted that are gone, and frees their entries.
    /// Rows have extremes of this epoch.
    fn store_ended_threads(&mut self, epoch: u64) -> Result<(), ProbeError> {
        // After the end nothing more is counted.
        let is_over = self.ended_ns.is_some();
        let is_gone = |tgid, tid| is_over || host::process::has_ended(tgid, tid);
        let gone: Vec<_> = self
            .attached
            .ended_vcpu_threads()
            .filter(|(_, it)| it.task == 0 || is_gone(it.tgid(), it.tid()))
            .collect();
        for (index, thread) in gone {
            let thread = self.identified(index, thread);
            self.store_ended_vcpu_thread(index, &thread, epoch)?;
            self.vcpu_processes.remove(&index);
        }
        let gone: Vec<_> = self
            .attached
            .ended_counted_threads()
            .filter(|it| is_gone(it.tgid, it.tid))
            .collect();
        for thread in gone {
            let process = self.process_of(&thread);
            if self.process(process) != Some(false) {
                let counts = self.attached.thread_counts(thread.index);
                self.exited_counts.add(process, counts);
            }
            self.attached.free_counted_thread(thread.index)?;
            self.counted_processes.remove(&thread.index);
        }
        Ok(())
    }

    /// Stores what a vCPU thread has counted that is gone, and frees its entry.
    fn store_ended_vcpu_thread(
        &mut self,
        index: u32,
        thread: &VcpuThread,
        epoch: u64,
    ) -> Result<(), ProbeError> {
        let decision = self.process(thread.tgid());
        for (row_index, row, causes) in self.attached.exit_rows(index) {
            let recent = recent(&row.stats, epoch);
            // The row will be another thread's.
            let mut extremes = take_extremes(&mut self.extremes, row_index);
            extremes.merge(recent);
            match decision {
                Some(true) => {
                    let totals = ExitTotals::of(&row.stats, extremes);
                    let causes = causes.as_ref().map(Causes::from);
                    self.exited.keep(thread, row.key, &totals, recent, causes);
                }
                Some(false) => {}
                None => self.unattributed += row.stats.count,
            }
        }
        if decision == Some(true) {
            self.exited.keep_thread(thread);
            if let Some(key) = thread.clock.open_key() {
                self.exited.keep_open(thread, key);
            }
        }
        self.attached.free_vcpu_thread(index)
    }

    /// Names of the VMs seen.
    #[must_use]
    pub fn names(&self) -> &VmNames {
        &self.names
    }

    /// What had been counted when it began: nothing.
    #[must_use]
    pub fn nothing(&self) -> Counts {
        Counts {
            time_ns: self.began_ns,
            events: self.events_of(&vec![SlotCounts::default(); self.options.events.len()]),
            vms: Vec::new(),
            loss: Loss::default(),
        }
    }

    /// Totals per event since the beginning, without what else [`Live::counts`] asks the kernel for.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn events(&self) -> Result<Vec<EventCount>, ProbeError> {
        Ok(self.events_of(&self.attached.slot_counts()?))
    }

    fn events_of(&self, slots: &[SlotCounts]) -> Vec<EventCount> {
        let events = self.options.events.iter().zip(slots);
        let count = |(format, slot): (&Format, &SlotCounts)| EventCount {
            event: format.event(),
            count: slot.seen,
            lost: slot.lost,
        };
        events.map(count).collect()
    }

    /// Totals per event, and per VM if asked for, since the beginning.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counts(&mut self) -> Result<Counts, ProbeError> {
        self.attached.flush_log();
        let time_ns = self.now_ns();
        self.learn()?;
        self.store_ended_threads(self.attached.epoch())?;
        let slots = self.attached.slot_counts()?;
        let mut loss = self.missed();
        loss.lost = slots.iter().map(|slot| slot.lost).sum();
        loss.unattributed = slots.iter().map(|slot| slot.unattributed).sum();
        loss.map_full = self.attached.pairing_counters().threads_full;
        let mut events = self.events_of(&slots);
        let (vms, unattributed) = self.vms();
        loss.unattributed += unattributed;
        if self.options.counts_by_name() {
            for (slot, event) in events.iter_mut().enumerate() {
                event.count = vms.iter().filter_map(|vm| vm.counts.get(slot)).sum();
            }
        }
        Ok(Counts {
            time_ns,
            events,
            vms: if self.options.per_vm { vms } else { Vec::new() },
            loss,
        })
    }

    /// Counts of each selected VM, and how many events are left out since the name of their VM is not known.
    fn vms(&mut self) -> (Vec<VmCounts>, u64) {
        let mut vms = self.exited_counts.clone();
        for thread in self.attached.counted_threads().collect::<Vec<_>>() {
            let process = self.process_of(&thread);
            if self.process(process) != Some(false) {
                vms.add(process, self.attached.thread_counts(thread.index));
            }
        }
        let (selected, unknown): (Vec<_>, Vec<_>) = vms
            .into_counts()
            .partition(|(tgid, _)| *tgid == 0 || self.process(*tgid) == Some(true));
        let counts = |(tgid, counts)| VmCounts {
            tgid,
            name: self.names.get(tgid).to_owned(),
            counts,
        };
        let unattributed = unknown.iter().flat_map(|(_, counts)| counts).sum();
        (selected.into_iter().map(counts).collect(), unattributed)
    }

    /// Is a process selected, by its [`process_id`](crate::model::process_id)? `None`: that depends on its name, which is
    /// not known.
    fn process(&mut self, process: u32) -> Option<bool> {
        let names = &self.names;
        self.selector
            .process(process, &|it| names.known(it).map(str::to_owned))
    }

    /// Is a process selected, by its number, as far as its name is known?
    pub fn is_selected(&mut self, pid: u32) -> bool {
        self.process(self.names.latest(pid)) == Some(true)
    }

    /// A vCPU thread with its process's [`process_id`](crate::model::process_id) in the place of the number.
    fn identified(&self, index: u32, thread: VcpuThread) -> VcpuThread {
        let process = self.vcpu_processes.get(&index).copied();
        let process = process.unwrap_or_else(|| self.names.latest(thread.tgid()));
        VcpuThread {
            owner: u64::from(process) << 32 | u64::from(thread.tid()),
            ..thread
        }
    }

    /// The [`process_id`](crate::model::process_id) of a thread whose events are counted by themselves.
    fn process_of(&self, thread: &CountedEntry) -> u32 {
        let process = self.counted_processes.get(&thread.index).copied();
        process.unwrap_or_else(|| self.names.latest(thread.tgid))
    }

    /// The name of a process's VM, by the process's number; looked up now if it was not before.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> Option<String> {
        let known = self.names.of_current(tgid).map(str::to_owned);
        known.or_else(|| host::vm::name_of(tgid))
    }

    /// Decides about processes that have had their first event, so that the programs skip those that are not selected.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn decide_about(&mut self, pids: impl IntoIterator<Item = u32>) -> Result<(), ProbeError> {
        if !self.options.selection.is_by_name() {
            return Ok(());
        }
        for pid in pids {
            let process = self.names.learn(pid, None);
            self.process(process);
        }
        self.skip_unselected()
    }

    /// Hands over all timed exits since the beginning: of each thread and key, and of what has ended.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn exits(
        &mut self,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) -> Result<ExitReading, ProbeError> {
        self.attached.flush_log();
        let now_ns = self.now_ns();
        // Before the epoch ends: what is counted between its end and the reading is in the extremes of both.
        self.learn()?;
        self.store_ended_threads(self.attached.epoch())?;
        let epoch = match self.ended_ns {
            None => self.attached.next_epoch()?,
            Some(_) => self.attached.epoch(),
        };
        let threads = self.attached.vcpu_threads();
        let mut threads: Vec<_> = threads
            .map(|(index, thread)| (index, self.identified(index, thread)))
            .collect();
        let begin_ns = clock::monotonic_ns();
        threads.retain(|(_, thread)| self.process(thread.tgid()) == Some(true));
        for (index, thread) in &threads {
            self.read_rows(*index, thread, epoch, each);
        }
        log::debug!(
            "the tables of {} vCPU threads were read in {} us",
            threads.len(),
            clock::monotonic_ns().saturating_sub(begin_ns) / 1000
        );
        let mut vcpus = Vec::with_capacity(threads.len());
        let running = RunningVcpus::of(threads.iter().map(|it| &it.1));
        let mut moved = 0;
        for (_, thread) in &threads {
            let (times, is_moved) = running.read_thread(thread, &self.exited, now_ns, each);
            vcpus.push(times);
            moved += u64::from(is_moved);
        }
        self.exited.hand_over(&running, each);
        vcpus.extend(self.exited.vcpus());
        let counters = self.attached.pairing_counters();
        let mut loss = self.missed();
        loss.lost = counters.slow_lost + counters.interrupted;
        loss.unmatched = counters.unmatched;
        loss.moved = counters.moved + self.exited.moved() + moved;
        loss.map_full = counters.rows_full + counters.threads_full + self.exited.full();
        loss.unattributed = counters.unattributed + self.unattributed;
        Ok(ExitReading {
            time_ns: now_ns.saturating_sub(self.began_ns),
            vcpus,
            loss,
        })
    }

    /// Hands over the rows of a thread. They have extremes of this epoch.
    fn read_rows(
        &mut self,
        index: u32,
        thread: &VcpuThread,
        epoch: u64,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) {
        for (row_index, row, causes) in self.attached.exit_rows(index) {
            let recent = recent(&row.stats, epoch);
            let mut extremes = take_extremes(&mut self.extremes, row_index);
            extremes.merge(recent);
            self.extremes[row_index] = extremes;
            each(&ThreadExits {
                vcpu_id: vcpu_id(thread),
                key: row.key,
                totals: &ExitTotals::of(&row.stats, extremes),
                recent,
                causes: causes.as_ref().map(Causes::from).as_ref(),
            });
        }
    }

    /// Tells the programs which processes they can skip.
    fn skip_unselected(&mut self) -> Result<(), ProbeError> {
        for process in self.selector.newly_skipped() {
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

/// The extremes of a row up to the last epoch that was read; there are none afterwards.
fn take_extremes(extremes: &mut Vec<MinMax>, row: usize) -> MinMax {
    if extremes.len() <= row {
        extremes.resize(row + 1, MinMax::NONE);
    }
    std::mem::replace(&mut extremes[row], MinMax::NONE)
}

/// The name of a notice's thread.
fn comm(notice: &ThreadNotice) -> Option<String> {
    let comm = notice.comm.split(|byte| *byte == 0).next()?;
    (!comm.is_empty()).then(|| String::from_utf8_lossy(comm).into_owned())
}
