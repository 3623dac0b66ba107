//! Comparison of the exit reasons that the code names with those that kernels print.

use std::collections::BTreeSet;

use kvm_collector::{
    knowledge::{advice, names::exit_reason},
    tracefs::{Format, ReasonNames},
};

use crate::headers::Kernel;

/// The format of `kvm_exit` in Linux 6.18, for names that are newer than all headers of these tests.
const NEWEST: &str = include_str!("../fixtures/formats/6.18-x86_64/kvm/kvm_exit");

const ARM64: &str = include_str!("../fixtures/formats/6.12-arm64/kvm/kvm_exit");

/// Returns the names that no kernel prints.
pub(crate) fn compare(kernels: &[Kernel]) -> Vec<String> {
    let newest = Format::parse("kvm", NEWEST).expect("a format");
    let mut printed: BTreeSet<String> = ReasonNames::new(Some(&newest))
        .all()
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    for kernel in kernels {
        printed.extend(names(kernel, "VMX_EXIT_REASONS", strings));
        printed.extend(names(kernel, "SVM_EXIT_REASONS", strings));
        printed.extend(names(kernel, "kvm_arm_exception_class", exception_classes));
        printed.extend(names(kernel, "kvm_arm_exception_type", strings));
    }
    let halts = exit_reason::HALTS.iter().copied();
    let mut differences: Vec<_> = halts
        .chain(advice::reasons_with_advice())
        .filter(|name| !printed.contains(*name))
        .map(|name| format!("no kernel prints the exit reason {name}"))
        .collect();
    for kernel in kernels {
        differences.extend(compare_arm64(kernel));
    }
    differences
}

/// On arm64 a reason is a class of exceptions if the type of the exception is a trap.
fn compare_arm64(kernel: &Kernel) -> Option<String> {
    let format = Format::parse("kvm", ARM64).expect("a format");
    let number = |name| u32::try_from(kernel.value(name)?).ok();
    let trap = number("ARM_EXCEPTION_TRAP")?;
    let wfx = number("ESR_ELx_EC_WFx")?;
    let name = ReasonNames::new(Some(&format)).name(trap, wfx);
    (name != "WFx").then(|| format!("on arm64, trap {wfx} is {name}"))
}

/// Returns the names in a macro.
fn names(kernel: &Kernel, list: &str, find: fn(&str) -> Vec<&str>) -> Vec<String> {
    let found = find(kernel.body(list));
    assert!(found.len() > 3, "{list}: {found:?}");
    found.into_iter().map(str::to_owned).collect()
}

/// `{ 12, "HLT" }`
fn strings(body: &str) -> Vec<&str> {
    body.split('"').skip(1).step_by(2).collect()
}

/// `ECN(WFx)`
fn exception_classes(body: &str) -> Vec<&str> {
    let names = body.split("ECN(").skip(1);
    names.filter_map(|rest| rest.split(')').next()).collect()
}
