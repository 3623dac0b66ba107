//! Reads the timed exits of a live measurement.

use kvm_ebpf_common::VcpuThread;

use super::Live;
use crate::{
    host::clock,
    model::{Causes, ExitReading, ExitTotals, ThreadExits},
    probe::ProbeError,
    timing::{RunningVcpus, read_open_exit, recent_extremes, vcpu_id_of},
};

impl Live {
    /// Passes all timed exits since the start to `each`: one row per thread and key, including those
    /// of exited threads.
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
        threads.retain(|(_, thread)| self.decide_vcpu_thread(thread) == Some(true));
        for (index, thread) in &threads {
            self.read_rows(*index, thread, epoch, each);
        }
        log::debug!(
            "the tables of {} vCPU threads were read in {} us",
            threads.len(),
            clock::monotonic_ns().saturating_sub(read_start_ns) / 1000
        );
        let mut vcpus = Vec::with_capacity(threads.len());
        let running = RunningVcpus::from_threads(threads.iter().map(|(_, thread)| thread));
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
}
