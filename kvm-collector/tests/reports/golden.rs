//! Compares reports with stored ones.

use std::{fs, path::Path};

use libtest_mimic::{Failed, Trial};

use crate::recording_folder::stdout;

/// Widths of the terminal, in characters.
const WIDTHS: [usize; 3] = [80, 120, 200];

/// Reports in text: the name of the files, and the command.
const TEXT: [(&str, &str); 17] = [
    ("exits", "exits -i kvm.data"),
    (
        "exits-by-vcpu",
        "exits -i kvm.data --by vm,vcpu,reason --causes 2 --top 4",
    ),
    ("exits-histogram", "exits -i kvm.data --hist --top 1"),
    (
        "exits-advice",
        "exits -i kvm.data --by vm,reason --advice --top 3",
    ),
    ("exits-intervals", "exits -i kvm.data -I 2s --top 2"),
    ("exits-slow", "exits -i kvm.data --slow 420us --top 1"),
    (
        "exits-kind",
        "exits -i kvm.data --kind pio --percentiles 90,99.9",
    ),
    ("exits-diff", "exits -i kvm.data --baseline before.json"),
    ("stat", "stat -i lossy.data --per-vm"),
    ("stat-intervals", "stat -i kvm.data -I 3s --zeros"),
    (
        "exits-several",
        "exits -i kvm.data lossy.data --by vm,reason --top 3",
    ),
    ("stat-several", "stat -i kvm.data lossy.data -e kvm_exit"),
    ("top-once", "top -i kvm.data --once"),
    ("top-once-pio", "top -i kvm.data --once --kind pio"),
    (
        "top-once-range",
        "top -i kvm.data --once --from 1s --until 3s",
    ),
    ("list", "list -i kvm.data"),
    ("list-kinds", "list kinds -i kvm.data"),
];

/// The only report that may be wider than the terminal: the user selects its columns.
const WIDE: (&str, &str) = (
    "exits-columns",
    "exits -i kvm.data --columns count,count%,time,time%,cost%,kernel,vmm,halted,idle,min,mean,max --top 2",
);

/// Reports for programs, whose width is not limited.
const DATA: [(&str, &str); 6] = [
    (
        "exits.json",
        "exits -i kvm.data --json --by vm,reason --causes 1 --top 2",
    ),
    (
        "exits.csv",
        "exits -i kvm.data --csv --by vm,reason -I 3s --top 3",
    ),
    (
        "exits-diff.csv",
        "exits -i kvm.data --csv --baseline before.json",
    ),
    ("stat.json", "stat -i lossy.data --json --per-vm"),
    ("stat.csv", "stat -i kvm.data --csv --per-vm -I 3s"),
    ("trace-per-exit.txt", "trace -i kvm.data --per-exit -d 8ms"),
];

pub(crate) fn tests() -> Vec<Trial> {
    let text = TEXT.iter().flat_map(|(name, command)| {
        WIDTHS.iter().map(move |width| {
            let file = format!("{name}-{width}.txt");
            Trial::test(format!("report_{name}_in_{width}_columns"), move || {
                let written = compare(command, Some(*width), &file)?;
                check_width(&written, *width)
            })
        })
    });
    let data = DATA.iter().map(|(file, command)| {
        Trial::test(format!("report_{file}"), move || {
            compare(command, None, file).map(drop)
        })
    });
    let wide = Trial::test("report_with_requested_columns", || {
        let (name, command) = WIDE;
        let written = compare(command, Some(80), &format!("{name}-80.txt"))?;
        match check_width(&written, 80) {
            Ok(()) => Err("the requested columns are not all shown".into()),
            Err(_) => Ok(()),
        }
    });
    text.chain(data).chain([wide]).collect()
}

/// Compares the output of a command with a file. Returns it.
fn compare(command: &str, columns: Option<usize>, file: &str) -> Result<String, Failed> {
    let args: Vec<_> = command.split(' ').collect();
    let written = stdout(&args, columns)?;
    // The version changes with each release.
    let version = format!("\"tool_version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let written = written.replace(&version, "\"tool_version\":\"VERSION\"");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/reports")
        .join(file);
    if std::env::var_os("KVM_COLLECTOR_WRITE_REPORTS").is_some() {
        fs::write(&path, &written)?;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if written == expected {
        return Ok(written);
    }
    Err(format!(
        "{} differs (KVM_COLLECTOR_WRITE_REPORTS=1 rewrites it):\n{written}",
        path.display()
    )
    .into())
}

/// Fails if a line is longer than the terminal is wide.
fn check_width(text: &str, width: usize) -> Result<(), Failed> {
    for line in text.lines() {
        if line.chars().count() > width {
            return Err(format!("longer than {width}: {line}").into());
        }
    }
    Ok(())
}
