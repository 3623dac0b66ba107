//! Budgets and goals for the overhead of kvm-collector's commands, from `xtask/budgets.json`.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::instructions::InstructionCosts;

/// Prefix of the release of the kernel that budgets apply to. On other kernels the costs differ by a few instructions.
const KERNEL: &str = "6.1.";

const FILE: &str = include_str!("../../budgets.json");

/// The budget and the goals of one command.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) tool: String,
    /// Maximum number of instructions per exit on Linux 6.1: today's cost plus about 3 %. More is a regression.
    pub(crate) max_instructions: f64,
    pub(crate) goals: Vec<Goal>,
}

/// A maximum cost in relation to another tool. A missed goal is reported, but is not an error.
#[derive(Debug)]
pub(crate) struct Goal {
    /// Name of the other tool.
    pub(crate) reference: String,
    pub(crate) max_ratio: f64,
}

impl Budget {
    /// Returns all budgets.
    pub(crate) fn all() -> Result<Vec<Self>> {
        parse(FILE).context("in xtask/budgets.json")
    }

    /// Returns a message if the budget is exceeded.
    pub(crate) fn check(&self, costs: &InstructionCosts) -> Option<String> {
        let cost = *costs.per_exit.get(self.tool.as_str())?;
        if !costs.kernel.starts_with(KERNEL) {
            return None;
        }
        (cost > self.max_instructions).then(|| {
            format!(
                "`{}` costs {cost:.0} instructions per exit, {:.1} % more than its budget of {:.0}",
                self.tool,
                (cost / self.max_instructions - 1.0) * 100.0,
                self.max_instructions
            )
        })
    }
}

impl Goal {
    /// Returns the ratio to the other tool, and whether the goal is met; `None` if one of the two was not measured.
    pub(crate) fn check(&self, tool: &str, costs: &InstructionCosts) -> Option<(f64, bool)> {
        let cost = costs.per_exit.get(tool)?;
        let reference = costs.per_exit.get(self.reference.as_str())?;
        let ratio = cost / reference;
        Some((ratio, ratio <= self.max_ratio))
    }
}

fn parse(text: &str) -> Result<Vec<Budget>> {
    let list: Vec<Value> = serde_json::from_str(text)?;
    list.iter().map(parse_budget).collect()
}

fn parse_budget(value: &Value) -> Result<Budget> {
    let name = |value: &Value, key: &str| {
        let text = value[key].as_str().map(str::to_owned);
        text.with_context(|| format!("no `{key}` in {value}"))
    };
    let number = |value: &Value, key: &str| {
        let number = value[key].as_f64();
        number.with_context(|| format!("no number `{key}` in {value}"))
    };
    let goals = value["goals"].as_array().map_or(&[][..], Vec::as_slice);
    let goal = |value: &Value| {
        Ok(Goal {
            reference: name(value, "reference")?,
            max_ratio: number(value, "max_ratio")?,
        })
    };
    Ok(Budget {
        tool: name(value, "tool")?,
        max_instructions: number(value, "max_instructions")?,
        goals: goals.iter().map(goal).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tools::ALL;

    fn costs(costs: &[(&'static str, f64)]) -> InstructionCosts {
        InstructionCosts {
            kernel: "6.1.0".into(),
            per_exit: costs.iter().copied().collect(),
            ..InstructionCosts::default()
        }
    }

    #[test]
    fn budgets_and_goals_name_measured_tools() {
        let is_known = |name: &str| ALL.iter().any(|tool| tool.name == name);
        for budget in Budget::all().unwrap() {
            assert!(is_known(&budget.tool), "{}", budget.tool);
            for goal in &budget.goals {
                assert!(is_known(&goal.reference), "{}", goal.reference);
            }
        }
    }

    #[test]
    fn an_exceeded_budget_is_reported() {
        let budget = &parse(r#"[{"tool": "stat", "max_instructions": 100}]"#).unwrap()[0];
        assert_eq!(budget.check(&costs(&[("stat", 100.0)])), None);
        assert_eq!(budget.check(&costs(&[])), None);
        let message = budget.check(&costs(&[("stat", 110.0)])).unwrap();
        assert!(
            message.contains("110 instructions") && message.contains("10.0 % more"),
            "{message}"
        );
    }

    #[test]
    fn goals_compare_two_tools() {
        let goal = Goal {
            reference: "exits".into(),
            max_ratio: 1.5,
        };
        let costs = costs(&[("stat", 30.0), ("exits", 20.0), ("trace", 31.0)]);
        assert_eq!(goal.check("stat", &costs), Some((1.5, true)));
        assert_eq!(goal.check("trace", &costs), Some((1.55, false)));
        assert_eq!(goal.check("top", &costs), None);
    }

    #[test]
    fn invalid_budgets_are_errors() {
        for text in [
            "{}",
            r#"[{"max_instructions": 1}]"#,
            r#"[{"tool": "stat", "max_instructions": "1"}]"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
