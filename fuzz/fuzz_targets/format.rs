//! Fuzz target for the parser of tracefs format files and the printer of records:
//! `cargo +nightly fuzz run format`.
//!
//! The input is the text of a format file, a NUL byte and a record. Use the files in
//! kvm-collector/tests/fixtures/formats as seeds.
#![no_main]

use kvm_collector::tracefs::format::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else {
        return;
    };
    let record = data.get(end + 1..).unwrap_or(&[]);
    let Ok(format) = Format::parse("kvm", text) else {
        return;
    };
    let mut out = Vec::new();
    format.print(record, &mut out);
    format.print_fields(record, &mut out);
    for field in format.fields.iter().take(4) {
        let _ = format.symbolic_name("reason ", &[(&field.name, 0x400)]);
        let _ = format.symbolic_names("", &[(&field.name, 1)]);
    }
});
