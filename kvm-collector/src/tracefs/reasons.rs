//! What an exit reason is called, in the words of the kernel the exits come from.

use globset::{GlobBuilder, GlobMatcher};

use super::Format;

/// What stands before the reason in `kvm_exit`'s print format, on x86.
const X86_LABEL: &str = "reason ";

/// What stands before the exception's class on arm64; its type is at the very start.
const ARM64_LABEL: &str = " (";

/// `ARM_EXCEPTION_TRAP` (arch/arm64/include/asm/kvm_asm.h, v6.12): only then is there a class.
const ARM64_TRAP: u32 = 2;

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

    /// Is this an x86 kernel's format? Without one it is taken for one.
    #[must_use]
    pub fn is_x86(&self) -> bool {
        Self::fields(self.exit).0 == "isa"
    }

    /// The two fields of `kvm_exit` that say why the guest was left: on x86 the kind of hardware and
    /// its reason, on arm64 the exception's type and its class.
    #[must_use]
    pub fn fields(exit: Option<&Format>) -> (&'static str, &'static str) {
        if exit.is_none_or(|exit| exit.field("exit_reason").is_some()) {
            ("isa", "exit_reason")
        } else {
            ("ret", "esr_ec")
        }
    }

    /// The name, or `UNKNOWN(0x..)`.
    #[must_use]
    pub fn name(&self, isa: u32, reason: u32) -> String {
        self.known(isa, reason)
            .unwrap_or_else(|| format!("UNKNOWN({reason:#x})"))
    }

    fn known(&self, isa: u32, reason: u32) -> Option<String> {
        let exit = self.exit?;
        let (selector, code) = Self::fields(Some(exit));
        let values = [(selector, u64::from(isa)), (code, u64::from(reason))];
        if selector == "ret" {
            let label = if isa == ARM64_TRAP { ARM64_LABEL } else { "" };
            return exit.symbol(label, &values);
        }
        // The name, and behind it those of the flags that VMX has in the upper half of the number.
        let name = exit.symbol(X86_LABEL, &values)?;
        let mut with_flags = Vec::new();
        let field = exit.field(code)?;
        exit.field_names(field, &exit.record_with(&values), &mut with_flags);
        let with_flags = String::from_utf8(with_flags).ok();
        Some(
            with_flags
                .filter(|it| it.starts_with(&name))
                .unwrap_or(name),
        )
    }

    /// Every reason the kernel has a name for, on any kind of hardware: its number and its name.
    #[must_use]
    pub fn all(&self) -> Vec<(u32, String)> {
        let Some(exit) = self.exit else {
            return Vec::new();
        };
        // The kernel chooses between its tables by this field: 1 is VMX, 2 is SVM; on arm64, where 2 is
        // a trap, there is one table.
        let (selector, _) = Self::fields(Some(exit));
        let label = if selector == "isa" {
            X86_LABEL
        } else {
            ARM64_LABEL
        };
        let mut all: Vec<(u32, String)> = (1..=3)
            .flat_map(|isa| exit.symbols(label, &[(selector, isa)]))
            .filter_map(|(code, name)| Some((u32::try_from(code).ok()?, name)))
            .collect();
        all.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
        all.dedup();
        all
    }

    /// The numbers of the reasons whose names match any of these patterns; `UNKNOWN(0x7b)` is the name of
    /// a reason without one.
    ///
    /// # Errors
    /// [`UnknownReason`] for the first pattern that matches none.
    pub fn codes(&self, patterns: &[String]) -> Result<Vec<u32>, UnknownReason> {
        let all = self.all();
        let mut codes = Vec::new();
        for pattern in patterns {
            let before = codes.len();
            codes.extend(unknown_code(pattern));
            let matcher = matcher(pattern);
            let matches = |name: &str| matcher.as_ref().is_some_and(|it| it.is_match(name));
            codes.extend(
                all.iter()
                    .filter(|(_, name)| matches(name))
                    .map(|(code, _)| *code),
            );
            if codes.len() == before {
                let mut known: Vec<_> = all.iter().map(|(_, name)| name.as_str()).collect();
                known.dedup();
                return Err(UnknownReason {
                    pattern: pattern.clone(),
                    known: if known.is_empty() {
                        "none by name".into()
                    } else {
                        known.join(", ")
                    },
                });
            }
        }
        codes.sort_unstable();
        codes.dedup();
        Ok(codes)
    }
}

/// A reason that was asked for and does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no exit reason matches `{pattern}`: this kernel knows {known}")]
pub struct UnknownReason {
    /// What was asked for.
    pub pattern: String,
    known: String,
}

/// Matches names without regard to upper and lower case. What is no glob matches itself.
fn matcher(pattern: &str) -> Option<GlobMatcher> {
    let glob = |pattern: &str| GlobBuilder::new(pattern).case_insensitive(true).build();
    let glob = glob(pattern).or_else(|_| glob(&globset::escape(pattern)));
    glob.ok().map(|glob| glob.compile_matcher())
}

/// The number in `UNKNOWN(0x7b)`.
fn unknown_code(pattern: &str) -> Option<u32> {
    let pattern = pattern.to_ascii_uppercase();
    let digits = pattern.strip_prefix("UNKNOWN(0X")?.strip_suffix(')')?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

    #[test]
    fn names_are_the_kernels_by_isa() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::of(Some(&exit));
        assert_eq!(names.name(1, 12), "HLT");
        assert_eq!(names.name(2, 0x78), "hlt");
        assert_eq!(names.name(2, 0x400), "npf");
        assert_eq!(names.name(2, 0x7777), "UNKNOWN(0x7777)");
        assert_eq!(ReasonNames::of(None).name(2, 0x78), "UNKNOWN(0x78)");
    }

    #[test]
    fn flags_are_named_behind_the_reason() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::of(Some(&exit));
        assert_eq!(names.name(1, 0x8000_0021), "INVALID_STATE FAILED_VMENTRY");
        assert_eq!(names.name(1, 0x8000_7777), "UNKNOWN(0x80007777)");
    }

    #[test]
    fn arm64_has_types_and_classes() {
        const EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_exit");
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::of(Some(&exit));
        assert_eq!(names.name(0, 0), "IRQ");
        assert_eq!(names.name(2, 0x24), "DABT_LOW");
        assert_eq!(names.codes(&["wfx".to_owned()]).unwrap(), [1]);
    }

    #[test]
    fn patterns_find_reasons_of_any_hardware() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::of(Some(&exit));
        let codes = |pattern: &str| names.codes(&[pattern.to_owned()]);
        assert_eq!(codes("Hlt").unwrap(), [12, 0x78]);
        assert_eq!(codes("EPT_*").unwrap(), [48, 49]);
        assert_eq!(codes("UNKNOWN(0x7b)").unwrap(), [0x7b]);
        let error = codes("nope").unwrap_err().to_string();
        assert!(
            error.starts_with("no exit reason matches `nope`: this kernel knows "),
            "{error}"
        );
        assert!(error.contains("npf"), "{error}");
    }
}
