//! The kinds of events that `exits` can count: VM exits by reason, or another event by one of its
//! fields.

use kvm_ebpf_common::Key;

use crate::tracefs::{did_you_mean, similar_names};

/// A kind of event that happens during a VM exit, and the fields by which it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventKind {
    /// The name by which `--kind` selects it.
    pub name: String,
    /// The name of the event, which is one of the `kvm` system.
    pub event: String,
    /// The field by which events are counted.
    pub code_field: String,
    /// A second field by which events are counted, for example whether an access is a read or a
    /// write.
    pub subcode_field: Option<String>,
    /// Events with this value of `subcode_field` are not counted.
    pub skip_subcode: Option<u32>,
    /// A negative value of `subcode_field` is an error number; the code has no meaning then.
    pub subcode_is_errno: bool,
    /// Number of low bits that are removed from the code: 12 counts addresses by page.
    pub code_shift: u32,
    /// Bits of the code that are cleared, because they do not tell what is accessed.
    pub cleared_bits: u32,
}

/// A row of [`BUILTIN_KINDS`]: name, event, code field, subcode field, skipped subcode, code shift, cleared bits.
type BuiltinKind = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<u32>,
    u32,
    u32,
);

/// The kinds that have a name of their own. Events and fields are those of arch/x86/kvm/trace.h,
/// arch/arm64/kvm/trace_handle_exit.h and include/trace/events/kvm.h in Linux 6.12. They are the same since 5.2,
/// except that `kvm_page_fault.fault_address` has another offset since 6.1. A kind that has other events on other
/// architectures has several rows; a kernel has at most one of these events.
const BUILTIN_KINDS: &[BuiltinKind] = &[
    (
        "userspace",
        "kvm_userspace_exit",
        "reason",
        Some("errno"),
        None,
        0,
        0,
    ),
    // Type 0 is a read that KVM cannot complete yet. KVM emits the event again, with type 1, when
    // it completes.
    ("mmio", "kvm_mmio", "gpa", Some("type"), Some(0), 0, 0),
    ("pio", "kvm_pio", "port", Some("rw"), None, 0, 0),
    ("msr", "kvm_msr", "ecx", Some("write"), None, 0, 0),
    ("hypercall", "kvm_hypercall", "nr", None, None, 0, 0),
    // On arm64, the first register has the number of the called function.
    ("hypercall", "kvm_hvc_arm64", "r0", None, None, 0, 0),
    ("cpuid", "kvm_cpuid", "function", None, None, 0, 0),
    (
        "page-fault",
        "kvm_page_fault",
        "fault_address",
        None,
        None,
        12,
        0,
    ),
    (
        SYSREG,
        "kvm_handle_sys_reg",
        "hsr",
        None,
        None,
        0,
        SYSREG_CLEARED_BITS,
    ),
];

/// Accesses to system registers of arm64 that KVM emulates. The event has the syndrome of the trap (ESR).
pub const SYSREG: &str = "sysreg";

/// What is in each syndrome of such a trap (exception class and length of the instruction, bits 25 to 31), and which general register
/// is read or written (Rt, bits 5 to 9). Source: Arm Architecture Reference Manual, ESR_EL2 with exception class 0x18.
const SYSREG_CLEARED_BITS: u32 = 0xfe00_0000 | 0x1f << 5;

/// The error for a requested kind that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown kind `{requested}`{} (`kvm-collector list kinds` explains all; any field of a kvm event is one too, such as kvm_eoi.vector)",
    similar_or_all(requested)
)]
pub struct UnknownKind {
    /// The requested name.
    pub requested: String,
}

/// The name that `--kind` has for VM exits by reason, which need no [`EventKind`].
pub const VMEXIT: &str = "vmexit";

/// Returns the kinds that are similar to an unknown one, or all if none is, as the continuation of a sentence.
fn similar_or_all(requested: &str) -> String {
    match similar_names(kind_names(), requested).as_slice() {
        [] => format!(": the kinds are {}", kind_names().join(", ")),
        similar => did_you_mean(similar),
    }
}

fn kind_names() -> Vec<&'static str> {
    let mut names: Vec<_> = std::iter::once(VMEXIT)
        .chain(BUILTIN_KINDS.iter().map(|kind| kind.0))
        .collect();
    names.dedup();
    names
}

impl EventKind {
    /// Returns the built-in kind with this name, or the kind for an `EVENT.FIELD` such as
    /// `kvm_eoi.vector`.
    ///
    /// # Errors
    /// [`UnknownKind`] for any other name, including [`VMEXIT`].
    pub fn from_name(name: &str) -> Result<Self, UnknownKind> {
        if let Some(builtin) = BUILTIN_KINDS
            .iter()
            .find(|kind| kind.0.eq_ignore_ascii_case(name))
        {
            return Ok(Self::from_builtin(builtin));
        }
        let unknown = || UnknownKind {
            requested: name.to_owned(),
        };
        let (event, field) = name.split_once('.').ok_or_else(unknown)?;
        let event = event.strip_prefix("kvm:").unwrap_or(event);
        if event.is_empty() || field.is_empty() {
            return Err(unknown());
        }
        Ok(Self {
            name: format!("{event}.{field}"),
            event: event.to_owned(),
            code_field: field.to_owned(),
            subcode_field: None,
            skip_subcode: None,
            subcode_is_errno: false,
            code_shift: 0,
            cleared_bits: 0,
        })
    }

    /// Returns the kinds with the same name, of all architectures, this one included.
    #[must_use]
    pub fn of_all_architectures(&self) -> Vec<Self> {
        let builtin = BUILTIN_KINDS.iter().filter(|kind| kind.0 == self.name);
        let kinds: Vec<_> = builtin.map(Self::from_builtin).collect();
        if kinds.is_empty() {
            vec![self.clone()]
        } else {
            kinds
        }
    }

    /// Clears the code of a key that reports an error, because it has no meaning then.
    #[must_use]
    pub fn normalize_key(&self, key: Key) -> Key {
        let code = if self.subcode_is_errno && key.subcode.cast_signed() < 0 {
            0
        } else {
            key.code
        };
        Key { code, ..key }
    }

    /// Returns all built-in kinds.
    #[must_use]
    pub fn builtin_kinds() -> Vec<Self> {
        BUILTIN_KINDS.iter().map(Self::from_builtin).collect()
    }

    /// Returns the built-in kinds that can be the cause of an exit.
    #[must_use]
    pub fn cause_kinds() -> Vec<Self> {
        BUILTIN_KINDS
            .iter()
            .filter(|kind| kind.0 != "userspace")
            .map(Self::from_builtin)
            .collect()
    }

    fn from_builtin(
        &(name, event, code, subcode, skip_subcode, code_shift, cleared_bits): &BuiltinKind,
    ) -> Self {
        Self {
            name: name.to_owned(),
            event: event.to_owned(),
            code_field: code.to_owned(),
            subcode_field: subcode.map(str::to_owned),
            skip_subcode,
            subcode_is_errno: subcode == Some("errno"),
            code_shift,
            cleared_bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name_or_by_event_and_field() {
        assert_eq!(
            EventKind::from_name("MMIO").map(|it| it.event),
            Ok("kvm_mmio".into())
        );
        let kind = EventKind::from_name("kvm:kvm_eoi.vector").expect("a field");
        assert_eq!((&*kind.event, &*kind.code_field), ("kvm_eoi", "vector"));
    }

    #[test]
    fn a_kind_may_have_another_event_on_another_architecture() {
        let events = |name| -> Vec<_> {
            let kinds = EventKind::from_name(name)
                .expect(name)
                .of_all_architectures();
            kinds.into_iter().map(|kind| kind.event).collect()
        };
        assert_eq!(events("hypercall"), ["kvm_hypercall", "kvm_hvc_arm64"]);
        assert_eq!(events("mmio"), ["kvm_mmio"]);
        assert_eq!(events("kvm_eoi.vector"), ["kvm_eoi"]);
        assert_eq!(
            kind_names().iter().filter(|it| **it == "hypercall").count(),
            1
        );
    }

    #[test]
    fn unknown_kind_error_names_similar_kinds() {
        for asked in ["pci", "kvm_eoi.", ".vector", ""] {
            let error = EventKind::from_name(asked).expect_err(asked).to_string();
            assert!(error.contains("list kinds") && error.contains(&format!("`{asked}`")));
        }
        let error = |asked| EventKind::from_name(asked).unwrap_err().to_string();
        assert!(error("mmoi").contains("did you mean mmio?"));
        assert!(error("frobnicate").contains("the kinds are vmexit, userspace, mmio"));
    }
}
