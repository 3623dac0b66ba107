//! Decoding and printing allocate nothing once the output buffer is large enough.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn printing_allocates_nothing() {
    let corpus = common::corpus();
    let formats: Vec<_> = corpus.iter().map(common::Sample::format).collect();
    let mut out = Vec::with_capacity(1 << 16);
    for format in &formats {
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
