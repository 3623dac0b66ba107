//! Results in `docs/overhead.md`, between marks, and as JSON: nobody types figures.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    budgets::Budget,
    counted::Counted,
    watchers::{ALL, Watcher},
};
use crate::workspace;

/// Puts text between the marks of a name in `docs/overhead.md`.
pub(crate) fn write(name: &str, text: &str) -> Result<()> {
    let path = workspace::root().join("docs/overhead.md");
    let document =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let document = put(&document, name, text)?;
    fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))
}

fn put(document: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), "<!-- bench end -->");
    let missing = || format!("docs/overhead.md has no marks `{}`", begin.trim_end());
    let (before, rest) = document.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(end).with_context(missing)?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// Today, as `date` has it.
pub(crate) fn today() -> Result<String> {
    let date = crate::process::read(std::process::Command::new("date").arg("-u").arg("+%F"))?;
    Ok(date.trim().to_owned())
}

/// The table of what was counted.
pub(crate) fn table(counted: &Counted, command: &str) -> Result<String> {
    let mut text = format!(
        "Linux {}, {} CPU{}, {}; kvm-collector {}; {}. `{command}`\n\n",
        counted.kernel,
        counted.cpus,
        if counted.cpus == 1 { "" } else { "s" },
        counted.versions.join(", "),
        env!("CARGO_PKG_VERSION"),
        today()?,
    );
    if counted.cpus == 1 {
        of_one_cpu(counted, &mut text)?;
    } else {
        of_cpus(counted, &mut text)?;
    }
    Ok(text)
}

/// What was measured of whom, as the tables have them in turn.
fn measured(counted: &Counted) -> impl Iterator<Item = (&'static Watcher, f64)> {
    let cost = |watcher: &'static Watcher| Some((watcher, *counted.per_exit.get(watcher.name)?));
    ALL.iter().filter_map(cost)
}

/// What each costs, and whether it should.
fn of_one_cpu(counted: &Counted, text: &mut String) -> Result<()> {
    let pair = counted.per_exit.get("empty classic pair");
    let budgets = Budget::all()?;
    text.push_str("| who watches | | instructions an exit | of the empty classic pair | goals |\n|---|---|---:|---:|---|\n");
    for (watcher, cost) in measured(counted) {
        let ratio = pair.map_or(String::new(), |pair| format!("{:.2}", cost / pair));
        let goals = budgets.iter().filter(|it| it.watcher == watcher.name);
        let goals: Vec<_> = goals
            .flat_map(|it| &it.goals)
            .filter_map(|goal| {
                let (ratio, met) = goal.met(watcher.name, counted)?;
                let word = if met { "" } else { "**missed**: " };
                Some(format!(
                    "{word}{ratio:.2} of {} (goal {:.2})",
                    goal.of, goal.ratio
                ))
            })
            .collect();
        writeln!(
            text,
            "| {} | {} | {cost:.0} | {ratio} | {} |",
            watcher.name,
            watcher.group.name(),
            goals.join("; ")
        )?;
    }
    Ok(())
}

/// Whether an exit of one vCPU costs more when others exit at the same time.
fn of_cpus(counted: &Counted, text: &mut String) -> Result<()> {
    writeln!(
        text,
        "| who watches | | instructions an exit, one vCPU | {} vCPUs | more |\n|---|---|---:|---:|---:|",
        counted.cpus
    )?;
    for (watcher, cost) in measured(counted) {
        let one = counted.one_vcpu.get(watcher.name);
        let one = one.with_context(|| format!("`{}` was not measured", watcher.name))?;
        writeln!(
            text,
            "| {} | {} | {one:.0} | {cost:.0} | {:+.0} |",
            watcher.name,
            watcher.group.name(),
            cost.round() - one.round()
        )?;
    }
    Ok(())
}

/// The same for programs.
pub(crate) fn to_json(counted: &[Counted], command: &str, path: &Path) -> Result<()> {
    let runs: Vec<Value> = counted
        .iter()
        .map(|it| {
            let watchers = measured(it).map(|(watcher, cost)| {
                json!({
                    "watcher": watcher.name,
                    "group": watcher.group.name(),
                    "instructions_per_exit": cost,
                    "instructions_per_exit_of_one_vcpu": it.one_vcpu.get(watcher.name),
                })
            });
            json!({
                "kernel": it.kernel,
                "cpus": it.cpus,
                "versions": it.versions,
                "watchers": watchers.collect::<Vec<_>>(),
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
    fn text_between_marks_is_replaced() {
        let document = "a\n<!-- bench x -->\nold\n<!-- bench end -->\nb\n<!-- bench y -->\n<!-- bench end -->\n";
        let once = put(document, "x", "new\n").unwrap();
        assert_eq!(once, document.replace("old", "new"));
        assert_eq!(put(&once, "x", "new\n").unwrap(), once);
        assert!(
            put(&once, "y", "1\n")
                .unwrap()
                .ends_with("<!-- bench y -->\n1\n<!-- bench end -->\n")
        );
        assert!(put(document, "z", "").is_err());
    }

    #[test]
    fn a_table_of_cpus_compares_them_with_one() {
        let counted = Counted {
            cpus: 8,
            per_exit: [("stat", 110.0)].into(),
            one_vcpu: [("stat", 120.0)].into(),
            ..Counted::default()
        };
        let table = table(&counted, "cargo xtask bench --smp 8").unwrap();
        assert!(
            table.contains("| 8 vCPUs | more |")
                && table.contains("| stat | kvm-collector | 120 | 110 | -10 |"),
            "{table}"
        );
    }

    #[test]
    fn a_table_has_what_was_measured() {
        let counted = Counted {
            kernel: "6.1.0".into(),
            cpus: 1,
            per_exit: [
                ("stat", 100.0),
                ("empty raw, all events", 50.0),
                ("empty classic pair", 200.0),
            ]
            .into(),
            ..Counted::default()
        };
        let table = table(&counted, "cargo xtask bench").unwrap();
        assert!(table.contains("| stat | kvm-collector | 100 | 0.50 | **missed**: 2.00 of empty raw, all events (goal 1.15) |"), "{table}");
    }
}
