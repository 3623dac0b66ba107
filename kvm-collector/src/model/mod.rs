//! Measured data as plain values, with their arithmetic. Nothing here reads files, clocks or the
//! kernel: times are arguments.

mod batch;
pub mod capacity;
mod causes;
mod counts;
mod event;
mod exit_reading;
mod exit_totals;
mod histogram;
mod kind;
mod loss;
mod min_max;
mod segment;
mod thread_id;

pub use crate::host::{VmName, VmUuid, next_process_id, pid_of, process_id};
pub use batch::{Batch, Record};
pub use causes::{CauseCount, Causes};
pub use counts::{CountsSnapshot, EventCount, VmCounts};
pub use event::{Event, StreamItem};
pub use exit_reading::{ExitReading, ThreadExits, VcpuTimes};
pub use exit_totals::ExitTotals;
pub use histogram::percentile_ns;
pub use kind::{EventKind, SYSREG, UnknownKind, VMEXIT};
pub use loss::{Loss, LossEntry};
pub use min_max::MinMax;
pub use segment::{Exit, ExitEnd, ExitPart, Segment, VcpuState};
pub use thread_id::{ThreadId, VcpuId};
