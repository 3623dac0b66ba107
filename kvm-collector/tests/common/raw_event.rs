//! Raw events, as the kernel writes them.

use kvm_collector::tracefs::Format;

/// Returns a raw event with its common fields. Fields that are not given are 0.
pub(crate) fn raw_event(format: &Format, fields: &[(&str, u64)]) -> Vec<u8> {
    let mut raw = vec![0; format.fixed_size()];
    for (name, value) in fields {
        let field = format.field(name).expect("a field");
        raw[field.offset..field.offset + field.size]
            .copy_from_slice(&value.to_ne_bytes()[..field.size]);
    }
    raw
}
