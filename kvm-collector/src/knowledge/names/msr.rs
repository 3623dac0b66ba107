//! Names of model-specific registers.
//!
//! Sources, Linux 6.1 and 6.12: arch/x86/include/asm/msr-index.h, perf_event.h and hyperv-tlfs.h,
//! arch/x86/include/uapi/asm/mtrr.h and kvm_para.h. Which of them guests meet: arch/x86/kvm/x86.c,
//! `msrs_to_save_base`, `msrs_to_save_pmu`, `emulated_msrs_all` and the functions that read and write MSRs.
//!
//! A name is the one in the header without `MSR_` and `IA32_`; `HV_X64_MSR_X` is `HV_X`. Where the headers
//! name only the first of several registers, `RANGES` in tests/names/msr.rs says why there are more.
//! 0x8b has two names, one for Intel and one for AMD.

use super::table::{NumberRange, find_name, find_pattern, range, single, stepped};

/// The MSRs of x2APIC: `APIC_BASE_MSR` and the following.
const X2APIC: std::ops::Range<u64> = 0x800..0x900;

/// Registers of the local APIC that x2APIC does not have. (arch/x86/kvm/lapic.c,
/// `kvm_lapic_readable_reg_mask`, Linux 6.12)
const NOT_IN_X2APIC: [&str; 3] = ["ARBPRI", "DFR", "ICR2"];

/// Returns the name of an MSR.
#[must_use]
pub fn name(msr: u64) -> Option<String> {
    find_name(MSRS, msr).or_else(|| Some(format!("x2APIC {}", x2apic_register(msr)?)))
}

/// Returns the name of an MSR, with `#` in the place of an index. MSRs of x2APIC are not included: see
/// [`x2apic_register`].
pub(crate) fn pattern(msr: u64) -> Option<&'static str> {
    find_pattern(MSRS, msr)
}

/// Returns true if the MSR is a register of the local APIC.
pub(crate) fn is_x2apic(msr: u64) -> bool {
    X2APIC.contains(&msr)
}

/// Returns the name of the local APIC's register that an MSR stands for.
pub(crate) fn x2apic_register(msr: u64) -> Option<String> {
    if !is_x2apic(msr) {
        return None;
    }
    find_name(X2APIC_ONLY, msr).or_else(|| {
        // The MSRs are in the order of the mapped registers, which are 16 bytes apart.
        let register = super::mmio::local_apic_register((msr - X2APIC.start) << 4)?;
        (!NOT_IN_X2APIC.contains(&register.as_str())).then_some(register)
    })
}

/// Registers that only x2APIC has. (Intel SDM, volume 3, "x2APIC Register Address Space")
pub(crate) const X2APIC_ONLY: &[NumberRange] = &[single(0x83f, "SELF_IPI")];

/// MSRs that KVM guests meet, except those of x2APIC.
pub const MSRS: &[NumberRange] = &[
    single(0x0, "P5_MC_ADDR"),
    single(0x1, "P5_MC_TYPE"),
    single(0x10, "TSC"),
    // On old Intel processors these two numbers mean something else; KVM guests do not see that.
    single(0x11, "KVM_WALL_CLOCK"),
    single(0x12, "KVM_SYSTEM_TIME"),
    single(0x17, "PLATFORM_ID"),
    single(0x1b, "APICBASE"),
    single(0x2a, "EBL_CR_POWERON"),
    single(0x2c, "EBC_FREQUENCY_ID"),
    single(0x33, "TEST_CTRL"),
    single(0x34, "SMI_COUNT"),
    single(0x3a, "FEAT_CTL"),
    single(0x3b, "TSC_ADJUST"),
    single(0x48, "SPEC_CTRL"),
    single(0x49, "PRED_CMD"),
    single(0x79, "UCODE_WRITE"),
    single(0x8b, "UCODE_REV, AMD64_PATCH_LEVEL"),
    range(0x8c, 0x8f, "SGXLEPUBKEYHASH#"),
    single(0x9b, "SMM_MONITOR_CTL"),
    single(0x9e, "SMBASE"),
    range(0xc1, 0xc8, "PERFCTR#"),
    single(0xcd, "FSB_FREQ"),
    single(0xce, "PLATFORM_INFO"),
    single(0xcf, "CORE_CAPS"),
    single(0xe1, "UMWAIT_CONTROL"),
    single(0xe2, "PKG_CST_CONFIG_CONTROL"),
    single(0xe7, "MPERF"),
    single(0xe8, "APERF"),
    single(0xfe, "MTRRcap"),
    single(0x10a, "ARCH_CAPABILITIES"),
    single(0x10b, "FLUSH_CMD"),
    single(0x11e, "BBL_CR_CTL3"),
    single(0x122, "TSX_CTRL"),
    single(0x123, "MCU_OPT_CTRL"),
    single(0x140, "MISC_FEATURES_ENABLES"),
    single(0x174, "SYSENTER_CS"),
    single(0x175, "SYSENTER_ESP"),
    single(0x176, "SYSENTER_EIP"),
    single(0x179, "MCG_CAP"),
    single(0x17a, "MCG_STATUS"),
    single(0x17b, "MCG_CTL"),
    range(0x186, 0x18d, "ARCH_PERFMON_EVENTSEL#"),
    single(0x198, "PERF_STATUS"),
    single(0x199, "PERF_CTL"),
    single(0x19a, "THERM_CONTROL"),
    single(0x19b, "THERM_INTERRUPT"),
    single(0x19c, "THERM_STATUS"),
    single(0x1a0, "MISC_ENABLE"),
    single(0x1a2, "TEMPERATURE_TARGET"),
    single(0x1a4, "MISC_FEATURE_CONTROL"),
    range(0x1a6, 0x1a7, "OFFCORE_RSP_#"),
    single(0x1ad, "TURBO_RATIO_LIMIT"),
    single(0x1b0, "ENERGY_PERF_BIAS"),
    single(0x1b1, "PACKAGE_THERM_STATUS"),
    single(0x1c4, "XFD"),
    single(0x1c5, "XFD_ERR"),
    single(0x1c8, "LBR_SELECT"),
    single(0x1c9, "LBR_TOS"),
    single(0x1d9, "DEBUGCTLMSR"),
    single(0x1db, "LASTBRANCHFROMIP"),
    single(0x1dc, "LASTBRANCHTOIP"),
    single(0x1dd, "LASTINTFROMIP"),
    single(0x1de, "LASTINTTOIP"),
    single(0x1fc, "POWER_CTL"),
    stepped(0x200, 0x20e, 2, "MTRRphysBase#"),
    stepped(0x201, 0x20f, 2, "MTRRphysMask#"),
    single(0x250, "MTRRfix64K_00000"),
    single(0x258, "MTRRfix16K_80000"),
    single(0x259, "MTRRfix16K_A0000"),
    single(0x268, "MTRRfix4K_C0000"),
    single(0x269, "MTRRfix4K_C8000"),
    single(0x26a, "MTRRfix4K_D0000"),
    single(0x26b, "MTRRfix4K_D8000"),
    single(0x26c, "MTRRfix4K_E0000"),
    single(0x26d, "MTRRfix4K_E8000"),
    single(0x26e, "MTRRfix4K_F0000"),
    single(0x26f, "MTRRfix4K_F8000"),
    single(0x277, "CR_PAT"),
    range(0x280, 0x29f, "MC#_CTL2"),
    single(0x2ff, "MTRRdefType"),
    range(0x309, 0x30c, "CORE_PERF_FIXED_CTR#"),
    single(0x329, "PERF_METRICS"),
    single(0x345, "PERF_CAPABILITIES"),
    single(0x38d, "CORE_PERF_FIXED_CTR_CTRL"),
    single(0x38e, "CORE_PERF_GLOBAL_STATUS"),
    single(0x38f, "CORE_PERF_GLOBAL_CTRL"),
    single(0x390, "CORE_PERF_GLOBAL_OVF_CTRL"),
    single(0x3f1, "PEBS_ENABLE"),
    single(0x3f2, "PEBS_DATA_CFG"),
    single(0x3f6, "PEBS_LD_LAT_THRESHOLD"),
    single(0x3fc, "CORE_C3_RESIDENCY"),
    single(0x3fd, "CORE_C6_RESIDENCY"),
    single(0x3fe, "CORE_C7_RESIDENCY"),
    stepped(0x400, 0x47c, 4, "MC#_CTL"),
    stepped(0x401, 0x47d, 4, "MC#_STATUS"),
    stepped(0x402, 0x47e, 4, "MC#_ADDR"),
    stepped(0x403, 0x47f, 4, "MC#_MISC"),
    single(0x480, "VMX_BASIC"),
    single(0x481, "VMX_PINBASED_CTLS"),
    single(0x482, "VMX_PROCBASED_CTLS"),
    single(0x483, "VMX_EXIT_CTLS"),
    single(0x484, "VMX_ENTRY_CTLS"),
    single(0x485, "VMX_MISC"),
    single(0x486, "VMX_CR0_FIXED0"),
    single(0x487, "VMX_CR0_FIXED1"),
    single(0x488, "VMX_CR4_FIXED0"),
    single(0x489, "VMX_CR4_FIXED1"),
    single(0x48a, "VMX_VMCS_ENUM"),
    single(0x48b, "VMX_PROCBASED_CTLS2"),
    single(0x48c, "VMX_EPT_VPID_CAP"),
    single(0x48d, "VMX_TRUE_PINBASED_CTLS"),
    single(0x48e, "VMX_TRUE_PROCBASED_CTLS"),
    single(0x48f, "VMX_TRUE_EXIT_CTLS"),
    single(0x490, "VMX_TRUE_ENTRY_CTLS"),
    single(0x491, "VMX_VMFUNC"),
    single(0x492, "VMX_PROCBASED_CTLS3"),
    range(0x4c1, 0x4c8, "PMC#"),
    single(0x4d0, "MCG_EXT_CTL"),
    single(0x560, "RTIT_OUTPUT_BASE"),
    single(0x561, "RTIT_OUTPUT_MASK"),
    single(0x570, "RTIT_CTL"),
    single(0x571, "RTIT_STATUS"),
    single(0x572, "RTIT_CR3_MATCH"),
    stepped(0x580, 0x586, 2, "RTIT_ADDR#_A"),
    stepped(0x581, 0x587, 2, "RTIT_ADDR#_B"),
    single(0x600, "DS_AREA"),
    single(0x606, "RAPL_POWER_UNIT"),
    single(0x611, "PKG_ENERGY_STATUS"),
    single(0x619, "DRAM_ENERGY_STATUS"),
    single(0x639, "PP0_ENERGY_STATUS"),
    single(0x641, "PP1_ENERGY_STATUS"),
    single(0x660, "CORE_C1_RES"),
    single(0x6a0, "U_CET"),
    single(0x6a2, "S_CET"),
    range(0x6a4, 0x6a7, "PL#_SSP"),
    single(0x6a8, "INT_SSP_TAB"),
    single(0x6e0, "TSC_DEADLINE"),
    single(0x770, "PM_ENABLE"),
    single(0x771, "HWP_CAPABILITIES"),
    single(0x774, "HWP_REQUEST"),
    single(0x777, "HWP_STATUS"),
    single(0xd90, "BNDCFGS"),
    single(0xd93, "PASID"),
    single(0xda0, "XSS"),
    // Hyper-V, for guests with Hyper-V enlightenments. (With KVM's Xen emulation, a write of 0x40000000
    // installs the hypercall page.)
    single(0x4000_0000, "HV_GUEST_OS_ID"),
    single(0x4000_0001, "HV_HYPERCALL"),
    single(0x4000_0002, "HV_VP_INDEX"),
    single(0x4000_0003, "HV_RESET"),
    single(0x4000_0010, "HV_VP_RUNTIME"),
    single(0x4000_0020, "HV_TIME_REF_COUNT"),
    single(0x4000_0021, "HV_REFERENCE_TSC"),
    single(0x4000_0022, "HV_TSC_FREQUENCY"),
    single(0x4000_0023, "HV_APIC_FREQUENCY"),
    single(0x4000_0070, "HV_EOI"),
    single(0x4000_0071, "HV_ICR"),
    single(0x4000_0072, "HV_TPR"),
    single(0x4000_0073, "HV_VP_ASSIST_PAGE"),
    single(0x4000_0080, "HV_SCONTROL"),
    single(0x4000_0081, "HV_SVERSION"),
    single(0x4000_0082, "HV_SIEFP"),
    single(0x4000_0083, "HV_SIMP"),
    single(0x4000_0084, "HV_EOM"),
    range(0x4000_0090, 0x4000_009f, "HV_SINT#"),
    stepped(0x4000_00b0, 0x4000_00b6, 2, "HV_STIMER#_CONFIG"),
    stepped(0x4000_00b1, 0x4000_00b7, 2, "HV_STIMER#_COUNT"),
    single(0x4000_00f0, "HV_GUEST_IDLE"),
    range(0x4000_0100, 0x4000_0104, "HV_CRASH_P#"),
    single(0x4000_0105, "HV_CRASH_CTL"),
    single(0x4000_0106, "HV_REENLIGHTENMENT_CONTROL"),
    single(0x4000_0107, "HV_TSC_EMULATION_CONTROL"),
    single(0x4000_0108, "HV_TSC_EMULATION_STATUS"),
    single(0x4000_0118, "HV_TSC_INVARIANT_CONTROL"),
    // KVM.
    single(0x4b56_4d00, "KVM_WALL_CLOCK_NEW"),
    single(0x4b56_4d01, "KVM_SYSTEM_TIME_NEW"),
    single(0x4b56_4d02, "KVM_ASYNC_PF_EN"),
    single(0x4b56_4d03, "KVM_STEAL_TIME"),
    single(0x4b56_4d04, "KVM_PV_EOI_EN"),
    single(0x4b56_4d05, "KVM_POLL_CONTROL"),
    single(0x4b56_4d06, "KVM_ASYNC_PF_INT"),
    single(0x4b56_4d07, "KVM_ASYNC_PF_ACK"),
    single(0x4b56_4d08, "KVM_MIGRATION_CONTROL"),
    // Long mode.
    single(0xc000_0080, "EFER"),
    single(0xc000_0081, "STAR"),
    single(0xc000_0082, "LSTAR"),
    single(0xc000_0083, "CSTAR"),
    single(0xc000_0084, "SYSCALL_MASK"),
    single(0xc000_00e9, "F17H_IRPERF"),
    single(0xc000_0100, "FS_BASE"),
    single(0xc000_0101, "GS_BASE"),
    single(0xc000_0102, "KERNEL_GS_BASE"),
    single(0xc000_0103, "TSC_AUX"),
    // AMD.
    single(0xc000_0104, "AMD64_TSC_RATIO"),
    single(0xc000_010e, "AMD64_LBR_SELECT"),
    single(0xc000_010f, "AMD_DBG_EXTN_CFG"),
    single(0xc000_0300, "AMD64_PERF_CNTR_GLOBAL_STATUS"),
    single(0xc000_0301, "AMD64_PERF_CNTR_GLOBAL_CTL"),
    single(0xc000_0302, "AMD64_PERF_CNTR_GLOBAL_STATUS_CLR"),
    single(0xc000_0303, "AMD64_PERF_CNTR_GLOBAL_STATUS_SET"),
    range(0xc001_0000, 0xc001_0003, "K7_EVNTSEL#"),
    range(0xc001_0004, 0xc001_0007, "K7_PERFCTR#"),
    single(0xc001_0010, "AMD64_SYSCFG"),
    single(0xc001_0015, "K7_HWCR"),
    single(0xc001_001a, "K8_TOP_MEM1"),
    single(0xc001_001b, "K7_CLK_CTL"),
    single(0xc001_001d, "K8_TOP_MEM2"),
    single(0xc001_001f, "AMD64_NB_CFG"),
    single(0xc001_0020, "AMD64_PATCH_LOADER"),
    single(0xc001_0055, "K8_INT_PENDING_MSG"),
    single(0xc001_0058, "FAM10H_MMIO_CONF_BASE"),
    single(0xc001_0062, "AMD_PERF_CTL"),
    single(0xc001_0063, "AMD_PERF_STATUS"),
    range(0xc001_0064, 0xc001_006b, "AMD_PSTATE_DEF#"),
    single(0xc001_0112, "K8_TSEG_ADDR"),
    single(0xc001_0113, "K8_TSEG_MASK"),
    single(0xc001_0114, "VM_CR"),
    single(0xc001_0115, "VM_IGNNE"),
    single(0xc001_0117, "VM_HSAVE_PA"),
    single(0xc001_011b, "AMD64_SVM_AVIC_DOORBELL"),
    single(0xc001_011e, "AMD64_VM_PAGE_FLUSH"),
    single(0xc001_011f, "AMD64_VIRT_SPEC_CTRL"),
    single(0xc001_0130, "AMD64_SEV_ES_GHCB"),
    single(0xc001_0131, "AMD64_SEV"),
    single(0xc001_0140, "AMD64_OSVW_ID_LENGTH"),
    single(0xc001_0141, "AMD64_OSVW_STATUS"),
    stepped(0xc001_0200, 0xc001_020a, 2, "F15H_PERF_CTL#"),
    stepped(0xc001_0201, 0xc001_020b, 2, "F15H_PERF_CTR#"),
    single(0xc001_0280, "F15H_PTSC"),
    single(0xc001_0299, "AMD_RAPL_POWER_UNIT"),
    single(0xc001_029a, "AMD_CORE_ENERGY_STATUS"),
    single(0xc001_029b, "AMD_PKG_ENERGY_STATUS"),
    single(0xc001_02b0, "AMD_CPPC_CAP1"),
    single(0xc001_02b1, "AMD_CPPC_ENABLE"),
    single(0xc001_02b2, "AMD_CPPC_CAP2"),
    single(0xc001_02b3, "AMD_CPPC_REQ"),
    single(0xc001_02b4, "AMD_CPPC_STATUS"),
    single(0xc001_1004, "AMD64_CPUID_FN_1"),
    single(0xc001_1020, "AMD64_LS_CFG"),
    single(0xc001_1021, "F15H_IC_CFG"),
    single(0xc001_1022, "AMD64_DC_CFG"),
    single(0xc001_1023, "AMD64_TW_CFG"),
    single(0xc001_1029, "AMD64_DE_CFG"),
    single(0xc001_102a, "AMD64_BU_CFG2"),
    single(0xc001_102c, "F15H_EX_CFG"),
    single(0xc001_102e, "ZEN4_BP_CFG"),
    single(0xc001_1030, "AMD64_IBSFETCHCTL"),
    single(0xc001_1033, "AMD64_IBSOPCTL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_msr_has_two_names() {
        crate::knowledge::names::table::assert_no_duplicates(MSRS);
    }

    #[test]
    fn msrs_have_names() {
        for (msr, expected) in [
            (0x10, "TSC"),
            (0x6e0, "TSC_DEADLINE"),
            (0x802, "x2APIC ID"),
            (0x808, "x2APIC TASKPRI"),
            (0x80b, "x2APIC EOI"),
            (0x812, "x2APIC ISR2"),
            (0x830, "x2APIC ICR"),
            (0x838, "x2APIC TMICT"),
            (0x83f, "x2APIC SELF_IPI"),
            (0x203, "MTRRphysMask1"),
            (0x406, "MC1_ADDR"),
            (0x4000_0070, "HV_EOI"),
            (0x4000_00b3, "HV_STIMER1_COUNT"),
            (0x4b56_4d03, "KVM_STEAL_TIME"),
            (0xc000_0080, "EFER"),
            (0xc001_0015, "K7_HWCR"),
            (0xc001_0203, "F15H_PERF_CTR1"),
        ] {
            assert_eq!(name(msr).as_deref(), Some(expected), "{msr:#x}");
        }
        for unknown in [2, 0x7ff, 0x804, 0x80e, 0x831, 0x900, 0xc001_ffff, u64::MAX] {
            assert_eq!(name(unknown), None, "{unknown:#x}");
        }
    }
}
