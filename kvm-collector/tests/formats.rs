//! The format engine, with the format files and printed records of real kernels.

#[path = "common/format_files.rs"]
mod format_files;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use format_files::{FormatFile, fixtures_folder, read_format_files};
use kvm_collector::tracefs::{
    format::Format,
    kernel_types::{BitRange, KernelTypeTable, KernelTypes, RunningKernel},
};

fn read_format(kernel: &str, event: &str) -> Format {
    let files = read_format_files();
    let mut formats = files
        .iter()
        .filter(|file| file.kernel == kernel)
        .map(FormatFile::parse);
    formats
        .find(|format| format.name == event)
        .unwrap_or_else(|| panic!("{kernel} has no {event}"))
}

/// Events of arm64 that record the address of a string in the kernel. The printed text is not in the record.
const EVENTS_WITH_KERNEL_STRINGS: [&str; 4] = [
    "kvm_arm_set_dreg32",
    "kvm_arm_set_regset",
    "kvm_sys_access",
    "trap_reg",
];

/// Events with values that only the kernel's types have, and a part of the reason that is reported without
/// them.
const EVENTS_WITH_KERNEL_TYPES: [(&str, &str); 3] = [
    ("kvm_apicv_inhibit_changed", "uses APICV_INHIBIT_REASON_"),
    ("kvm_track_tsc", "uses VDSO_CLOCKMODE_"),
    ("kvm_update_master_clock", "uses VDSO_CLOCKMODE_"),
];

/// Returns the warnings of all formats, each with the name of the event.
fn print_warnings(parse: impl Fn(&FormatFile) -> Format) -> Vec<(String, String)> {
    let files = read_format_files();
    assert!(files.len() > 400, "only {} formats", files.len());
    let formats = files.iter().map(parse);
    let warning = |it: Format| Some((it.name.clone(), it.print_warning()?.to_owned()));
    formats.filter_map(warning).collect()
}

fn has_kernel_string((event, warning): &(String, String)) -> bool {
    EVENTS_WITH_KERNEL_STRINGS.contains(&event.as_str())
        && warning.contains("prints text that is not in the record")
}

#[test]
fn only_events_with_kernel_strings_are_not_printed_like_the_kernel() {
    let mut warnings = print_warnings(FormatFile::parse);
    warnings.retain(|it| !has_kernel_string(it));
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[test]
fn without_the_types_of_the_kernel_no_name_is_guessed() {
    let mut warnings = print_warnings(|file| file.parse_with_types(Arc::default()));
    warnings.retain(|it| !has_kernel_string(it));
    let explained = |(event, warning): &(String, String)| {
        let mut known = EVENTS_WITH_KERNEL_TYPES.iter();
        known.any(|it| it.0 == event && warning.contains(it.1) && warning.contains("not known"))
    };
    assert!(warnings.iter().all(explained), "{warnings:#?}");
    let mut events: Vec<_> = warnings.into_iter().map(|it| it.0).collect();
    events.sort();
    events.dedup();
    assert_eq!(events, EVENTS_WITH_KERNEL_TYPES.map(|it| it.0));
}

/// The format of an event of Linux 6.18, with the table of access bits of Linux 7.2.
fn mmu_format_of_7_2(types: KernelTypeTable) -> Format {
    let files = read_format_files();
    let mut files = files.iter().filter(|it| it.kernel == "6.18-x86_64");
    let file = files.find(|it| it.text.starts_with("name: kvm_mmu_get_page"));
    let text = &file.expect("a format").text;
    let old_names = r#""---", "--x", "w--", "w-x", "-u-", "-ux", "wu-", "wux""#;
    let names = r#""----", "r---", "-w--", "rw--", "--u-", "r-u-", "-wu-", "rwu-", "---x", "r--x", "-w-x", "rw-x", "--ux", "r-ux", "-wux", "rwux""#;
    assert!(text.contains(old_names));
    let text = text.replace(old_names, names);
    Format::parse_with_types("kvmmmu", &text, Arc::new(types)).expect("a format")
}

#[test]
fn a_union_is_printed_with_the_layout_of_its_kernel() {
    let types = KernelTypeTable::from_text(include_str!("fixtures/formats/7.2-x86_64/types.txt"));
    let format = mmu_format_of_7_2(types.clone());
    assert_eq!(format.print_warning(), None);
    let mut printed = Vec::new();
    // Level 4, direct, rwux, and efer_nx.
    let role = [("role", 0x2f84), ("created", 1)];
    format.print(&record(&format, &role), &mut printed);
    let expected = "sp gen 0 gfn 0 l4 8-byte q0 direct rwux nxe ad root 0 sync new";
    assert_eq!(
        String::from_utf8_lossy(&printed).replace("\0 ", " "),
        expected
    );
    assert_eq!(format.used_types(), Some(&types));
}

#[test]
fn without_the_layout_of_a_union_its_fields_are_printed() {
    let format = mmu_format_of_7_2(KernelTypeTable::default());
    let warning = format.print_warning().expect("a warning");
    assert!(
        warning.ends_with(
            "its print format uses union kvm_mmu_page_role.level, whose layout in this kernel is not known"
        ),
        "{warning}"
    );
    let mut printed = Vec::new();
    format.print(&record(&format, &[("role", 0x2f84)]), &mut printed);
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(printed.contains("role=12164 "), "{printed}");
}

/// Counts what is asked.
#[derive(Debug, Default)]
struct CountingTypes(AtomicUsize);

impl KernelTypes for CountingTypes {
    fn member_bits(&self, _: &str, _: &str) -> Option<BitRange> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn enumerator(&self, _: &str) -> Option<i64> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Commands that do not print events do not wait for the kernel's BTF to be read.
#[test]
fn types_are_looked_up_only_to_print_events_that_need_them() {
    for (event, needs_types) in [("kvm_exit", false), ("kvm_track_tsc", true)] {
        let files = read_format_files();
        let mut files = files.iter().filter(|it| it.kernel == "6.18-x86_64");
        let name = format!("name: {event}\n");
        let text = &files
            .find(|it| it.text.starts_with(&name))
            .expect("a format")
            .text;
        let types = Arc::new(CountingTypes::default());
        let format = Format::parse_with_types("kvm", text, types.clone()).expect("a format");
        assert_eq!(types.0.load(Ordering::Relaxed), 0, "{event}");
        format.print(&[0; 72], &mut Vec::new());
        let is_asked = types.0.load(Ordering::Relaxed) > 0;
        assert_eq!(is_asked, needs_types, "{event}");
    }
}

/// The members must be those of one layout, not of two.
#[test]
fn an_incomplete_layout_is_not_completed_with_that_of_another_kernel() {
    let types = KernelTypeTable::from_text("bits\tunion kvm_mmu_page_role\tword\t0\t32\n");
    let files = read_format_files();
    let mut files = files.iter().filter(|it| it.kernel == "6.18-x86_64");
    let file = files.find(|it| it.text.starts_with("name: kvm_mmu_get_page"));
    let text = &file.expect("a format").text;
    let format = Format::parse_with_types("kvmmmu", text, Arc::new(types)).expect("a format");
    assert!(format.print_warning().is_some());
}

/// Each line of `records/KERNEL.tsv` has an event, a raw record in hex, and the text that the kernel printed for it.
#[test]
fn records_print_as_the_kernel_printed_them() {
    for file in std::fs::read_dir(fixtures_folder().join("records")).expect("records") {
        let path = file.expect("an entry").path();
        let kernel = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let formats: HashMap<_, _> = read_format_files()
            .iter()
            .filter(|file| file.kernel == kernel)
            .map(FormatFile::parse)
            .map(|format| (format.name.clone(), format))
            .collect();
        let text = std::fs::read_to_string(&path).expect("records");
        let mut checked = 0;
        for line in text.lines() {
            let [event, record, expected] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
                panic!("malformed line: {line}")
            };
            let mut printed = Vec::new();
            formats[event].print(&parse_hex(record), &mut printed);
            assert_eq!(
                String::from_utf8_lossy(&printed),
                expected,
                "{kernel} {event} {record}"
            );
            checked += 1;
        }
        assert!(checked > 40, "only {checked} records of {kernel}");
    }
}

fn parse_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("a hex digit"))
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("a byte"))
        .collect()
}

#[test]
fn symbolic_names_are_found() {
    let exit = read_format("6.18-x86_64", "kvm_exit");
    let name =
        |isa, reason| exit.symbolic_name("reason ", &[("isa", isa), ("exit_reason", reason)]);
    assert_eq!(name(2, 0x400).as_deref(), Some("npf"));
    assert_eq!(name(1, 48).as_deref(), Some("EPT_VIOLATION"));
    assert_eq!(name(1, 0x8000_0021).as_deref(), Some("INVALID_STATE"));
    assert_eq!(name(2, 0x8000_0001).as_deref(), Some("vmgexit_mmio_read"));
    assert_eq!(name(1, 0x7777), None);
    assert_eq!(exit.symbolic_name("rip 0x", &[]), None);
    assert_eq!(exit.symbolic_name("nowhere ", &[]), None);
    assert_eq!(exit.symbolic_name("", &[]), None);

    let vmx = exit.symbolic_names("reason ", &[("isa", 1)]);
    assert!(vmx.len() > 60);
    assert_eq!(vmx[0], (0, "EXCEPTION_NMI".to_owned()));
    let svm = exit.symbolic_names("reason ", &[("isa", 2)]);
    assert!(svm.contains(&(0x78, "hlt".to_owned())));
    assert!(exit.symbolic_names("vcpu ", &[]).is_empty());

    let user = read_format("6.12-x86_64", "kvm_userspace_exit");
    assert_eq!(
        user.symbolic_name("reason ", &[("reason", 2)]).as_deref(),
        Some("KVM_EXIT_IO")
    );
    assert_eq!(
        user.symbolic_name("reason ", &[("errno", (-4_i64).cast_unsigned())])
            .as_deref(),
        Some("restart")
    );
    let arm = read_format("6.12-arm64", "kvm_exit");
    assert_eq!(
        arm.symbolic_name("", &[("ret", 2)]).as_deref(),
        Some("TRAP")
    );
    assert_eq!(
        arm.symbolic_name("(", &[("esr_ec", 0x24)]).as_deref(),
        Some("DABT_LOW")
    );
    let mode = read_format("6.1-x86_64", "kvm_fpu");
    assert_eq!(
        mode.symbolic_name("", &[("load", 1)]).as_deref(),
        Some("load")
    );
}

/// An event, the values of its fields, and the expected text.
type Case = (&'static str, &'static [(&'static str, u64)], &'static str);

/// Prints field values that recorded events rarely have.
#[test]
fn rare_field_values_are_printed() {
    let cases: [Case; 12] = [
        (
            "kvm_exit",
            &[
                ("isa", 1),
                ("exit_reason", 0x8000_0021),
                ("guest_rip", 0xfff0),
                ("info1", 5),
                ("vcpu_id", 3),
            ],
            "vcpu 3 reason INVALID_STATE FAILED_VMENTRY rip 0xfff0 info1 0x0000000000000005 info2 0x0000000000000000 \
             intr_info 0x00000000 error_code 0x00000000 requests 0x0000000000000000",
        ),
        (
            "kvm_exit",
            &[("isa", 2), ("exit_reason", 0x1234)],
            "vcpu 0 reason 0x1234 rip 0x0 info1 0x0000000000000000 info2 0x0000000000000000 \
             intr_info 0x00000000 error_code 0x00000000 requests 0x0000000000000000",
        ),
        // The kernel's table has -1, which does not equal this u32. So the kernel, too, prints the number.
        (
            "kvm_exit",
            &[("isa", 2), ("exit_reason", 0xffff_ffff)],
            "vcpu 0 reason 0xffffffff rip 0x0 info1 0x0000000000000000 info2 0x0000000000000000 \
             intr_info 0x00000000 error_code 0x00000000 requests 0x0000000000000000",
        ),
        (
            "kvm_inj_exception",
            &[
                ("exception", 14),
                ("has_error", 1),
                ("error_code", 0x1f),
                ("reinjected", 1),
            ],
            "#PF (0x1f) [reinjected]",
        ),
        ("kvm_inj_exception", &[("exception", 6)], "#UD"),
        (
            "kvm_msi_set_irq",
            &[("address", 0xfee0_100c), ("data", 0xc0fd)],
            "dst 1 vec 253 (Fixed|logical|level|rh)",
        ),
        (
            "kvm_wait_lapic_expire",
            &[("vcpu_id", 1), ("delta", u64::MAX - 4)],
            "vcpu 1: delta -5 (early)",
        ),
        (
            "kvm_mmu_sync_page",
            &[
                ("mmu_valid_gen", 2),
                ("gfn", 0x1f),
                ("role", 0x0001_1d94),
                ("root_count", 1),
                ("unsync", 1),
            ],
            "sp gen 2 gfn 1f l4 4-byte q0 direct -ux invalid nxe !ad root 1 unsync",
        ),
        (
            "kvm_mmu_get_page",
            &[("role", 0x0000_0122), ("created", 1)],
            "sp gen 0 gfn 0 l2 8-byte q1 --x !nxe ad root 0 sync new",
        ),
        (
            "kvm_mmu_pagetable_walk",
            &[("pferr", 0x8017)],
            "addr 0 pferr 8017 P|W|U|SGX|F",
        ),
        (
            "kvm_mmu_walker_error",
            &[("pferr", 0x102)],
            "pferr 102 W|0x100",
        ),
        (
            "kvm_age_hva",
            &[("start", 0x1000), ("end", 0)],
            "mmu notifier age hva: 0x00000000001000 -- 0x00000000000000",
        ),
    ];
    for (event, fields, expected) in cases {
        let format = read_format("6.18-x86_64", event);
        let mut printed = Vec::new();
        format.print(&record(&format, fields), &mut printed);
        let printed = String::from_utf8_lossy(&printed)
            .trim_end_matches('\0')
            .replace("\0 ", " ");
        assert_eq!(printed, expected, "{event} {fields:?}");
    }
}

fn record(format: &Format, fields: &[(&str, u64)]) -> Vec<u8> {
    let mut record = vec![0; format.fixed_size()];
    for (name, value) in fields {
        let field = format
            .field(name)
            .unwrap_or_else(|| panic!("no field {name}"));
        record[field.offset..field.offset + field.size]
            .copy_from_slice(&value.to_ne_bytes()[..field.size]);
    }
    record
}

#[test]
fn fields_behind_the_end_of_a_record_are_marked() {
    let exit = read_format("6.18-x86_64", "kvm_exit");
    let mut printed = Vec::new();
    exit.print(
        &record(&exit, &[("isa", 2), ("exit_reason", 0x78)])[..32],
        &mut printed,
    );
    assert_eq!(
        String::from_utf8_lossy(&printed),
        "vcpu <truncated> reason hlt rip 0x0 info1 0x<truncated> info2 0x<truncated> \
         intr_info 0x<truncated> error_code 0x<truncated> requests 0x<truncated>"
    );
}

#[test]
fn fields_have_offset_size_and_sign() {
    let exit = read_format("6.18-x86_64", "kvm_exit");
    assert_eq!((exit.fixed_size(), exit.has_dynamic_fields()), (72, false));
    let reason = exit.field("exit_reason").expect("a field");
    assert_eq!(
        (
            reason.offset,
            reason.size,
            reason.signed,
            reason.c_type.as_str()
        ),
        (8, 4, false, "unsigned int")
    );
    assert_eq!(
        exit.field("common_pid")
            .and_then(|pid| pid.read_i64(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
        Some(-1)
    );
    assert_eq!(exit.field("nothing"), None);
    let mut printed = Vec::new();
    exit.print_fields(
        &record(&exit, &[("guest_rip", 0xfff0), ("isa", 2)]),
        &mut printed,
    );
    let expected = "exit_reason=0(read_cr0) guest_rip=0xfff0 isa=2 info1=0x0 info2=0x0 intr_info=0 error_code=0 vcpu_id=0 requests=0x0";
    assert_eq!(String::from_utf8_lossy(&printed), expected);
}

fn format_with_print(print_fmt: &str) -> Format {
    let text = format!(
        "name: x\nID: 1\nformat:\n\tfield:u32 a;\toffset:0;\tsize:4;\tsigned:0;\n\nprint fmt: {print_fmt}\n"
    );
    Format::parse("test", &text).expect("a format")
}

#[test]
fn unsupported_print_formats_print_the_fields() {
    let cases = [
        ("\"%d\", some_function(REC->a)", "calls some_function()"),
        (
            "\"%d\", SOME_ENUM",
            "uses SOME_ENUM, whose value in this kernel is not known",
        ),
        ("\"%s\", REC->a", "prints text that is not in the record"),
        (
            "\"%s\", REC->a ?: \"UNKN\"",
            "prints text that is not in the record",
        ),
        ("\"%d\", REC->b", "has no field b"),
        ("\"%d %d\", REC->a", "more conversions than arguments"),
        ("\"%d\" REC->a", "unexpected REC"),
        ("\"%q\", REC->a", "unknown conversion %q"),
        ("", "no format string"),
    ];
    for (print_fmt, reason) in cases {
        let format = format_with_print(print_fmt);
        let warning = format.print_warning().expect("a warning");
        assert!(warning.contains(reason), "{print_fmt}: {warning}");
        let mut printed = Vec::new();
        format.print(&[7, 0, 0, 0], &mut printed);
        assert_eq!(printed, b"a=7");
    }
}

#[test]
fn c_operations_are_computed_or_marked() {
    let cases = [
        ("\"%d\", 5 / (int)REC->a", "<undefined>"),
        ("\"%d\", 5 % REC->a", "<undefined>"),
        (
            "\"%d\", (-2147483647 - 1) / ((int)REC->a - 1)",
            "<undefined>",
        ),
        ("\"%d\", 1 << (REC->a + 33)", "2"),
        // GNU's conditional without its second operand.
        ("\"%d\", REC->a ?: 7", "7"),
        ("\"%d\", REC->a + 3 ?: 7", "3"),
        ("\"%d\", REC->a ?: REC->a ?: 5", "5"),
        ("\"%ld\", REC->a + 1 ?: 1L", "1"),
        ("\"%s\", (char *)0 ?: \"UNKN\"", "UNKN"),
        ("\"%d\", 2147483647 + ((int)REC->a + 1)", "-2147483648"),
    ];
    for (print_fmt, expected) in cases {
        let mut printed = Vec::new();
        format_with_print(print_fmt).print(&[0; 4], &mut printed);
        assert_eq!(String::from_utf8_lossy(&printed), expected, "{print_fmt}");
    }
}

/// Parses the formats of all events of this host, not only KVM's. Each print format compiles or has a warning.
#[test]
fn all_formats_of_this_host_parse() {
    let Ok(systems) = std::fs::read_dir("/sys/kernel/tracing/events") else {
        println!("SKIPPED: tracefs is not mounted or not readable");
        return;
    };
    let types = Arc::new(RunningKernel);
    let has_btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    let (mut parsed, mut warnings) = (0, 0);
    for system in systems.flatten() {
        let name = system.file_name().to_string_lossy().into_owned();
        for event in std::fs::read_dir(system.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            // The event may be gone with its module, and some files are not readable.
            let Ok(text) = std::fs::read_to_string(event.path().join("format")) else {
                continue;
            };
            let format = Format::parse_with_types(&name, &text, types.clone())
                .unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
            format.print(&vec![0x41; format.fixed_size()], &mut Vec::new());
            parsed += 1;
            if let Some(warning) = format.print_warning() {
                // This kernel's BTF has the enumerators and layouts that KVM's events use.
                let is_kvm = name == "kvm" || name == "kvmmmu";
                assert!(
                    !has_btf || !is_kvm || !warning.contains("not known"),
                    "{warning}"
                );
                warnings += 1;
                println!("{warning}");
            }
        }
    }
    println!("{parsed} formats, {warnings} of them print as name=value");
}
