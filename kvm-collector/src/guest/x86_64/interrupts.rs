//! Descriptor tables and stack that the guest needs for interrupts and exceptions.
//!
//! They occupy the last quarter of the program's page. A separate page would cause one more page fault.
//!
//! ```text
//! 0xc00  IDT; in real mode the interrupt vector table
//! 0xf00  GDT; long mode reads it on interrupt entry and on iret
//! 0x1000 initial stack pointer; the stack grows downward
//! ```

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use super::mode::Mode;
use crate::guest::Plan;
use crate::guest::layout::{Layout, PAGE};

/// Vector of #UD, which the kind `ud` causes.
const UD_VECTOR: u8 = 6;
/// Vector of #GP, which the kind `exception` causes.
pub(super) const GP_VECTOR: u8 = 13;
/// First of the 8 vectors of the PIC.
pub(super) const PIC_VECTOR: u8 = 0x20;
/// Vector of all interrupts that the APIC delivers.
pub(super) const APIC_VECTOR: u8 = 0x28;
const VECTOR_COUNT: u8 = 0x30;

const VECTOR_TABLE_OFFSET: u64 = 0xc00;
const GDT_OFFSET: u64 = 0xf00;

const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;
const INTERRUPT_GATE: u64 = 0x8e00;
const CODE_SELECTOR: u64 = 8;
const RFLAGS_IF: u64 = 1 << 9;

/// Offsets of the handlers in the program's page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handlers {
    /// Handler of #GP.
    pub(super) gp: u16,
    /// Handler of #UD.
    pub(super) ud: u16,
    /// Handler of interrupts from the PIC.
    pub(super) pic: u16,
    /// Handler of interrupts from the APIC.
    pub(super) apic: u16,
}

/// Returns the maximum length of the program, in bytes.
pub(super) fn max_code_bytes(plan: &Plan) -> u64 {
    if plan.needs_handlers() {
        VECTOR_TABLE_OFFSET
    } else {
        PAGE
    }
}

/// Returns the part of the program's page that starts at [`max_code_bytes`].
pub(super) fn descriptor_tables(
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    handlers: Handlers,
) -> Vec<u8> {
    let start = layout.code_page(vcpu);
    let mut bytes = Vec::new();
    for vector in 0..VECTOR_COUNT {
        let handler = match vector {
            UD_VECTOR => handlers.ud,
            GP_VECTOR => handlers.gp,
            PIC_VECTOR..APIC_VECTOR => handlers.pic,
            APIC_VECTOR => handlers.apic,
            _ => 0,
        };
        bytes.extend(match plan.mode {
            Mode::Real => real_mode_vector(start, handler).to_vec(),
            Mode::Long => interrupt_gate(start, handler).to_vec(),
        });
    }
    bytes.resize(to_usize(GDT_OFFSET - VECTOR_TABLE_OFFSET), 0);
    bytes.extend(
        [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR]
            .into_iter()
            .flat_map(u64::to_le_bytes),
    );
    bytes
}

/// Returns the segment and offset of a handler, as an interrupt vector table stores them.
fn real_mode_vector(start: u64, handler: u16) -> [u8; 4] {
    let segment = (start >> 4) << 16 & 0xffff_0000;
    u32::try_from(segment | u64::from(handler))
        .unwrap_or_default()
        .to_le_bytes()
}

/// Returns an IDT entry. It is marked as not present if the vector has no handler.
fn interrupt_gate(start: u64, handler: u16) -> [u8; 16] {
    if handler == 0 {
        return [0; 16];
    }
    let address = start + u64::from(handler);
    let low = (address & 0xffff)
        | CODE_SELECTOR << 16
        | INTERRUPT_GATE << 32
        | (address >> 16 & 0xffff) << 48;
    // Guest memory ends at 1 GiB, so the upper 32 address bits are 0.
    u128::from(low).to_le_bytes()
}

/// Sets the table registers, and in real mode the stack segment.
pub(super) fn init_system_registers(
    sregs: &mut kvm_sregs,
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
) {
    let start = layout.code_page(vcpu);
    let table = |offset: u64, limit: u64| kvm_dtable {
        base: start + offset,
        limit: u16::try_from(limit - 1).unwrap_or_default(),
        ..kvm_dtable::default()
    };
    match plan.mode {
        Mode::Real => {
            sregs.idt = table(VECTOR_TABLE_OFFSET, u64::from(VECTOR_COUNT) * 4);
            // A 16-bit stack pointer reaches the page only relative to the segment base.
            sregs.ss = kvm_segment {
                base: start,
                ..sregs.ss
            };
        }
        Mode::Long => {
            sregs.idt = table(VECTOR_TABLE_OFFSET, u64::from(VECTOR_COUNT) * 16);
            sregs.gdt = table(GDT_OFFSET, 3 * 8);
        }
    }
}

/// Sets the stack pointer, and enables interrupts if the VM has interrupt controllers.
pub(super) fn init_general_registers(regs: &mut kvm_regs, plan: &Plan, layout: &Layout, vcpu: u32) {
    regs.rsp = match plan.mode {
        Mode::Real => PAGE,
        Mode::Long => layout.code_page(vcpu) + PAGE,
    };
    if plan.needs_irqchip() {
        regs.rflags |= RFLAGS_IF;
    }
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
