//! User space's side of the timing engine: how events become times, which thread an event is about, and whether
//! it is selected. The rules that the eBPF programs follow too are in `kvm_ebpf_common`; here they are applied to
//! streams of events, live ones and recorded ones alike. Knows no aya, no files and no clocks.

mod attribution;
mod exit_assembler;
mod exited;
mod fields;
mod of_thread;
mod pairing;
mod plan;
mod replay;
mod selection;
mod trigger;
mod turns;

pub use attribution::Attribution;
pub use exit_assembler::{Assembled, ExitAssembler, TimeSlice};
pub(crate) use exited::ExitedThreads;
pub(crate) use fields::{FieldPlaces, u32_place};
pub(crate) use of_thread::{recent, times, vcpu_id};
pub use pairing::{Detail, Pairing};
pub use plan::TimingError;
pub(crate) use plan::{Step, THREAD_END, TimingPlan};
pub use replay::{Replay, ReplayOptions};
pub use selection::{Filter, Selection, Selector};
pub use trigger::ExitTrigger;
pub(crate) use turns::RunningVcpus;
