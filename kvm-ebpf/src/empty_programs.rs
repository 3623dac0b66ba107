//! Programs that do nothing. Benchmarks use them to measure the cost of attaching any program.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::tracepoint::tracepoint;

tracepoint! {
    fn empty(_ctx) {}
}

#[raw_tracepoint]
fn empty_raw(_ctx: RawTracePointContext) -> u32 {
    0
}
