//! Comparison of the MSRs with the headers.

use std::collections::BTreeSet;

use kvm_collector::knowledge::names::{NumberRange, mmio, msr};

use crate::{
    headers::Kernel,
    tables::{compare_entry, numbers},
};

/// A range of MSRs that the headers do not name individually.
#[derive(Debug, Clone, Copy)]
struct Range {
    pattern: &'static str,
    /// How the headers define the numbers.
    numbers: Numbers,
    count: Count,
}

#[derive(Debug, Clone, Copy)]
enum Numbers {
    /// A macro with the index as its argument.
    Macro(&'static str),
    /// A constant for the first; the others follow it.
    First(&'static str),
}

#[derive(Debug, Clone, Copy)]
enum Count {
    /// A constant of the headers, which may have another name in another kernel.
    Constants(&'static [&'static str]),
    /// A number that no header has. A comment at its use names the source.
    Number(u64),
}

/// Performance counters of Intel processors that KVM emulates.
const INTEL_COUNTERS: Count =
    Count::Constants(&["KVM_INTEL_PMC_MAX_GENERIC", "KVM_MAX_NR_INTEL_GP_COUNTERS"]);

/// `KVM_MAX_MCE_BANKS` in arch/x86/kvm/x86.c, Linux 6.1 and 6.12.
const MCE_BANKS: Count = Count::Number(32);

const MTRRS: Count = Count::Constants(&["KVM_NR_VAR_MTRR"]);

const RANGES: &[Range] = &[
    Range {
        pattern: "PERFCTR#",
        numbers: Numbers::First("MSR_IA32_PERFCTR0"),
        count: INTEL_COUNTERS,
    },
    Range {
        pattern: "ARCH_PERFMON_EVENTSEL#",
        numbers: Numbers::First("MSR_ARCH_PERFMON_EVENTSEL0"),
        count: INTEL_COUNTERS,
    },
    Range {
        pattern: "PMC#",
        numbers: Numbers::First("MSR_IA32_PMC0"),
        count: INTEL_COUNTERS,
    },
    Range {
        pattern: "MTRRphysBase#",
        numbers: Numbers::Macro("MTRRphysBase_MSR"),
        count: MTRRS,
    },
    Range {
        pattern: "MTRRphysMask#",
        numbers: Numbers::Macro("MTRRphysMask_MSR"),
        count: MTRRS,
    },
    Range {
        pattern: "MC#_CTL2",
        numbers: Numbers::Macro("MSR_IA32_MCx_CTL2"),
        count: MCE_BANKS,
    },
    Range {
        pattern: "MC#_CTL",
        numbers: Numbers::Macro("MSR_IA32_MCx_CTL"),
        count: MCE_BANKS,
    },
    Range {
        pattern: "MC#_STATUS",
        numbers: Numbers::Macro("MSR_IA32_MCx_STATUS"),
        count: MCE_BANKS,
    },
    Range {
        pattern: "MC#_ADDR",
        numbers: Numbers::Macro("MSR_IA32_MCx_ADDR"),
        count: MCE_BANKS,
    },
    Range {
        pattern: "MC#_MISC",
        numbers: Numbers::Macro("MSR_IA32_MCx_MISC"),
        count: MCE_BANKS,
    },
    // Linux 6.1 names only the first.
    Range {
        pattern: "HV_SINT#",
        numbers: Numbers::First("HV_X64_MSR_SINT0"),
        count: Count::Constants(&["HV_SYNIC_SINT_COUNT"]),
    },
    // AMD APM, volume 2, "P-State Control": MSRC001_0064 to MSRC001_006B.
    Range {
        pattern: "AMD_PSTATE_DEF#",
        numbers: Numbers::First("MSR_AMD_PSTATE_DEF_BASE"),
        count: Count::Number(8),
    },
];

/// Returns how the MSRs of a table differ from the headers.
pub(crate) fn compare(kernels: &[Kernel]) -> Vec<String> {
    let mut differences = Vec::new();
    for range in msr::MSRS {
        match RANGES.iter().find(|it| it.pattern == range.pattern()) {
            Some(source) => differences.extend(compare_range(kernels, range, source)),
            None => {
                for (number, name) in range.names() {
                    differences.extend(compare_msr(kernels, number, &name));
                }
            }
        }
    }
    let known: BTreeSet<_> = msr::MSRS.iter().map(NumberRange::pattern).collect();
    for range in RANGES.iter().filter(|it| !known.contains(it.pattern)) {
        differences.push(format!("the table has no {}", range.pattern));
    }
    differences.extend(compare_x2apic(kernels));
    differences
}

/// Compares an MSR. If the table has two names with a comma, both are compared.
fn compare_msr(kernels: &[Kernel], number: u64, names: &str) -> Vec<String> {
    names
        .split(", ")
        .flat_map(|name| compare_entry(kernels, number, name, &header_names(name)))
        .collect()
}

/// Returns the names that an MSR may have in the headers.
fn header_names(name: &str) -> Vec<String> {
    match name.strip_prefix("HV_") {
        Some(name) => vec![format!("HV_X64_MSR_{name}")],
        None => vec![format!("MSR_{name}"), format!("MSR_IA32_{name}")],
    }
}

fn compare_range(kernels: &[Kernel], range: &NumberRange, source: &Range) -> Vec<String> {
    let mut differences = Vec::new();
    let numbers: Vec<_> = range.names().collect();
    for kernel in kernels {
        let count = match source.count {
            Count::Number(count) => count,
            Count::Constants(names) => {
                let Some(count) = names.iter().find_map(|it| kernel.value(it)) else {
                    differences.push(format!(
                        "Linux {} does not define {names:?}",
                        kernel.version
                    ));
                    continue;
                };
                count
            }
        };
        if numbers.len() as u64 != count {
            differences.push(format!(
                "{} has {} numbers, Linux {} has {count}",
                source.pattern,
                numbers.len(),
                kernel.version
            ));
        }
        for (index, (number, name)) in (0..).zip(&numbers) {
            let expected = match source.numbers {
                Numbers::Macro(name) => kernel.value_at(name, index),
                Numbers::First(name) => kernel.value(name).map(|first| first + index),
            };
            if expected != Some(*number) {
                let expected = expected.map_or("no number".to_owned(), |it| format!("{it:#x}"));
                differences.push(format!(
                    "{number:#x} is not {name}: Linux {} has {expected} ({:?})",
                    kernel.version, source.numbers
                ));
            }
        }
    }
    differences
}

/// Compares the MSRs of x2APIC. The MSR of a register is 0x800 plus 1/16 of the register's offset.
fn compare_x2apic(kernels: &[Kernel]) -> Vec<String> {
    let mut differences = Vec::new();
    for kernel in kernels {
        let Some(first) = kernel.value("APIC_BASE_MSR") else {
            differences.push(format!(
                "Linux {} does not define APIC_BASE_MSR",
                kernel.version
            ));
            continue;
        };
        for (msr, name) in [
            (kernel.value("APIC_X2APIC_ID_MSR"), "x2APIC ID"),
            (
                kernel.value("APIC_EOI").map(|it| first + it / 16),
                "x2APIC EOI",
            ),
            (
                kernel.value("APIC_SELF_IPI").map(|it| first + it / 16),
                "x2APIC SELF_IPI",
            ),
        ] {
            // Linux 6.1 has no APIC_X2APIC_ID_MSR.
            let Some(msr) = msr else { continue };
            let found = msr::name(msr);
            if found.as_deref() != Some(name) {
                differences.push(format!("{msr:#x} is {found:?}, not {name}"));
            }
        }
    }
    for (offset, name) in numbers(mmio::LOCAL_APIC_REGISTERS) {
        if offset % 16 != 0 {
            differences.push(format!("{name} has the offset {offset:#x}"));
        }
    }
    differences
}

/// Returns the MSRs of KVM and Hyper-V, and those for nested VMX, that the table lacks.
pub(crate) fn find_missing(kernels: &[Kernel]) -> Vec<String> {
    let table = numbers(msr::MSRS);
    let mut differences = BTreeSet::new();
    for kernel in kernels {
        for (header, prefix, range) in [
            (
                "arch/x86/include/uapi/asm/kvm_para.h",
                "MSR_KVM_",
                0..u64::MAX,
            ),
            // Above are the MSRs of a hypervisor under Hyper-V; below are bits and masks.
            (
                "arch/x86/include/asm/hyperv-tlfs.h",
                "HV_X64_MSR_",
                0x4000_0000..0x4000_1000,
            ),
            (
                "arch/x86/include/asm/msr-index.h",
                "MSR_IA32_VMX_",
                0x480..0x500,
            ),
        ] {
            let mut seen = 0;
            for (name, number) in kernel.constants(header) {
                if !name.starts_with(prefix) || !range.contains(&number) {
                    continue;
                }
                seen += 1;
                if !table.contains_key(&number) {
                    differences.insert(format!("{name} ({number:#x}) of {header} is missing"));
                }
            }
            assert!(seen > 5, "{header} has {seen} MSRs");
        }
    }
    differences.into_iter().collect()
}

/// Returns all other MSRs that the tables lack. Most of them are not for guests.
pub(crate) fn list_missing(kernels: &[Kernel]) -> BTreeSet<String> {
    let table = numbers(msr::MSRS);
    let mut missing = BTreeSet::new();
    for kernel in kernels {
        let constants = kernel.constants("arch/x86/include/asm/msr-index.h");
        for (name, number) in &constants {
            // Bits and masks are named for their MSR: MSR_IA32_APICBASE_ENABLE.
            let mut parts = name.rmatch_indices('_').map(|(end, _)| &name[..end]);
            let is_bit = parts.any(|part| constants.contains_key(part));
            if name.starts_with("MSR_") && !is_bit && !table.contains_key(number) {
                missing.insert(format!("{number:#010x} {name}"));
            }
        }
    }
    missing
}
