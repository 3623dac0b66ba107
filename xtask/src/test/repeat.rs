//! Repeats live tests that failed, once, in another VM.
//!
//! QEMU emulates the VM's CPUs in threads of the host. If the host is busy, a CPU of the VM stops for milliseconds at any
//! instruction, and a test that compares two tools may fail by chance. A race in the collector may pass the second time, too.
//! So the summary lists each test that passed only then; look for the cause, as for a failure.

use super::report::Part;

/// If more tests failed, the cause is not chance, and nothing is repeated.
const MAX_REPEATED: usize = 5;

/// Returns the names of the failed tests if they are worth repeating. `ended` are the names of all tests that ended.
pub(super) fn failed_tests(part: &Part, ended: &[String]) -> Vec<String> {
    let names = part.failures.iter().map(|failure| test_name(failure));
    let names: Vec<_> = names.map(str::to_owned).collect();
    let are_tests = names.iter().all(|name| ended.contains(name));
    if are_tests && names.len() <= MAX_REPEATED {
        names
    } else {
        Vec::new()
    }
}

/// Changes the results of failed tests that passed in `second`.
pub(super) fn add_second_results(part: &mut Part, failed: &[String], second: &Part) {
    let failed_again = |name: &String| second.failures.iter().any(|it| test_name(it) == name);
    let ran = usize::try_from(second.counts.passed + second.counts.failed).unwrap_or(0);
    if ran < failed.len() {
        return;
    }
    for name in failed.iter().filter(|name| !failed_again(name)) {
        part.failures.retain(|failure| test_name(failure) != name);
        part.counts.failed -= 1;
        part.counts.passed += 1;
        part.passed_when_repeated.push(name.clone());
    }
}

/// Returns the name in a failure: `name`, or `name: what happened`.
fn test_name(failure: &str) -> &str {
    failure.split(':').next().unwrap_or(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::report::Counts;

    fn part(passed: u32, failures: &[&str]) -> Part {
        Part {
            counts: Counts {
                passed,
                failed: u32::try_from(failures.len()).unwrap(),
                skipped: 0,
            },
            failures: failures.iter().map(ToString::to_string).collect(),
            ..Part::default()
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_few_failed_tests_are_repeated() {
        let ended = names(&["a", "b", "c", "d", "e", "f", "g"]);
        let few = part(5, &["a", "b: its message was lost"]);
        assert_eq!(failed_tests(&few, &ended), ["a", "b"]);
        let many = part(1, &["a", "b", "c", "d", "e", "f"]);
        assert_eq!(failed_tests(&many, &ended), [""; 0]);
        // Not a test: the run itself failed.
        let run = part(6, &["a", "the run failed; see above"]);
        assert_eq!(failed_tests(&run, &ended), [""; 0]);
    }

    #[test]
    fn only_tests_that_pass_the_second_time_pass() {
        let mut first = part(5, &["a", "b: its message was lost"]);
        let failed = names(&["a", "b"]);
        add_second_results(&mut first, &failed, &part(1, &["b"]));
        assert_eq!(first.counts.to_string(), "6 passed, 1 failed, 0 skipped");
        assert_eq!(first.passed_when_repeated, ["a"]);
        assert_eq!(first.failures, ["b: its message was lost"]);
    }

    #[test]
    fn tests_that_did_not_run_again_remain_failed() {
        let mut first = part(5, &["a", "b"]);
        add_second_results(&mut first, &names(&["a", "b"]), &part(1, &[]));
        assert_eq!(first.counts.failed, 2);
    }
}
