//! Two programs per slot, all alike but for the slot's number.
//!
//! `count_N` is a raw tracepoint program: it only counts, and costs the least. `slot_N` is a classic
//! tracepoint program, which the kernel hands the event's record: it ships, and filters by what the
//! record says.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_ebpf_common::{Decision, FieldId, decide};

use crate::{
    classic::classic,
    clock,
    count::Counter,
    field,
    filter::{self, Globals},
    settings, ship,
    task::Task,
};

#[inline(always)]
fn count<const SLOT: usize>() {
    if !filter::running() {
        return;
    }
    // The counter is looked up on each way by itself: on the shorter one, it then needs no register that is saved first.
    if settings::counts_simply() {
        if let Some(counter) = Counter::of_raw_slot(SLOT) {
            counter.add_seen_simply();
        }
    } else if settings::by_task() {
        let task = Task::current();
        if filter::selects_task(task)
            && let Some(counter) = Counter::of_raw_slot(SLOT)
        {
            counter.add_of(SLOT, task);
        }
    } else if let Some(counter) = Counter::of_raw_slot(SLOT) {
        counter.add_seen();
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
fn run<const SLOT: usize>(ctx: &TracePointContext) {
    if !filter::running() {
        return;
    }
    let task = Task::current();
    if settings::of_vcpus(SLOT) {
        if let Some(subject) = filter::subject_of::<SLOT>(ctx, task) {
            take_for(subject, ctx, SLOT, task, clock::now_ns);
        }
        return;
    }
    let vcpu = || filter::vcpu_of(field::read(ctx, FieldId::SlotVcpu(SLOT)) as u32, task);
    match decide(&Globals, task.tgid, task.tid, vcpu) {
        Decision::Selected => {}
        Decision::Skipped => return,
        Decision::VcpuUnknown => {
            if let Some(counter) = Counter::of_slot(SLOT) {
                counter.add_unattributed();
            }
            return;
        }
    }
    if filter::passes_value::<SLOT>(ctx) {
        take(ctx, SLOT, task, clock::now_ns);
    }
}

/// Counts and ships an event that has passed the filters; also for programs that do something else with
/// it.
///
/// The clock is not read when nothing is shipped.
#[inline(always)]
pub(crate) fn take(ctx: &TracePointContext, slot: usize, task: Task, now_ns: impl FnOnce() -> u64) {
    take_for(task, ctx, slot, task, now_ns);
}

/// As [`take`], for an event that is counted for another thread than it happens in.
#[inline(always)]
fn take_for(
    subject: Task,
    ctx: &TracePointContext,
    slot: usize,
    task: Task,
    now_ns: impl FnOnce() -> u64,
) {
    let Some(counter) = Counter::of_slot(slot) else {
        return;
    };
    counter.add_of(slot, subject);
    if settings::record_bytes(slot) != 0 && !ship::ship(ctx, slot, task, now_ns()) {
        counter.add_lost();
    }
}

macro_rules! slots {
    ($($slot:literal: $count:ident $ship:ident),* $(,)?) => {$(
        #[raw_tracepoint]
        fn $count(_ctx: RawTracePointContext) -> u32 {
            count::<$slot>();
            0
        }
        classic! {
            fn $ship(ctx) {
                run::<$slot>(&ctx);
            }
        }
    )*};
}

#[rustfmt::skip]
slots! {
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
