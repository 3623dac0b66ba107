//! What an exit reason is called, in the words of the kernel the exits come from.

use crate::tracefs::Format;

/// The label in `kvm_exit`'s print format that the reason follows, on x86 and on arm64.
const X86_LABEL: &str = "reason ";
const ARM64_LABEL: &str = "HSR_EC: ";

/// Names of exit reasons.
#[derive(Debug)]
pub struct ReasonNames<'a> {
    exit: Option<&'a Format>,
}

impl<'a> ReasonNames<'a> {
    /// Names as `kvm_exit`'s format gives them; without it there are only numbers.
    #[must_use]
    pub fn of(exit: Option<&'a Format>) -> Self {
        Self { exit }
    }

    /// The name, or `UNKNOWN(0x..)`.
    #[must_use]
    pub fn name(&self, isa: u32, reason: u32) -> String {
        self.known(isa, reason)
            .unwrap_or_else(|| format!("UNKNOWN({reason:#x})"))
    }

    fn known(&self, isa: u32, reason: u32) -> Option<String> {
        let exit = self.exit?;
        let (isa, reason) = (u64::from(isa), u64::from(reason));
        if exit.field("exit_reason").is_some() {
            exit.symbol(X86_LABEL, &[("isa", isa), ("exit_reason", reason)])
        } else {
            exit.symbol(ARM64_LABEL, &[("ret", isa), ("esr_ec", reason)])
        }
    }

    /// Every name the kernel has for any instruction set, for messages.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let Some(exit) = self.exit else {
            return Vec::new();
        };
        let mut names: Vec<String> = if exit.field("exit_reason").is_some() {
            // VMX and SVM; the kernel's own choice between its tables is by `isa`.
            (1..=3)
                .flat_map(|isa| exit.symbols(X86_LABEL, &[("isa", isa)]))
                .map(|(_, name)| name)
                .collect()
        } else {
            exit.symbols(ARM64_LABEL, &[("ret", 2)])
                .into_iter()
                .map(|(_, name)| name)
                .collect()
        };
        names.sort();
        names.dedup();
        names
    }
}
