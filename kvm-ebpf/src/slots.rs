//! One program per slot, all alike but for the slot's number.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use kvm_ebpf_common::VCPU_UNKNOWN;

use crate::{count, filter, settings, ship, task::Task};

#[inline(always)]
fn run<const SLOT: usize>(ctx: &TracePointContext) {
    let Some(counts) = count::of_slot(SLOT) else {
        return;
    };
    let ships = settings::record_bytes(SLOT) != 0;
    let per_thread = settings::per_thread();
    if !(filter::active() || ships || per_thread) {
        counts.seen += 1;
        return;
    }
    let task = Task::current();
    if !filter::passes_task(task) {
        return;
    }
    if filter::by_vcpu() {
        let vcpu = filter::vcpu_of(ctx, SLOT, task);
        if vcpu == VCPU_UNKNOWN {
            counts.unattributed += 1;
            return;
        }
        if !filter::passes_vcpu(vcpu) {
            return;
        }
    }
    counts.seen += 1;
    #[expect(clippy::cast_possible_truncation, reason = "a slot is below 128")]
    if per_thread && !count::per_thread(SLOT as u32, task) {
        counts.lost += 1;
    }
    if ships && !ship::ship(ctx, SLOT, task) {
        counts.lost += 1;
    }
}

macro_rules! slots {
    ($($name:ident = $slot:literal),* $(,)?) => {$(
        #[tracepoint]
        fn $name(ctx: TracePointContext) -> u32 {
            run::<$slot>(&ctx);
            0
        }
    )*};
}

slots! {
    slot_0 = 0, slot_1 = 1, slot_2 = 2, slot_3 = 3, slot_4 = 4, slot_5 = 5, slot_6 = 6, slot_7 = 7,
    slot_8 = 8, slot_9 = 9, slot_10 = 10, slot_11 = 11, slot_12 = 12, slot_13 = 13, slot_14 = 14, slot_15 = 15,
    slot_16 = 16, slot_17 = 17, slot_18 = 18, slot_19 = 19, slot_20 = 20, slot_21 = 21, slot_22 = 22, slot_23 = 23,
    slot_24 = 24, slot_25 = 25, slot_26 = 26, slot_27 = 27, slot_28 = 28, slot_29 = 29, slot_30 = 30, slot_31 = 31,
    slot_32 = 32, slot_33 = 33, slot_34 = 34, slot_35 = 35, slot_36 = 36, slot_37 = 37, slot_38 = 38, slot_39 = 39,
    slot_40 = 40, slot_41 = 41, slot_42 = 42, slot_43 = 43, slot_44 = 44, slot_45 = 45, slot_46 = 46, slot_47 = 47,
    slot_48 = 48, slot_49 = 49, slot_50 = 50, slot_51 = 51, slot_52 = 52, slot_53 = 53, slot_54 = 54, slot_55 = 55,
    slot_56 = 56, slot_57 = 57, slot_58 = 58, slot_59 = 59, slot_60 = 60, slot_61 = 61, slot_62 = 62, slot_63 = 63,
    slot_64 = 64, slot_65 = 65, slot_66 = 66, slot_67 = 67, slot_68 = 68, slot_69 = 69, slot_70 = 70, slot_71 = 71,
    slot_72 = 72, slot_73 = 73, slot_74 = 74, slot_75 = 75, slot_76 = 76, slot_77 = 77, slot_78 = 78, slot_79 = 79,
    slot_80 = 80, slot_81 = 81, slot_82 = 82, slot_83 = 83, slot_84 = 84, slot_85 = 85, slot_86 = 86, slot_87 = 87,
    slot_88 = 88, slot_89 = 89, slot_90 = 90, slot_91 = 91, slot_92 = 92, slot_93 = 93, slot_94 = 94, slot_95 = 95,
    slot_96 = 96, slot_97 = 97, slot_98 = 98, slot_99 = 99, slot_100 = 100, slot_101 = 101, slot_102 = 102, slot_103 = 103,
    slot_104 = 104, slot_105 = 105, slot_106 = 106, slot_107 = 107, slot_108 = 108, slot_109 = 109, slot_110 = 110, slot_111 = 111,
    slot_112 = 112, slot_113 = 113, slot_114 = 114, slot_115 = 115, slot_116 = 116, slot_117 = 117, slot_118 = 118, slot_119 = 119,
    slot_120 = 120, slot_121 = 121, slot_122 = 122, slot_123 = 123, slot_124 = 124, slot_125 = 125, slot_126 = 126, slot_127 = 127,
}
