//! The guest's program, as machine code.
//!
//! The same encodings serve both modes: in real mode a prefix makes operands and addresses 32 bits wide, which in long
//! mode (below 4 GiB) they are anyway. Registers: esi rounds left, edi rounds done, ebp the next page to touch.

use super::interrupts::{self, APIC_VECTOR, Handlers};
use super::irqchip::{IOAPIC_PORT, IRQ_PORT, MSI_PORT};
use super::layout::{Layout, PAGE};
use super::registers::CR4_PAE;
use super::vm::DIRTY_PORT;
use super::{GuestError, Isa, Kind, Mode, Plan};

/// The port that `io` and `io-read` use: the first serial port's, nobody in the kernel owns it.
pub const PORT: u16 = 0x3f8;
/// The port whose `out` says that the vCPU runs.
pub const BOOT_PORT: u16 = 0xf5;
/// The port whose `out` ends the program.
pub const END_PORT: u16 = 0xf4;

/// Machine check status: every KVM keeps it in software, and nothing follows from writing 0 to it.
const MSR_MCG_STATUS: u32 = 0x17a;
/// `KVM_HC_VAPIC_POLL_IRQ`: the hypercall that does nothing.
const HYPERCALL_NOTHING: u32 = 1;

/// An MSR that no processor has.
const MSR_NONE: u32 = 0x4b56_4dff;
/// Where KVM is told to keep its clock; the lowest bit switches it on.
const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;
const MSR_APIC_EOI: u32 = 0x80b;
const MSR_APIC_ICR: u32 = 0x830;
const MSR_APIC_TIMER: u32 = 0x832;
const MSR_APIC_TIMER_START: u32 = 0x838;
const MSR_APIC_TIMER_NOW: u32 = 0x839;
const MSR_APIC_TIMER_DIVIDE: u32 = 0x83e;
/// The sender itself, by shorthand.
const ICR_SELF: u32 = 1 << 18;
const PIT_COUNTER: u16 = 0x40;
const PIT_CONTROL: u16 = 0x43;

/// Assembles the program of one vCPU.
pub(super) fn assemble(
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    isa: Option<Isa>,
) -> Result<Vec<u8>, GuestError> {
    let mut code = Code {
        mode: plan.mode,
        timer_ticks: plan.timer_ticks()?,
        bytes: Vec::new(),
    };
    code.out(BOOT_PORT);
    if plan.exits > 0 {
        let start = code.bytes.len();
        if plan.spin > 0 {
            code.spin(plan.spin)?;
        }
        for &kind in &plan.kinds {
            code.exit(kind, layout, vcpu, isa)?;
        }
        code.wide(&[0xff, 0xc7]); // inc edi
        code.wide(&[0xff, 0xce]); // dec esi
        code.jump_if_not_zero(start)?;
    }
    code.out(END_PORT);
    let handlers = plan.needs_handlers().then(|| code.handlers());
    // A second page of code would be one more first touch than promised.
    let room = interrupts::room(plan);
    if code.bytes.len() as u64 > room {
        return Err(GuestError::ProgramTooLong {
            kinds: plan.kinds.len(),
        });
    }
    if let Some(handlers) = handlers {
        code.bytes
            .resize(usize::try_from(room).unwrap_or(usize::MAX), 0);
        code.bytes
            .extend(interrupts::tables(plan, layout, vcpu, handlers));
    }
    Ok(code.bytes)
}

struct Code {
    mode: Mode,
    timer_ticks: u32,
    bytes: Vec<u8>,
}

impl Code {
    fn exit(
        &mut self,
        kind: Kind,
        layout: &Layout,
        vcpu: u32,
        isa: Option<Isa>,
    ) -> Result<(), GuestError> {
        match kind {
            Kind::Io => self.out(PORT),
            Kind::IoRead => {
                self.load_edx(PORT.into());
                self.plain(&[0xec]); // in al, dx
            }
            Kind::Cpuid => {
                self.load_eax(0);
                self.plain(&[0x0f, 0xa2]);
            }
            Kind::Mmio => {
                self.memory(&[0xc7, 0x04, 0x25]); // mov dword [gpa], a constant
                self.word(address(layout.mmio(vcpu))?);
                self.word(0x1234_5678);
            }
            Kind::MmioRead => {
                self.memory(&[0x8b, 0x04, 0x25]); // mov eax, [gpa]
                self.word(address(layout.mmio_read(vcpu))?);
            }
            Kind::Msr => self.wrmsr(MSR_MCG_STATUS, 0),
            Kind::MsrRead => self.rdmsr(MSR_MCG_STATUS),
            Kind::Hlt => self.plain(&[0xf4]),
            Kind::Hypercall => {
                self.load_eax(HYPERCALL_NOTHING);
                // KVM rewrites the other vendor's instruction in place, which would be further exits.
                match isa {
                    Some(Isa::Svm) => self.plain(&[0x0f, 0x01, 0xd9]), // vmmcall
                    Some(Isa::Vmx) => self.plain(&[0x0f, 0x01, 0xc1]), // vmcall
                    None => return Err(GuestError::NoHypercall),
                }
            }
            Kind::PageFault => {
                self.memory(&[0xc7, 0x45, 0x00]); // mov dword [ebp], 1
                self.word(1);
                self.wide(&[0x81, 0xc5]); // add ebp, PAGE
                self.word(address(PAGE)?);
            }
            Kind::Wbinvd => self.plain(&[0x0f, 0x09]),
            Kind::Exception => self.wrmsr(MSR_NONE, 0),
            Kind::Cr => self.flip_mce(),
            Kind::Pvclock => self.wrmsr(MSR_SYSTEM_TIME, address(layout.written(vcpu))? | 1),
            Kind::Dirty => {
                self.memory(&[0xc7, 0x04, 0x25]); // mov dword [gpa], a constant
                self.word(address(layout.written(vcpu))?);
                self.word(0x1234_5678);
                self.out(DIRTY_PORT);
            }
            Kind::Apic => self.wrmsr(MSR_APIC_TIMER_DIVIDE, 0),
            Kind::ApicRead => self.rdmsr(MSR_APIC_TIMER_NOW),
            // Interrupts are on, so it comes at once: nothing has to wait for a window.
            Kind::Ipi => self.wrmsr(MSR_APIC_ICR, ICR_SELF | u32::from(APIC_VECTOR)),
            Kind::Timer => {
                self.wrmsr(MSR_APIC_TIMER, APIC_VECTOR.into());
                // Off until the hlt, lest the interrupt come before it: then nothing would end it.
                self.plain(&[0xfa]); // cli
                self.wrmsr(MSR_APIC_TIMER_START, self.timer_ticks);
                self.plain(&[0xfb, 0xf4]); // sti, hlt
            }
            Kind::Pit => {
                self.out_value(PIT_CONTROL, 0x30); // once, a count of two bytes
                self.out_value(PIT_COUNTER, 0x00);
                self.out_value(PIT_COUNTER, 0x01); // 215 µs
            }
            Kind::Irq => self.out(IRQ_PORT),
            Kind::Ioapic => self.out(IOAPIC_PORT),
            Kind::Msi => self.out(MSI_PORT),
        }
        Ok(())
    }

    fn spin(&mut self, times: u32) -> Result<(), GuestError> {
        self.load_ecx(times);
        let start = self.bytes.len();
        self.wide(&[0xff, 0xc9]); // dec ecx
        self.jump_if_not_zero(start)
    }

    /// What follows the program. A handler leaves all registers as they were.
    fn handlers(&mut self) -> Handlers {
        let gp = self.here();
        // Go on behind the two bytes of the instruction; long mode pushes an error code on top.
        match self.mode {
            Mode::Real => self.plain(&[0x67, 0x83, 0x04, 0x24, 0x02]), // add word [esp], 2
            Mode::Long => self.plain(&[
                0x48, 0x83, 0xc4, 0x08, // add rsp, 8
                0x48, 0x83, 0x04, 0x24, 0x02, // add qword [rsp], 2
            ]),
        }
        self.iret();
        let pic = self.here();
        self.iret();
        let apic = self.here();
        for push in [0x50, 0x51, 0x52] {
            self.wide(&[push]); // eax, ecx, edx
        }
        self.wrmsr(MSR_APIC_EOI, 0);
        self.skip_hlt();
        for pop in [0x5a, 0x59, 0x58] {
            self.wide(&[pop]);
        }
        self.iret();
        Handlers { gp, pic, apic }
    }

    /// Of a handler that has pushed three registers: goes on behind a `hlt` that was about to be executed.
    ///
    /// `sti` lets nothing in before the instruction that follows it. An emulated processor may forget that when the vCPU exits
    /// between the two; then what the `hlt` waits for has been, and it would wait for ever.
    fn skip_hlt(&mut self) {
        match self.mode {
            Mode::Real => self.plain(&[
                0x67, 0x66, 0x0f, 0xb7, 0x4c, 0x24, 0x0c, // movzx ecx, word [esp + 12]
                0x67, 0x2e, 0x80, 0x39, 0xf4, // cmp byte cs:[ecx], hlt
                0x75, 0x05, // jne behind the next
                0x67, 0xff, 0x44, 0x24, 0x0c, // inc word [esp + 12]
            ]),
            Mode::Long => self.plain(&[
                0x48, 0x8b, 0x4c, 0x24, 0x18, // mov rcx, [rsp + 24]
                0x80, 0x39, 0xf4, // cmp byte [rcx], hlt
                0x75, 0x05, // jne behind the next
                0x48, 0xff, 0x44, 0x24, 0x18, // inc qword [rsp + 24]
            ]),
        }
    }

    fn iret(&mut self) {
        if self.mode == Mode::Long {
            self.plain(&[0x48]);
        }
        self.plain(&[0xcf]);
    }

    /// Where the next instruction will be. What is too far for 16 bits is too long for its page, and refused for that.
    fn here(&self) -> u16 {
        u16::try_from(self.bytes.len()).unwrap_or(u16::MAX)
    }

    fn wrmsr(&mut self, msr: u32, value: u32) {
        self.load_eax(value);
        self.load_edx(0);
        self.load_ecx(msr);
        self.plain(&[0x0f, 0x30]);
    }

    fn rdmsr(&mut self, msr: u32) {
        self.load_ecx(msr);
        self.plain(&[0x0f, 0x32]);
    }

    /// Writes CR4 with MCE on in the first round, off in the next, and so on: Intel's exits are for changes only.
    fn flip_mce(&mut self) {
        let rest = match self.mode {
            Mode::Real => 0,
            Mode::Long => u8::try_from(CR4_PAE).unwrap_or_default(),
        };
        self.wide(&[0x89, 0xf8]); // mov eax, edi
        self.wide(&[0xf7, 0xd0]); // not eax
        self.wide(&[0x83, 0xe0, 0x01]); // and eax, 1
        self.wide(&[0xc1, 0xe0, 0x06]); // shl eax, 6
        self.wide(&[0x83, 0xc8, rest]); // or eax, rest
        self.plain(&[0x0f, 0x22, 0xe0]); // mov cr4, eax
    }

    fn load_eax(&mut self, value: u32) {
        self.wide(&[0xb8]);
        self.word(value);
    }

    fn load_ecx(&mut self, value: u32) {
        self.wide(&[0xb9]);
        self.word(value);
    }

    fn load_edx(&mut self, value: u32) {
        self.wide(&[0xba]);
        self.word(value);
    }

    fn out(&mut self, port: u16) {
        self.load_edx(port.into());
        self.plain(&[0xee]); // out dx, al
    }

    fn out_value(&mut self, port: u16, value: u8) {
        self.load_eax(value.into());
        self.out(port);
    }

    /// Jumps back to where the program was this long.
    fn jump_if_not_zero(&mut self, target: usize) -> Result<(), GuestError> {
        self.wide(&[0x0f, 0x85]);
        let end = self.bytes.len() + 4;
        self.word(address((end - target) as u64)?.wrapping_neg());
        Ok(())
    }

    /// An instruction whose operand size does not matter.
    fn plain(&mut self, opcode: &[u8]) {
        self.bytes.extend_from_slice(opcode);
    }

    /// An instruction on 32-bit registers.
    fn wide(&mut self, opcode: &[u8]) {
        if self.mode == Mode::Real {
            self.bytes.push(0x66);
        }
        self.plain(opcode);
    }

    /// An instruction on 32 bits of memory, at an address of 32 bits or more.
    fn memory(&mut self, opcode: &[u8]) {
        if self.mode == Mode::Real {
            self.bytes.push(0x67);
        }
        self.wide(opcode);
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
}

/// An address or a length as an instruction holds it. The layout ends below 1 GiB, so all of them fit.
fn address(value: u64) -> Result<u32, GuestError> {
    u32::try_from(value).map_err(|_| GuestError::OutOfMemory { gpa: value })
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
        assemble(&plan, &Layout::of(&plan).unwrap(), 0, Some(Isa::Svm)).unwrap()
    }

    const BOOT: [u8; 6] = [0xba, 0xf5, 0, 0, 0, 0xee];
    const END: [u8; 6] = [0xba, 0xf4, 0, 0, 0, 0xee];

    #[test]
    fn the_loop_jumps_back_to_its_first_instruction() {
        let code = program(Mode::Long, &[Kind::Hlt], 5);
        let round = [
            0xf4, 0xff, 0xc7, 0xff, 0xce, 0x0f, 0x85, 0xf5, 0xff, 0xff, 0xff,
        ];
        assert_eq!(code, [&BOOT[..], &round, &END].concat());
    }

    #[test]
    fn real_mode_widens_operands_and_addresses() {
        let code = program(Mode::Real, &[Kind::Mmio], 1);
        assert_eq!(code[..7], [&[0x66], &BOOT[..]].concat());
        assert_eq!(
            code[7..16],
            [0x67, 0x66, 0xc7, 0x04, 0x25, 0, 0xe0, 0x1f, 0]
        );
    }

    #[test]
    fn spinning_jumps_back_to_its_own_start() {
        let plan = Plan {
            kinds: vec![Kind::Hlt],
            exits: 1,
            spin: 7,
            ..Plan::default()
        };
        let code = assemble(&plan, &Layout::of(&plan).unwrap(), 0, None).unwrap();
        let spin = [
            0xb9, 7, 0, 0, 0, 0xff, 0xc9, 0x0f, 0x85, 0xf8, 0xff, 0xff, 0xff,
        ];
        let round = [
            0xf4, 0xff, 0xc7, 0xff, 0xce, 0x0f, 0x85, 0xe8, 0xff, 0xff, 0xff,
        ];
        assert_eq!(code, [&BOOT[..], &spin, &round, &END].concat());
    }

    #[test]
    fn no_rounds_is_just_the_beginning_and_the_end() {
        assert_eq!(program(Mode::Long, &[Kind::Io], 0), [BOOT, END].concat());
    }

    #[test]
    fn a_program_longer_than_its_page_is_refused() {
        let plan = Plan {
            kinds: vec![Kind::Cpuid; 600],
            ..Plan::default()
        };
        let layout = Layout::of(&plan).unwrap();
        assert!(matches!(
            assemble(&plan, &layout, 0, None),
            Err(GuestError::ProgramTooLong { kinds: 600 })
        ));
    }
}
