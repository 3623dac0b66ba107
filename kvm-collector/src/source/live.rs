//! The running kernel as a source: programs attached by `probe`, read as samples.

use std::collections::{BTreeMap, HashMap};

use kvm_ebpf_common::{RowKey, SlotCounts, VcpuThread};

use crate::{
    host::clock,
    model::{
        Causes, Counts, EventCount, ExitReading, ExitTotals, Loss, MinMax, ThreadExits, VmCounts,
    },
    probe::{
        Attached, Filter, MapSizes, Pairing, ProbeError, ProgramRuns, Request, Rings, ThreadCount,
    },
    tracefs::Format,
};

use super::{
    VmNames,
    departed::Departed,
    of_thread::{recent, times, whose},
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
    /// What is left out.
    pub filter: Filter,
    /// Sizes of maps.
    pub sizes: MapSizes,
    /// The kernel half's own diagnostics.
    pub log: bool,
}

/// The running kernel, watched.
#[derive(Debug)]
pub struct Live {
    options: LiveOptions,
    attached: Attached,
    names: VmNames,
    /// The extremes of each row, up to the last epoch that was read.
    extremes: Vec<MinMax>,
    departed: Departed,
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
        let request = Request {
            events: &options.events,
            ship: options.ship,
            per_thread: options.per_vm,
            pairing: options.pairing.as_ref(),
            entry: options.entry.as_ref(),
            filter: &options.filter,
            skip_processes: false,
            sizes: options.sizes,
            log: options.log,
        };
        let mut attached = Attached::new(&request)?;
        for program in attached.programs() {
            log::info!(
                "{} on {}: {} instructions verified, {} bytes of machine code",
                program.program,
                program.event,
                program.verified_instructions.unwrap_or(0),
                program.jited_bytes
            );
        }
        let began_ns = clock::monotonic_ns();
        attached.start()?;
        Ok(Self {
            options,
            attached,
            names: VmNames::default(),
            extremes: Vec::new(),
            departed: Departed::default(),
            began_ns,
            ended_ns: None,
        })
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
        let threads = self.attached.vcpu_threads();
        let ended = threads.iter().filter(|(_, thread)| thread.ended != 0);
        if self.options.pairing.is_none() {
            // They have no rows.
            let places: Vec<_> = ended.map(|(place, _)| *place).collect();
            self.attached.give_back(&places, &[])?;
        } else {
            self.names
                .learn(threads.iter().map(|(_, thread)| thread.tgid()));
            if ended.count() > 0 {
                let epoch = self.attached.epoch();
                self.read_rows(&threads, epoch, None)?;
            }
        }
        self.thread_counts()?;
        Ok(())
    }

    /// Counts per thread, where VMs are told apart; learns the names of new VMs.
    fn thread_counts(&mut self) -> Result<Vec<ThreadCount>, ProbeError> {
        if !self.options.per_vm {
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
        Ok(Counts {
            time_ns,
            events: self.events_of(&slots),
            vms: self.vms(&threads),
            loss,
        })
    }

    fn vms(&self, threads: &[ThreadCount]) -> Vec<VmCounts> {
        let events = self.options.events.len();
        let mut vms: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (key, counts) in threads {
            let vm = vms.entry(key.tgid).or_insert_with(|| vec![0; events]);
            if let Some(count) = vm.get_mut(key.slot as usize) {
                *count += counts.seen;
            }
        }
        vms.into_iter()
            .map(|(tgid, counts)| VmCounts {
                tgid,
                name: self.names.get(tgid).to_owned(),
                counts,
            })
            .collect()
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
            Some(_) => self.attached.stop()?,
        };
        let threads = self.attached.vcpu_threads();
        self.names
            .learn(threads.iter().map(|(_, thread)| thread.tgid()));
        let begin_ns = clock::monotonic_ns();
        self.read_rows(&threads, epoch, Some(each))?;
        log::debug!(
            "the tables of {} vCPU threads were read in {} us",
            threads.len(),
            clock::monotonic_ns().saturating_sub(begin_ns) / 1000
        );
        let mut vcpus = Vec::with_capacity(threads.len());
        for (_, thread) in &threads {
            if thread.ended == 0 {
                if let Some(key) = thread.clock.open_key() {
                    each(&ThreadExits {
                        whose: whose(thread),
                        key,
                        totals: &ExitTotals::open(),
                        recent: MinMax::NONE,
                        causes: None,
                    });
                }
                vcpus.push(times(thread, now_ns));
            }
        }
        self.departed.hand_over(each);
        vcpus.extend(self.departed.vcpus());
        let counters = self.attached.pairing_counters()?;
        let mut loss = self.missed();
        loss.lost = counters.slow_lost;
        loss.unmatched = counters.unmatched;
        loss.map_full = counters.rows_full + counters.threads_full;
        loss.unattributed = counters.unattributed;
        Ok(ExitReading {
            time_ns: now_ns.saturating_sub(self.began_ns),
            vcpus,
            loss,
        })
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
        let (merged, departed) = (&mut self.extremes, &mut self.departed);
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
            if ended {
                departed.keep(thread, row.key, &totals, recent, causes);
                *extremes = MinMax::NONE;
                let key = RowKey {
                    thread: row.thread - 1,
                    key: row.key,
                };
                rows.push((index, key));
            } else if let Some(each) = &mut each {
                each(&ThreadExits {
                    whose: whose(thread),
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
                departed.keep_thread(thread);
                if let Some(key) = thread.clock.open_key() {
                    departed.keep(thread, key, &ExitTotals::open(), MinMax::NONE, None);
                }
                places.push(*index);
            }
        }
        self.attached.give_back(&places, &rows)
    }

    fn missed(&self) -> Loss {
        Loss {
            missed: self.attached.missed().unwrap_or(0),
            ..Loss::default()
        }
    }
}
