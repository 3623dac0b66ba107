//! Events that say what an exit is about: counted instead of the exits, or as their causes.

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{FieldId, Key, NO_SUBCODE, VCPU_UNKNOWN};

use crate::{
    classic::classic, clock, counters::increment, field, filter, pair, settings, task::Task,
    threads,
};

#[inline(always)]
fn run<const DETAIL: usize>(ctx: &TracePointContext) {
    let epoch = filter::epoch();
    if epoch == 0 {
        return;
    }
    let task = Task::current();
    if !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    pair::also_in_slot(ctx, settings::detail_slot(DETAIL), task, now_ns);
    let key = key::<DETAIL>(ctx);
    let counted = settings::detail_kind(DETAIL) == 0;
    // A vCPU's thread has left the guest before anything else. Where that is not seen (no `kvm_exit`
    // on this kind of KVM), the events are counted without a time.
    let found = if counted && !filter::has_vcpus() {
        threads::find_or_make(task, VCPU_UNKNOWN)
    } else {
        threads::find(task)
    };
    let Some(mut entry) = found else {
        if counted {
            if filter::has_vcpus() {
                increment!(unattributed);
            } else {
                increment!(threads_full);
            }
        }
        return;
    };
    // This may be an interrupt of the program for `kvm_userspace_exit`.
    if entry.is_busy() {
        if counted {
            increment!(interrupted);
        }
        return;
    }
    let wanted = settings::detail_skip_class(DETAIL) == NO_SUBCODE
        || key.subcode != settings::detail_skip_class(DETAIL);
    if wanted && !counted {
        entry.cause = key;
    }
    if wanted && counted {
        // In a thread that has ended, an exit may still be open, but nothing is timed.
        let event = match entry.ended {
            0 => entry.clock.on_detail_event(now_ns, key),
            _ => Err(key),
        };
        match event {
            Ok(Some(span)) => pair::keep::<false, _>(ctx, &mut entry, &span, now_ns, epoch),
            Ok(None) => {}
            Err(key) => pair::keep_untimed(ctx, &mut entry, &key),
        }
    }
    if settings::detail_is_user(DETAIL) != 0 {
        entry.clock.on_userspace_exit(now_ns);
    }
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a class has 4 bytes at most"
)]
fn key<const DETAIL: usize>(ctx: &TracePointContext) -> Key {
    Key {
        code: field::read(ctx, FieldId::DetailCode(DETAIL)) >> settings::detail_code_shift(DETAIL),
        subcode: field::read(ctx, FieldId::DetailSubcode(DETAIL)) as u32,
        kind: settings::detail_kind(DETAIL),
    }
}

macro_rules! details {
    ($($detail:literal: $name:ident),* $(,)?) => {$(
        classic! {
            fn $name(ctx) {
                run::<$detail>(&ctx);
            }
        }
    )*};
}
details! {
    0: detail_0, 1: detail_1, 2: detail_2, 3: detail_3,
    4: detail_4, 5: detail_5, 6: detail_6, 7: detail_7,
}
