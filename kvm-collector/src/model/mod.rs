//! What was measured, as plain owned data with its arithmetic. No files, no clocks, no kernel: time
//! is an argument.

mod causes;
mod counts;
mod event;
mod exits;
mod histogram;
mod kind;
mod loss;
mod stretch;

pub use causes::{CauseCount, Causes};
pub use counts::{Counts, EventCount, VmCounts};
pub use event::Event;
pub use exits::{ExitReading, ExitTotals, MinMax, ThreadExits, VcpuTimes, Whose};
pub use histogram::percentile_ns;
pub use kind::{Kind, UnknownKind, VMEXIT};
pub use loss::Loss;
pub use stretch::{Exit, ExitEnd, Part, Place, Stretch};
