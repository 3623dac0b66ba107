//! Tests of filters.

use super::Filters;
use crate::tracefs::Format;
use proptest::prelude::*;

const PIO: &str = "name: kvm_pio\nID: 1\nformat:\n\
    \tfield:unsigned int rw;\toffset:8;\tsize:4;\tsigned:0;\n\
    \tfield:int port;\toffset:12;\tsize:4;\tsigned:1;\n\
    \tfield:char comm[8];\toffset:16;\tsize:8;\tsigned:0;\n\n\
    print fmt: \"%u\", REC->rw\n";

fn formats() -> Vec<Format> {
    let other = PIO.replace("kvm_pio", "kvm_msr").replace("port", "ecx");
    vec![
        Format::parse("kvm", PIO).unwrap(),
        Format::parse("kvm", &other).unwrap(),
    ]
}

fn record(rw: u32, port: i32, comm: &[u8; 8]) -> Vec<u8> {
    [&[0; 8][..], &rw.to_ne_bytes(), &port.to_ne_bytes(), comm].concat()
}

fn matches(filter: &str, slot: usize) -> bool {
    let filters = Filters::new(&[filter.to_owned()], &formats()).unwrap();
    filters.matches(slot, &record(1, -5, b"qemu\0\0\0\0"))
}

#[test]
fn operators_work_as_in_ftrace() {
    for (filter, expected) in [
        ("kvm_pio.port == -5", true),
        ("kvm:kvm_pio.port != -5", false),
        ("port<0", true),
        ("port >= -4", false),
        ("rw & 3", true),
        ("rw & 0x2", false),
        ("rw==1 && !(port > 0 || port < -10)", true),
        ("rw == 0 || port == 1 && rw == 1", false),
        ("kvm_pio.comm == \"qemu\"", true),
        ("kvm_pio.comm ~ 'qe*'", true),
        ("kvm_pio.comm != qemu", false),
    ] {
        assert_eq!(matches(filter, 0), expected, "{filter}");
    }
}

#[test]
fn events_without_the_field_match() {
    assert!(matches("kvm_pio.rw == 7", 1));
    assert!(!matches("kvm_pio.rw == 7", 0));
    // A filter that names no event concerns all events with the field.
    assert!(!matches("rw == 7", 1));
}

#[test]
fn a_record_that_is_too_short_does_not_match() {
    let filters = Filters::new(&["port == 0".to_owned()], &formats()).unwrap();
    assert!(!filters.matches(0, &[0; 12]));
}

#[test]
fn errors_name_the_problem() {
    for (filter, message) in [
        (
            "port",
            "filter `port`: expected one of == != < <= > >= & ~ at `the end`",
        ),
        ("port ==", "filter `port ==`: expected a value at `the end`"),
        (
            "(port == 1",
            "filter `(port == 1`: expected `)` at `the end`",
        ),
        (
            "port == 1 port",
            "filter `port == 1 port`: expected &&, || or the end at `port`",
        ),
        (
            "port == x",
            "filter `port == x`: kvm_pio.port is a number; compare it with one, such as 8 or 0x3f8",
        ),
        (
            "comm > 1",
            "filter `comm > 1`: kvm_pio.comm is text; it can be compared with ==, != and ~",
        ),
        (
            "kvm_pio.prot == 1",
            "filter `kvm_pio.prot == 1`: no selected event has the field kvm_pio.prot; kvm:kvm_pio has rw, port, comm",
        ),
    ] {
        let error = Filters::new(&[filter.to_owned()], &formats()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

proptest! {
    #[test]
    fn no_filter_causes_a_panic(filter in "[a-z.&|!()<>=~ 0-9x\"'é-]{0,40}") {
        let _ = Filters::new(&[filter], &formats());
    }

    #[test]
    fn deep_nesting_is_an_error(depth in 100usize..5000) {
        prop_assert!(Filters::new(&["(".repeat(depth)], &formats()).is_err());
        prop_assert!(Filters::new(&["!".repeat(depth)], &formats()).is_err());
    }
}

#[test]
fn long_chains_need_no_stack() {
    let chain = |part: &str, operator: &str| vec![part; 10_000].join(operator);
    let filters = [
        chain("kvm_pio.port == 1", "&&"),
        chain("kvm_pio.port == 1", "||"),
        chain("(kvm_pio.port == 1 || kvm_pio.port > 8)", "&&"),
    ];
    Filters::new(&filters, &formats()).expect("valid filters");
}

#[test]
fn errors_say_the_limit_and_not_the_whole_filter() {
    let error = |filter: String| {
        Filters::new(&[filter], &formats())
            .expect_err("an invalid filter")
            .to_string()
    };
    let nested = error("!".repeat(100_000));
    assert!(nested.contains("at most 64 levels"), "{nested}");
    assert!(nested.len() < 400, "{nested}");
    let long = error(format!("kvm_pio.comm ~ '{}'", "*".repeat(100_000)));
    assert!(long.contains("more than 1000 bytes"), "{long}");
    assert!(long.len() < 400, "{long}");
}
