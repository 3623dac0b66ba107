//! Comparisons of tables with constants of the headers.

use std::collections::{BTreeMap, BTreeSet};

use kvm_collector::knowledge::names::{NumberRange, cpuid, hypercall, userspace};

use crate::headers::Kernel;

/// Returns the name of each number of a table.
pub(crate) fn numbers(table: &[NumberRange]) -> BTreeMap<u64, String> {
    table.iter().flat_map(NumberRange::names).collect()
}

/// Returns how an entry differs from the headers, which may define its name as any of `candidates`.
///
/// At least one kernel must define the name. Each kernel that does must agree on the number.
pub(crate) fn compare_entry(
    kernels: &[Kernel],
    number: u64,
    name: &str,
    candidates: &[String],
) -> Vec<String> {
    let mut differences = Vec::new();
    let mut is_defined = false;
    for kernel in kernels {
        let values: Vec<_> = candidates
            .iter()
            .filter_map(|it| kernel.value(it))
            .collect();
        is_defined |= !values.is_empty();
        if !values.is_empty() && !values.contains(&number) {
            differences.push(format!(
                "{number:#x} is not {name}: Linux {} has {:#x} for {}",
                kernel.version,
                values[0],
                candidates.join(" or ")
            ));
        }
    }
    if !is_defined {
        differences.push(format!(
            "{number:#x} {name}: no header defines {}",
            candidates.join(" or ")
        ));
    }
    differences
}

/// Compares a table that has the names of the headers.
fn compare_names(kernels: &[Kernel], table: &[NumberRange], newer: &[&str]) -> Vec<String> {
    let mut differences = Vec::new();
    for (number, name) in numbers(table) {
        if !newer.contains(&name.as_str()) {
            differences.extend(compare_entry(
                kernels,
                number,
                &name,
                std::slice::from_ref(&name),
            ));
        }
    }
    differences
}

/// Returns the constants of a header that a table lacks.
fn missing(
    kernels: &[Kernel],
    header: &str,
    table: &[NumberRange],
    is_wanted: impl Fn(&BTreeMap<&str, u64>, &str) -> bool,
) -> Vec<String> {
    let known: BTreeSet<_> = numbers(table).into_values().collect();
    let mut differences = BTreeSet::new();
    for kernel in kernels {
        let constants = kernel.constants(header);
        for (name, number) in &constants {
            if is_wanted(&constants, name) && !known.contains(*name) {
                differences.insert(format!("{name} ({number}) of {header} is missing"));
            }
        }
    }
    differences.into_iter().collect()
}

/// Compares the hypercalls of all processors but PowerPC and MIPS.
pub(crate) fn compare_hypercalls(kernels: &[Kernel]) -> Vec<String> {
    let mut differences = compare_names(kernels, hypercall::HYPERCALLS, &[]);
    let header = "include/uapi/linux/kvm_para.h";
    differences.extend(missing(
        kernels,
        header,
        hypercall::HYPERCALLS,
        |_, name| {
            let of_others = ["KVM_HC_PPC_", "KVM_HC_MIPS_"];
            name.starts_with("KVM_HC_") && !of_others.iter().any(|it| name.starts_with(it))
        },
    ));
    differences
}

/// Exit reasons that are newer than all headers of these tests, with their source.
///
/// KVM_EXIT_TDX: include/uapi/linux/kvm.h, Linux 6.16, is 40.
const NEWER_EXITS: [(&str, u64); 1] = [("KVM_EXIT_TDX", 40)];

/// Compares all exits to user space.
pub(crate) fn compare_userspace_exits(kernels: &[Kernel]) -> Vec<String> {
    let newer = NEWER_EXITS.map(|(name, _)| name);
    let mut differences = compare_names(kernels, userspace::REASONS, &newer);
    let table = numbers(userspace::REASONS);
    for (name, number) in NEWER_EXITS {
        if table.get(&number).map(String::as_str) != Some(name) {
            differences.push(format!("{number} is not {name}"));
        }
        if kernels.iter().any(|kernel| kernel.value(name).is_some()) {
            differences.push(format!("a header has {name}: remove it from NEWER_EXITS"));
        }
    }
    let header = "include/uapi/linux/kvm.h";
    differences.extend(missing(
        kernels,
        header,
        userspace::REASONS,
        |constants, name| {
            // KVM_EXIT_IO_IN, for example, is a value in the data of KVM_EXIT_IO.
            let mut parts = name.rmatch_indices('_').map(|(end, _)| &name[..end]);
            let is_detail = parts.any(|part| {
                part != "KVM_EXIT" && part.starts_with("KVM_EXIT_") && constants.contains_key(part)
            });
            name.starts_with("KVM_EXIT_") && !is_detail
        },
    ));
    differences
}

/// Compares the errors. The table need not have all errors of the headers.
pub(crate) fn compare_errors(kernels: &[Kernel]) -> Vec<String> {
    compare_names(kernels, userspace::ERRORS, &[])
}

/// Constants of the headers and the name that the leaf must have.
const LEAVES: &[(&str, &str)] = &[
    ("CPUID_MWAIT_LEAF", "MONITOR/MWAIT"),
    ("SGX_CPUID", "SGX"),
    ("TDX_CPUID_LEAF_ID", "TDX"),
    ("ARCH_PERFMON_EXT_LEAF", "performance monitoring, extended"),
    (
        "HYPERV_CPUID_VENDOR_AND_MAX_FUNCTIONS",
        "hypervisor: signature",
    ),
    ("KVM_CPUID_SIGNATURE", "hypervisor: signature"),
    (
        "HYPERV_CPUID_INTERFACE",
        "hypervisor: KVM features or Hyper-V interface",
    ),
    (
        "KVM_CPUID_FEATURES",
        "hypervisor: KVM features or Hyper-V interface",
    ),
    ("HYPERV_CPUID_VERSION", "hypervisor: Hyper-V version"),
    ("HYPERV_CPUID_FEATURES", "hypervisor: Hyper-V features"),
    (
        "HYPERV_CPUID_ENLIGHTMENT_INFO",
        "hypervisor: Hyper-V recommendations",
    ),
    (
        "HYPERV_CPUID_IMPLEMENT_LIMITS",
        "hypervisor: Hyper-V limits",
    ),
    (
        "HYPERV_CPUID_NESTED_FEATURES",
        "hypervisor: Hyper-V nested features",
    ),
    ("SVM_CPUID_FUNC", "SVM"),
    ("IBS_CPUID_FEATURES", "IBS"),
];

/// The text before the number of a leaf in comments of cpufeatures.h.
const LEAF_COMMENT: &str = "CPUID level ";

/// Compares the CPUID leaves. The headers have no names for them, only constants and comments with their numbers.
pub(crate) fn compare_cpuid(kernels: &[Kernel]) -> Vec<String> {
    let table = numbers(cpuid::LEAVES);
    let mut differences = Vec::new();
    for (constant, expected) in LEAVES {
        let values: BTreeSet<_> = kernels.iter().filter_map(|it| it.value(constant)).collect();
        if values.is_empty() {
            differences.push(format!("no header defines {constant}"));
        }
        for leaf in values {
            let name = table.get(&leaf);
            if name.is_none_or(|name| name != expected) {
                differences.push(format!(
                    "leaf {leaf:#x} ({constant}) is {name:?}, not {expected}"
                ));
            }
        }
    }
    for kernel in kernels {
        let text = kernel.text("arch/x86/include/asm/cpufeatures.h");
        let comments = text.lines().filter_map(|it| it.split_once(LEAF_COMMENT));
        let mut seen = 0;
        for (_, comment) in comments {
            let end = comment
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(comment.len());
            let leaf = comment[..end].trim_start_matches("0x");
            let leaf = u64::from_str_radix(leaf, 16).unwrap_or_else(|_| panic!("{comment}"));
            seen += 1;
            // Transmeta's and Centaur's leaves: KVM does not run there, or hides them.
            let is_other = [0x8086_0000, 0xc000_0000].contains(&(leaf & 0xffff_0000));
            if !is_other && !table.contains_key(&leaf) {
                differences.push(format!("leaf {leaf:#x} of cpufeatures.h is missing"));
            }
        }
        assert!(seen > 10, "cpufeatures.h has {seen} comments with a leaf");
    }
    differences
}
