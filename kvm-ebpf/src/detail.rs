//! Programs for detail events, which occur during an exit and give its cause. Either the event itself
//! is counted, in place of the exit reason, or it is stored as the cause of the exit.

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{
    Decision, DetailSettings, FieldId, Key, NO_SUBCODE, VCPU_UNKNOWN, decide_vcpu,
};

use crate::{
    clock, epoch, exit, field,
    filter::{self, UserSelection},
    settings,
    task::Task,
    timing_counters::increment,
    tracepoint::tracepoint,
    vcpu_threads,
};

#[inline(always)]
fn on_detail_event<const DETAIL: usize>(ctx: &TracePointContext) {
    let epoch = epoch::current();
    if epoch == 0 {
        return;
    }
    let task = Task::current();
    if !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    exit::count_in_slot(ctx, settings::detail_slot(DETAIL), task, now_ns);
    let key = read_key::<DETAIL>(ctx);
    let is_counted = settings::detail_kind(DETAIL) == 0;
    // Usually `kvm_exit` has added the thread already. If KVM has no such event on this architecture,
    // detail events are counted without a duration.
    let found = if is_counted && !filter::lists_vcpus() {
        vcpu_threads::find_or_insert(task, VCPU_UNKNOWN)
    } else {
        vcpu_threads::find(task)
    };
    let decision = decide_vcpu(&UserSelection, || {
        found.as_ref().map_or(VCPU_UNKNOWN, |entry| entry.vcpu)
    });
    let (Decision::Selected, Some(mut entry)) = (decision, found) else {
        match decision {
            Decision::Skipped => {}
            _ if !is_counted => {}
            Decision::VcpuUnknown => increment!(unattributed),
            Decision::Selected => increment!(threads_full),
        }
        return;
    };
    // This program may run in an interrupt of the one for `kvm_userspace_exit`.
    if entry.is_busy() {
        if is_counted {
            increment!(interrupted);
        }
        return;
    }
    let is_wanted = settings::detail_skip_subcode(DETAIL) == NO_SUBCODE
        || key.subcode != settings::detail_skip_subcode(DETAIL);
    if is_wanted && !is_counted {
        entry.cause = key;
    }
    if is_wanted && is_counted {
        // If the thread has ended, its open exit is never completed. The event has no duration then.
        let result = match entry.ended {
            0 => entry.clock.on_detail_event(now_ns, key),
            _ => Err(key),
        };
        match result {
            Ok(Some(span)) => {
                exit::record_span::<false, _>(ctx, &mut entry, &span, now_ns, epoch);
            }
            Ok(None) => {}
            Err(key) => exit::record_untimed(ctx, &mut entry, &key),
        }
    }
    if settings::detail_is_userspace_exit(DETAIL) != 0 {
        entry.clock.on_userspace_exit(now_ns);
    }
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a subcode has at most 4 bytes"
)]
fn read_key<const DETAIL: usize>(ctx: &TracePointContext) -> Key {
    Key {
        code: DetailSettings::code(
            field::read(ctx, FieldId::DetailCode(DETAIL)),
            settings::detail_code_shift(DETAIL),
            settings::detail_cleared_bits(DETAIL),
        ),
        subcode: field::read(ctx, FieldId::DetailSubcode(DETAIL)) as u32,
        kind: settings::detail_kind(DETAIL),
    }
}

macro_rules! detail_programs {
    ($($detail:literal: $name:ident),* $(,)?) => {$(
        tracepoint! {
            fn $name(ctx) {
                on_detail_event::<$detail>(&ctx);
            }
        }
    )*};
}
detail_programs! {
    0: detail_0, 1: detail_1, 2: detail_2, 3: detail_3,
    4: detail_4, 5: detail_5, 6: detail_6, 7: detail_7,
}
