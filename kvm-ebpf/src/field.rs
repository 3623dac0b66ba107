//! Reads a field of an event's record. See [`FieldId`] for how programs find fields.

use core::ptr::read_volatile;

use aya_ebpf::{EbpfContext as _, programs::TracePointContext};
use kvm_ebpf_common::FieldId;

/// Returns the value of a field, or its default value if the event has no such field.
#[inline(always)]
pub(crate) fn read(ctx: &TracePointContext, field: FieldId) -> u64 {
    // SAFETY: the placeholder offset is never accessed. Before the program is loaded, user space
    // replaces the instruction by one that the verifier accepts. Volatile, so that it stays one load
    // of 8 bytes at this offset.
    unsafe { read_volatile(ctx.as_ptr().byte_add(field.placeholder()).cast::<u64>()) }
}
