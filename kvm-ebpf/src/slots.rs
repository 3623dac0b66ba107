//! Programs that count and emit events. Each slot has two, which differ only in the slot number.
//!
//! - `count_N` is a raw tracepoint program. It only counts, and costs the least.
//! - `slot_N` is a classic tracepoint program. It gets the record of the event, so it can also emit it
//!   and filter by its fields.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_ebpf_common::{Decision, FieldId, decide};

use crate::{
    clock, emit, epoch, field,
    filter::{self, UserSelection},
    settings,
    slot_counter::SlotCounter,
    task::Task,
    tracepoint::tracepoint,
};

#[inline(always)]
fn count<const SLOT: usize>() {
    if !epoch::is_measuring() {
        return;
    }
    // Each branch has its own lookup, so the first one saves no registers.
    if settings::plain_increment() {
        if let Some(counter) = SlotCounter::for_raw_slot(SLOT) {
            counter.add_seen_not_atomic();
        }
    } else if settings::needs_task() {
        let task = Task::current();
        if filter::selects_task(task)
            && let Some(counter) = SlotCounter::for_raw_slot(SLOT)
        {
            counter.add_seen_in_thread(SLOT, task);
        }
    } else if let Some(counter) = SlotCounter::for_raw_slot(SLOT) {
        counter.add_seen();
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
fn filter_and_count<const SLOT: usize>(ctx: &TracePointContext) {
    if !epoch::is_measuring() {
        return;
    }
    let task = Task::current();
    if settings::vcpu_threads_only(SLOT) {
        if let Some(counted_task) = filter::vcpu_thread_of_event::<SLOT>(ctx, task) {
            count_for_thread(counted_task, ctx, SLOT, task, clock::now_ns);
        }
        return;
    }
    let vcpu = || {
        let recorded = field::read(ctx, FieldId::SlotVcpu(SLOT)) as u32;
        filter::vcpu_of_event(recorded, task)
    };
    match decide(&UserSelection, task.tgid, task.tid, vcpu) {
        Decision::Selected => {}
        Decision::Skipped => return,
        Decision::VcpuUnknown => {
            if let Some(counter) = SlotCounter::for_slot(SLOT) {
                counter.add_unattributed();
            }
            return;
        }
    }
    if filter::selects_value::<SLOT>(ctx) {
        count_and_emit(ctx, SLOT, task, clock::now_ns);
    }
}

/// Counts an event that passed the filters, and emits it if that is requested.
///
/// `now_ns` is called only if the event is emitted.
#[inline(always)]
pub(crate) fn count_and_emit(
    ctx: &TracePointContext,
    slot: usize,
    task: Task,
    now_ns: impl FnOnce() -> u64,
) {
    count_for_thread(task, ctx, slot, task, now_ns);
}

/// Does the same as [`count_and_emit`], but counts the event for `counted_task`. `task` is the thread in
/// which it occurred.
#[inline(always)]
fn count_for_thread(
    counted_task: Task,
    ctx: &TracePointContext,
    slot: usize,
    task: Task,
    now_ns: impl FnOnce() -> u64,
) {
    let Some(counter) = SlotCounter::for_slot(slot) else {
        return;
    };
    counter.add_seen_in_thread(slot, counted_task);
    if settings::record_bytes(slot) != 0 && !emit::emit_event(ctx, slot, task, now_ns()) {
        counter.add_lost();
    }
}

macro_rules! slot_programs {
    ($($slot:literal: $count:ident $filter:ident),* $(,)?) => {$(
        #[raw_tracepoint]
        fn $count(_ctx: RawTracePointContext) -> u32 {
            count::<$slot>();
            0
        }
        tracepoint! {
            fn $filter(ctx) {
                filter_and_count::<$slot>(&ctx);
            }
        }
    )*};
}
slot_programs! {
    0: count_0 slot_0, 1: count_1 slot_1, 2: count_2 slot_2, 3: count_3 slot_3,
    4: count_4 slot_4, 5: count_5 slot_5, 6: count_6 slot_6, 7: count_7 slot_7,
    8: count_8 slot_8, 9: count_9 slot_9, 10: count_10 slot_10, 11: count_11 slot_11,
    12: count_12 slot_12, 13: count_13 slot_13, 14: count_14 slot_14, 15: count_15 slot_15,
    16: count_16 slot_16, 17: count_17 slot_17, 18: count_18 slot_18, 19: count_19 slot_19,
    20: count_20 slot_20, 21: count_21 slot_21, 22: count_22 slot_22, 23: count_23 slot_23,
    24: count_24 slot_24, 25: count_25 slot_25, 26: count_26 slot_26, 27: count_27 slot_27,
    28: count_28 slot_28, 29: count_29 slot_29, 30: count_30 slot_30, 31: count_31 slot_31,
    32: count_32 slot_32, 33: count_33 slot_33, 34: count_34 slot_34, 35: count_35 slot_35,
    36: count_36 slot_36, 37: count_37 slot_37, 38: count_38 slot_38, 39: count_39 slot_39,
    40: count_40 slot_40, 41: count_41 slot_41, 42: count_42 slot_42, 43: count_43 slot_43,
    44: count_44 slot_44, 45: count_45 slot_45, 46: count_46 slot_46, 47: count_47 slot_47,
    48: count_48 slot_48, 49: count_49 slot_49, 50: count_50 slot_50, 51: count_51 slot_51,
    52: count_52 slot_52, 53: count_53 slot_53, 54: count_54 slot_54, 55: count_55 slot_55,
    56: count_56 slot_56, 57: count_57 slot_57, 58: count_58 slot_58, 59: count_59 slot_59,
    60: count_60 slot_60, 61: count_61 slot_61, 62: count_62 slot_62, 63: count_63 slot_63,
    64: count_64 slot_64, 65: count_65 slot_65, 66: count_66 slot_66, 67: count_67 slot_67,
    68: count_68 slot_68, 69: count_69 slot_69, 70: count_70 slot_70, 71: count_71 slot_71,
    72: count_72 slot_72, 73: count_73 slot_73, 74: count_74 slot_74, 75: count_75 slot_75,
    76: count_76 slot_76, 77: count_77 slot_77, 78: count_78 slot_78, 79: count_79 slot_79,
    80: count_80 slot_80, 81: count_81 slot_81, 82: count_82 slot_82, 83: count_83 slot_83,
    84: count_84 slot_84, 85: count_85 slot_85, 86: count_86 slot_86, 87: count_87 slot_87,
    88: count_88 slot_88, 89: count_89 slot_89, 90: count_90 slot_90, 91: count_91 slot_91,
    92: count_92 slot_92, 93: count_93 slot_93, 94: count_94 slot_94, 95: count_95 slot_95,
    96: count_96 slot_96, 97: count_97 slot_97, 98: count_98 slot_98, 99: count_99 slot_99,
    100: count_100 slot_100, 101: count_101 slot_101, 102: count_102 slot_102, 103: count_103 slot_103,
    104: count_104 slot_104, 105: count_105 slot_105, 106: count_106 slot_106, 107: count_107 slot_107,
    108: count_108 slot_108, 109: count_109 slot_109, 110: count_110 slot_110, 111: count_111 slot_111,
    112: count_112 slot_112, 113: count_113 slot_113, 114: count_114 slot_114, 115: count_115 slot_115,
    116: count_116 slot_116, 117: count_117 slot_117, 118: count_118 slot_118, 119: count_119 slot_119,
    120: count_120 slot_120, 121: count_121 slot_121, 122: count_122 slot_122, 123: count_123 slot_123,
    124: count_124 slot_124, 125: count_125 slot_125, 126: count_126 slot_126, 127: count_127 slot_127,
}
