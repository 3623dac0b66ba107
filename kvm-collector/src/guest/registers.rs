//! The registers a vCPU starts with.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use super::layout::Layout;
use super::{Mode, Plan, interrupts, irqchip};

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
pub(super) const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

const TYPE_CODE: u8 = 0xb;
const TYPE_DATA: u8 = 0x3;
const TYPE_BUSY_TSS: u8 = 0xb;

/// Page table entry bits. Accessed and dirty are set in advance, so that the processor need not write them.
const ENTRY_TABLE: u64 = 0x23; // present, writable, accessed
const ENTRY_2M: u64 = 0xe3; // the same, dirty, large

/// The general registers. Flags have only the bit that is always set: interrupts stay off, unless the plan is about them.
pub(super) fn general(plan: &Plan, layout: &Layout, vcpu: u32) -> kvm_regs {
    let mut regs = kvm_regs {
        rip: match plan.mode {
            Mode::Real => 0, // within the code segment
            Mode::Long => layout.code(vcpu),
        },
        rsi: plan.exits.into(),
        rdi: 0,
        rbp: layout.touched(vcpu),
        rflags: 2,
        ..kvm_regs::default()
    };
    if plan.needs_handlers() {
        interrupts::set_up_general(&mut regs, plan, layout, vcpu);
    }
    regs
}

/// The system registers, made from what the vCPU was reset to.
pub(super) fn system(plan: &Plan, layout: &Layout, vcpu: u32, reset: kvm_sregs) -> kvm_sregs {
    let data = kvm_segment {
        limit: u32::MAX,
        selector: if plan.mode == Mode::Long { 0x10 } else { 0 },
        type_: TYPE_DATA,
        present: 1,
        s: 1,
        db: u8::from(plan.mode == Mode::Long),
        g: 1,
        ..kvm_segment::default()
    };
    let mut sregs = kvm_sregs {
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        ..reset
    };
    // With no room for a single gate any exception is a triple fault, which ends the guest instead of losing it.
    sregs.idt.limit = 0;
    match plan.mode {
        Mode::Real => {
            let base = layout.code(vcpu);
            sregs.cs = kvm_segment {
                base,
                limit: 0xffff,
                selector: u16::try_from((base >> 4) & 0xffff).unwrap_or_default(),
                type_: TYPE_CODE,
                present: 1,
                s: 1,
                ..kvm_segment::default()
            };
            sregs.cr0 = CR0_ET;
        }
        Mode::Long => {
            sregs.cs = kvm_segment {
                type_: TYPE_CODE,
                selector: 8,
                l: 1,
                db: 0,
                ..data
            };
            sregs.tr = kvm_segment {
                limit: 0x67,
                type_: TYPE_BUSY_TSS,
                present: 1,
                ..kvm_segment::default()
            };
            sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
            sregs.cr3 = layout.pml4(vcpu);
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
    }
    if plan.needs_handlers() {
        interrupts::set_up(&mut sregs, plan, layout, vcpu);
    }
    if plan.needs_irqchip() {
        irqchip::use_msrs(&mut sregs);
    }
    sregs
}

/// The page tables of one vCPU as (address, content): the first GiB mapped to itself by 2 MiB pages.
pub(super) fn page_tables(layout: &Layout, vcpu: u32) -> [(u64, Vec<u8>); 3] {
    let entry = |value: u64| value.to_le_bytes();
    [
        (
            layout.pml4(vcpu),
            entry(layout.pdpt(vcpu) | ENTRY_TABLE).to_vec(),
        ),
        (
            layout.pdpt(vcpu),
            entry(layout.pd(vcpu) | ENTRY_TABLE).to_vec(),
        ),
        (
            layout.pd(vcpu),
            (0..512_u64)
                .flat_map(|i| entry((i << 21) | ENTRY_2M))
                .collect(),
        ),
    ]
}
