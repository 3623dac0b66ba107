//! Exit reasons: a reference for the names that the collector reads from the kernel.

use std::collections::BTreeMap;

use kvm_collector::guest::{Isa, Kind};
use libtest_mimic::Failed;

use crate::arch;

/// The code of the reason that the kernel calls `name`.
pub(crate) fn reason_code(name: &str) -> Result<u64, Failed> {
    arch::REASON_CODES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, code)| *code)
        .ok_or_else(|| format!("exit reason `{name}` is not in the table of these tests").into())
}

/// The name that the kernel has on this processor for the exits of a kind of the guest (`--kind`).
pub(crate) fn reason_of(kind: &str) -> Result<&'static str, Failed> {
    let isa = Isa::detect().ok_or("this processor has no virtualization extension")?;
    Ok(kind.parse::<Kind>()?.exit_reason(isa, 1))
}

/// Whether the host causes exits with this reason, not the guest.
pub(crate) fn is_caused_by_host(code: u64) -> bool {
    arch::host_codes().contains(&code)
}

/// Removes the exits that the host causes; those of the guest are left.
pub(crate) fn without_host_exits(mut exits: BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    exits.retain(|code, _| !is_caused_by_host(*code));
    exits
}
