//! Reading fields of the event's record; see `kvm_ebpf_common::FieldId`.

use core::ptr::read_volatile;

use aya_ebpf::{EbpfContext as _, programs::TracePointContext};
use kvm_ebpf_common::FieldId;

/// A field of the current event's record, as user space has placed it.
#[inline(always)]
pub(crate) fn read(ctx: &TracePointContext, field: FieldId) -> u64 {
    // SAFETY: not an access to memory at this address: user space replaces the instruction by one that
    // the verifier accepts. Volatile, so that it stays one load of 8 bytes, at this offset.
    unsafe { read_volatile(ctx.as_ptr().byte_add(field.placeholder()).cast::<u64>()) }
}
