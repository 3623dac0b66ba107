//! The tests that a VM finished before it died, parsed from the output so far.

use super::report::{Counts, Part, parse_skip};

/// Results of the tests that ended before the VM died. There is no summary, so they are parsed line by line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnfinishedRun {
    pub(super) counts: Counts,
    /// Names of all tests that ended, with any result.
    pub(super) finished: Vec<String>,
    pub(super) failures: Vec<String>,
    /// `test: reason` for each skipped test.
    pub(super) skips: Vec<String>,
}

impl UnfinishedRun {
    /// Parses the output of a test program that runs one test at a time.
    pub(super) fn parse(output: &str) -> Self {
        let mut run = Self::default();
        // Name of the latest test, and the last line that it or the harness printed.
        let mut latest: Option<(&str, &str)> = None;
        for line in output.lines() {
            if let Some(name) = parse_start(line) {
                run.add(latest.replace((name, line)));
            } else if let Some((_, last_line)) = &mut latest
                && !line.trim().is_empty()
            {
                *last_line = line;
            }
        }
        run.add(latest);
        run
    }

    /// Adds these results to those of the VM that ran the other tests.
    pub(super) fn add_to(self, part: &mut Part) {
        part.counts.add(self.counts);
        part.failures.extend(self.failures);
        part.skips.extend(self.skips);
    }

    fn add(&mut self, test: Option<(&str, &str)>) {
        let Some((name, last_line)) = test else {
            return;
        };
        let last_line = last_line.trim();
        // Output without a newline may precede the result.
        if last_line.ends_with("ok") {
            self.counts.passed += 1;
        } else if last_line.ends_with("FAILED") {
            self.counts.failed += 1;
            let failure = format!("{name}: its message was lost when the VM died");
            self.failures.push(failure);
        } else if let Some(skip) = parse_skip(last_line) {
            self.counts.skipped += 1;
            self.skips.push(skip);
        } else {
            return;
        }
        self.finished.push(name.to_owned());
    }
}

/// Parses the start of `test NAME   ... RESULT`, of which the result may be missing. Returns the name.
pub(super) fn parse_start(line: &str) -> Option<&str> {
    let name = line.strip_prefix("test ")?.split_once(" ...")?.0.trim_end();
    (!name.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_without_a_result_is_not_finished() {
        let output = "running 6 tests
test plain      ... ok
test needs_vmx  ... ignored (no vmx)
test prints     ...
verifier: | exits | 520 |
ok
test broken     ... FAILED
test hangs      ... halfway";
        let run = UnfinishedRun::parse(output);
        assert_eq!(run.counts.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(run.finished, ["plain", "needs_vmx", "prints", "broken"]);
        assert_eq!(
            run.failures,
            ["broken: its message was lost when the VM died"]
        );
        assert_eq!(run.skips, ["needs_vmx: no vmx"]);
        assert_eq!(UnfinishedRun::parse(""), UnfinishedRun::default());
    }
}
