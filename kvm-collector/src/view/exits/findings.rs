//! Findings: each advice once, with the rows that it applies to.

use super::ExitRow;
use crate::knowledge::advice::Advice;

/// An advice, and the rows that it applies to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding<'a> {
    /// The advice.
    pub advice: Advice,
    /// The rows, in the order of the report.
    pub rows: Vec<&'a ExitRow>,
}

/// Returns the findings of a report's rows, in the order of the first row of each.
#[must_use]
pub fn findings(rows: &[ExitRow]) -> Vec<Finding<'_>> {
    let mut findings: Vec<Finding<'_>> = Vec::new();
    for row in rows {
        for advice in &row.advice {
            match findings.iter_mut().find(|it| it.advice == *advice) {
                Some(finding) => finding.rows.push(row),
                None => findings.push(Finding {
                    advice: *advice,
                    rows: vec![row],
                }),
            }
        }
    }
    findings
}
