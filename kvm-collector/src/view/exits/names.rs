//! What a key is called: exit reasons in the kernel's words; addresses and numbers as people write them, and beside
//! the number its name, where it is a well-known one.


use kvm_ebpf_common::{Key, RIP_CAUSE};

use crate::{
    knowledge::names::{cpuid, exit_reason, hypercall, mmio, msr, port, userspace},
    model::EventKind,
    timing::TimingRequest,
    tracefs::{Format, ReasonNames},
};

/// Names of what `exits` counts.
#[derive(Debug)]
pub struct KeyNames<'a> {
    /// Names of exit reasons.
    pub reasons: ReasonNames<'a>,
    /// What is counted, with its event's format; `None` for exits by their reason.
    pub counted: Option<(&'a EventKind, &'a Format)>,
    /// What causes are of: the kinds with their events' formats, by [`Key::kind`] less 1.
    pub causes: Vec<(&'a EventKind, &'a Format)>,
}

impl<'a> KeyNames<'a> {
    /// The names of what is counted where exits are timed so.
    #[must_use]
    pub fn of(pairing: &'a TimingRequest) -> Self {
        let causes = pairing.cause_events.iter();
        Self {
            reasons: ReasonNames::new(pairing.exit.as_ref()),
            counted: pairing.counted_event.as_ref().map(|it| (&it.kind, &it.format)),
            causes: causes.map(|it| (&it.kind, &it.format)).collect(),
        }
    }

    /// What is counted under a key.
    #[must_use]
    pub fn name(&self, key: Key) -> String {
        match self.counted {
            None => self.reason(key),
            Some((kind, _)) => number(kind, key),
        }
    }

    /// What the number in [`KeyNames::name`] stands for, where that is known.
    #[must_use]
    pub fn known(&self, key: Key) -> Option<String> {
        let (kind, format) = self.counted?;
        self.known_as(kind, format, key)
    }

    /// An exit's reason.
    #[must_use]
    pub fn reason(&self, key: Key) -> String {
        let code = u32::try_from(key.code).unwrap_or(u32::MAX);
        self.reasons.name(key.class, code)
    }

    /// What caused it.
    #[must_use]
    pub fn cause(&self, key: Key) -> String {
        if key.kind == RIP_CAUSE {
            return format!("rip {:#x}", key.code);
        }
        self.cause_kind(key)
            .map_or_else(|| format!("{:#x}", key.code), |(kind, _)| number(kind, key))
    }

    /// What the number in [`KeyNames::cause`] stands for, where that is known.
    #[must_use]
    pub fn known_cause(&self, key: Key) -> Option<String> {
        let (kind, format) = self.cause_kind(key)?;
        self.known_as(kind, format, key)
    }

    /// By how much the code of a cause was shifted right.
    #[must_use]
    pub fn cause_shift(&self, key: Key) -> u32 {
        self.cause_kind(key).map_or(0, |(kind, _)| kind.code_shift)
    }

    /// The kind of event that a cause is of.
    pub(super) fn cause_kind(&self, key: Key) -> Option<(&EventKind, &Format)> {
        let index = (key.kind as usize).checked_sub(1)?;
        self.causes.get(index).copied()
    }

    /// Does the guest wait there, because it has nothing to do?
    #[must_use]
    pub fn is_halt(&self, key: Key) -> bool {
        match self.counted {
            None => exit_reason::is_halt(&self.reason(key)),
            Some((kind, _)) => kind.name == "userspace" && userspace::is_halt(key.code, key.class),
        }
    }

    /// The name of a kind's number. Tables are for what no kernel names, and are x86's, as all of these kinds but MMIO and
    /// userspace are; everything else is called what the kernel calls it.
    fn known_as(&self, kind: &EventKind, format: &Format, key: Key) -> Option<String> {
        let code = key.code << kind.code_shift;
        match kind.name.as_str() {
            "mmio" if self.reasons.is_x86() => mmio::name(code),
            // An address in the guest's memory, or of one of its processes.
            "mmio" | "page-fault" => None,
            "pio" => port::name(code, key.class != 0),
            "msr" => msr::name(code),
            "hypercall" => hypercall::name(code),
            "cpuid" => cpuid::name(code),
            "userspace" if userspace::error(key.class).is_none() => format
                .value_name(&kind.code_field, code)
                .or_else(|| userspace::name(code, key.class)),
            "userspace" => userspace::name(code, key.class),
            _ => format.value_name(&kind.code_field, code),
        }
    }
}

/// What a key of a kind is called, by its number.
fn number(kind: &EventKind, key: Key) -> String {
    let code = key.code << kind.code_shift;
    let class = key.class;
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
        "hypercall" => format!("hypercall {code}"),
        "cpuid" => format!("cpuid {code:#x}"),
        "page-fault" => format!("page {code:#x}"),
        "userspace" => userspace::key(code, class),
        _ => format!("{code:#x}"),
    }
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
            class,
            kind: 0,
        }
    }

    fn named(kind: &str, format: &Format, key: Key) -> (String, Option<String>) {
        let kind = EventKind::from_name(kind).unwrap();
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted: Some((&kind, format)),
            causes: Vec::new(),
        };
        (names.name(key), names.known(key))
    }

    fn both(name: &str, known: &str) -> (String, Option<String>) {
        (
            name.to_owned(),
            (!known.is_empty()).then(|| known.to_owned()),
        )
    }

    #[test]
    fn well_known_numbers_have_names_beside_them() {
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
            // The page of the local APIC, or a process's memory.
            ("page-fault", 0xf_ee00, 0, "page 0xfee00000", ""),
        ] {
            assert_eq!(named(kind, &format, key(code, class)), both(name, known));
        }
    }

    #[test]
    fn the_kernel_names_what_goes_to_user_space() {
        let format = format!("kvm_userspace_exit");
        let eintr = (-4_i32).cast_unsigned();
        let efault = (-14_i32).cast_unsigned();
        for (code, errno, name, known) in [
            (6, 0, "userspace 6", "KVM_EXIT_MMIO"),
            // This kernel has names up to 30.
            (37, 0, "userspace 37", "KVM_EXIT_NOTIFY"),
            (99, 0, "userspace 99", ""),
            (0, eintr, "restart", "EINTR"),
            (0, efault, "error 14", "EFAULT"),
        ] {
            assert_eq!(
                named("userspace", &format, key(code, errno)),
                both(name, known)
            );
        }
    }

    #[test]
    fn a_halt_that_the_vmm_waits_for_is_one() {
        let format = format!("kvm_userspace_exit");
        let kind = EventKind::from_name("userspace").unwrap();
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted: Some((&kind, &format)),
            causes: Vec::new(),
        };
        assert!(names.is_halt(key(5, 0)));
        assert!(!names.is_halt(key(6, 0)));
        assert!(!names.is_halt(key(5, (-4_i32).cast_unsigned())));
    }

    #[test]
    fn any_field_has_the_names_that_the_kernel_has_for_it() {
        let format = format!("kvm_inj_exception");
        let (name, known) = named("kvm_inj_exception.exception", &format, key(14, 0));
        assert_eq!((&*name, known.as_deref()), ("0xe", Some("#PF")));
        // What a reason is called depends on another field, which is not known here.
        let format = format!("kvm_exit");
        let (_, known) = named("kvm_exit.exit_reason", &format, key(0x78, 0));
        assert_eq!(known, None);
        let format = format!("kvm_pio");
        assert_eq!(named("kvm_pio.size", &format, key(4, 0)), both("0x4", ""));
    }

    #[test]
    fn causes_have_names_too() {
        let (msr, pio) = (EventKind::from_name("msr").unwrap(), EventKind::from_name("pio").unwrap());
        let (msr_format, pio_format) = (format!("kvm_msr"), format!("kvm_pio"));
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted: None,
            causes: vec![(&msr, &msr_format), (&pio, &pio_format)],
        };
        let cause = |kind, code, class| {
            let key = Key { code, class, kind };
            (names.cause(key), names.known_cause(key))
        };
        assert_eq!(cause(1, 0x830, 1), both("msr 0x830 write", "x2APIC ICR"));
        assert_eq!(cause(2, 0x608, 0), both("port 0x608 in", "ACPI PM timer"));
        assert_eq!(cause(9, 0x608, 0), both("0x608", ""));
        assert_eq!(cause(RIP_CAUSE, 0x608, 0), both("rip 0x608", ""));
    }

    #[test]
    fn other_machines_have_other_addresses() {
        let exit = Format::parse(
            "kvm",
            include_str!("../../../tests/fixtures/formats/6.12-arm64/kvm/kvm_exit"),
        )
        .unwrap();
        let format = format!("kvm_mmio");
        let mmio = EventKind::from_name("mmio").unwrap();
        let names = KeyNames {
            reasons: ReasonNames::new(Some(&exit)),
            counted: Some((&mmio, &format)),
            causes: Vec::new(),
        };
        assert_eq!(names.known(key(0xfee0_00b0, 1)), None);
    }
}
