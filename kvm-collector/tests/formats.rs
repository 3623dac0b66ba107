//! The format engine, with the format files and printed records of real kernels.

#[path = "common/format_files.rs"]
mod format_files;

use std::collections::HashMap;

use format_files::{FormatFile, fixtures_folder, read_format_files};
use kvm_collector::tracefs::format::Format;

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

#[test]
fn every_format_compiles() {
    let files = read_format_files();
    assert!(files.len() > 300, "only {} formats", files.len());
    let formats: Vec<_> = files.iter().map(FormatFile::parse).collect();
    let checked = formats
        .iter()
        .filter(|format| !EVENTS_WITH_KERNEL_STRINGS.contains(&format.name.as_str()));
    let warnings: Vec<_> = checked.filter_map(Format::print_warning).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
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
        ("\"%d\", SOME_ENUM", "uses SOME_ENUM"),
        ("\"%s\", REC->a", "prints text that is not in the record"),
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
fn undefined_c_operations_are_marked() {
    let cases = [
        ("\"%d\", 5 / (int)REC->a", "<undefined>"),
        ("\"%d\", 5 % REC->a", "<undefined>"),
        (
            "\"%d\", (-2147483647 - 1) / ((int)REC->a - 1)",
            "<undefined>",
        ),
        ("\"%d\", 1 << (REC->a + 33)", "2"),
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
            let format = Format::parse(&name, &text)
                .unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
            format.print(&vec![0x41; format.fixed_size()], &mut Vec::new());
            parsed += 1;
            if let Some(warning) = format.print_warning() {
                warnings += 1;
                println!("{warning}");
            }
        }
    }
    println!("{parsed} formats, {warnings} of them print as name=value");
}
