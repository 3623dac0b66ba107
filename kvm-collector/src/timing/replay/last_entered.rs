//! Detects that a vCPU has migrated between threads. The eBPF programs apply the same rule,
//! [`classify_index_reuse`].

use std::collections::HashMap;

use kvm_ebpf_common::{VCPU_RAN_IN_OTHER_THREAD, VcpuClock, VcpuIndexReuse, classify_index_reuse};

use super::{
    exit_recorder::ExitRecorder,
    threads::{Task, Threads},
};

/// The thread that entered each vCPU last.
#[derive(Debug)]
pub(super) struct LastEntered {
    /// By process and vCPU index: the thread's index in the table of threads, and the thread.
    threads: HashMap<(u32, u32), (u32, Task)>,
    max_entries: usize,
    /// Whether entries of exited threads were removed because the table was full.
    has_removed: bool,
}

impl LastEntered {
    /// Creates a table for a host with `max_threads` vCPU threads.
    pub(super) fn new(max_threads: usize) -> Self {
        Self {
            threads: HashMap::new(),
            max_entries: max_threads.saturating_mul(2),
            has_removed: false,
        }
    }

    /// Sets the thread at `index` as the last one that entered its vCPU. If another thread was the
    /// last one, the exit in progress of this thread has no duration.
    #[cold]
    pub(super) fn set(&mut self, index: u32, threads: &mut Threads, recorder: &mut ExitRecorder) {
        let Some(thread) = threads.get_mut(index) else {
            return;
        };
        thread.state.check_vcpu_index = 0;
        let vcpu = (thread.state.tgid(), thread.state.vcpu);
        let task = Task(thread.state.task);
        let last_entered = self.threads.get(&vcpu).copied();
        // A removed entry was of an exited thread. Whether there was one for this vCPU is unknown.
        let is_in_doubt = self.has_removed && thread.state.clock.open_key().is_some();
        let last_entered = last_entered.or(is_in_doubt.then_some((u32::MAX, Task(0))));
        if let Some((last, last_task)) = last_entered
            && (last, last_task) != (index, task)
        {
            let previous = threads.get_mut(last).filter(|it| {
                it.state.task == last_task.0 && (it.state.tgid(), it.state.vcpu) == vcpu
            });
            let (clock, has_ended) = match &previous {
                Some(previous) => (previous.state.clock, false),
                None => (VcpuClock::default(), true),
            };
            let decision = classify_index_reuse(&clock, has_ended);
            if decision == VcpuIndexReuse::Moved
                && let Some(previous) = previous
            {
                previous.state.check_vcpu_index = VCPU_RAN_IN_OTHER_THREAD;
            }
            if let Some(thread) = threads.get_mut(index) {
                match decision {
                    VcpuIndexReuse::OtherVm => {
                        thread.state.shares_vcpu_index = 1;
                        return;
                    }
                    VcpuIndexReuse::Moved => recorder.discard_moved_exit(thread),
                }
            }
        }
        if self.threads.len() >= self.max_entries {
            self.remove_exited(threads);
        }
        self.threads.insert(vcpu, (index, task));
    }

    fn remove_exited(&mut self, threads: &mut Threads) {
        self.threads.retain(|vcpu, (index, task)| {
            threads.get_mut(*index).is_some_and(|it| {
                it.state.task == task.0 && (it.state.tgid(), it.state.vcpu) == *vcpu
            })
        });
        self.has_removed = true;
    }
}
