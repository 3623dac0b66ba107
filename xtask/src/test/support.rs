//! docs/support.md: what the tests have shown on each machine and kernel.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use super::{environment::Environment, unfinished::parse_start};
use crate::workspace;

/// The document, below the workspace.
const DOCUMENT: &str = "docs/support.md";

/// The lines around the table.
const START: &str = "<!-- written by cargo xtask test --write-support -->";
const END: &str = "<!-- end -->";

const HEADER: &str = "\
| machine | kernel | loads | counts exact | text equal | recording opens in perf | times within the error |
|---|---|---|---|---|---|---|
";

/// What the live tests have shown in one VM, as `kvm-collector/tests/live/support.rs` prints it: numbers of compared events,
/// which are 0 if the test did not pass.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Support {
    /// Release of the kernel; empty if the VM did not boot.
    kernel: String,
    counts: u64,
    text: u64,
    perf: u64,
    times: u64,
}

impl Support {
    /// Reads the output of the live tests. The output may contain that of tests that were repeated.
    pub(super) fn parse(output: &str) -> Self {
        let mut support = Self::default();
        let mut test = "";
        let mut numbers = BTreeMap::new();
        for line in output.lines() {
            if let Some(name) = parse_start(line) {
                test = name;
                // What an earlier run of the test has shown does not count.
                numbers.retain(|(other, _), _| *other != test);
            }
            let words = line.strip_prefix("support: ");
            match words.and_then(|it| it.split_once(' ')) {
                Some(("kernel", value)) => value.trim().clone_into(&mut support.kernel),
                Some((what, value)) => {
                    *numbers.entry((test, what)).or_default() += value.trim().parse().unwrap_or(0);
                }
                None => {}
            }
        }
        let sum = |what| {
            let of_tests = numbers.iter().filter(|((_, it), _)| *it == what);
            of_tests.map(|(_, number): (_, &u64)| number).sum()
        };
        support.counts = sum("counts");
        support.text = sum("text");
        support.perf = sum("perf");
        support.times = sum("times");
        support
    }

    fn row(&self, environment: Environment) -> String {
        let shown = |number: u64, what: &str| match number {
            0 => "not shown".to_owned(),
            number => format!("{number} {what}"),
        };
        let loads = if self.kernel.is_empty() {
            "not shown"
        } else {
            "yes"
        };
        format!(
            "| {} | {} | {loads} | {} | {} | {} | {} |\n",
            environment.machine_name(),
            self.kernel,
            shown(self.counts, "exits"),
            shown(self.text, "lines"),
            shown(self.perf, "exits"),
            shown(self.times, "exits"),
        )
    }
}

/// Writes the table of all VMs to the document.
pub(super) fn write(rows: &[(Environment, Support)]) -> Result<()> {
    let path = workspace::root().join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let document = with_table(&document, rows)
        .with_context(|| format!("{DOCUMENT} has no lines `{START}` and `{END}`"))?;
    fs::write(&path, document).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// Returns the document with another table.
fn with_table(document: &str, rows: &[(Environment, Support)]) -> Option<String> {
    let (before, rest) = document.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    let mut new = format!("{before}{START}\n\n{HEADER}");
    for (environment, support) in rows {
        let _ = write!(new, "{}", support.row(*environment));
    }
    Some(format!("{new}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::environment::{Selection, select};

    #[test]
    fn numbers_of_a_vm_are_added() {
        let output = "test a ... \nsupport: kernel 6.1.0-1\nok\n\nsupport: counts 5\nsupport: counts 7\nsupport: text 9\n";
        let support = Support::parse(output);
        assert_eq!(support.kernel, "6.1.0-1");
        assert_eq!((support.counts, support.text, support.perf), (12, 9, 0));
    }

    #[test]
    fn a_repeated_test_counts_once() {
        let support = Support::parse(
            "test a ... \nsupport: counts 5\nok\ntest b ... \nsupport: counts 1\nok\n\
             test a ... \nsupport: counts 6\nok\n",
        );
        assert_eq!(support.counts, 7);
    }

    #[test]
    fn the_table_is_replaced() {
        let environment = select(Selection::default())[0];
        let support = Support::parse("support: kernel 6.1\nsupport: counts 5\n");
        let document = format!("a\n{START}\nold\n{END}\nb\n");
        let new = with_table(&document, &[(environment, support)]).unwrap();
        assert!(new.starts_with("a\n") && new.ends_with("\nb\n"), "{new}");
        assert!(!new.contains("old"));
        let row = "| SVM (AMD) | 6.1 | yes | 5 exits | not shown | not shown | not shown |";
        assert!(new.contains(row), "{new}");
        assert_eq!(with_table("no table", &[]), None);
    }
}
