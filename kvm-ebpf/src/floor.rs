//! Programs that do nothing: what watching costs at the least, to measure the others by.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::classic::classic;

classic! {
    fn empty(_ctx) {}
}

#[raw_tracepoint]
fn empty_raw(_ctx: RawTracePointContext) -> u32 {
    0
}
