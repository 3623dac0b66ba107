//! What came of the tests, read from what test binaries print (libtest's own form, which libtest-mimic keeps to).

use std::fmt;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// One part of the tests: the host's, or a VM's.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    /// `test: reason` for each test that failed or was skipped.
    pub(crate) failures: Vec<String>,
    pub(crate) skips: Vec<String>,
}

impl Part {
    /// Adds up all test binaries in `output`. A run that ended badly without saying which test failed is a failure of its own.
    pub(crate) fn from_output(name: String, output: &str, ended_well: bool) -> Self {
        let mut part = Self {
            name,
            ..Self::default()
        };
        for line in output.lines() {
            if let Some(counts) = parse_result(line) {
                part.counts.add(counts);
            } else if let Some(skip) = parse_skip(line) {
                part.skips.push(skip);
            } else if let Some(test) = parse_failure(line) {
                part.failures.push(test.to_owned());
            }
        }
        if !ended_well && part.counts.failed == 0 {
            part.fail("the run did not end well; see above");
        }
        part
    }

    pub(crate) fn failed(name: String, reason: &str) -> Self {
        let mut part = Self {
            name,
            ..Self::default()
        };
        part.fail(reason);
        part
    }

    /// A part that could not run at all counts as one skipped test.
    pub(crate) fn skipped(name: String, reason: &str) -> Self {
        Self {
            name,
            counts: Counts {
                skipped: 1,
                ..Counts::default()
            },
            skips: vec![format!("all: {reason}")],
            ..Self::default()
        }
    }

    /// Whether any of its tests ran.
    pub(crate) fn ran(&self) -> bool {
        self.counts.passed + self.counts.failed > 0
    }

    fn fail(&mut self, reason: &str) {
        self.counts.failed += 1;
        self.failures.push(reason.to_owned());
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn parse_result(line: &str) -> Option<Counts> {
    let (_, fields) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |name| {
        fields
            .split("; ")
            .find_map(|field| field.strip_suffix(name)?.trim().parse().ok())
    };
    Some(Counts {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("ignored")?,
    })
}

/// `test some::name ... ignored, reason` from libtest, ` ... ignored (reason)` from libtest-mimic.
fn parse_skip(line: &str) -> Option<String> {
    let (test, reason) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = reason
        .strip_prefix(", ")
        .or_else(|| reason.strip_prefix(" (")?.strip_suffix(')'))
        .unwrap_or("no reason given");
    Some(format!("{}: {reason}", test.trim_end()))
}

/// `---- some::name stdout ----` from libtest, `---- some::name ----` from libtest-mimic: the head of what a failure has to say.
/// Not the line with the verdict: in the VM, where stderr is stdout, a panic message may come between the name and `FAILED`.
fn parse_failure(line: &str) -> Option<&str> {
    let head = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(head.strip_suffix(" stdout").unwrap_or(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 5 tests
test plain        ... ok
test needs_vm     ... ignored (runs only in the disposable VM)
test needs_time   ... ignored, takes an hour
test lazy         ... ignored
test broken       ... thread 'main' panicked at tests/live/main.rs:1:1
FAILED

failures:

---- broken ----
it is broken

test result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.50s
";

    #[test]
    fn binaries_add_up() {
        let part = Part::from_output("host".to_owned(), OUTPUT, false);
        assert_eq!(part.counts.to_string(), "11 passed, 1 failed, 3 skipped");
        assert_eq!(part.failures, ["broken"]);
        assert_eq!(
            part.skips,
            [
                "needs_vm: runs only in the disposable VM",
                "needs_time: takes an hour",
                "lazy: no reason given"
            ]
        );
    }

    #[test]
    fn a_run_that_breaks_off_is_a_failure() {
        let part = Part::from_output("host".to_owned(), "error: could not compile", false);
        assert_eq!(part.counts.failed, 1);
        let part = Part::from_output("host".to_owned(), "", true);
        assert_eq!(part.counts, Counts::default());
        assert!(!part.ran());
    }
}
