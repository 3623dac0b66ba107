//! Writes the results to `docs/overhead.md`, between markers, and as JSON.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    budgets::Budget,
    instructions::InstructionCosts,
    tools::{ALL, Tool},
};
use crate::workspace;

/// Replaces the text between the markers with this name in `docs/overhead.md`.
pub(crate) fn write(name: &str, text: &str) -> Result<()> {
    let path = workspace::root().join("docs/overhead.md");
    let document =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let document = replace_between_markers(&document, name, text)?;
    fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))
}

fn replace_between_markers(document: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), "<!-- bench end -->");
    let error = || format!("docs/overhead.md has no markers `{}`", begin.trim_end());
    let (before, rest) = document.split_once(&begin).with_context(error)?;
    let (_, after) = rest.split_once(end).with_context(error)?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// Returns today's date in UTC.
pub(crate) fn today() -> Result<String> {
    let date =
        crate::process::read_stdout(std::process::Command::new("date").arg("-u").arg("+%F"))?;
    Ok(date.trim().to_owned())
}

/// Formats the results of a VM as a table.
pub(crate) fn format_table(costs: &InstructionCosts, command: &str) -> Result<String> {
    let mut text = format!(
        "Linux {}, {} CPU{}, {}; kvm-collector {}; {}. `{command}`\n\n",
        costs.kernel,
        costs.cpus,
        if costs.cpus == 1 { "" } else { "s" },
        costs.versions.join(", "),
        env!("CARGO_PKG_VERSION"),
        today()?,
    );
    if costs.cpus == 1 {
        write_cost_table(costs, &mut text)?;
    } else {
        write_scaling_table(costs, &mut text)?;
    }
    Ok(text)
}

/// Returns the measured tools and their costs, in the order of the tables.
fn measured_tools(costs: &InstructionCosts) -> impl Iterator<Item = (&'static Tool, f64)> {
    let cost = |tool: &'static Tool| Some((tool, *costs.per_exit.get(tool.name)?));
    ALL.iter().filter_map(cost)
}

/// Writes the cost of each tool, and whether it meets its goals.
fn write_cost_table(costs: &InstructionCosts, text: &mut String) -> Result<()> {
    let reference = costs.per_exit.get("empty classic, exit+entry");
    let budgets = Budget::all()?;
    text.push_str("| tool | group | instructions per exit | relative to empty classic | goals |\n|---|---|---:|---:|---|\n");
    for (tool, cost) in measured_tools(costs) {
        let ratio = reference.map_or(String::new(), |reference| {
            format!("{:.2}", cost / reference)
        });
        let goals = budgets.iter().filter(|budget| budget.tool == tool.name);
        let goals: Vec<_> = goals
            .flat_map(|budget| &budget.goals)
            .filter_map(|goal| {
                let (ratio, met) = goal.check(tool.name, costs)?;
                let word = if met { "" } else { "**missed**: " };
                Some(format!(
                    "{word}{ratio:.2} of {} (goal {:.2})",
                    goal.reference, goal.max_ratio
                ))
            })
            .collect();
        writeln!(
            text,
            "| {} | {} | {cost:.0} | {ratio} | {} |",
            tool.name,
            tool.group.name(),
            goals.join("; ")
        )?;
    }
    Ok(())
}

/// Writes whether an exit costs more if other vCPUs exit at the same time.
fn write_scaling_table(costs: &InstructionCosts, text: &mut String) -> Result<()> {
    writeln!(
        text,
        "| tool | group | instructions per exit, 1 vCPU | {} vCPUs | difference |\n|---|---|---:|---:|---:|",
        costs.cpus
    )?;
    for (tool, cost) in measured_tools(costs) {
        let one_vcpu = costs.one_vcpu.get(tool.name);
        let one_vcpu = one_vcpu.with_context(|| format!("`{}` was not measured", tool.name))?;
        writeln!(
            text,
            "| {} | {} | {one_vcpu:.0} | {cost:.0} | {:+.0} |",
            tool.name,
            tool.group.name(),
            cost.round() - one_vcpu.round()
        )?;
    }
    Ok(())
}

/// Writes the results as JSON.
pub(crate) fn write_json(costs: &[InstructionCosts], command: &str, path: &Path) -> Result<()> {
    let runs: Vec<Value> = costs
        .iter()
        .map(|run| {
            let tools = measured_tools(run).map(|(tool, cost)| {
                json!({
                    "tool": tool.name,
                    "group": tool.group.name(),
                    "instructions_per_exit": cost,
                    "instructions_per_exit_of_one_vcpu": run.one_vcpu.get(tool.name),
                })
            });
            json!({
                "kernel": run.kernel,
                "cpus": run.cpus,
                "versions": run.versions,
                "tools": tools.collect::<Vec<_>>(),
            })
        })
        .collect();
    let all = json!({
        "kvm_collector": env!("CARGO_PKG_VERSION"),
        "date": today()?,
        "command": command,
        "runs": runs,
    });
    fs::write(path, format!("{all:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_between_markers_is_replaced() {
        let document = "a\n<!-- bench x -->\nold\n<!-- bench end -->\nb\n<!-- bench y -->\n<!-- bench end -->\n";
        let once = replace_between_markers(document, "x", "new\n").unwrap();
        assert_eq!(once, document.replace("old", "new"));
        assert_eq!(replace_between_markers(&once, "x", "new\n").unwrap(), once);
        assert!(
            replace_between_markers(&once, "y", "1\n")
                .unwrap()
                .ends_with("<!-- bench y -->\n1\n<!-- bench end -->\n")
        );
        assert!(replace_between_markers(document, "z", "").is_err());
    }

    #[test]
    fn the_table_of_several_cpus_compares_with_one() {
        let costs = InstructionCosts {
            cpus: 8,
            per_exit: [("stat", 110.0)].into(),
            one_vcpu: [("stat", 120.0)].into(),
            ..InstructionCosts::default()
        };
        let table = format_table(&costs, "cargo xtask bench --smp 8").unwrap();
        assert!(
            table.contains("| 8 vCPUs | difference |")
                && table.contains("| stat | kvm-collector | 120 | 110 | -10 |"),
            "{table}"
        );
    }

    #[test]
    fn the_table_has_the_costs_and_goals() {
        let costs = InstructionCosts {
            kernel: "6.1.0".into(),
            cpus: 1,
            per_exit: [
                ("stat", 100.0),
                ("empty raw, all events", 50.0),
                ("empty classic, exit+entry", 200.0),
            ]
            .into(),
            ..InstructionCosts::default()
        };
        let table = format_table(&costs, "cargo xtask bench").unwrap();
        assert!(table.contains("| stat | kvm-collector | 100 | 0.50 | **missed**: 2.00 of empty raw, all events (goal 1.15) |"), "{table}");
    }
}
