//! What a key is called: exit reasons in the kernel's words, addresses and numbers as people write them.

use kvm_ebpf_common::{Key, RIP_CAUSE};

use crate::{
    model::Kind,
    tracefs::{Format, ReasonNames},
};

/// Names of what `exits` counts.
#[derive(Debug)]
pub struct KeyNames<'a> {
    /// Names of exit reasons.
    pub reasons: ReasonNames<'a>,
    /// What is counted, with its event's format; `None` for exits by their reason.
    pub counted: Option<(&'a Kind, &'a Format)>,
    /// What causes are of: the kinds, by [`Key::kind`] less 1.
    pub causes: Vec<&'a Kind>,
}

impl KeyNames<'_> {
    /// What is counted under a key.
    #[must_use]
    pub fn name(&self, key: Key) -> String {
        match self.counted {
            None => self.reason(key),
            Some((kind, _)) => name(kind, key),
        }
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
            .map_or_else(|| format!("{:#x}", key.code), |kind| name(kind, key))
    }

    /// By how much the code of a cause was shifted right.
    #[must_use]
    pub fn cause_shift(&self, key: Key) -> u32 {
        self.cause_kind(key).map_or(0, |kind| kind.shift)
    }

    fn cause_kind(&self, key: Key) -> Option<&Kind> {
        let index = (key.kind as usize).checked_sub(1)?;
        self.causes.get(index).copied()
    }

    /// Does the guest wait there, because it has nothing to do?
    #[must_use]
    pub fn is_halt(&self, key: Key) -> bool {
        let halts = ["hlt", "idle-halt", "mwait", "mwait_instruction", "wfx"];
        self.counted.is_none() && halts.contains(&self.reason(key).to_ascii_lowercase().as_str())
    }
}

/// What a key of a kind is called.
fn name(kind: &Kind, key: Key) -> String {
    let code = key.code << kind.shift;
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
        _ => format!("{code:#x}"),
    }
}
