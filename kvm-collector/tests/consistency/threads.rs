//! Threads that end, and events that concern another thread than the one in which they happen.

use crate::{
    collector::{CPUID, report, run},
    recording_file::{
        OTHER_PROCESS, RecordedItem, RecordingFile, VM_A, VM_B, entry, event, exit, switch,
    },
};

#[test]
fn a_reused_thread_id_is_a_new_thread() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let (first, second) = ((VM_A, VM_A + 1), (VM_B, VM_A + 1));
    let thread_end = RecordedItem::ThreadEnd {
        time_ns: 3_000,
        thread: first,
    };
    let reuse_thread_id = |thread_end: Option<RecordedItem>, second| {
        let mut items = vec![
            exit(1_000, first, 0, CPUID),
            entry(1_500, first, 0),
            exit(2_000, first, 0, CPUID),
        ];
        items.extend(thread_end);
        items.extend([
            entry(HOUR_NS, second, 0),
            exit(HOUR_NS + 1_000, second, 0, CPUID),
            entry(HOUR_NS + 1_700, second, 0),
        ]);
        RecordingFile::new(&items)
    };
    // In the same process, only the end of the first thread shows that the second is a new one.
    for file in [
        reuse_thread_id(Some(thread_end), first),
        reuse_thread_id(None, second),
    ] {
        let exits = report(&file, &["exits", "--json"]);
        assert_eq!(exits["rows"][0]["max_ns"], 700, "{exits}");
        let lines = run(&file, &["trace", "--per-exit"]);
        let lines = String::from_utf8(lines.stdout).expect("text");
        let count = lines.lines().filter(|it| it.contains("exit: ")).count();
        assert_eq!(count, 2, "{lines}");
        let long = run(&file, &["trace", "--min-duration", "1s"]);
        assert!(long.stdout.is_empty());
    }
}

#[test]
fn an_event_is_shown_in_the_exit_that_it_concerns() {
    let (vcpu, other) = ((VM_A, VM_A + 1), (OTHER_PROCESS, OTHER_PROCESS));
    let file = RecordingFile::new(&[
        exit(1_000, vcpu, 0, CPUID),
        entry(1_500, vcpu, 0),
        exit(2_000, vcpu, 0, CPUID),
        switch(3_000, vcpu, true, other.1),
        switch(4_000, other, false, vcpu.1),
        event(5_000, vcpu, "kvm_pio", &[("port", 0x3f8)]),
        entry(6_000, vcpu, 0),
    ]);
    let lines = run(&file, &["trace", "--per-exit"]);
    let lines = String::from_utf8(lines.stdout).expect("text");
    let long = lines
        .lines()
        .find(|it| it.contains("4.000 us"))
        .expect("no line of the exit");
    assert_eq!(long.matches("sched_switch").count(), 2, "{long}");
    assert!(long.contains("pio: "), "{long}");
}
