//! The running kernel as a source: programs attached by `probe`, read as samples.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use kvm_ebpf_common::{RowKey, SlotCounts, VcpuThread};

use crate::{
    host::{self, VmNames, clock},
    model::{
        Causes, Counts, EventCount, ExitReading, ExitTotals, Loss, MinMax, ThreadExits, VmCounts,
    },
    probe::{Attached, MapSizes, ProbeError, ProgramRuns, Request, Rings, ThreadCount},
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
        self.names.learn(vms.iter().map(|it| it.tgid));
        for vm in &vms {
            self.process(vm.tgid);
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
        self.attached.stop().map(drop)
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

    /// To be called now and then: learns the names of new VMs while they live, and passes on the
    /// kernel half's diagnostics.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn look_around(&mut self) -> Result<(), ProbeError> {
        self.attached.flush_log();
        let threads = self.vcpu_threads();
        let ended = threads.iter().filter(|(_, thread)| thread.ended != 0);
        if self.options.pairing.is_none() {
            // They have no rows.
            let places: Vec<_> = ended.map(|(place, _)| *place).collect();
            self.attached.give_back(&places, &[])?;
        } else {
            if ended.count() > 0 {
                let epoch = self.attached.epoch();
                self.read_rows(&threads, epoch, None)?;
            }
        }
        for (key, _) in self.thread_counts()? {
            self.process(key.tgid);
        }
        for (_, thread) in &threads {
            self.process(thread.tgid());
        }
        self.skip_unselected()
    }

    /// Counts per thread, where they are kept; learns the names of new VMs.
    fn thread_counts(&mut self) -> Result<Vec<ThreadCount>, ProbeError> {
        if !(self.options.per_vm || self.options.counts_by_name()) {
            return Ok(Vec::new());
        }
        let threads = self.attached.thread_counts()?;
        self.names.learn(threads.iter().map(|(key, _)| key.tgid));
        Ok(threads)
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
        let slots = self.attached.slot_counts()?;
        let threads = self.thread_counts()?;
        let mut loss = self.missed();
        loss.lost = slots.iter().map(|slot| slot.lost).sum();
        loss.unattributed = slots.iter().map(|slot| slot.unattributed).sum();
        loss.map_full = self.attached.pairing_counters()?.threads_full;
        let mut events = self.events_of(&slots);
        let (vms, unattributed) = self.vms(&threads);
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
    fn vms(&mut self, threads: &[ThreadCount]) -> (Vec<VmCounts>, u64) {
        let events = self.options.events.len();
        let mut vms: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut unattributed = 0;
        for (key, counts) in threads {
            match self.process(key.tgid) {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    unattributed += counts.seen;
                    continue;
                }
            }
            let vm = vms.entry(key.tgid).or_insert_with(|| vec![0; events]);
            if let Some(count) = vm.get_mut(key.slot as usize) {
                *count += counts.seen;
            }
        }
        let vms = vms.into_iter().map(|(tgid, counts)| VmCounts {
            tgid,
            name: self.names.get(tgid).to_owned(),
            counts,
        });
        (vms.collect(), unattributed)
    }

    /// Is a process selected? `None`: that depends on its name, which is not known.
    fn process(&mut self, tgid: u32) -> Option<bool> {
        let names = &self.names;
        self.selector
            .process(tgid, &|tgid| names.known(tgid).map(str::to_owned))
    }

    /// Is a process selected, as far as its name is known?
    pub fn is_selected(&mut self, tgid: u32) -> bool {
        self.process(tgid) == Some(true)
    }

    /// The name of a process's VM, for who selects by it; looked up now if it was not before.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> Option<String> {
        let known = self.names.known(tgid).map(str::to_owned);
        known.or_else(|| host::vm::name_of(tgid))
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
        let epoch = match self.ended_ns {
            None => self.attached.next_epoch()?,
            Some(_) => self.attached.epoch(),
        };
        let threads = self.vcpu_threads();
        let begin_ns = clock::monotonic_ns();
        self.read_rows(&threads, epoch, Some(each))?;
        log::debug!(
            "the tables of {} vCPU threads were read in {} us",
            threads.len(),
            clock::monotonic_ns().saturating_sub(begin_ns) / 1000
        );
        let mut vcpus = Vec::with_capacity(threads.len());
        let living = || threads.iter().map(|it| &it.1).filter(|it| it.ended == 0);
        let running = RunningVcpus::of(living());
        let mut moved = 0;
        for thread in living() {
            if self.process(thread.tgid()) == Some(true) {
                let (times, is_moved) = running.read_thread(thread, &self.exited, now_ns, each);
                vcpus.push(times);
                moved += u64::from(is_moved);
            }
        }
        self.exited.hand_over(&running, each);
        vcpus.extend(self.exited.vcpus());
        let counters = self.attached.pairing_counters()?;
        let mut loss = self.missed();
        loss.lost = counters.slow_lost;
        loss.unmatched = counters.unmatched;
        loss.moved = counters.moved + self.exited.moved() + moved;
        loss.map_full = counters.rows_full + counters.threads_full;
        loss.unattributed = counters.unattributed + self.unattributed;
        Ok(ExitReading {
            time_ns: now_ns.saturating_sub(self.began_ns),
            vcpus,
            loss,
        })
    }

    /// The vCPU threads there are. Learns the names of new VMs, and so decides about them.
    fn vcpu_threads(&mut self) -> Vec<(u64, VcpuThread)> {
        let threads = self.attached.vcpu_threads();
        self.names
            .learn(threads.iter().map(|(_, thread)| thread.tgid()));
        threads
    }

    /// Tells the programs which processes they can skip, and forgets those whose number is another process's by now.
    fn skip_unselected(&mut self) -> Result<(), ProbeError> {
        if !self.options.selection.is_by_name() {
            return Ok(());
        }
        for tgid in self.selector.forget_reused(host::process::is_process) {
            self.names.forget(tgid);
        }
        for tgid in self.selector.newly_skipped() {
            self.attached.skip_process(tgid)?;
        }
        Ok(())
    }

    /// Keeps and gives back the rows of threads that have ended; hands over those of the others, if
    /// anybody wants them. Rows have extremes of this epoch.
    fn read_rows(
        &mut self,
        threads: &[(u64, VcpuThread)],
        epoch: u64,
        mut each: Option<&mut dyn FnMut(&ThreadExits<'_>)>,
    ) -> Result<(), ProbeError> {
        let all = each.is_some();
        let decisions: HashMap<u64, Option<bool>> = threads
            .iter()
            .map(|(index, thread)| (*index, self.process(thread.tgid())))
            .collect();
        let unattributed = &mut self.unattributed;
        let by_place: HashMap<u64, &VcpuThread> = threads
            .iter()
            .map(|(index, thread)| (*index, thread))
            .collect();
        // The rows of a thread that has come since are for the next reading.
        let wanted = |place: u64| {
            let thread = by_place.get(&place).copied();
            thread.filter(|thread| thread.ended != 0 || all)
        };
        let mut rows = Vec::new();
        let (merged, exited) = (&mut self.extremes, &mut self.exited);
        let is_wanted = |place: u64| wanted(place).is_some();
        self.attached.exit_rows(is_wanted, |index, row, causes| {
            let Some(thread) = wanted(row.thread - 1) else {
                return;
            };
            let ended = thread.ended != 0;
            let recent = recent(&row.stats, epoch);
            if merged.len() <= index {
                merged.resize(index + 1, MinMax::NONE);
            }
            let extremes = &mut merged[index];
            extremes.merge(recent);
            let totals = ExitTotals::of(&row.stats, *extremes);
            let causes = causes.as_ref().map(Causes::from);
            let decision = decisions.get(&(row.thread - 1));
            let is_selected = decision == Some(&Some(true));
            if ended {
                if is_selected {
                    exited.keep(thread, row.key, &totals, recent, causes);
                } else if decision == Some(&None) {
                    *unattributed += totals.count;
                }
                *extremes = MinMax::NONE;
                let key = RowKey {
                    thread: row.thread - 1,
                    key: row.key,
                };
                rows.push((index, key));
            } else if is_selected && let Some(each) = &mut each {
                each(&ThreadExits {
                    vcpu_id: vcpu_id(thread),
                    key: row.key,
                    totals: &totals,
                    recent,
                    causes: causes.as_ref(),
                });
            }
        });
        let mut places = Vec::new();
        for (index, thread) in threads {
            if thread.ended != 0 {
                if decisions.get(index) == Some(&Some(true)) {
                    exited.keep_thread(thread);
                    if let Some(key) = thread.clock.open_key() {
                        exited.keep_open(thread, key);
                    }
                }
                places.push(*index);
            }
        }
        self.attached.give_back(&places, &rows)
    }

    fn missed(&self) -> Loss {
        Loss {
            missed: self.attached.missed(),
            ..Loss::default()
        }
    }
}
