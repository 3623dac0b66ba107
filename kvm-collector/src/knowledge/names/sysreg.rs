//! Names of system registers of arm64.
//!
//! Source: arch/arm64/include/asm/sysreg.h, Linux 6.1 and 6.12, without `SYS_`. Which of them KVM traps:
//! arch/arm64/kvm/sys_regs.c, `sys_reg_descs` and `sys_insn_descs`. Registers that are not in that header, because a script of
//! the kernel's build makes their numbers, have no name here.

use std::fmt;

use super::table::{NumberRange, find_name, single};

/// A system register, or an instruction that is encoded like one, by the numbers of its encoding: op0, op1, CRn, CRm, op2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemRegister([u64; 5]);

impl SystemRegister {
    /// Returns the register of a trapped access, by its syndrome (`ESR_ELx_SYS64_ISS`, arch/arm64/include/asm/esr.h).
    pub(crate) fn from_syndrome(syndrome: u64) -> Self {
        let bits = |first: u32, count: u32| syndrome >> first & ((1 << count) - 1);
        Self([
            bits(20, 2),
            bits(14, 3),
            bits(10, 4),
            bits(1, 4),
            bits(17, 3),
        ])
    }

    /// Returns the name of the register.
    pub(crate) fn name(self) -> Option<String> {
        let Self([op0, op1, crn, crm, op2]) = self;
        find_name(REGISTERS, number(op0, op1, crn, crm, op2))
    }
}

/// Shows the name that assemblers know for each register, such as `S3_0_C12_C11_5` for ICC_SGI1R_EL1.
impl fmt::Display for SystemRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([op0, op1, crn, crm, op2]) = self;
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

/// Returns the number of a register: the kernel's `sys_reg`.
const fn number(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

const fn register(
    op0: u64,
    op1: u64,
    crn: u64,
    crm: u64,
    op2: u64,
    name: &'static str,
) -> NumberRange {
    single(number(op0, op1, crn, crm, op2), name)
}

/// Registers, by the number that the kernel's `sys_reg` makes of their encoding.
pub const REGISTERS: &[NumberRange] = &[
    register(1, 0, 7, 6, 2, "DC_ISW"),
    register(1, 0, 7, 6, 4, "DC_IGSW"),
    register(1, 0, 7, 6, 6, "DC_IGDSW"),
    register(1, 0, 7, 10, 2, "DC_CSW"),
    register(1, 0, 7, 10, 4, "DC_CGSW"),
    register(1, 0, 7, 10, 6, "DC_CGDSW"),
    register(1, 0, 7, 14, 2, "DC_CISW"),
    register(1, 0, 7, 14, 4, "DC_CIGSW"),
    register(1, 0, 7, 14, 6, "DC_CIGDSW"),
    register(2, 0, 0, 0, 2, "OSDTRRX_EL1"),
    register(2, 0, 0, 2, 0, "MDCCINT_EL1"),
    register(2, 0, 0, 2, 2, "MDSCR_EL1"),
    register(2, 0, 0, 3, 2, "OSDTRTX_EL1"),
    register(2, 0, 0, 6, 2, "OSECCR_EL1"),
    register(2, 0, 1, 0, 0, "MDRAR_EL1"),
    register(2, 0, 1, 0, 4, "OSLAR_EL1"),
    register(2, 0, 1, 1, 4, "OSLSR_EL1"),
    register(2, 0, 1, 3, 4, "OSDLR_EL1"),
    register(2, 0, 1, 4, 4, "DBGPRCR_EL1"),
    register(2, 0, 7, 8, 6, "DBGCLAIMSET_EL1"),
    register(2, 0, 7, 9, 6, "DBGCLAIMCLR_EL1"),
    register(2, 0, 7, 14, 6, "DBGAUTHSTATUS_EL1"),
    register(2, 3, 0, 1, 0, "MDCCSR_EL0"),
    register(3, 0, 0, 0, 0, "MIDR_EL1"),
    register(3, 0, 0, 0, 5, "MPIDR_EL1"),
    register(3, 0, 0, 0, 6, "REVIDR_EL1"),
    register(3, 0, 0, 1, 0, "ID_PFR0_EL1"),
    register(3, 0, 0, 1, 1, "ID_PFR1_EL1"),
    register(3, 0, 0, 1, 2, "ID_DFR0_EL1"),
    register(3, 0, 0, 1, 3, "ID_AFR0_EL1"),
    register(3, 0, 0, 1, 4, "ID_MMFR0_EL1"),
    register(3, 0, 0, 1, 5, "ID_MMFR1_EL1"),
    register(3, 0, 0, 1, 6, "ID_MMFR2_EL1"),
    register(3, 0, 0, 1, 7, "ID_MMFR3_EL1"),
    register(3, 0, 0, 2, 0, "ID_ISAR0_EL1"),
    register(3, 0, 0, 2, 1, "ID_ISAR1_EL1"),
    register(3, 0, 0, 2, 2, "ID_ISAR2_EL1"),
    register(3, 0, 0, 2, 3, "ID_ISAR3_EL1"),
    register(3, 0, 0, 2, 4, "ID_ISAR4_EL1"),
    register(3, 0, 0, 2, 5, "ID_ISAR5_EL1"),
    register(3, 0, 0, 2, 6, "ID_MMFR4_EL1"),
    register(3, 0, 0, 2, 7, "ID_ISAR6_EL1"),
    register(3, 0, 0, 3, 0, "MVFR0_EL1"),
    register(3, 0, 0, 3, 1, "MVFR1_EL1"),
    register(3, 0, 0, 3, 2, "MVFR2_EL1"),
    register(3, 0, 0, 3, 4, "ID_PFR2_EL1"),
    register(3, 0, 0, 3, 5, "ID_DFR1_EL1"),
    register(3, 0, 0, 3, 6, "ID_MMFR5_EL1"),
    register(3, 0, 1, 0, 1, "ACTLR_EL1"),
    register(3, 0, 1, 0, 5, "RGSR_EL1"),
    register(3, 0, 1, 0, 6, "GCR_EL1"),
    register(3, 0, 1, 2, 1, "TRFCR_EL1"),
    register(3, 0, 2, 0, 2, "TCR_EL1"),
    register(3, 0, 2, 1, 0, "APIAKEYLO_EL1"),
    register(3, 0, 2, 1, 1, "APIAKEYHI_EL1"),
    register(3, 0, 2, 1, 2, "APIBKEYLO_EL1"),
    register(3, 0, 2, 1, 3, "APIBKEYHI_EL1"),
    register(3, 0, 2, 2, 0, "APDAKEYLO_EL1"),
    register(3, 0, 2, 2, 1, "APDAKEYHI_EL1"),
    register(3, 0, 2, 2, 2, "APDBKEYLO_EL1"),
    register(3, 0, 2, 2, 3, "APDBKEYHI_EL1"),
    register(3, 0, 2, 3, 0, "APGAKEYLO_EL1"),
    register(3, 0, 2, 3, 1, "APGAKEYHI_EL1"),
    register(3, 0, 4, 0, 1, "ELR_EL1"),
    register(3, 0, 4, 6, 0, "ICC_PMR_EL1"),
    register(3, 0, 5, 1, 0, "AFSR0_EL1"),
    register(3, 0, 5, 1, 1, "AFSR1_EL1"),
    register(3, 0, 5, 2, 0, "ESR_EL1"),
    register(3, 0, 5, 3, 0, "ERRIDR_EL1"),
    register(3, 0, 5, 3, 1, "ERRSELR_EL1"),
    register(3, 0, 5, 4, 0, "ERXFR_EL1"),
    register(3, 0, 5, 4, 1, "ERXCTLR_EL1"),
    register(3, 0, 5, 4, 2, "ERXSTATUS_EL1"),
    register(3, 0, 5, 4, 3, "ERXADDR_EL1"),
    register(3, 0, 5, 4, 4, "ERXPFGF_EL1"),
    register(3, 0, 5, 4, 5, "ERXPFGCTL_EL1"),
    register(3, 0, 5, 4, 6, "ERXPFGCDN_EL1"),
    register(3, 0, 5, 5, 0, "ERXMISC0_EL1"),
    register(3, 0, 5, 5, 1, "ERXMISC1_EL1"),
    register(3, 0, 5, 5, 2, "ERXMISC2_EL1"),
    register(3, 0, 5, 5, 3, "ERXMISC3_EL1"),
    register(3, 0, 5, 6, 0, "TFSR_EL1"),
    register(3, 0, 5, 6, 1, "TFSRE0_EL1"),
    register(3, 0, 7, 4, 0, "PAR_EL1"),
    register(3, 0, 9, 14, 1, "PMINTENSET_EL1"),
    register(3, 0, 9, 14, 2, "PMINTENCLR_EL1"),
    register(3, 0, 9, 14, 6, "PMMIR_EL1"),
    register(3, 0, 10, 2, 0, "MAIR_EL1"),
    register(3, 0, 10, 3, 0, "AMAIR_EL1"),
    register(3, 0, 12, 0, 0, "VBAR_EL1"),
    register(3, 0, 12, 1, 1, "DISR_EL1"),
    register(3, 0, 12, 8, 0, "ICC_IAR0_EL1"),
    register(3, 0, 12, 8, 1, "ICC_EOIR0_EL1"),
    register(3, 0, 12, 8, 2, "ICC_HPPIR0_EL1"),
    register(3, 0, 12, 8, 3, "ICC_BPR0_EL1"),
    register(3, 0, 12, 11, 1, "ICC_DIR_EL1"),
    register(3, 0, 12, 11, 3, "ICC_RPR_EL1"),
    register(3, 0, 12, 11, 5, "ICC_SGI1R_EL1"),
    register(3, 0, 12, 11, 6, "ICC_ASGI1R_EL1"),
    register(3, 0, 12, 11, 7, "ICC_SGI0R_EL1"),
    register(3, 0, 12, 12, 0, "ICC_IAR1_EL1"),
    register(3, 0, 12, 12, 1, "ICC_EOIR1_EL1"),
    register(3, 0, 12, 12, 2, "ICC_HPPIR1_EL1"),
    register(3, 0, 12, 12, 3, "ICC_BPR1_EL1"),
    register(3, 0, 12, 12, 4, "ICC_CTLR_EL1"),
    register(3, 0, 12, 12, 5, "ICC_SRE_EL1"),
    register(3, 0, 12, 12, 6, "ICC_IGRPEN0_EL1"),
    register(3, 0, 12, 12, 7, "ICC_IGRPEN1_EL1"),
    register(3, 0, 13, 0, 5, "ACCDATA_EL1"),
    register(3, 0, 14, 1, 0, "CNTKCTL_EL1"),
    register(3, 1, 0, 0, 0, "CCSIDR_EL1"),
    register(3, 1, 0, 0, 7, "AIDR_EL1"),
    register(3, 3, 9, 12, 0, "PMCR_EL0"),
    register(3, 3, 9, 12, 1, "PMCNTENSET_EL0"),
    register(3, 3, 9, 12, 2, "PMCNTENCLR_EL0"),
    register(3, 3, 9, 12, 3, "PMOVSCLR_EL0"),
    register(3, 3, 9, 12, 4, "PMSWINC_EL0"),
    register(3, 3, 9, 12, 5, "PMSELR_EL0"),
    register(3, 3, 9, 12, 6, "PMCEID0_EL0"),
    register(3, 3, 9, 12, 7, "PMCEID1_EL0"),
    register(3, 3, 9, 13, 0, "PMCCNTR_EL0"),
    register(3, 3, 9, 13, 1, "PMXEVTYPER_EL0"),
    register(3, 3, 9, 13, 2, "PMXEVCNTR_EL0"),
    register(3, 3, 9, 14, 0, "PMUSERENR_EL0"),
    register(3, 3, 9, 14, 3, "PMOVSSET_EL0"),
    register(3, 3, 13, 0, 7, "SCXTNUM_EL0"),
    register(3, 3, 14, 0, 0, "CNTFRQ_EL0"),
    register(3, 3, 14, 0, 1, "CNTPCT_EL0"),
    register(3, 3, 14, 0, 5, "CNTPCTSS_EL0"),
    register(3, 3, 14, 0, 6, "CNTVCTSS_EL0"),
    register(3, 3, 14, 2, 0, "CNTP_TVAL_EL0"),
    register(3, 3, 14, 2, 1, "CNTP_CTL_EL0"),
    register(3, 3, 14, 2, 2, "CNTP_CVAL_EL0"),
    register(3, 3, 14, 3, 1, "CNTV_CTL_EL0"),
    register(3, 3, 14, 3, 2, "CNTV_CVAL_EL0"),
    register(3, 3, 14, 15, 7, "PMCCFILTR_EL0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_names() {
        crate::knowledge::names::table::assert_no_duplicates(REGISTERS);
        // Writes of ICC_SGI1R_EL1; reads of ID_AA64PFR0_EL1, which the header does not have.
        for (syndrome, text, name) in [
            (0x3a_3016, "S3_0_C12_C11_5", Some("ICC_SGI1R_EL1")),
            (0x30_0009, "S3_0_C0_C4_0", None),
        ] {
            let register = SystemRegister::from_syndrome(syndrome);
            assert_eq!(register.to_string(), text);
            assert_eq!(register.name().as_deref(), name);
        }
    }
}
