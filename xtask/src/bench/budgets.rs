//! What a watcher may cost (`xtask/budgets.json`), and what it should.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::counted::Counted;

/// The kernel that absolute budgets are of: each version takes a few instructions more or less.
const OF_KERNEL: &str = "6.1.";

const FILE: &str = include_str!("../../budgets.json");

/// What one watcher may cost.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) watcher: String,
    /// Instructions an exit at most, on Linux 6.1: what it takes today and some 3 %. More is a regression.
    pub(crate) most: f64,
    pub(crate) goals: Vec<Goal>,
}

/// What the project wants: at most so many times what another one costs. That one is missed is said, and no error.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) of: String,
    pub(crate) ratio: f64,
}

impl Budget {
    /// All of them.
    pub(crate) fn all() -> Result<Vec<Self>> {
        parse(FILE).context("in xtask/budgets.json")
    }

    /// Says so if it is exceeded.
    pub(crate) fn exceeded(&self, counted: &Counted) -> Option<String> {
        let cost = *counted.per_exit.get(self.watcher.as_str())?;
        if !counted.kernel.starts_with(OF_KERNEL) {
            return None;
        }
        (cost > self.most).then(|| {
            format!(
                "`{}` costs {cost:.0} instructions an exit, {:.1} % more than its budget of {:.0}",
                self.watcher,
                (cost / self.most - 1.0) * 100.0,
                self.most
            )
        })
    }
}

impl Goal {
    /// What it is compared with, and whether it is met; `None` if one of the two was not measured.
    pub(crate) fn met(&self, watcher: &str, counted: &Counted) -> Option<(f64, bool)> {
        let cost = counted.per_exit.get(watcher)?;
        let other = counted.per_exit.get(self.of.as_str())?;
        let ratio = cost / other;
        Some((ratio, ratio <= self.ratio))
    }
}

fn parse(text: &str) -> Result<Vec<Budget>> {
    let list: Vec<Value> = serde_json::from_str(text)?;
    list.iter().map(budget).collect()
}

fn budget(value: &Value) -> Result<Budget> {
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
            of: name(value, "of")?,
            ratio: number(value, "ratio")?,
        })
    };
    Ok(Budget {
        watcher: name(value, "watcher")?,
        most: number(value, "most")?,
        goals: goals.iter().map(goal).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::watchers::ALL;

    fn counted(costs: &[(&'static str, f64)]) -> Counted {
        Counted {
            kernel: "6.1.0".into(),
            per_exit: costs.iter().copied().collect(),
            ..Counted::default()
        }
    }

    #[test]
    fn budgets_are_of_watchers_there_are() {
        let is_one = |name: &str| ALL.iter().any(|it| it.name == name);
        for budget in Budget::all().unwrap() {
            assert!(is_one(&budget.watcher), "{}", budget.watcher);
            for goal in &budget.goals {
                assert!(is_one(&goal.of), "{}", goal.of);
            }
        }
    }

    #[test]
    fn more_than_the_budget_is_said() {
        let budget = &parse(r#"[{"watcher": "stat", "most": 100}]"#).unwrap()[0];
        assert_eq!(budget.exceeded(&counted(&[("stat", 100.0)])), None);
        assert_eq!(budget.exceeded(&counted(&[])), None);
        let said = budget.exceeded(&counted(&[("stat", 110.0)])).unwrap();
        assert!(
            said.contains("110 instructions") && said.contains("10.0 % more"),
            "{said}"
        );
    }

    #[test]
    fn goals_compare() {
        let goal = Goal {
            of: "exits".into(),
            ratio: 1.5,
        };
        let counted = counted(&[("stat", 30.0), ("exits", 20.0), ("trace", 31.0)]);
        assert_eq!(goal.met("stat", &counted), Some((1.5, true)));
        assert_eq!(goal.met("trace", &counted), Some((1.55, false)));
        assert_eq!(goal.met("top", &counted), None);
    }

    #[test]
    fn what_is_no_budget_is_said() {
        for text in [
            "{}",
            r#"[{"most": 1}]"#,
            r#"[{"watcher": "stat", "most": "1"}]"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
