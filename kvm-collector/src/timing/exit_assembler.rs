//! Joins the segments of vCPU threads: each exit with its parts.

use std::{cmp::Reverse, collections::HashMap};

use crate::model::{Exit, Segment, VcpuState, capacity::MAX_EXIT_PARTS};

/// Maximum number of stored parts per exit. A thread that is preempted repeatedly may have any
/// number of them. The breakdown of the exit itself is always complete.
const MAX_PARTS_PER_EXIT: usize = 256;

/// A segment of a vCPU thread with all of its parts.
#[derive(Debug, Clone, Copy)]
pub enum CompleteSegment<'a> {
    /// Time in the guest.
    Guest(&'a Segment),
    /// An exit and its parts, ordered by start; of parts that start together, the longest first.
    /// The parts may be incomplete.
    Exit(&'a Segment, &'a Exit, &'a [Segment]),
}

/// Stores the parts of each thread's exit until the segment of the exit itself arrives.
#[derive(Debug, Default)]
pub struct ExitAssembler {
    /// Parts by thread.
    parts: HashMap<u32, Vec<Segment>>,
    /// Number of parts of all threads.
    count: usize,
}

impl ExitAssembler {
    /// Adds the next segment, in the order of
    /// [`Replay::drain_segments`](super::Replay::drain_segments). Passes a segment that is complete
    /// with it to `each`.
    pub fn add<R>(
        &mut self,
        segment: &Segment,
        each: impl FnOnce(CompleteSegment<'_>) -> R,
    ) -> Option<R> {
        match &segment.state {
            VcpuState::Guest => Some(each(CompleteSegment::Guest(segment))),
            VcpuState::Part(_) => {
                if self.count >= MAX_EXIT_PARTS {
                    return None;
                }
                let parts = self.parts.entry(segment.vcpu_id.tid).or_default();
                if parts.len() < MAX_PARTS_PER_EXIT {
                    parts.push(*segment);
                    self.count += 1;
                }
                None
            }
            VcpuState::Exit(exit) => {
                let mut parts = self.parts.remove(&segment.vcpu_id.tid).unwrap_or_default();
                self.count -= parts.len();
                parts.sort_by_key(|it| (it.from_ns, Reverse(it.to_ns)));
                Some(each(CompleteSegment::Exit(segment, exit, &parts)))
            }
        }
    }
}
