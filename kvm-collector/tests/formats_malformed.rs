//! Malformed format files and records: the format engine neither panics nor runs without end.

#[path = "common/format_files.rs"]
mod format_files;

use std::sync::LazyLock;

use format_files::{FormatFile, read_format_files};
use kvm_collector::tracefs::format::Format;
use proptest::collection::vec;
use proptest::prelude::*;

static FORMAT_FILES: LazyLock<Vec<FormatFile>> = LazyLock::new(read_format_files);

/// Parses the format and prints the record in every way.
fn parse_and_print(text: &str, record: &[u8]) {
    let Ok(format) = Format::parse("kvm", text) else {
        return;
    };
    let mut out = Vec::new();
    format.print(record, &mut out);
    format.print_fields(record, &mut out);
    for field in &format.fields {
        field.read_u64(record);
        field.bytes(record);
        format.symbolic_names("", &[(&field.name, u64::MAX)]);
        format.symbolic_name("reason ", &[(&field.name, u64::MAX)]);
    }
    assert!(format.fixed_size() <= 1 << 18);
}

/// Fragments of print formats.
const FRAGMENTS: [&str; 48] = [
    "\"%d %s\", ",
    "\"%*.*s\", ",
    "\"%p %pS %*ph\", ",
    "\"",
    "REC->a",
    "REC->b",
    "REC->c",
    "__print_symbolic(",
    "__print_flags(",
    "__print_hex(",
    "__print_array(",
    "__get_str(b)",
    "__get_dynamic_array(b)",
    "({",
    "})",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "?",
    ":",
    "+",
    "-",
    "*",
    "/",
    "%",
    "<<",
    ">>",
    "&",
    "&&",
    "!",
    "~",
    "=",
    "0",
    "-1",
    "0xffffffffffffffff",
    "(u8)",
    "(char *)",
    "sizeof(u32)",
    "trace_seq_printf(p, \"%d\", ",
    "union kvm_mmu_page_role role",
    "role.word = ",
    "role.level",
    "'x'",
];

fn format_with_print(print_fmt: &str) -> String {
    format!(
        "name: x\nID: 7\nformat:\n\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n\
         \tfield:__data_loc char[] b;\toffset:12;\tsize:4;\tsigned:0;\n\tfield:u16 c[3];\toffset:16;\tsize:6;\tsigned:0;\n\n\
         print fmt: {print_fmt}\n"
    )
}

proptest! {
    #[test]
    fn any_text_is_parsed(text in any::<String>(), record in vec(any::<u8>(), 0..64)) {
        parse_and_print(&text, &record);
    }

    #[test]
    fn any_print_format_is_parsed(text in any::<String>(), record in vec(any::<u8>(), 0..64)) {
        parse_and_print(&format_with_print(&text), &record);
    }

    #[test]
    fn any_c_fragments_are_parsed(fragments in vec(0..FRAGMENTS.len(), 0..30), record in vec(any::<u8>(), 0..64)) {
        let text: String = fragments.iter().map(|fragment| FRAGMENTS[*fragment]).collect();
        parse_and_print(&format_with_print(&text), &record);
    }

    #[test]
    fn a_damaged_format_is_parsed(
        file in any::<prop::sample::Index>(),
        edits in vec((any::<prop::sample::Index>(), 0..3_u8, 0..FRAGMENTS.len()), 1..6),
        record in vec(any::<u8>(), 0..96),
    ) {
        let mut text = file.get(&FORMAT_FILES).text.clone();
        for (at, edit, fragment) in edits {
            let at = at.index(text.len());
            let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(at);
            match edit {
                0 => text.replace_range(at..end, ""),
                1 => text.replace_range(at..end, FRAGMENTS[fragment]),
                _ => text.insert_str(at, FRAGMENTS[fragment]),
            }
        }
        parse_and_print(&text, &record);
    }

    #[test]
    fn any_record_is_printed(file in any::<prop::sample::Index>(), record in vec(any::<u8>(), 0..96)) {
        parse_and_print(&file.get(&FORMAT_FILES).text, &record);
    }
}

#[test]
fn truncated_records_are_marked() {
    for file in FORMAT_FILES.iter() {
        let format = file.parse();
        let mut out = Vec::new();
        for length in 0..format.fixed_size() {
            out.clear();
            format.print(&vec![0xa5; length], &mut out);
            out.clear();
            format.print_fields(&vec![0xa5; length], &mut out);
            let fields_end = format
                .fields
                .iter()
                .map(|field| field.offset + field.size)
                .max()
                .unwrap_or(0);
            if length < fields_end {
                assert!(
                    String::from_utf8_lossy(&out).contains("<truncated>"),
                    "{} {length}",
                    format.name
                );
            }
        }
    }
}

#[test]
fn deep_nesting_is_rejected() {
    let deep = 100_000;
    let chain = |unit: &str| unit.repeat(10_000);
    let texts = [
        format!("\"%d\", {}REC->a{}", "(".repeat(deep), ")".repeat(deep)),
        format!("\"%d\", {}REC->a", "!".repeat(deep)),
        format!("\"%d\", {}", chain("REC->a ? 1 : ")),
        format!("\"%d\", REC->a{}", chain(" + 1")),
        format!(
            "\"%d\", {}",
            "1 || 1 && 1 | 1 ^ 1 & 1 == 1 < 1 << 1 + 1 * (".repeat(4000)
        ),
        format!("\"%d\", REC->c{}", "[0".repeat(deep)),
        format!("\"%d\", REC->c{}", "[0]".repeat(deep / 2)),
        format!("\"%s\", {}", "{".repeat(deep)),
        format!("\"%s\", {}", "({".repeat(deep)),
        format!("\"%s\", {}", "f(".repeat(deep)),
        format!("\"%d\", {}1", "(u8)".repeat(50_000)),
    ];
    for text in texts {
        let format = Format::parse("x", &format_with_print(&text)).expect("a format");
        let warning = format.print_warning().expect("a warning");
        assert!(
            warning.contains("nested too deeply")
                || warning.contains("unexpected")
                || warning.contains("expected"),
            "{warning}"
        );
    }
}

#[test]
fn the_deepest_accepted_nesting_compiles() {
    let text = format!("\"%d\", {}REC->a{}", "(".repeat(48), ")".repeat(48));
    let format = Format::parse("x", &format_with_print(&text)).expect("a format");
    assert_eq!(format.print_warning(), None);
}

/// The largest format files take some ms each. A recording can have thousands of them.
#[test]
fn the_largest_formats_are_parsed_in_bounded_time() {
    let fill = |unit: &str| unit.repeat((250 << 10) / unit.len());
    for arguments in [
        format!("__print_symbolic(REC->a, {})", fill("{ 1, \"HLT\" }, ")),
        format!("__print_flags(REC->a, \"|\", {})", fill("{ 1, \"HLT\" }, ")),
        fill("REC->a, "),
        fill("REC->c[REC->a], "),
        fill("\"text\" "),
        fill("({ int a; a = 1; a; }), "),
    ] {
        let start = std::time::Instant::now();
        let text = format_with_print(&format!("\"%d\", {arguments}"));
        parse_and_print(&text, &[1; 64]);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}

#[test]
fn sizes_are_limited() {
    let huge = format!(
        "\"%99999999d %.99999999d\", REC->a, REC->a{}",
        " ".repeat(1000)
    );
    let mut out = Vec::new();
    Format::parse("x", &format_with_print(&huge))
        .expect("a format")
        .print(&[0; 32], &mut out);
    assert!(out.len() < 10_000);
    assert!(Format::parse("x", &format_with_print(&" ".repeat(1 << 20))).is_err());
    let fields = "\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n".repeat(1000);
    assert!(Format::parse("x", &format!("name: x\nID: 1\n{fields}")).is_err());

    // Each union contains the previous one twice. Without a limit, this would be 2^60 nodes.
    let mut text = "\"%s\", ({ const char *s = trace_seq_buffer_ptr(p); union kvm_mmu_page_role r0; r0.word = REC->a; ".to_owned();
    for n in 1..60 {
        text += &format!(
            "union kvm_mmu_page_role r{n}; r{n}.word = r{0}.level + r{0}.smm; ",
            n - 1
        );
    }
    text += "trace_seq_printf(p, \"%d\", r59.level); s; })";
    assert!(
        Format::parse("x", &format_with_print(&text))
            .expect("a format")
            .print_warning()
            .is_some()
    );
}
