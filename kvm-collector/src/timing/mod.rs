//! The timing engine in user space: turns a stream of events into timed exits, attributes each
//! event to a thread, and applies the selection.
//!
//! The rules that the eBPF programs also apply are in `kvm_ebpf_common`. This module applies them
//! to live and recorded streams. It accesses no kernel interfaces, files or clocks.

mod attribution;
mod exit_assembler;
mod exited_threads;
mod fields;
mod open_exits;
mod plan;
mod replay;
mod selection;
mod time_slice;
mod timing_error;
mod timing_request;
mod trigger;
mod unmatched_selectors;
mod vcpu_index;
mod vcpu_runs;
mod vcpu_thread;

pub use attribution::Attribution;
pub use exit_assembler::{CompleteSegment, ExitAssembler};
pub(crate) use exited_threads::ExitedThreads;
pub(crate) use fields::{FieldLocations, locate_u32};
pub(crate) use open_exits::read_open_exit;
pub(crate) use plan::{Step, THREAD_END_EVENT, TimingPlan};
pub use replay::{Replay, ReplayOptions};
pub use selection::{Filter, Selection, Selector, matches_vm};
pub use time_slice::TimeSlice;
pub use timing_error::TimingError;
pub use timing_request::{DetailEvent, TimingRequest};
pub use trigger::ExitTrigger;
pub use unmatched_selectors::UnmatchedSelectors;
pub use vcpu_index::vcpus_are_named;
pub(crate) use vcpu_runs::RunningVcpus;
pub(crate) use vcpu_thread::{recent_extremes, vcpu_id_of};
