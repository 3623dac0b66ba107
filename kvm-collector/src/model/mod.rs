//! What was measured, as plain owned data with its arithmetic. No files, no clocks, no kernel: time
//! is an argument.

mod batch;
pub mod capacity;
mod causes;
mod counts;
mod event;
mod exits;
mod histogram;
mod kind;
mod loss;
mod segment;

pub use batch::{Batch, Record};
pub use causes::{CauseCount, Causes};
pub use counts::{Counts, EventCount, VmCounts};
pub use event::{Event, StreamItem, Thread};
pub use exits::{ExitReading, ExitTotals, MinMax, ThreadExits, VcpuId, VcpuTimes};
pub use histogram::percentile_ns;
pub use kind::{Kind, UnknownKind, VMEXIT};
pub use loss::{Loss, LossEntry};
pub use crate::host::{next_process_id, pid_of, process_id};
pub use segment::{Exit, ExitEnd, Part, Segment, VcpuState};
