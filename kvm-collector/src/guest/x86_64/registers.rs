//! Initial registers and page tables of a vCPU.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use super::kind::Kind;
use super::mode::Mode;
use super::{interrupts, irqchip};
use crate::guest::{Plan, layout::Layout};

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// Enables `xsetbv`.
const CR4_OSXSAVE: u64 = 1 << 18;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

const TYPE_CODE: u8 = 0xb;
const TYPE_DATA: u8 = 0x3;
const TYPE_BUSY_TSS: u8 = 0xb;

// The accessed and dirty bits are already set, so the processor does not write to the tables.
const PTE_TABLE: u64 = 0x23; // present, writable, accessed
const PTE_2M: u64 = 0xe3; // present, writable, accessed, dirty, large

/// Returns the initial general registers. Interrupts are disabled unless the plan needs them.
pub(super) fn general_registers(plan: &Plan, layout: &Layout, vcpu: u32) -> kvm_regs {
    let mut regs = kvm_regs {
        rip: match plan.mode {
            Mode::Real => 0, // within the code segment
            Mode::Long => layout.code_page(vcpu),
        },
        rsi: plan.exits.into(),
        rdi: 0,
        rbp: layout.first_touch_pages(vcpu),
        rflags: 2, // bit 1 is always set
        ..kvm_regs::default()
    };
    if plan.needs_handlers() {
        interrupts::init_general_registers(&mut regs, plan, layout, vcpu);
    }
    regs
}

/// Returns the initial value of CR4.
pub(super) fn initial_cr4(plan: &Plan) -> u64 {
    let paging = match plan.mode {
        Mode::Real => 0,
        Mode::Long => CR4_PAE,
    };
    if plan.kinds.contains(&Kind::Xsetbv) {
        paging | CR4_OSXSAVE
    } else {
        paging
    }
}

/// Returns the initial system registers, based on the state after reset.
pub(super) fn system_registers(
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    reset: kvm_sregs,
) -> kvm_sregs {
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
    // With an empty IDT, any exception becomes a triple fault, which ends the guest with an error.
    sregs.idt.limit = 0;
    sregs.cr4 = initial_cr4(plan);
    match plan.mode {
        Mode::Real => {
            let base = layout.code_page(vcpu);
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
            sregs.efer = EFER_LME | EFER_LMA;
        }
    }
    if plan.needs_handlers() {
        interrupts::init_system_registers(&mut sregs, plan, layout, vcpu);
    }
    if plan.needs_irqchip() {
        irqchip::enable_x2apic(&mut sregs);
    }
    sregs
}

/// Returns the address and content of each page table of one vCPU. They identity-map the first GiB with
/// 2 MiB pages.
pub(super) fn page_tables(layout: &Layout, vcpu: u32) -> [(u64, Vec<u8>); 3] {
    let entry = |value: u64| value.to_le_bytes();
    [
        (
            layout.pml4(vcpu),
            entry(layout.pdpt(vcpu) | PTE_TABLE).to_vec(),
        ),
        (
            layout.pdpt(vcpu),
            entry(layout.pd(vcpu) | PTE_TABLE).to_vec(),
        ),
        (
            layout.pd(vcpu),
            (0..512_u64)
                .flat_map(|i| entry((i << 21) | PTE_2M))
                .collect(),
        ),
    ]
}
