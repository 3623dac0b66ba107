//! Decoding and printing allocate no memory once the output buffer is large enough.

#[path = "common/format_files.rs"]
mod format_files;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use format_files::{FormatFile, read_format_files};
use kvm_collector::{
    model::{Batch, StreamItem},
    source::{LiveContext, OrderedStream},
    timing::Selection,
    view::{
        ItemNames, OutputHeader, ReportOrigin, SelectedBy, TraceClock, TraceFormat, TraceLines,
    },
};
use kvm_ebpf_common::RECORD_RAW_OFFSET;

/// Counts the allocations of each thread.
struct CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller meets the requirements of `GlobalAlloc`, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn printing_does_not_allocate() {
    let formats: Vec<_> = read_format_files().iter().map(FormatFile::parse).collect();
    let mut out = Vec::with_capacity(1 << 16);
    for format in &formats {
        // The first use compiles the print format.
        let _ = format.print_warning();
        for fill in [0, 1, 0x55, 0xff] {
            let record = vec![fill; format.fixed_size()];
            out.clear();
            let before = ALLOCATIONS.with(Cell::get);
            format.print(&record, &mut out);
            format.print_fields(&record, &mut out);
            let sum = format
                .fields
                .iter()
                .filter_map(|field| field.read_u64(&record))
                .fold(0, u64::wrapping_add);
            let after = ALLOCATIONS.with(Cell::get);
            std::hint::black_box(sum);
            assert_eq!(after - before, 0, "{} on {fill:#x}", format.name);
        }
    }
}

/// The number of allocations from a ring's bytes to printed lines does not depend on the number of events.
#[test]
fn tracing_does_not_allocate_per_event() {
    const EVENTS: u64 = 5_000;
    let exit = read_format_files()
        .iter()
        .map(FormatFile::parse)
        .find(|format| format.name == "kvm_exit" && format.field("requests").is_some())
        .expect("no kvm_exit of 6.18");
    let mut bytes = BytesMut::new();
    for index in 0..EVENTS {
        let length = RECORD_RAW_OFFSET + exit.fixed_size();
        let start = bytes.len();
        bytes.extend_from_slice(&(1_000_000 + index).to_ne_bytes());
        bytes.extend_from_slice(&1u32.to_ne_bytes());
        bytes.extend_from_slice(&0u16.to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(length).expect("short").to_ne_bytes());
        bytes.resize(start + length, 0);
    }
    let bytes = bytes.freeze();
    let formats = vec![exit];
    for format in [TraceFormat::Kernel, TraceFormat::Fields, TraceFormat::Json] {
        let origin = ReportOrigin {
            header: OutputHeader {
                host: Some("host1".into()),
                ..OutputHeader::default()
            },
            wall_offset_ns: Some(1_795_612_627_613_208_100),
            ..ReportOrigin::new(SelectedBy::default())
        };
        let mut lines = TraceLines::new(1, format, TraceClock::Mono, false).with_origin(origin);
        let mut ordered = OrderedStream::new(&formats, Selection::default());
        ordered.identify_vcpus();
        let vm_name = |tgid| (tgid == 1).then(|| "web-1".into());
        let mut count_allocations = || {
            let before = ALLOCATIONS.with(Cell::get);
            ordered.add(Batch::new(bytes.clone()));
            let each =
                |item: &StreamItem<'_>, LiveContext { comm, vcpu }: LiveContext<'_>| match item {
                    StreamItem::Event(event) => {
                        assert_eq!(vcpu, Some(0));
                        let names = ItemNames {
                            comm,
                            vcpu,
                            vm_name: &vm_name,
                        };
                        lines.write_event(event, &formats, names, &mut std::io::sink())
                    }
                    _ => Ok(()),
                };
            ordered
                .emit_until(u64::MAX, &|_| None, each)
                .expect("a sink does not fail");
            ALLOCATIONS.with(Cell::get) - before
        };
        count_allocations();
        let allocations = count_allocations();
        assert!(
            allocations < 8,
            "{allocations} allocations for {EVENTS} events as {format:?}"
        );
        assert_eq!(lines.printed(), 2 * EVENTS);
    }
}
