//! Compares the tables of names and the advice with their sources: the headers and modules of kernels, and the fixtures.
//!
//! `cargo xtask names --check` fetches the headers and sets `KVM_TEST_HEADERS`. Without it, the tests that need headers
//! are ignored.

mod advice;
mod expression;
mod headers;
mod msr;
mod pc;
mod reasons;
mod sysreg;
mod tables;

use std::process::ExitCode;

use headers::Kernel;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// The environment variable that makes the test list the MSRs of the headers that the tables lack.
const LIST_MISSING: &str = "KVM_TEST_LIST_MISSING";

fn main() -> ExitCode {
    if std::env::var_os(LIST_MISSING).is_some()
        && let Ok(kernels) = headers::kernels()
    {
        println!("MSRs of the headers that the tables lack:");
        for name in msr::list_missing(&kernels) {
            println!("  {name}");
        }
    }
    let tests = vec![
        test("expressions_of_headers_are_evaluated", expression::check),
        test("ports_are_those_of_qemu", pc::compare_with_qemu),
        test("kinds_in_advice_exist", advice::compare_kinds),
        with_headers("msrs_have_the_names_of_the_headers", msr::compare),
        with_headers("no_msr_of_kvm_or_hyper_v_is_missing", msr::find_missing),
        with_headers(
            "hypercalls_are_those_of_the_headers",
            tables::compare_hypercalls,
        ),
        with_headers(
            "userspace_exits_are_those_of_the_headers",
            tables::compare_userspace_exits,
        ),
        with_headers(
            "errors_have_the_names_of_the_headers",
            tables::compare_errors,
        ),
        with_headers("system_registers_are_those_of_the_header", sysreg::compare),
        with_headers(
            "cpuid_leaves_are_those_of_the_headers",
            tables::compare_cpuid,
        ),
        with_headers("devices_have_the_addresses_of_the_headers", pc::compare),
        with_headers("exit_reasons_exist", reasons::compare),
        with_headers(
            "module_parameters_in_advice_exist",
            advice::compare_parameters,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// Creates a test from a function that returns the differences it finds.
fn test(name: &str, find: fn() -> Vec<String>) -> Trial {
    Trial::test(name, move || report(&find()))
}

/// Creates a test that needs the kernel's headers. It is ignored without them.
fn with_headers(name: &str, find: fn(&[Kernel]) -> Vec<String>) -> Trial {
    Trial::ignorable_test(name, move || match headers::kernels() {
        Err(reason) => Ok(Completion::ignored_with(reason)),
        Ok(kernels) => report(&find(&kernels)).map(|()| Completion::Completed),
    })
}

fn report(differences: &[String]) -> Result<(), Failed> {
    if differences.is_empty() {
        return Ok(());
    }
    Err(differences.join("\n").into())
}
