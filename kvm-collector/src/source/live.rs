//! The running kernel as a source: programs attached by `probe`, read as samples.

use std::collections::BTreeMap;

use kvm_ebpf_common::SlotCounts;

use crate::{
    host::clock,
    model::{Counts, EventCount, ExitSample, ExitTotals, Loss, ThreadExits, VmCounts},
    probe::{Attached, Filter, MapSizes, ProbeError, Request, Ring, ThreadCount},
    tracefs::Format,
};

use super::VmNames;

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
    pub pair: bool,
    /// `kvm_exit`'s format, where there is one.
    pub exit: Option<Format>,
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
        let mut attached = Attached::new(&Request {
            events: &options.events,
            ship: options.ship,
            per_thread: options.per_vm,
            pair: options.pair,
            exit: options.exit.as_ref(),
            entry: options.entry.as_ref(),
            filter: &options.filter,
            sizes: options.sizes,
            log: options.log,
        })?;
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
        self.attached.stop()
    }

    fn now_ns(&self) -> u64 {
        self.ended_ns.unwrap_or_else(clock::monotonic_ns)
    }

    /// See [`Attached::take_ring`].
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn take_ring(&mut self) -> Result<Option<Ring>, ProbeError> {
        self.attached.take_ring()
    }

    /// To be called now and then: learns the names of new VMs while they live, and passes on the
    /// kernel half's diagnostics.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn look_around(&mut self) -> Result<(), ProbeError> {
        self.attached.flush_log();
        if self.options.pair {
            self.names.learn(self.attached.exit_processes()?);
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

    /// All timed exits since the beginning.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn exits(&mut self) -> Result<ExitSample, ProbeError> {
        self.look_around()?;
        let elapsed_ns = self.now_ns().saturating_sub(self.began_ns);
        let exits = self.attached.exits()?;
        let counters = exits.counters;
        let mut loss = self.missed();
        loss.unmatched = counters.unmatched;
        loss.map_full = counters.rows_full + counters.threads_full;
        loss.unattributed = counters.unattributed;
        let threads = exits.rows.iter().map(|(key, stats)| ThreadExits {
            key: *key,
            totals: ExitTotals::from(stats),
        });
        Ok(ExitSample {
            elapsed_ns,
            threads: threads
                .chain(exits.open.iter().copied().map(ThreadExits::open))
                .collect(),
            loss,
        })
    }

    fn missed(&self) -> Loss {
        Loss {
            missed: self.attached.missed().unwrap_or(0),
            ..Loss::default()
        }
    }
}
