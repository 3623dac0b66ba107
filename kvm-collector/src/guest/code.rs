//! The guest's program, as machine code.
//!
//! The same encodings serve both modes: in real mode a prefix makes operands and addresses 32 bits wide, which in long
//! mode (below 4 GiB) they are anyway. Registers: esi rounds left, edi rounds done, ebp the next page to touch.

use super::layout::{Layout, PAGE};
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

/// Assembles the program of one vCPU.
pub(super) fn assemble(
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    isa: Option<Isa>,
) -> Result<Vec<u8>, GuestError> {
    let mut code = Code {
        mode: plan.mode,
        bytes: Vec::new(),
    };
    code.out(BOOT_PORT);
    if plan.exits > 0 {
        let start = code.bytes.len();
        for &kind in &plan.kinds {
            code.exit(kind, layout, vcpu, isa)?;
        }
        code.wide(&[0xff, 0xc7]); // inc edi
        code.wide(&[0xff, 0xce]); // dec esi
        code.jump_if_not_zero(start)?;
    }
    code.out(END_PORT);
    // A second page of code would be one more first touch than promised.
    if code.bytes.len() as u64 > PAGE {
        return Err(GuestError::ProgramTooLong {
            kinds: plan.kinds.len(),
        });
    }
    Ok(code.bytes)
}

struct Code {
    mode: Mode,
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
            Kind::Msr => {
                self.load_eax(0);
                self.load_edx(0);
                self.load_ecx(MSR_MCG_STATUS);
                self.plain(&[0x0f, 0x30]); // wrmsr
            }
            Kind::MsrRead => {
                self.load_ecx(MSR_MCG_STATUS);
                self.plain(&[0x0f, 0x32]); // rdmsr
            }
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
        }
        Ok(())
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
