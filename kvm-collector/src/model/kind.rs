//! What `exits` can count: VM exits by their reason, or another kind of event by one of its fields.

use kvm_ebpf_common::Key;

/// A kind of event that happens while the guest is out, and the fields it is counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// What it is asked for by.
    pub name: String,
    /// The event of the `kvm` system.
    pub event: String,
    /// The field it is counted by.
    pub code: String,
    /// The field that tells apart what has the same code: read from write, say.
    pub class: Option<String>,
    /// Events of this class are left out.
    pub skip_class: Option<u32>,
    /// A negative class is an error, and there is no code then.
    pub class_is_errno: bool,
    /// Codes are counted without their last so many bits: addresses by their page.
    pub shift: u32,
}

/// A row of [`KINDS`]: name, event, code, class, class left out, shift.
type Known = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<u32>,
    u32,
);

/// The kinds that have a name of their own. (Events and fields: arch/x86/kvm/trace.h and
/// include/trace/events/kvm.h, v6.12; the same since v5.2, but for `kvm_page_fault.fault_address`, which
/// lies elsewhere since v6.1.)
const KINDS: &[Known] = &[
    (
        "userspace",
        "kvm_userspace_exit",
        "reason",
        Some("errno"),
        None,
        0,
    ),
    // Type 0 is a read whose value is not there yet; the read itself (1) comes later.
    ("mmio", "kvm_mmio", "gpa", Some("type"), Some(0), 0),
    ("pio", "kvm_pio", "port", Some("rw"), None, 0),
    ("msr", "kvm_msr", "ecx", Some("write"), None, 0),
    ("hypercall", "kvm_hypercall", "nr", None, None, 0),
    ("cpuid", "kvm_cpuid", "function", None, None, 0),
    (
        "page-fault",
        "kvm_page_fault",
        "fault_address",
        None,
        None,
        12,
    ),
];

/// What is counted was asked for by a name that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{asked}` is no kind of exit: there are {}, and any kvm event's field as EVENT.FIELD (kvm_eoi.vector)",
    names().join(", ")
)]
pub struct UnknownKind {
    /// What was asked for.
    pub asked: String,
}

/// The name of the kind that is VM exits by their reason.
pub const VMEXIT: &str = "vmexit";

fn names() -> Vec<&'static str> {
    std::iter::once(VMEXIT)
        .chain(KINDS.iter().map(|known| known.0))
        .collect()
}

impl Kind {
    /// The kind of this name, or of this event's field (`kvm_eoi.vector`; `kvm_eoi.apicid,vector` is
    /// not one).
    ///
    /// # Errors
    /// [`UnknownKind`] for any other name, [`VMEXIT`] among them.
    pub fn named(name: &str) -> Result<Self, UnknownKind> {
        if let Some(known) = KINDS
            .iter()
            .find(|known| known.0.eq_ignore_ascii_case(name))
        {
            return Ok(Self::known(known));
        }
        let unknown = || UnknownKind {
            asked: name.to_owned(),
        };
        let (event, field) = name.split_once('.').ok_or_else(unknown)?;
        let event = event.strip_prefix("kvm:").unwrap_or(event);
        if event.is_empty() || field.is_empty() {
            return Err(unknown());
        }
        Ok(Self {
            name: format!("{event}.{field}"),
            event: event.to_owned(),
            code: field.to_owned(),
            class: None,
            skip_class: None,
            class_is_errno: false,
            shift: 0,
        })
    }

    /// The key, without what it does not mean.
    #[must_use]
    pub fn meant(&self, key: Key) -> Key {
        let code = if self.class_is_errno && key.class.cast_signed() < 0 {
            0
        } else {
            key.code
        };
        Key { code, ..key }
    }

    /// The kinds that say what an exit is about, in the order they are tried.
    #[must_use]
    pub fn causes() -> Vec<Self> {
        KINDS
            .iter()
            .filter(|known| known.0 != "userspace")
            .map(Self::known)
            .collect()
    }

    fn known(&(name, event, code, class, skip_class, shift): &Known) -> Self {
        Self {
            name: name.to_owned(),
            event: event.to_owned(),
            code: code.to_owned(),
            class: class.map(str::to_owned),
            skip_class,
            class_is_errno: class == Some("errno"),
            shift,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name_and_fields_by_event() {
        assert_eq!(
            Kind::named("MMIO").map(|it| it.event),
            Ok("kvm_mmio".into())
        );
        let kind = Kind::named("kvm:kvm_eoi.vector").expect("a field");
        assert_eq!((&*kind.event, &*kind.code), ("kvm_eoi", "vector"));
    }

    #[test]
    fn what_there_is_is_said() {
        for asked in ["pci", "kvm_eoi.", ".vector", ""] {
            let error = Kind::named(asked).expect_err(asked).to_string();
            assert!(error.contains("hypercall") && error.contains(&format!("`{asked}`")));
        }
    }
}
