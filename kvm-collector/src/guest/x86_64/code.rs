//! Assembler for the guest program.
//!
//! Both processor modes use the same 32-bit encodings. In real mode they need prefixes for 32-bit
//! operands and addresses. The program keeps the remaining rounds in esi, the completed rounds in edi
//! and the address of the next page to touch in ebp.

use super::interrupts::{self, APIC_VECTOR, Handlers};
use super::isa::Isa;
use super::kind::Kind;
use super::mode::Mode;
use super::ports::{BOOT_PORT, DIRTY_PORT, END_PORT, IO_PORT, IOAPIC_PORT, IRQ_PORT, MSI_PORT};
use super::registers;
use crate::guest::layout::{Layout, PAGE};
use crate::guest::{GuestError, Plan};

/// Machine check status. KVM always emulates this MSR, and writing 0 to it has no side effects.
const MSR_IA32_MCG_STATUS: u32 = 0x17a;
/// Hypercall that has no effect.
const KVM_HC_VAPIC_POLL_IRQ: u32 = 1;

const NO_HYPERCALL: &str = "hypercall exits are not possible: this processor has neither vmx nor svm (KVM virtualizes in software)";

/// MSR that neither processors nor KVM implement.
const MSR_NONEXISTENT: u32 = 0x4b56_4dff;
/// Guest-physical address of the KVM clock; bit 0 enables the clock.
const MSR_KVM_SYSTEM_TIME_NEW: u32 = 0x4b56_4d01;
/// The x87 state, which XCR0 always enables.
const XCR0_X87: u32 = 1;
const MSR_APIC_EOI: u32 = 0x80b;
const MSR_APIC_ICR: u32 = 0x830;
const MSR_APIC_LVT_TIMER: u32 = 0x832;
const MSR_APIC_TIMER_INITIAL_COUNT: u32 = 0x838;
const MSR_APIC_TIMER_CURRENT_COUNT: u32 = 0x839;
const MSR_APIC_TIMER_DIVIDE: u32 = 0x83e;
/// Destination shorthand "self" of an interprocessor interrupt.
const ICR_SELF: u32 = 1 << 18;
const PIT_CHANNEL_0: u16 = 0x40;
const PIT_CONTROL: u16 = 0x43;

/// Returns the machine code of one vCPU's program.
pub(super) fn assemble(
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    isa: Option<Isa>,
) -> Result<Vec<u8>, GuestError> {
    let mut code = Assembler {
        mode: plan.mode,
        timer_ticks: plan.timer_ticks()?,
        cr4: to_u32(registers::initial_cr4(plan))?,
        bytes: Vec::new(),
    };
    code.out(BOOT_PORT);
    if plan.exits > 0 {
        let start = code.bytes.len();
        if plan.spin > 0 {
            code.emit_spin(plan.spin)?;
        }
        for &kind in &plan.kinds {
            code.emit_kind(kind, layout, vcpu, isa)?;
        }
        code.emit_32bit(&[0xff, 0xc7]); // inc edi
        code.emit_32bit(&[0xff, 0xce]); // dec esi
        code.jump_if_not_zero(start)?;
    }
    code.out(END_PORT);
    if plan.ends_with_triple_fault() {
        code.emit(&[0xcc]); // int3
    }
    let handlers = plan.needs_handlers().then(|| code.emit_handlers());
    // A second page of code would add a page fault that the report does not expect.
    let max_bytes = interrupts::max_code_bytes(plan);
    if code.bytes.len() as u64 > max_bytes {
        return Err(GuestError::ProgramTooLong {
            kinds: plan.kinds.len(),
        });
    }
    if let Some(handlers) = handlers {
        code.bytes
            .resize(usize::try_from(max_bytes).unwrap_or(usize::MAX), 0);
        code.bytes
            .extend(interrupts::descriptor_tables(plan, layout, vcpu, handlers));
    }
    Ok(code.bytes)
}

struct Assembler {
    mode: Mode,
    timer_ticks: u32,
    cr4: u32,
    bytes: Vec<u8>,
}

impl Assembler {
    fn emit_kind(
        &mut self,
        kind: Kind,
        layout: &Layout,
        vcpu: u32,
        isa: Option<Isa>,
    ) -> Result<(), GuestError> {
        match kind {
            Kind::Io => self.out(IO_PORT),
            Kind::IoRead => {
                self.load_edx(IO_PORT.into());
                self.emit(&[0xec]); // in al, dx
            }
            Kind::Cpuid => {
                self.load_eax(0);
                self.emit(&[0x0f, 0xa2]);
            }
            Kind::Mmio => {
                self.emit_32bit_memory(&[0xc7, 0x04, 0x25]); // mov dword [gpa], a constant
                self.emit_u32(to_u32(layout.mmio_write_page(vcpu))?);
                self.emit_u32(0x1234_5678);
            }
            Kind::MmioRead => {
                self.emit_32bit_memory(&[0x8b, 0x04, 0x25]); // mov eax, [gpa]
                self.emit_u32(to_u32(layout.mmio_read_page(vcpu))?);
            }
            Kind::Msr => self.wrmsr(MSR_IA32_MCG_STATUS, 0),
            Kind::MsrRead => self.rdmsr(MSR_IA32_MCG_STATUS),
            Kind::Hlt => self.emit(&[0xf4]),
            Kind::Hypercall => {
                self.load_eax(KVM_HC_VAPIC_POLL_IRQ);
                // The other vendor's instruction would cause additional exits: KVM patches it.
                match isa {
                    Some(Isa::Svm) => self.emit(&[0x0f, 0x01, 0xd9]), // vmmcall
                    Some(Isa::Vmx) => self.emit(&[0x0f, 0x01, 0xc1]), // vmcall
                    None => return Err(GuestError::ImpossiblePlan(NO_HYPERCALL)),
                }
            }
            Kind::PageFault => {
                self.emit_32bit_memory(&[0xc7, 0x45, 0x00]); // mov dword [ebp], 1
                self.emit_u32(1);
                self.emit_32bit(&[0x81, 0xc5]); // add ebp, PAGE
                self.emit_u32(to_u32(PAGE)?);
            }
            Kind::Wbinvd => self.emit(&[0x0f, 0x09]),
            Kind::Invd => self.emit(&[0x0f, 0x08]),
            Kind::Xsetbv => {
                self.load_eax(XCR0_X87);
                self.load_edx(0);
                self.load_ecx(0); // XCR0
                self.emit(&[0x0f, 0x01, 0xd1]);
            }
            Kind::Ud => self.emit(&[0x0f, 0x0b]), // ud2
            Kind::Exception => self.wrmsr(MSR_NONEXISTENT, 0),
            Kind::Cr => self.toggle_mce(),
            Kind::Pvclock => self.wrmsr(
                MSR_KVM_SYSTEM_TIME_NEW,
                to_u32(layout.written_page(vcpu))? | 1,
            ),
            Kind::Dirty => {
                self.emit_32bit_memory(&[0xc7, 0x04, 0x25]); // mov dword [gpa], a constant
                self.emit_u32(to_u32(layout.written_page(vcpu))?);
                self.emit_u32(0x1234_5678);
                self.out(DIRTY_PORT);
            }
            Kind::Apic => self.wrmsr(MSR_APIC_TIMER_DIVIDE, 0),
            Kind::ApicRead => self.rdmsr(MSR_APIC_TIMER_CURRENT_COUNT),
            // Interrupts are enabled, so delivery needs no interrupt-window exit.
            Kind::Ipi => self.wrmsr(MSR_APIC_ICR, ICR_SELF | u32::from(APIC_VECTOR)),
            Kind::Timer => {
                self.wrmsr(MSR_APIC_LVT_TIMER, APIC_VECTOR.into());
                // An interrupt before the hlt would leave the vCPU halted forever.
                self.emit(&[0xfa]); // cli
                self.wrmsr(MSR_APIC_TIMER_INITIAL_COUNT, self.timer_ticks);
                self.emit(&[0xfb, 0xf4]); // sti, hlt
            }
            Kind::Pit => {
                self.out_value(PIT_CONTROL, 0x30); // mode 0 (one-shot), two-byte count
                self.out_value(PIT_CHANNEL_0, 0x00);
                self.out_value(PIT_CHANNEL_0, 0x01); // 215 µs
            }
            Kind::Irq => self.out(IRQ_PORT),
            Kind::Ioapic => self.out(IOAPIC_PORT),
            Kind::Msi => self.out(MSI_PORT),
            // Not part of a round; see `assemble`.
            Kind::TripleFault => {}
        }
        Ok(())
    }

    fn emit_spin(&mut self, iterations: u32) -> Result<(), GuestError> {
        self.load_ecx(iterations);
        let start = self.bytes.len();
        self.emit_32bit(&[0xff, 0xc9]); // dec ecx
        self.jump_if_not_zero(start)
    }

    /// Emits the interrupt and exception handlers. They preserve all general registers.
    fn emit_handlers(&mut self) -> Handlers {
        let gp = self.next_offset();
        if self.mode == Mode::Long {
            self.emit(&[0x48, 0x83, 0xc4, 0x08]); // add rsp, 8: drop the error code
        }
        // The handler of #UD, which has no error code, is the rest of the handler of #GP.
        let ud = self.next_offset();
        // Return to the instruction after the two-byte wrmsr or ud2.
        match self.mode {
            Mode::Real => self.emit(&[0x67, 0x83, 0x04, 0x24, 0x02]), // add word [esp], 2
            Mode::Long => self.emit(&[0x48, 0x83, 0x04, 0x24, 0x02]), // add qword [rsp], 2
        }
        self.iret();
        let pic = self.next_offset();
        self.iret();
        let apic = self.next_offset();
        for push in [0x50, 0x51, 0x52] {
            self.emit_32bit(&[push]); // eax, ecx, edx
        }
        self.wrmsr(MSR_APIC_EOI, 0);
        self.skip_hlt();
        for pop in [0x5a, 0x59, 0x58] {
            self.emit_32bit(&[pop]);
        }
        self.iret();
        Handlers { gp, ud, pic, apic }
    }

    /// Advances the return address past a `hlt`. The handler must have pushed three registers.
    ///
    /// `sti` blocks interrupts until after the next instruction. An emulated processor may lose this
    /// state if the vCPU exits between `sti` and `hlt`. The interrupt then arrives before the `hlt`,
    /// which would wait forever.
    fn skip_hlt(&mut self) {
        match self.mode {
            Mode::Real => self.emit(&[
                0x67, 0x66, 0x0f, 0xb7, 0x4c, 0x24, 0x0c, // movzx ecx, word [esp + 12]
                0x67, 0x2e, 0x80, 0x39, 0xf4, // cmp byte cs:[ecx], hlt
                0x75, 0x05, // jne over the next instruction
                0x67, 0xff, 0x44, 0x24, 0x0c, // inc word [esp + 12]
            ]),
            Mode::Long => self.emit(&[
                0x48, 0x8b, 0x4c, 0x24, 0x18, // mov rcx, [rsp + 24]
                0x80, 0x39, 0xf4, // cmp byte [rcx], hlt
                0x75, 0x05, // jne over the next instruction
                0x48, 0xff, 0x44, 0x24, 0x18, // inc qword [rsp + 24]
            ]),
        }
    }

    fn iret(&mut self) {
        if self.mode == Mode::Long {
            self.emit(&[0x48]);
        }
        self.emit(&[0xcf]);
    }

    /// Returns the offset of the next instruction. Saturates: a program of this length is rejected
    /// because it does not fit into a page.
    fn next_offset(&self) -> u16 {
        u16::try_from(self.bytes.len()).unwrap_or(u16::MAX)
    }

    fn wrmsr(&mut self, msr: u32, value: u32) {
        self.load_eax(value);
        self.load_edx(0);
        self.load_ecx(msr);
        self.emit(&[0x0f, 0x30]);
    }

    fn rdmsr(&mut self, msr: u32) {
        self.load_ecx(msr);
        self.emit(&[0x0f, 0x32]);
    }

    /// Sets CR4.MCE in even rounds and clears it in odd ones. On Intel, only a changed bit causes an exit.
    fn toggle_mce(&mut self) {
        self.emit_32bit(&[0x89, 0xf8]); // mov eax, edi
        self.emit_32bit(&[0xf7, 0xd0]); // not eax
        self.emit_32bit(&[0x83, 0xe0, 0x01]); // and eax, 1
        self.emit_32bit(&[0xc1, 0xe0, 0x06]); // shl eax, 6
        self.emit_32bit(&[0x0d]); // or eax, the other bits
        self.emit_u32(self.cr4);
        self.emit(&[0x0f, 0x22, 0xe0]); // mov cr4, eax
    }

    fn load_eax(&mut self, value: u32) {
        self.emit_32bit(&[0xb8]);
        self.emit_u32(value);
    }

    fn load_ecx(&mut self, value: u32) {
        self.emit_32bit(&[0xb9]);
        self.emit_u32(value);
    }

    fn load_edx(&mut self, value: u32) {
        self.emit_32bit(&[0xba]);
        self.emit_u32(value);
    }

    fn out(&mut self, port: u16) {
        self.load_edx(port.into());
        self.emit(&[0xee]); // out dx, al
    }

    fn out_value(&mut self, port: u16, value: u8) {
        self.load_eax(value.into());
        self.out(port);
    }

    /// Emits `jnz` to an offset in the emitted code.
    fn jump_if_not_zero(&mut self, target: usize) -> Result<(), GuestError> {
        self.emit_32bit(&[0x0f, 0x85]);
        let end = self.bytes.len() + 4;
        self.emit_u32(to_u32((end - target) as u64)?.wrapping_neg());
        Ok(())
    }

    /// Emits an instruction without a prefix.
    fn emit(&mut self, opcode: &[u8]) {
        self.bytes.extend_from_slice(opcode);
    }

    /// Emits an instruction with 32-bit operands.
    fn emit_32bit(&mut self, opcode: &[u8]) {
        if self.mode == Mode::Real {
            self.bytes.push(0x66);
        }
        self.emit(opcode);
    }

    /// Emits an instruction with a 32-bit memory operand and at least 32 address bits.
    fn emit_32bit_memory(&mut self, opcode: &[u8]) {
        if self.mode == Mode::Real {
            self.bytes.push(0x67);
        }
        self.emit_32bit(opcode);
    }

    fn emit_u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
}

/// Converts an address or length to an instruction operand. All of them fit: guest memory ends at 1 GiB.
fn to_u32(value: u64) -> Result<u32, GuestError> {
    u32::try_from(value).map_err(|_| GuestError::AddressOutOfRange { gpa: value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(mode: Mode, kinds: &[Kind], exits: u32) -> Vec<u8> {
        let plan = Plan {
            kinds: kinds.to_vec(),
            exits,
            mode,
            ..Plan::default()
        };
        assemble(&plan, &Layout::new(&plan).unwrap(), 0, Some(Isa::Svm)).unwrap()
    }

    const BOOT: [u8; 6] = [0xba, 0xf5, 0, 0, 0, 0xee];
    const END: [u8; 6] = [0xba, 0xf4, 0, 0, 0, 0xee];

    #[test]
    fn loop_jumps_to_its_first_instruction() {
        let code = program(Mode::Long, &[Kind::Hlt], 5);
        let round = [
            0xf4, 0xff, 0xc7, 0xff, 0xce, 0x0f, 0x85, 0xf5, 0xff, 0xff, 0xff,
        ];
        assert_eq!(code, [&BOOT[..], &round, &END].concat());
    }

    #[test]
    fn real_mode_code_has_32bit_prefixes() {
        let code = program(Mode::Real, &[Kind::Mmio], 1);
        assert_eq!(code[..7], [&[0x66], &BOOT[..]].concat());
        assert_eq!(
            code[7..16],
            [0x67, 0x66, 0xc7, 0x04, 0x25, 0, 0xe0, 0x1f, 0]
        );
    }

    #[test]
    fn spin_loop_jumps_to_its_start() {
        let plan = Plan {
            kinds: vec![Kind::Hlt],
            exits: 1,
            spin: 7,
            ..Plan::default()
        };
        let code = assemble(&plan, &Layout::new(&plan).unwrap(), 0, None).unwrap();
        let spin = [
            0xb9, 7, 0, 0, 0, 0xff, 0xc9, 0x0f, 0x85, 0xf8, 0xff, 0xff, 0xff,
        ];
        let round = [
            0xf4, 0xff, 0xc7, 0xff, 0xce, 0x0f, 0x85, 0xe8, 0xff, 0xff, 0xff,
        ];
        assert_eq!(code, [&BOOT[..], &spin, &round, &END].concat());
    }

    #[test]
    fn program_without_rounds_only_boots_and_ends() {
        assert_eq!(program(Mode::Long, &[Kind::Io], 0), [BOOT, END].concat());
    }

    #[test]
    fn program_longer_than_a_page_is_rejected() {
        let plan = Plan {
            kinds: vec![Kind::Cpuid; 600],
            ..Plan::default()
        };
        let layout = Layout::new(&plan).unwrap();
        assert!(matches!(
            assemble(&plan, &layout, 0, None),
            Err(GuestError::ProgramTooLong { kinds: 600 })
        ));
    }
}
