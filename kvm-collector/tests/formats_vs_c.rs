//! The format engine compared with C: expressions with a C compiler, conversions with the C library.

use std::ffi::CString;
use std::fmt::Write as _;
use std::process::Command;

use kvm_collector::tracefs::format::Format;
use proptest::prelude::*;

/// The fields of the record: name, C type, offset, size, signedness.
const FIELDS: [(&str, &str, usize, usize, u8); 8] = [
    ("a", "signed char", 0, 1, 1),
    ("b", "unsigned char", 1, 1, 0),
    ("c", "short", 2, 2, 1),
    ("d", "unsigned short", 4, 2, 0),
    ("e", "int", 8, 4, 1),
    ("f", "unsigned int", 12, 4, 0),
    ("g", "long", 16, 8, 1),
    ("h", "unsigned long", 24, 8, 0),
];

fn parse_print_fmt(print_fmt: &str) -> Format {
    let mut text = "name: x\nID: 1\nformat:\n".to_owned();
    for (name, c_type, offset, size, signed) in FIELDS {
        let _ = writeln!(
            text,
            "\tfield:{c_type} {name};\toffset:{offset};\tsize:{size};\tsigned:{signed};"
        );
    }
    let _ = writeln!(text, "\nprint fmt: {print_fmt}");
    Format::parse("test", &text).expect("a format")
}

fn print(format: &Format, record: &[u8]) -> String {
    let mut out = Vec::new();
    format.print(record, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A xorshift generator with a fixed seed: the expressions are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let count = u64::try_from(choices.len()).unwrap_or(1);
        choices[usize::try_from(self.next() % count).unwrap_or(0)]
    }

    /// Returns an expression with a value that C defines (with -fwrapv): shift counts are in range, and divisors
    /// are positive.
    fn expression(&mut self, depth: u32) -> String {
        if depth == 0 || self.next().is_multiple_of(8) {
            let literals = [
                "0",
                "1",
                "7",
                "127",
                "0x80",
                "255",
                "0xffff",
                "0x7fffffff",
                "0x80000000",
                "4294967295",
                "1UL",
                "0xfUL",
                "3U",
                "-1",
                "'A'",
            ];
            return if self.next().is_multiple_of(3) {
                self.pick(&literals).to_owned()
            } else {
                format!(
                    "REC->{}",
                    FIELDS[usize::try_from(self.next() % 8).unwrap_or(0)].0
                )
            };
        }
        let left = self.expression(depth - 1);
        let right = self.expression(depth - 1);
        match self.next() % 10 {
            0..=3 => format!(
                "({left} {} {right})",
                self.pick(&["+", "-", "*", "&", "|", "^"])
            ),
            4 => format!("({left} {} ({right} & 31))", self.pick(&["<<", ">>"])),
            5 => format!("({left} {} (({right} & 0xff) | 1))", self.pick(&["/", "%"])),
            6 => format!(
                "({left} {} {right})",
                self.pick(&["<", "<=", ">", ">=", "==", "!=", "&&", "||"])
            ),
            7 => format!("({left} ? {right} : {})", self.expression(depth - 1)),
            8 => format!("{} {left}", self.pick(&["!", "~", "-", "+", "- -", "!!"])),
            _ => {
                let types = [
                    "char",
                    "signed char",
                    "unsigned char",
                    "short",
                    "unsigned short",
                    "int",
                    "unsigned",
                    "long",
                    "unsigned long",
                    "long long",
                    "bool",
                ];
                format!("({}){left}", self.pick(&types))
            }
        }
    }

    fn record(&mut self) -> Vec<u8> {
        let edge_values = [
            0,
            1,
            u64::MAX,
            0x80,
            0x7f,
            0x8000_0000,
            i64::MAX.cast_unsigned(),
            i64::MIN.cast_unsigned(),
            0xffff_ffff,
        ];
        let mut word = || {
            if self.next().is_multiple_of(2) {
                self.next()
            } else {
                edge_values[usize::try_from(self.next() % 9).unwrap_or(0)]
            }
        };
        (0..4).flat_map(|_| word().to_ne_bytes()).collect()
    }
}

#[test]
fn expressions_have_the_values_of_the_c_compiler() {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("SKIPPED: there is no C compiler (cc)");
        return;
    }
    let mut random = Random(0x1234_5678_9abc_def1);
    let expressions: Vec<String> = (0..600).map(|_| random.expression(4)).collect();
    let records: Vec<Vec<u8>> = (0..20).map(|_| random.record()).collect();

    let dir = std::env::temp_dir().join(format!("kvm-collector-c-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("x.c"), c_program(&expressions, &records)).expect("a file");
    let compiled = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O0",
            "-w",
            "-fwrapv",
            "-funsigned-char",
            "-o",
        ])
        .args([dir.join("x"), dir.join("x.c")])
        .output()
        .expect("cc runs");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let expected_lines = Command::new(dir.join("x"))
        .output()
        .expect("the program runs")
        .stdout;
    std::fs::remove_dir_all(&dir).expect("removed");

    let expected_lines = String::from_utf8(expected_lines).expect("text");
    let mut expected_lines = expected_lines.lines();
    for expression in &expressions {
        let format = parse_print_fmt(&format!(
            "\"%lld %d %hhu\", (long long)({expression}), {expression}, {expression}"
        ));
        assert_eq!(format.print_warning(), None);
        for record in &records {
            assert_eq!(
                Some(print(&format, record).as_str()),
                expected_lines.next(),
                "{expression} {record:x?}"
            );
        }
    }
    assert_eq!(expected_lines.next(), None);
}

/// Returns a C program that prints each expression for each record.
fn c_program(expressions: &[String], records: &[Vec<u8>]) -> String {
    let mut text =
        "#include <stdio.h>\n#include <stdbool.h>\n#include <string.h>\nstruct rec {".to_owned();
    for (name, c_type, ..) in FIELDS {
        let _ = write!(text, "{c_type} {name}; ");
    }
    text += "};\nstatic const unsigned char records[][32] = {";
    for record in records {
        let _ = write!(
            text,
            "{{{}}},",
            record
                .iter()
                .map(u8::to_string)
                .collect::<Vec<_>>()
                .join(",")
        );
    }
    text += "};\nint main(void) {\nstruct rec r, *REC = &r;\n";
    for expression in expressions {
        let _ = writeln!(
            text,
            "for (int i = 0; i < {}; i++) {{ memcpy(REC, records[i], 32); \
             printf(\"%lld %d %hhu\\n\", (long long)({expression}), (int)({expression}), (unsigned char)({expression})); }}",
            records.len()
        );
    }
    text + "return 0; }\n"
}

/// Prints one 64-bit argument with the C library.
fn libc_number(spec: &str, value: u64) -> String {
    let spec = CString::new(spec).expect("no NUL");
    let mut buffer = [0_u8; 512];
    // SAFETY: snprintf gets the length of the buffer. The format has one conversion, and this ABI passes an integer
    // argument of any width in 64 bits.
    let length = unsafe {
        libc::snprintf(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            spec.as_ptr(),
            value,
        )
    };
    String::from_utf8_lossy(&buffer[..usize::try_from(length).expect("a length")]).into_owned()
}

fn libc_text(spec: &str, text: &str) -> String {
    let (spec, text) = (
        CString::new(spec).expect("no NUL"),
        CString::new(text).expect("no NUL"),
    );
    let mut buffer = [0_u8; 512];
    // SAFETY: snprintf gets the length of the buffer, and the format has one conversion, of a string.
    let length = unsafe {
        libc::snprintf(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            spec.as_ptr(),
            text.as_ptr(),
        )
    };
    String::from_utf8_lossy(&buffer[..usize::try_from(length).expect("a length")]).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn numbers_print_as_the_c_library_prints_them(
        flags in "[-+ #0]{0,3}",
        width in proptest::option::of(0..40_usize),
        precision in proptest::option::of(0..30_usize),
        length in "(hh|h||l|ll|z)",
        letter in "[diuoxXc]",
        value in prop_oneof![any::<u64>(), any::<u8>().prop_map(u64::from), Just(0), any::<i16>().prop_map(|x| i64::from(x).cast_unsigned())],
    ) {
        let is_number = letter != "c";
        // Some combinations print differently in the kernel; `the_kernel_differs_from_the_c_library` checks those.
        // They are changed here rather than rejected, because proptest limits the number of rejected cases.
        let is_zero = value.trailing_zeros() >= 8;
        let precision = precision.filter(|precision| is_number && !flags.contains('0') && !(*precision == 0 && is_zero));
        let allows_alternative_form = !(is_zero || precision.is_some() && letter == "o");
        let flags = if allows_alternative_form { flags } else { flags.replace('#', "") };
        let (flags, length) = if is_number { (flags, length) } else { (flags.replace(['+', ' ', '#', '0'], ""), String::new()) };
        let value = if is_number { value } else { value & 0x5f | 0x20 };
        let width = width.map_or(String::new(), |width| width.to_string());
        let precision = precision.map_or(String::new(), |precision| format!(".{precision}"));
        let spec = format!("%{flags}{width}{precision}{length}{letter}");
        let mut record = vec![0; 32];
        record[24..].copy_from_slice(&value.to_ne_bytes());
        prop_assert_eq!(print(&parse_print_fmt(&format!("\"{spec}\", REC->h")), &record), libc_number(&spec, value), "{} {:#x}", spec, value);
    }

    #[test]
    fn text_prints_as_the_c_library_prints_it(
        minus in "-?",
        width in proptest::option::of(0..30_usize),
        precision in proptest::option::of(0..30_usize),
        text in "[ -!#-\\[\\]-~]{0,20}",
    ) {
        let width = width.map_or(String::new(), |width| width.to_string());
        let precision = precision.map_or(String::new(), |precision| format!(".{precision}"));
        let spec = format!("%{minus}{width}{precision}s");
        let print_fmt = format!("\"{spec}\", \"{}\"", text.replace('"', "\\\""));
        prop_assert_eq!(print(&parse_print_fmt(&print_fmt), &[]), libc_text(&spec, &text));
    }
}

/// Checks the conversions in which the kernel's vsnprintf differs from the C library's, or that only the kernel has.
#[test]
fn the_kernel_differs_from_the_c_library() {
    let mut record = vec![0; 32];
    record[12..16].copy_from_slice(&0x1234_u32.to_ne_bytes());
    record[16..24].copy_from_slice(&(-3_i64).to_ne_bytes());
    let cases = [
        ("\"%#x %#X %#o\", 0, 0, 0", "0x0 0X0 0"),
        ("\"%#o\", 8", "010"),
        ("\"%.0d|%.0u\", 0, 0", "0|0"),
        ("\"%08.4x\", 0x12", "00000012"),
        ("\"%#010x:%08x\", REC->f, REC->f", "0x00001234:00001234"),
        ("\"%*d|%-*d|\", 6, 42, (int)REC->g, 42", "    42|42 |"),
        ("\"%.*s\", 2, \"abcdef\"", "ab"),
        ("\"%%%5%\"", "%%"),
        ("\"%p\", REC->f", "0000000000001234"),
        ("\"%px\", (void *)REC->h", "0000000000000000"),
        ("\"%pS\", (void *)(long)REC->f", "0x0000000000001234"),
        ("\"%s\", __print_symbolic(REC->f, { })", "0x1234"),
        (
            "\"%s\", __print_symbolic(REC->g, { -3, \"minus\" })",
            "minus",
        ),
        (
            "\"%s\", __print_symbolic(5, { 5, \"first\" }, { 5, \"second\" })",
            "first",
        ),
        (
            "\"%s\", __print_flags(REC->f, \"|\", { 4, \"four\" }, { 0x30, \"both\" }, { 9, \"part\" })",
            "four|both|0x1200",
        ),
        (
            "\"%s\", __print_symbolic(2, { 1, \"one\" }, { -1, NULL }, { 2, \"two\" })",
            "0x2",
        ),
        ("\"%s\", __print_flags(0, \"|\", { 4, \"four\" })", ""),
        (
            "\"%5s|%-5s|\", __print_symbolic(1, { 1, \"x\" }), 1 ? \"y\" : \"z\"",
            "    x|y    |",
        ),
        ("\"%zu %zu\", sizeof(u16), sizeof(void *)", "2 8"),
        ("\"#\" \"%s\", \"D\" \"E\"", "#DE"),
    ];
    for (print_fmt, expected) in cases {
        let format = parse_print_fmt(print_fmt);
        assert_eq!(format.print_warning(), None, "{print_fmt}");
        assert_eq!(print(&format, &record), expected, "{print_fmt}");
    }
}

#[test]
fn arrays_and_strings_are_printed() {
    let text = "name: x\nID: 1\nformat:\n\
        \tfield:u8 mac[6];\toffset:0;\tsize:6;\tsigned:0;\n\
        \tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:__rel_loc u16[] ids;\toffset:12;\tsize:4;\tsigned:0;\n\
        \tfield:char comm[8];\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:u32 pair[2];\toffset:24;\tsize:8;\tsigned:0;\n\nprint fmt: ";
    let mut record = vec![0; 40];
    record[..6].copy_from_slice(&[0, 0x11, 0x22, 0xab, 0xcd, 0xef]);
    record[8..12].copy_from_slice(&(32 | 4_u32 << 16).to_ne_bytes());
    record[12..16].copy_from_slice(&(20 | 4_u32 << 16).to_ne_bytes());
    record[16..20].copy_from_slice(b"qemu");
    record[24..28].copy_from_slice(&7_u32.to_ne_bytes());
    record[28..32].copy_from_slice(&9_u32.to_ne_bytes());
    record[32..36].copy_from_slice(b"abc\0");
    record[36..38].copy_from_slice(&0x102_u16.to_ne_bytes());
    let cases = [
        ("\"%s %s\", __get_str(name), REC->comm", "abc qemu"),
        (
            "\"%pM %pm %pMF %pMR\", REC->mac, REC->mac, REC->mac, REC->mac",
            "00:11:22:ab:cd:ef 001122abcdef 00-11-22-ab-cd-ef ef:cd:ab:22:11:00",
        ),
        (
            "\"%*ph %*phC %*phN\", 3, REC->mac, 2, REC->mac, 6, REC->mac",
            "00 11 22 00:11 001122abcdef",
        ),
        (
            "\"%s|%s\", __print_hex(REC->mac, 3), __print_hex_str(REC->mac, sizeof(u32))",
            "00 11 22|001122ab",
        ),
        ("\"%s\", __print_array(REC->pair, 2, 4)", "{0x7,0x9}"),
        (
            "\"%s\", __print_array(__get_rel_dynamic_array(ids), __get_rel_dynamic_array_len(ids) / 2, 2)",
            "{0x102,0x0}",
        ),
        (
            "\"%u %d\", REC->pair[1], ((u16 *)__get_rel_dynamic_array(ids))[0]",
            "9 258",
        ),
        ("\"%u\", REC->pair[2]", "<undefined>"),
        (
            "\"%pI4 %pi4\", REC->mac, &REC->pair",
            "0.17.34.171 007.000.000.000",
        ),
        ("\"%s\", __get_bitmask(name)", "00636261"),
        ("\"%s\", __print_hex(REC->mac, 7)", "<truncated>"),
    ];
    for (print_fmt, expected) in cases {
        let format = Format::parse("test", &format!("{text}{print_fmt}\n")).expect("a format");
        assert_eq!(format.print_warning(), None, "{print_fmt}");
        assert_eq!(print(&format, &record), expected, "{print_fmt}");
    }
}
