//! Names of keys and causes. Exit reasons have the kernel's names. Numbers have a label, such as
//! `msr 0x6e0 write`, and a name if it is known, such as `TSC_DEADLINE`.

use kvm_ebpf_common::{GUEST_RIP_KIND, Key};

use crate::{
    knowledge::names::{
        cpuid, exit_reason, hypercall, mmio, msr, port, sysreg::SystemRegister, userspace,
    },
    model::{EventKind, SYSREG},
    timing::TimingRequest,
    tracefs::{Format, ReasonNames},
};

/// Looks up the names of keys and causes in the `exits` view.
#[derive(Debug)]
pub struct KeyNames<'a> {
    /// Names of exit reasons.
    pub reasons: ReasonNames<'a>,
    /// The counted kind of event with its format; `None` for exit reasons.
    pub counted_event: Option<(&'a EventKind, &'a Format)>,
    /// The kinds of events that are causes, with their formats. The index is [`Key::kind`] - 1.
    pub cause_events: Vec<(&'a EventKind, &'a Format)>,
}

impl<'a> KeyNames<'a> {
    /// Creates the lookup for the events of a timing request.
    #[must_use]
    pub fn new(request: &'a TimingRequest) -> Self {
        let causes = request.cause_events.iter();
        Self {
            reasons: ReasonNames::new(request.exit.as_ref()).with_host_isa(request.host_isa),
            counted_event: request
                .counted_event
                .as_ref()
                .map(|it| (&it.kind, &it.format)),
            cause_events: causes.map(|it| (&it.kind, &it.format)).collect(),
        }
    }

    /// Returns the exit reason of a key, or the label of the counted event.
    #[must_use]
    pub fn label(&self, key: Key) -> String {
        match self.counted_event {
            None => self.reason(key),
            Some((kind, _)) => label(kind, key),
        }
    }

    /// Returns the known name of the number in [`KeyNames::label`], if there is one.
    #[must_use]
    pub fn known_name(&self, key: Key) -> Option<String> {
        let (kind, format) = self.counted_event?;
        self.name_of_kind(kind, format, key)
    }

    /// Returns [`KeyNames::label`] with [`KeyNames::known_name`].
    #[must_use]
    pub fn full_name(&self, key: Key) -> String {
        with_known_name(&self.label(key), self.known_name(key).as_deref())
    }

    /// Returns the name of the exit reason of a key.
    #[must_use]
    pub fn reason(&self, key: Key) -> String {
        let code = u32::try_from(key.code).unwrap_or(u32::MAX);
        self.reasons.name(key.subcode, code)
    }

    /// Returns the label of a cause.
    #[must_use]
    pub fn cause_label(&self, key: Key) -> String {
        if key.kind == GUEST_RIP_KIND {
            return format!("rip {:#x}", key.code);
        }
        self.cause_kind(key)
            .map_or_else(|| format!("{:#x}", key.code), |(kind, _)| label(kind, key))
    }

    /// Returns the known name of the number in [`KeyNames::cause_label`], if there is one.
    #[must_use]
    pub fn known_cause_name(&self, key: Key) -> Option<String> {
        let (kind, format) = self.cause_kind(key)?;
        self.name_of_kind(kind, format, key)
    }

    /// Returns the number of bits by which the code of a cause is shifted right.
    #[must_use]
    pub fn cause_code_shift(&self, key: Key) -> u32 {
        self.cause_kind(key).map_or(0, |(kind, _)| kind.code_shift)
    }

    /// Returns the kind of event of a cause, with its format.
    pub(super) fn cause_kind(&self, key: Key) -> Option<(&EventKind, &Format)> {
        let index = (key.kind as usize).checked_sub(1)?;
        self.cause_events.get(index).copied()
    }

    /// Returns whether a key is a halt, during which the guest has nothing to do.
    #[must_use]
    pub fn is_halt(&self, key: Key) -> bool {
        match self.counted_event {
            None => exit_reason::is_halt(&self.reason(key)),
            Some((kind, _)) => {
                kind.name == "userspace" && userspace::is_halt(key.code, key.subcode)
            }
        }
    }

    /// Returns the known name of a kind's number.
    ///
    /// The kernel's own names come from the event's format. The tables are for numbers that the
    /// kernel does not name. They are for x86, and so are all of these kinds except `mmio`, `userspace` and
    /// `sysreg`, which is for arm64.
    fn name_of_kind(&self, kind: &EventKind, format: &Format, key: Key) -> Option<String> {
        let code = key.code << kind.code_shift;
        match kind.name.as_str() {
            "mmio" if self.reasons.is_x86() => mmio::name(code),
            // Without a known memory layout, an address has no name.
            "mmio" | "page-fault" => None,
            "pio" => port::name(code, key.subcode != 0),
            "msr" => msr::name(code),
            "hypercall" if kind.event == "kvm_hypercall" => hypercall::name(code),
            "hypercall" => None,
            "cpuid" => cpuid::name(code),
            SYSREG => SystemRegister::from_syndrome(code).name(),
            "userspace" if userspace::error(key.subcode).is_none() => format
                .value_name(&kind.code_field, code)
                .or_else(|| userspace::name(code, key.subcode)),
            "userspace" => userspace::name(code, key.subcode),
            _ => format.value_name(&kind.code_field, code),
        }
    }
}

/// Returns a label, followed by its known name in parentheses: `port 0x3f8 out (COM1 data)`.
#[must_use]
pub fn with_known_name(label: &str, name: Option<&str>) -> String {
    name.map_or_else(|| label.to_owned(), |name| format!("{label} ({name})"))
}

/// Returns the label of a key of a kind of event.
fn label(kind: &EventKind, key: Key) -> String {
    let code = key.code << kind.code_shift;
    let class = key.subcode;
    match kind.name.as_str() {
        "mmio" => format!(
            "mmio {code:#x} {}",
            if class == 2 { "write" } else { "read" }
        ),
        "pio" => format!("port {code:#x} {}", if class == 0 { "in" } else { "out" }),
        "msr" => format!(
            "msr {code:#x} {}",
            if class == 0 { "read" } else { "write" }
        ),
        "hypercall" if kind.event == "kvm_hypercall" => format!("hypercall {code}"),
        "hypercall" => format!("hypercall {code:#x}"),
        "cpuid" => format!("cpuid {code:#x}"),
        "page-fault" => format!("page {code:#x}"),
        SYSREG => system_register_access(code),
        "userspace" => userspace::key(code, class),
        _ => format!("{code:#x}"),
    }
}

/// Returns the label of an access to a system register of arm64, by the syndrome of its trap.
fn system_register_access(syndrome: u64) -> String {
    let access = if syndrome & 1 == 1 { "read" } else { "write" };
    format!("{} {access}", SystemRegister::from_syndrome(syndrome))
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! format {
        ($name:literal) => {
            Format::parse(
                "kvm",
                include_str!(concat!(
                    "../../../tests/fixtures/formats/6.12-x86_64/kvm/",
                    $name
                )),
            )
            .unwrap()
        };
    }

    fn key(code: u64, class: u32) -> Key {
        Key {
            code,
            subcode: class,
            kind: 0,
        }
    }

    fn label_and_name(kind: &str, format: &Format, key: Key) -> (String, Option<String>) {
        let kind = EventKind::from_name(kind).unwrap();
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted_event: Some((&kind, format)),
            cause_events: Vec::new(),
        };
        (names.label(key), names.known_name(key))
    }

    fn expected(label: &str, name: &str) -> (String, Option<String>) {
        (
            label.to_owned(),
            (!name.is_empty()).then(|| name.to_owned()),
        )
    }

    #[test]
    fn well_known_numbers_have_names() {
        let format = format!("kvm_msr");
        for (kind, code, class, name, known) in [
            ("msr", 0x6e0, 1, "msr 0x6e0 write", "TSC_DEADLINE"),
            ("msr", 0x12345, 0, "msr 0x12345 read", ""),
            ("pio", 0x3f8, 1, "port 0x3f8 out", "COM1 data"),
            (
                "mmio",
                0xfee0_00b0,
                2,
                "mmio 0xfee000b0 write",
                "local APIC EOI",
            ),
            ("cpuid", 1, 0, "cpuid 0x1", "version, features"),
            ("hypercall", 10, 0, "hypercall 10", "KVM_HC_SEND_IPI"),
            // It may be the page of the local APIC, or a virtual address of a guest process.
            ("page-fault", 0xf_ee00, 0, "page 0xfee00000", ""),
            // Reads of ID_AA64PFR0_EL1, writes of ICC_SGI1R_EL1.
            ("sysreg", 0x30_0009, 0, "S3_0_C0_C4_0 read", ""),
            (
                "sysreg",
                0x3a_3016,
                0,
                "S3_0_C12_C11_5 write",
                "ICC_SGI1R_EL1",
            ),
        ] {
            assert_eq!(
                label_and_name(kind, &format, key(code, class)),
                expected(name, known)
            );
        }
    }

    #[test]
    fn exits_to_user_space_have_the_kernels_names() {
        let format = format!("kvm_userspace_exit");
        let eintr = (-4_i32).cast_unsigned();
        let efault = (-14_i32).cast_unsigned();
        for (code, errno, name, known) in [
            (6, 0, "userspace 6", "KVM_EXIT_MMIO"),
            // This kernel has names up to 30. The table has later ones.
            (37, 0, "userspace 37", "KVM_EXIT_NOTIFY"),
            (99, 0, "userspace 99", ""),
            (0, eintr, "restart", "EINTR"),
            (0, efault, "error 14", "EFAULT"),
        ] {
            assert_eq!(
                label_and_name("userspace", &format, key(code, errno)),
                expected(name, known)
            );
        }
    }

    #[test]
    fn a_halt_in_the_vmm_is_a_halt() {
        let format = format!("kvm_userspace_exit");
        let kind = EventKind::from_name("userspace").unwrap();
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted_event: Some((&kind, &format)),
            cause_events: Vec::new(),
        };
        assert!(names.is_halt(key(5, 0)));
        assert!(!names.is_halt(key(6, 0)));
        assert!(!names.is_halt(key(5, (-4_i32).cast_unsigned())));
    }

    #[test]
    fn fields_have_the_kernels_names_of_their_values() {
        let format = format!("kvm_inj_exception");
        let (name, known) = label_and_name("kvm_inj_exception.exception", &format, key(14, 0));
        assert_eq!((&*name, known.as_deref()), ("0xe", Some("#PF")));
        // The name of an exit reason depends on the field `isa`, which is not part of the key.
        let format = format!("kvm_exit");
        let (_, known) = label_and_name("kvm_exit.exit_reason", &format, key(0x78, 0));
        assert_eq!(known, None);
        let format = format!("kvm_pio");
        assert_eq!(
            label_and_name("kvm_pio.size", &format, key(4, 0)),
            expected("0x4", "")
        );
    }

    #[test]
    fn causes_have_labels_and_names() {
        let (msr, pio) = (
            EventKind::from_name("msr").unwrap(),
            EventKind::from_name("pio").unwrap(),
        );
        let (msr_format, pio_format) = (format!("kvm_msr"), format!("kvm_pio"));
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted_event: None,
            cause_events: vec![(&msr, &msr_format), (&pio, &pio_format)],
        };
        let cause = |kind, code, class| {
            let key = Key {
                code,
                subcode: class,
                kind,
            };
            (names.cause_label(key), names.known_cause_name(key))
        };
        assert_eq!(
            cause(1, 0x830, 1),
            expected("msr 0x830 write", "x2APIC ICR")
        );
        assert_eq!(
            cause(2, 0x608, 0),
            expected("port 0x608 in", "ACPI PM timer")
        );
        assert_eq!(cause(9, 0x608, 0), expected("0x608", ""));
        assert_eq!(cause(GUEST_RIP_KIND, 0x608, 0), expected("rip 0x608", ""));
    }

    #[test]
    fn addresses_of_arm64_have_no_pc_names() {
        let exit = Format::parse(
            "kvm",
            include_str!("../../../tests/fixtures/formats/6.12-arm64/kvm/kvm_exit"),
        )
        .unwrap();
        let format = format!("kvm_mmio");
        let mmio = EventKind::from_name("mmio").unwrap();
        let names = KeyNames {
            reasons: ReasonNames::new(Some(&exit)),
            counted_event: Some((&mmio, &format)),
            cause_events: Vec::new(),
        };
        assert_eq!(names.known_name(key(0xfee0_00b0, 1)), None);
    }
}
