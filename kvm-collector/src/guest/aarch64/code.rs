//! Assembler for the guest program.
//!
//! User space sets the registers that the program needs, so the program loads no addresses. See
//! [`super::registers`].

use super::kind::Kind;
use super::layout::{BOOT_OFFSET, DIRTY_OFFSET, END_OFFSET};
use super::registers::{
    DONE, MMIO_READ, MMIO_WRITE, NEXT_PAGE, REMAINING, TIMER_TICKS, WRITTEN_PAGE,
};
use super::system_register::SystemRegister;
use crate::guest::layout::PAGE;
use crate::guest::{GuestError, Plan};

const PSCI_VERSION: u32 = 0x8400_0000;
const PSCI_SYSTEM_OFF: u32 = 0x8400_0008;

/// Registers for intermediate results.
const X0: u32 = 0;
const X9: u32 = 9;
/// As an operand, this number is the constant 0.
const ZERO: u32 = 31;

const HVC: u32 = 0xd400_0002;
const WFI: u32 = 0xd503_207f;
const ISB: u32 = 0xd503_3fdf;

/// Returns the machine code of one vCPU's program.
pub(super) fn assemble(plan: &Plan) -> Result<Vec<u8>, GuestError> {
    let mut code = Assembler::default();
    code.store(X0, MMIO_WRITE, BOOT_OFFSET);
    if plan.exits > 0 {
        let start = code.words.len();
        if plan.spin > 0 {
            code.emit_spin(plan.spin);
        }
        for &kind in &plan.kinds {
            code.emit_kind(kind);
        }
        code.emit(0x9100_0400 | DONE << 5 | DONE); // add DONE, DONE, 1
        code.emit(0xf100_0400 | REMAINING << 5 | REMAINING); // subs REMAINING, REMAINING, 1
        code.branch_if_not_zero(start);
    }
    code.store(X0, MMIO_WRITE, END_OFFSET);
    // User space enters only the last vCPU of the VM again.
    code.hypercall(PSCI_SYSTEM_OFF);
    let bytes: Vec<_> = code.words.into_iter().flat_map(u32::to_le_bytes).collect();
    // A second page of code would add a page fault that the report does not expect.
    if bytes.len() as u64 > PAGE {
        return Err(GuestError::ProgramTooLong {
            kinds: plan.kinds.len(),
        });
    }
    Ok(bytes)
}

#[derive(Debug, Default)]
struct Assembler {
    words: Vec<u32>,
}

impl Assembler {
    fn emit_kind(&mut self, kind: Kind) {
        match kind {
            Kind::Mmio => self.store(X0, MMIO_WRITE, 0),
            Kind::MmioRead => self.emit(0xb940_0000 | MMIO_READ << 5 | X0), // ldr w0, [MMIO_READ]
            Kind::Hypercall => self.hypercall(PSCI_VERSION),
            Kind::SysregRead => self.read_system_register(X0, SystemRegister::ID_AA64PFR0_EL1),
            Kind::Wfi => self.emit_wfi(),
            Kind::PageFault => {
                self.store(X0, NEXT_PAGE, 0);
                self.emit(0x9140_0400 | NEXT_PAGE << 5 | NEXT_PAGE); // add NEXT_PAGE, NEXT_PAGE, 1, lsl 12
            }
            Kind::Dirty => {
                self.store(X0, WRITTEN_PAGE, 0);
                self.store(X0, MMIO_WRITE, DIRTY_OFFSET);
            }
        }
    }

    /// Emits a `wfi` that ends when the virtual timer expires.
    ///
    /// The processor's interrupts are masked, so the guest needs no handler: `wfi` ends all the same. Without
    /// the acknowledgement, the interrupt would stay pending, and the next `wfi` would have no effect.
    fn emit_wfi(&mut self) {
        self.read_system_register(X9, SystemRegister::CNTVCT_EL0);
        self.emit(0x8b00_0000 | TIMER_TICKS << 16 | X9 << 5 | X9); // add x9, x9, TIMER_TICKS
        self.write_system_register(SystemRegister::CNTV_CVAL_EL0, X9);
        self.move_constant(X9, 1);
        self.write_system_register(SystemRegister::CNTV_CTL_EL0, X9);
        self.emit(ISB);
        self.emit(WFI);
        self.read_system_register(X9, SystemRegister::ICC_IAR1_EL1);
        self.write_system_register(SystemRegister::CNTV_CTL_EL0, ZERO);
        self.emit(ISB);
        self.write_system_register(SystemRegister::ICC_EOIR1_EL1, X9);
        self.emit(ISB);
    }

    fn emit_spin(&mut self, iterations: u32) {
        self.move_constant(X9, iterations);
        let start = self.words.len();
        self.emit(0x7100_0400 | X9 << 5 | X9); // subs w9, w9, 1
        self.branch_if_not_zero(start);
    }

    fn hypercall(&mut self, function: u32) {
        self.move_constant(X0, function);
        self.emit(HVC);
    }

    /// Emits a store of 32 bits to an address plus an offset, which is a multiple of 4 below 4 KiB.
    fn store(&mut self, value: u32, address: u32, offset: u64) {
        let index = u32::try_from(offset / 4).unwrap_or_default() & 0x3ff;
        self.emit(0xb900_0000 | index << 10 | address << 5 | value);
    }

    fn move_constant(&mut self, register: u32, value: u32) {
        self.emit(0x5280_0000 | (value & 0xffff) << 5 | register); // movz
        self.emit(0x72a0_0000 | (value >> 16) << 5 | register); // movk, lsl 16
    }

    fn read_system_register(&mut self, register: u32, from: SystemRegister) {
        self.emit(0xd530_0000 | from.operand() | register);
    }

    fn write_system_register(&mut self, to: SystemRegister, register: u32) {
        self.emit(0xd510_0000 | to.operand() | register);
    }

    /// Emits `b.ne` to the instruction with this index.
    fn branch_if_not_zero(&mut self, target: usize) {
        let distance = u32::try_from(self.words.len() - target).unwrap_or_default();
        self.emit(0x5400_0001 | (distance.wrapping_neg() & 0x7_ffff) << 5);
    }

    fn emit(&mut self, instruction: u32) {
        self.words.push(instruction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kinds: &[Kind], exits: u32) -> Vec<u32> {
        let plan = Plan {
            kinds: kinds.to_vec(),
            exits,
            ..Plan::default()
        };
        let bytes = assemble(&plan).unwrap();
        bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn loop_jumps_to_its_first_instruction() {
        let expected = [
            0xb900_12c0, // str w0, [x22, 0x10]
            0xb900_02c0, // str w0, [x22]
            0x9100_0694, // add x20, x20, 1
            0xf100_0673, // subs x19, x19, 1
            0x54ff_ffa1, // b.ne -12
            0xb900_22c0, // str w0, [x22, 0x20]
            0x5280_0100, // mov w0, 8
            0x72b0_8000, // movk w0, 0x8400, lsl 16
            0xd400_0002, // hvc 0
        ];
        assert_eq!(program(&[Kind::Mmio], 5), expected);
    }

    #[test]
    fn system_registers_are_encoded() {
        assert_eq!(program(&[Kind::SysregRead], 1)[1], 0xd538_0400);
        let wfi = program(&[Kind::Wfi], 1);
        assert_eq!(wfi[1], 0xd53b_e049); // mrs x9, cntvct_el0
        assert_eq!(wfi[3], 0xd51b_e349); // msr cntv_cval_el0, x9
        assert_eq!(wfi[9], 0xd538_cc09); // mrs x9, icc_iar1_el1
        assert_eq!(wfi[10], 0xd51b_e33f); // msr cntv_ctl_el0, xzr
    }

    #[test]
    fn a_program_of_more_than_a_page_is_an_error() {
        let plan = Plan {
            kinds: vec![Kind::Wfi; 100],
            ..Plan::default()
        };
        assert!(matches!(
            assemble(&plan),
            Err(GuestError::ProgramTooLong { kinds: 100 })
        ));
    }
}
