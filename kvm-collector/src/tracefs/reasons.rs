//! Names of exit reasons, from the print format of `kvm_exit`.

use std::collections::BTreeSet;

use globset::GlobMatcher;

use super::{Format, did_you_mean, similar_names};
use crate::bounds::{GlobError, Letters, compile_glob, compile_literal, excerpt};

/// The text before the exit reason in the print format, on x86.
const X86_LABEL: &str = "reason ";

/// The text before the exception class in the print format, on arm64. The exception type is at the
/// start of the print format.
const ARM64_LABEL: &str = " (";

/// The exception type that has an exception class: `ARM_EXCEPTION_TRAP` in
/// arch/arm64/include/asm/kvm_asm.h (Linux 6.12).
const ARM64_TRAP: u32 = 2;

/// Looks up names of exit reasons.
#[derive(Debug)]
pub struct ReasonNames<'a> {
    exits: Vec<&'a Format>,
    host_isa: Option<u32>,
}

impl<'a> ReasonNames<'a> {
    /// Uses the names in the format of `kvm_exit`. Without the format, there are only numbers.
    #[must_use]
    pub fn new(exit: Option<&'a Format>) -> Self {
        Self {
            exits: exit.into_iter().collect(),
            host_isa: None,
        }
    }

    /// Uses the names in several formats of `kvm_exit`, of kernels of the same architecture. The first
    /// format that names a reason is used for it.
    #[must_use]
    pub fn of_several(exits: &'a [Format]) -> Self {
        Self {
            exits: exits.iter().collect(),
            host_isa: None,
        }
    }

    /// Sets the value of the field `isa` in all exits of the host, if it is known.
    #[must_use]
    pub fn with_host_isa(self, host_isa: Option<u32>) -> Self {
        Self { host_isa, ..self }
    }

    /// Returns the value of the field `isa` in all exits of the host; `None` if it is unknown.
    #[must_use]
    pub fn host_isa(&self) -> Option<u32> {
        self.host_isa
    }

    /// Whether the format is from an x86 kernel. True if there is no format.
    #[must_use]
    pub fn is_x86(&self) -> bool {
        Self::reason_fields(self.exits.first().copied()).0 == "isa"
    }

    /// Returns the name of the instruction set that defines an exit reason: `vmx` for 1 and `svm` for 2 on
    /// x86, otherwise `arm64`; `?` for another value.
    #[must_use]
    pub fn isa_name(&self, isa: u32) -> &'static str {
        match (self.is_x86(), isa) {
            (false, _) => "arm64",
            (true, 1) => "vmx",
            (true, 2) => "svm",
            (true, _) => "?",
        }
    }

    /// Returns the names of the two fields of `kvm_exit` that identify an exit reason. On x86 these
    /// are the instruction set (VMX or SVM) and the exit reason, on arm64 the exception type and the
    /// exception class.
    #[must_use]
    pub fn reason_fields(exit: Option<&Format>) -> (&'static str, &'static str) {
        if exit.is_none_or(|exit| exit.field("exit_reason").is_some()) {
            ("isa", "exit_reason")
        } else {
            ("ret", "esr_ec")
        }
    }

    /// Returns the name of an exit reason, or `UNKNOWN(0x..)`. The arguments are the values of the
    /// fields that [`ReasonNames::reason_fields`] returns.
    #[must_use]
    pub fn name(&self, isa: u32, reason: u32) -> String {
        self.known_name(isa, reason)
            .unwrap_or_else(|| format!("UNKNOWN({reason:#x})"))
    }

    fn known_name(&self, isa: u32, reason: u32) -> Option<String> {
        let mut exits = self.exits.iter();
        exits.find_map(|exit| Self::name_in(exit, isa, reason))
    }

    fn name_in(exit: &Format, isa: u32, reason: u32) -> Option<String> {
        let (selector, code) = Self::reason_fields(Some(exit));
        let values = [(selector, u64::from(isa)), (code, u64::from(reason))];
        if selector == "ret" {
            let label = if isa == ARM64_TRAP { ARM64_LABEL } else { "" };
            return exit.symbolic_name(label, &values);
        }
        // On VMX, the upper half of the number has flags. Their names follow the name of the reason.
        let name = exit.symbolic_name(X86_LABEL, &values)?;
        let mut with_flags = Vec::new();
        let field = exit.field(code)?;
        exit.append_value_names(field, &exit.record_with_values(&values), &mut with_flags);
        let with_flags = String::from_utf8(with_flags).ok();
        Some(
            with_flags
                .filter(|it| it.starts_with(&name))
                .unwrap_or(name),
        )
    }

    /// Returns the number and name of every named exit reason in one of the kernel's tables, by number. On x86, 1 is VMX and
    /// 2 is SVM. On arm64 there is one table, for traps (2).
    #[must_use]
    pub fn of_isa(&self, isa: u32) -> Vec<(u32, String)> {
        let mut names: Vec<_> = self
            .exits
            .iter()
            .flat_map(|exit| Self::names_in(exit, isa))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn names_in(exit: &Format, isa: u32) -> Vec<(u32, String)> {
        let (selector, _) = Self::reason_fields(Some(exit));
        let label = if selector == "isa" {
            X86_LABEL
        } else {
            ARM64_LABEL
        };
        let names = exit.symbolic_names(label, &[(selector, u64::from(isa))]);
        names
            .into_iter()
            .filter_map(|(code, name)| Some((u32::try_from(code).ok()?, name)))
            .collect()
    }

    /// Returns the number and name of every named exit reason of this architecture, for VMX as well as
    /// SVM. Sorted by name.
    #[must_use]
    pub fn all(&self) -> Vec<(u32, String)> {
        let mut all: Vec<_> = (1..=3).flat_map(|isa| self.of_isa(isa)).collect();
        all.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
        all.dedup();
        all
    }

    /// Returns the numbers of the exit reasons that match any of these patterns by name. The pattern
    /// `UNKNOWN(0x7b)` matches the number 0x7b.
    ///
    /// On x86, `isa` is the instruction set of the exits, if it is known: VMX and SVM use the same
    /// numbers for different reasons. A pattern that only matches reasons of the other instruction set
    /// is valid, so that one command line fits all hosts, but adds no number.
    ///
    /// # Errors
    /// [`UnknownReason`] for the first pattern that matches no reason.
    pub fn matching_codes(
        &self,
        patterns: &[String],
        isa: Option<u32>,
    ) -> Result<Vec<u32>, UnknownReason> {
        let all = self.all();
        let possible = match isa.filter(|_| self.is_x86()) {
            Some(isa) => self.of_isa(isa),
            None => all.clone(),
        };
        let mut codes = Vec::new();
        for pattern in patterns {
            let unknown = unknown_code(pattern);
            codes.extend(unknown);
            let matcher = matcher(pattern);
            let matches = |name: &str| matcher.as_ref().is_ok_and(|it| it.is_match(name));
            codes.extend(
                possible
                    .iter()
                    .filter(|(_, name)| matches(name))
                    .map(|(code, _)| *code),
            );
            if unknown.is_none() && !all.iter().any(|(_, name)| matches(name)) {
                // A pattern matches in any case, so HLT of VMX and hlt of SVM are one suggestion.
                let mut different = BTreeSet::new();
                let names = possible.iter().map(|(_, name)| name.as_str());
                let names = names.filter(|it| different.insert(it.to_lowercase()));
                let suggestion = match &matcher {
                    Ok(_) => did_you_mean(&similar_names(names, pattern)),
                    Err(error) => format!(": {error}"),
                };
                return Err(UnknownReason {
                    pattern: excerpt(pattern).into_owned(),
                    suggestion,
                });
            }
        }
        codes.sort_unstable();
        codes.dedup();
        Ok(codes)
    }
}

/// A pattern that matches no exit reason.
#[derive(Debug, thiserror::Error)]
#[error(
    "no exit reason matches `{pattern}`{suggestion} (`kvm-collector list reasons` shows all, and with -i FILE those of a recording)"
)]
pub struct UnknownReason {
    /// The pattern.
    pub pattern: String,
    suggestion: String,
}

/// Compiles a case-insensitive glob. A pattern that is not a valid glob matches itself literally, unless it is too long.
fn matcher(pattern: &str) -> Result<GlobMatcher, GlobError> {
    compile_glob(pattern, Letters::AnyCase).or_else(|_| compile_literal(pattern, Letters::AnyCase))
}

/// Returns the number in `UNKNOWN(0x7b)`.
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
    fn names_depend_on_the_isa() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::new(Some(&exit));
        assert_eq!(names.name(1, 12), "HLT");
        assert_eq!(names.name(2, 0x78), "hlt");
        assert_eq!(names.name(2, 0x400), "npf");
        assert_eq!(names.name(2, 0x7777), "UNKNOWN(0x7777)");
        assert_eq!(ReasonNames::new(None).name(2, 0x78), "UNKNOWN(0x78)");
    }

    #[test]
    fn several_kernels_complement_each_other() {
        const OLD: &str = include_str!("../../tests/fixtures/formats/6.1-x86_64/kvm/kvm_exit");
        let new = Format::parse("kvm", EXIT).unwrap();
        // An old kernel that does not name HLT.
        let old = Format::parse(
            "kvm",
            &OLD.replace("\"HLT\"", "\"OTHER\"")
                .replace("{ 12,", "{ 7712,"),
        );
        let formats = [old.unwrap(), new];
        let of_old = ReasonNames::new(Some(&formats[0]));
        let names = ReasonNames::of_several(&formats);
        assert_eq!(of_old.name(1, 12), "UNKNOWN(0xc)");
        assert_eq!(names.name(1, 12), "HLT");
        assert_eq!(names.name(2, 0x78), "hlt");
        assert_eq!(
            names.matching_codes(&["HLT".to_owned()], None).unwrap(),
            [12, 0x78]
        );
    }

    #[test]
    fn names_of_vmx_flags_follow_the_reason() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::new(Some(&exit));
        assert_eq!(names.name(1, 0x8000_0021), "INVALID_STATE FAILED_VMENTRY");
        assert_eq!(names.name(1, 0x8000_7777), "UNKNOWN(0x80007777)");
    }

    #[test]
    fn arm64_reasons_are_exception_types_and_classes() {
        const EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_exit");
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::new(Some(&exit));
        assert_eq!(names.name(0, 0), "IRQ");
        assert_eq!(names.name(2, 0x24), "DABT_LOW");
        assert_eq!(
            names.matching_codes(&["wfx".to_owned()], None).unwrap(),
            [1]
        );
    }

    #[test]
    fn patterns_match_reasons_of_vmx_and_svm() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::new(Some(&exit));
        let codes = |pattern: &str| names.matching_codes(&[pattern.to_owned()], None);
        assert_eq!(codes("Hlt").unwrap(), [12, 0x78]);
        assert_eq!(codes("EPT_*").unwrap(), [48, 49]);
        assert_eq!(codes("UNKNOWN(0x7b)").unwrap(), [0x7b]);
        let error = codes("nfp").unwrap_err().to_string();
        assert!(
            error.starts_with("no exit reason matches `nfp`: did you mean npf"),
            "{error}"
        );
        let error = codes("frobnicate").unwrap_err().to_string();
        assert!(error.contains("list reasons"), "{error}");
        let error = codes(&"*".repeat(100_000)).unwrap_err().to_string();
        assert!(error.contains("`: it has more than 1000 bytes"), "{error}");
    }

    #[test]
    fn numbers_and_suggestions_are_those_of_the_isa() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = ReasonNames::new(Some(&exit));
        let any = |pattern: &str, isa| names.matching_codes(&[pattern.to_owned()], isa);
        let codes = |pattern: &str, isa| any(pattern, Some(isa));
        assert_eq!(codes("hlt", 1).unwrap(), [12]);
        assert_eq!(codes("hlt", 2).unwrap(), [0x78]);
        // On SVM, 48 and 49 are writes of debug registers.
        assert_eq!(codes("EPT_*", 1).unwrap(), [48, 49]);
        assert!(codes("EPT_*", 2).unwrap().is_empty());
        assert_eq!(codes("UNKNOWN(0x7b)", 1).unwrap(), [0x7b]);
        let question = |pattern, isa| codes(pattern, isa).unwrap_err().suggestion;
        assert_eq!(question("hltt", 2), ": did you mean hlt?");
        assert_eq!(question("hltt", 1), ": did you mean HLT?");
        // Both names match in any case.
        assert_eq!(any("HLT", None).unwrap(), [12, 0x78]);
        let error = any("hltt", None).unwrap_err();
        assert_eq!(error.suggestion, ": did you mean HLT?");
    }
}
