//! `cargo xtask fuzz`: runs the fuzz targets with libFuzzer, guided by coverage.
//!
//! The flags are those of `cargo fuzz run --sanitizer none`, which stable Rust accepts. Inputs that reach new code are kept in
//! `target/fuzz/corpus`, so that the next run starts with them.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    cargo,
    process::{self, info},
    workspace,
};

/// Let libFuzzer see which code an input reaches.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg fuzzing";

/// The last numbers of libFuzzer.
const RUNS: &str = "stat::number_of_executed_units:";

/// Run the fuzz targets, or some of them, with libFuzzer
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Names of targets, as in fuzz/fuzz_targets [default: all]
    targets: Vec<String>,

    /// Time per target, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let folder = workspace::root().join("target/fuzz");
    let corpus = folder.join("corpus");
    info!("writing the seeds");
    process::run(
        cargo::cargo()
            .args([
                "test",
                "--quiet",
                "--package",
                "kvm-collector",
                "--test",
                "fuzz",
            ])
            .env("KVM_COLLECTOR_FUZZ_CORPUS", &corpus),
    )?;
    info!("building the targets");
    let programs = cargo::build(
        cargo::cargo()
            .args([
                "build",
                "--release",
                "--bins",
                "--manifest-path",
                "fuzz/Cargo.toml",
            ])
            // With a target, the flags do not apply to build scripts.
            .arg("--target")
            .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
            .arg("--target-dir")
            .arg(folder.join("build"))
            .env("RUSTFLAGS", RUSTFLAGS),
    )?;
    for target in &args.targets {
        if !programs.iter().any(|it| it.name == *target) {
            let names: Vec<_> = programs.iter().map(|it| it.name.as_str()).collect();
            bail!(
                "there is no target `{target}`: the targets are {}",
                names.join(", ")
            );
        }
    }
    let is_selected =
        |it: &cargo::Executable| args.targets.is_empty() || args.targets.contains(&it.name);
    let mut waiting: VecDeque<_> = programs.into_iter().filter(is_selected).collect();
    let mut running = Vec::new();
    let mut failed = Vec::new();
    let parallel = thread::available_parallelism()?.get();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < parallel
            && let Some(program) = waiting.pop_front()
        {
            let child = start(&program, &folder, args.seconds)?;
            running.push((program.name, child));
        }
        let (name, child) = running.remove(0);
        if !report(&name, child, &folder)? {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!(
            "inputs in {} fail in: {}",
            folder.join("failures").display(),
            failed.join(", ")
        );
    }
    Ok(())
}

/// Starts a target. Its messages go to a log.
fn start(program: &cargo::Executable, folder: &Path, seconds: u64) -> Result<Child> {
    let name = &program.name;
    let corpus = folder.join("corpus").join(name);
    let failures = folder.join("failures").join(name);
    fs::create_dir_all(&failures)?;
    info!("{name}: running for {seconds} s");
    Command::new(&program.path)
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .args([
            "-max_len=65536",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ])
        .stderr(fs::File::create(log(folder, name))?)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.path.display()))
}

/// Waits for a target and prints how many inputs it ran. Returns whether all succeeded.
fn report(name: &str, mut child: Child, folder: &Path) -> Result<bool> {
    let status = child.wait()?;
    let log = log(folder, name);
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let runs = text.lines().find_map(|line| line.strip_prefix(RUNS));
    let runs = runs.map_or("an unknown number of", str::trim);
    if status.success() {
        println!("{name}: {runs} inputs, none failed");
    } else {
        println!("{name}: failed after {runs} inputs, see {}", log.display());
    }
    Ok(status.success())
}

fn log(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.log"))
}
