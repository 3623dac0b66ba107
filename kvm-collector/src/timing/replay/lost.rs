//! Where in a stream of events some are missing.
//!
//! Nothing is known of an event that is lost, not even its thread. A thread may have lost some if,
//! between two of its events that were seen, some were lost on the CPU of either. (To be harmed without
//! that, it would have to move to another CPU, lose events there, and come back before it is seen
//! again.)

/// CPUs with a number above this are not told apart.
const MOST_CPUS: usize = 1 << 16;

/// Marks are numbered, from 1.
#[derive(Debug, Default)]
pub(super) struct LostMarks {
    all: u64,
    /// The last one that is of all CPUs.
    everywhere: u64,
    /// The last one of each CPU.
    on_cpu: Vec<u64>,
}

impl LostMarks {
    /// Events are missing here: on one CPU, or on whichever.
    pub(super) fn add(&mut self, cpu: Option<u32>) {
        self.all += 1;
        match cpu.map(|cpu| cpu as usize) {
            Some(cpu) if cpu < MOST_CPUS => {
                if self.on_cpu.len() <= cpu {
                    self.on_cpu.resize(cpu + 1, 0);
                }
                self.on_cpu[cpu] = self.all;
            }
            _ => self.everywhere = self.all,
        }
    }

    /// How many there are.
    #[inline]
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// May a thread on this CPU have lost events since there were so many marks?
    pub(super) fn since(&self, marks: u64, cpu: u32) -> bool {
        let on_cpu = self.on_cpu.get(cpu as usize);
        self.everywhere > marks || on_cpu.is_some_and(|last| *last > marks)
    }
}
