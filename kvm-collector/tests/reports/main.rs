//! Reports as users and programs read them, of a simulated recording: text in several widths, JSON and CSV, compared with the files
//! in `tests/fixtures/reports`, with the schema, and with the sums of other programs.
//!
//! `KVM_COLLECTOR_WRITE_REPORTS=1 cargo test -p kvm-collector --test reports` rewrites the files.

mod conversion_sums;
mod cookbook;
mod fleet;
mod golden;
mod output_names;
#[path = "../common/python.rs"]
mod python;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod real_recordings;
mod recording_folder;
#[path = "../common/schema.rs"]
mod schema;
#[path = "../html/simulated_recording.rs"]
mod simulated_recording;
mod sums;
mod time_ranges;
mod valid_json;
mod vm_uuid;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let tests = [
        golden::tests(),
        valid_json::tests(),
        vm_uuid::tests(),
        output_names::tests(),
        sums::tests(),
        conversion_sums::tests(),
        cookbook::tests(),
        fleet::tests(),
        time_ranges::tests(),
    ];
    let tests = tests.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}
