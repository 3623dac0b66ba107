//! Compiles globs.

use globset::{Glob, GlobBuilder, GlobMatcher};

/// Maximum length of a glob. `globset` panics if the regular expression of a glob exceeds a limit, and a
/// glob of this length cannot.
const MAX_BYTES: usize = 1000;

/// Maximum depth of braces, which `globset` parses recursively.
const MAX_DEPTH: usize = 16;

/// Why a glob cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum GlobError {
    /// It is too long.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// Braces are nested too deeply.
    #[error("it has more than {MAX_DEPTH} levels of braces")]
    TooDeep,
    /// The syntax is invalid.
    #[error(transparent)]
    Syntax(#[from] globset::Error),
}

/// Whether the case of letters matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// `a` does not match `A`.
    CaseSensitive,
    /// `a` matches `A`.
    AnyCase,
}

/// Compiles a glob.
///
/// # Errors
/// [`GlobError`].
pub fn compile_glob(pattern: &str, letters: Letters) -> Result<GlobMatcher, GlobError> {
    check_length(pattern)?;
    let (mut depth, mut max_depth) = (0usize, 0);
    for byte in pattern.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        max_depth = max_depth.max(depth);
    }
    if max_depth > MAX_DEPTH {
        return Err(GlobError::TooDeep);
    }
    Ok(build(pattern, letters)?.compile_matcher())
}

/// Compiles a matcher for exactly this text.
///
/// # Errors
/// [`GlobError::TooLong`].
pub fn compile_literal(text: &str, letters: Letters) -> Result<GlobMatcher, GlobError> {
    check_length(text)?;
    Ok(build(&globset::escape(text), letters)?.compile_matcher())
}

fn build(pattern: &str, letters: Letters) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern)
        .case_insensitive(letters == Letters::AnyCase)
        .build()
}

fn check_length(pattern: &str) -> Result<(), GlobError> {
    match pattern.len() {
        0..=MAX_BYTES => Ok(()),
        _ => Err(GlobError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_globs_compile() {
        let repeat = |part: &str| part.repeat(MAX_BYTES / part.len());
        let nested = format!("{}a{}", "{b,".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
        for letters in [Letters::CaseSensitive, Letters::AnyCase] {
            for part in ["*", "?", "**/", "[!a-y]", "[A-z]", "{a*,b?}", "é", "\\*"] {
                compile_glob(&repeat(part), letters).expect(part);
            }
            compile_glob(&nested, letters).expect("nested");
            for part in ["*", "[", "}"] {
                let text = repeat(part);
                assert!(compile_literal(&text, letters).expect(part).is_match(&text));
            }
        }
    }

    #[test]
    fn larger_globs_are_errors_that_say_the_limit() {
        let error = |pattern: &str| {
            compile_glob(pattern, Letters::AnyCase)
                .expect_err("an invalid glob")
                .to_string()
        };
        let long = "it has more than 1000 bytes";
        assert_eq!(error(&"*".repeat(100_000)), long);
        assert_eq!(error(&"{".repeat(100_000)), long);
        assert_eq!(
            error(&"{".repeat(17)),
            "it has more than 16 levels of braces"
        );
        assert!(error("a{").contains("unclosed"));
        let literal = compile_literal(&"a".repeat(1001), Letters::CaseSensitive);
        assert_eq!(literal.expect_err("too long").to_string(), long);
    }
}
