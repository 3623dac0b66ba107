//! What the guest takes interrupts and exceptions with: descriptors, handlers and a stack.
//!
//! All of it lies in the page of the program, whose last quarter it takes: a page of its own would be one more first touch.
//!
//! ```text
//! 0xc00  vectors: the interrupt descriptor table, in real mode the interrupt vector table
//! 0xf00  the segment descriptors that long mode loads from memory when it takes an interrupt and returns
//! 0x1000 the stack, downwards
//! ```

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use super::layout::{Layout, PAGE};
use super::{Mode, Plan};

/// General protection: the exception that the guest provokes.
pub(super) const GP_VECTOR: u8 = 13;
/// The first of the PIC's 8.
pub(super) const PIC_VECTOR: u8 = 0x20;
/// The one of all that comes through the APIC.
pub(super) const APIC_VECTOR: u8 = 0x28;
const VECTORS: u8 = 0x30;

const TABLE_OFFSET: u64 = 0xc00;
const GDT_OFFSET: u64 = 0xf00;

const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const INTERRUPT_GATE: u64 = 0x8e00;
const CODE_SELECTOR: u64 = 8;
const FLAG_INTERRUPTS: u64 = 1 << 9;

/// Where a handler is in the page of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handlers {
    pub(super) gp: u16,
    pub(super) pic: u16,
    pub(super) apic: u16,
}

/// How long a program may be.
pub(super) fn room(plan: &Plan) -> u64 {
    if plan.needs_handlers() {
        TABLE_OFFSET
    } else {
        PAGE
    }
}

/// The rest of the program's page, from [`room`] on.
pub(super) fn tables(plan: &Plan, layout: &Layout, vcpu: u32, handlers: Handlers) -> Vec<u8> {
    let start = layout.code(vcpu);
    let mut bytes = Vec::new();
    for vector in 0..VECTORS {
        let handler = match vector {
            GP_VECTOR => handlers.gp,
            PIC_VECTOR..APIC_VECTOR => handlers.pic,
            APIC_VECTOR => handlers.apic,
            _ => 0,
        };
        bytes.extend(match plan.mode {
            Mode::Real => real_vector(start, handler).to_vec(),
            Mode::Long => gate(start, handler).to_vec(),
        });
    }
    bytes.resize(index(GDT_OFFSET - TABLE_OFFSET), 0);
    bytes.extend([0, CODE_64, DATA].into_iter().flat_map(u64::to_le_bytes));
    bytes
}

/// Segment and offset.
fn real_vector(start: u64, handler: u16) -> [u8; 4] {
    let segment = (start >> 4) << 16 & 0xffff_0000;
    u32::try_from(segment | u64::from(handler))
        .unwrap_or_default()
        .to_le_bytes()
}

/// A gate of the interrupt descriptor table; not present without a handler.
fn gate(start: u64, handler: u16) -> [u8; 16] {
    if handler == 0 {
        return [0; 16];
    }
    let address = start + u64::from(handler);
    let low = (address & 0xffff)
        | CODE_SELECTOR << 16
        | INTERRUPT_GATE << 32
        | (address >> 16 & 0xffff) << 48;
    // The layout ends below 1 GiB: nothing of the address is left for the upper half.
    u128::from(low).to_le_bytes()
}

/// Points the registers to the tables and the stack.
pub(super) fn set_up(sregs: &mut kvm_sregs, plan: &Plan, layout: &Layout, vcpu: u32) {
    let start = layout.code(vcpu);
    let table = |offset: u64, limit: u64| kvm_dtable {
        base: start + offset,
        limit: u16::try_from(limit - 1).unwrap_or_default(),
        ..kvm_dtable::default()
    };
    match plan.mode {
        Mode::Real => {
            sregs.idt = table(TABLE_OFFSET, u64::from(VECTORS) * 4);
            // A stack pointer of 16 bits reaches the page only from within.
            sregs.ss = kvm_segment {
                base: start,
                ..sregs.ss
            };
        }
        Mode::Long => {
            sregs.idt = table(TABLE_OFFSET, u64::from(VECTORS) * 16);
            sregs.gdt = table(GDT_OFFSET, 3 * 8);
        }
    }
}

/// Sets the stack, and lets interrupts in where there is something to make them.
pub(super) fn set_up_general(regs: &mut kvm_regs, plan: &Plan, layout: &Layout, vcpu: u32) {
    regs.rsp = match plan.mode {
        Mode::Real => PAGE,
        Mode::Long => layout.code(vcpu) + PAGE,
    };
    if plan.needs_irqchip() {
        regs.rflags |= FLAG_INTERRUPTS;
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
