//! Comparison of the names of arm64's system registers with the header.

use std::collections::BTreeMap;

use kvm_collector::knowledge::names::sysreg;

use crate::{headers::Kernel, tables::numbers};

const HEADER: &str = "arch/arm64/include/asm/sysreg.h";

/// Compares all registers.
pub(crate) fn compare(kernels: &[Kernel]) -> Vec<String> {
    let headers: Vec<_> = kernels.iter().map(defined_numbers).collect();
    let mut differences = Vec::new();
    for (number, name) in numbers(sysreg::REGISTERS) {
        let defined: Vec<_> = headers.iter().filter_map(|it| it.get(&name)).collect();
        if defined.is_empty() {
            differences.push(format!("{name}: no {HEADER} defines it"));
        }
        for other in defined.into_iter().filter(|it| **it != number) {
            differences.push(format!("{name} is {other:#x}, not {number:#x}"));
        }
    }
    differences
}

/// Returns the registers of a header with their numbers.
fn defined_numbers(kernel: &Kernel) -> BTreeMap<String, u64> {
    let lines = kernel.text(HEADER).lines();
    lines.filter_map(parse_definition).collect()
}

/// Parses `#define SYS_DC_ISW sys_insn(1, 0, 7, 6, 2)`. `sys_reg` has the same arguments: the fields of the encoding, which are at
/// bits 19, 16, 12, 8 and 5.
fn parse_definition(line: &str) -> Option<(String, u64)> {
    let mut words = line
        .strip_prefix("#define SYS_")?
        .splitn(2, char::is_whitespace);
    let (name, macro_call) = (words.next()?, words.next()?.trim());
    let arguments = macro_call
        .strip_prefix("sys_reg(")
        .or_else(|| macro_call.strip_prefix("sys_insn("))?;
    let (arguments, _) = arguments.split_once(')')?;
    let fields: Vec<u64> = arguments
        .split(',')
        .map(|it| it.trim().parse())
        .collect::<Result<_, _>>()
        .ok()?;
    let [op0, op1, crn, crm, op2] = fields[..] else {
        return None;
    };
    let number = op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5;
    Some((name.to_owned(), number))
}
