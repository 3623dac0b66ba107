//! Test results, parsed from the output of test programs (libtest's format, which libtest-mimic follows).

use std::{fmt, time::Duration};

/// Numbers of tests by result.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// Results of one environment: the host or a VM.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    /// The test programs that ran at least one test.
    pub(crate) groups: Vec<Group>,
    /// Names of the tests that failed.
    pub(crate) failures: Vec<String>,
    /// Names of the tests that failed at first and passed in another VM.
    pub(crate) passed_when_repeated: Vec<String>,
    /// `test: reason` for each skipped test.
    pub(crate) skips: Vec<String>,
}

/// Results of one test program.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// As cargo names it, for example `tests/docs.rs`.
    pub(crate) name: String,
    pub(crate) counts: Counts,
    /// Run time without the build.
    pub(crate) elapsed: Duration,
}

impl Part {
    /// Parses the output of one or more test programs. A run that failed without a failed test counts as one
    /// failed test.
    pub(crate) fn from_output(name: String, output: &str, succeeded: bool) -> Self {
        let mut part = Self {
            name,
            ..Self::default()
        };
        let mut program = "live tests";
        for line in output.lines() {
            if let Some(name) = parse_program(line) {
                program = name;
            } else if let Some((counts, elapsed)) = parse_result(line) {
                part.counts.add(counts);
                if counts != Counts::default() {
                    let name = program.to_owned();
                    part.groups.push(Group {
                        name,
                        counts,
                        elapsed,
                    });
                }
            } else if let Some(skip) = parse_skip(line) {
                part.skips.push(skip);
            } else if let Some(test) = parse_failure(line) {
                part.failures.push(test.to_owned());
            }
        }
        if !succeeded && part.counts.failed == 0 {
            part.fail("the run failed; see above");
        }
        part
    }

    /// A part that failed before its tests could run.
    pub(crate) fn failed(name: String, reason: &str) -> Self {
        let mut part = Self {
            name,
            ..Self::default()
        };
        part.fail(reason);
        part
    }

    /// A part that could not run. It counts as one skipped test.
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

    /// Returns whether any test ran.
    pub(crate) fn has_run(&self) -> bool {
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

/// Parses cargo's `     Running tests/docs.rs (target/debug/deps/docs-0123)` or `   Doc-tests kvm_collector`.
fn parse_program(line: &str) -> Option<&str> {
    let line = line.trim_start();
    match line.strip_prefix("Running ") {
        Some(program) => program.rsplit_once(" (").map(|(name, _)| name),
        None => line.starts_with("Doc-tests ").then_some(line),
    }
}

/// Parses `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
fn parse_result(line: &str) -> Option<(Counts, Duration)> {
    let (_, fields) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |name| {
        fields
            .split("; ")
            .find_map(|field| field.strip_suffix(name)?.trim().parse().ok())
    };
    let counts = Counts {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("ignored")?,
    };
    let seconds = fields.rsplit_once("finished in ")?.1.strip_suffix('s')?;
    let elapsed = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    Some((counts, elapsed))
}

/// Parses `test some::name ... ignored, reason` of libtest, or ` ... ignored (reason)` of libtest-mimic.
pub(super) fn parse_skip(line: &str) -> Option<String> {
    let (test, reason) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = reason
        .strip_prefix(", ")
        .or_else(|| reason.strip_prefix(" (")?.strip_suffix(')'))
        .unwrap_or("no reason given");
    Some(format!("{}: {reason}", test.trim_end()))
}

/// Parses the heading of a failure's output: `---- some::name stdout ----` of libtest, or `---- some::name ----` of
/// libtest-mimic. The line with `FAILED` is unreliable: in the VM, stderr is stdout, and a panic message may split it.
fn parse_failure(line: &str) -> Option<&str> {
    let head = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(head.strip_suffix(" stdout").unwrap_or(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
     Running tests/live/main.rs (target/debug/deps/live-0123)
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
     Running tests/none.rs (target/debug/deps/none-0123)
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s
   Doc-tests kvm_collector
test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.50s
";

    #[test]
    fn counts_of_test_programs_are_added() {
        let part = Part::from_output("host".to_owned(), OUTPUT, false);
        assert_eq!(part.counts.to_string(), "11 passed, 1 failed, 3 skipped");
        assert_eq!(part.failures, ["broken"]);
        let groups = part
            .groups
            .iter()
            .map(|group| (&*group.name, group.elapsed.as_millis()));
        assert_eq!(
            groups.collect::<Vec<_>>(),
            [("tests/live/main.rs", 0), ("Doc-tests kvm_collector", 1500)]
        );
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
    fn a_run_without_results_is_a_failure() {
        let part = Part::from_output("host".to_owned(), "error: could not compile", false);
        assert_eq!(part.counts.failed, 1);
        let part = Part::from_output("host".to_owned(), "", true);
        assert_eq!(part.counts, Counts::default());
        assert!(!part.has_run());
    }
}
