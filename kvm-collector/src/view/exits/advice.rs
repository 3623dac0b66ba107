//! Looks up the advice on a row: on its exit reason and frequent causes, or on its kind of event.

use super::{
    groups::{GroupKey, GroupStats},
    names::KeyNames,
};
use crate::knowledge::advice::{self, Advice, Cause, Subject, TimeBreakdown};

/// Returns the advice on a row. A cause counts as frequent if it has at least a quarter of the
/// occurrences of all known causes of the row.
pub(super) fn advice(
    key: &GroupKey,
    group: &GroupStats,
    idle_ns: u64,
    names: &KeyNames<'_>,
) -> Vec<Advice> {
    let Some(key) = key.key else {
        return Vec::new();
    };
    let x86 = names.reasons.is_x86();
    let time = time_breakdown(group, idle_ns, names.is_halt(key));
    if let Some((kind, _)) = names.counted_event {
        let cause = Cause {
            kind: &kind.name,
            code: key.code << kind.code_shift,
            class: key.subcode,
            x86,
        };
        return advice::find(Subject::Kind(cause), time);
    }
    let ranked = group
        .causes
        .as_ref()
        .map(|it| it.ranked())
        .unwrap_or_default();
    let seen: u64 = ranked.iter().map(|(_, count)| count.at_least).sum();
    let frequent: Vec<_> = ranked
        .iter()
        .filter(|(_, count)| count.at_least > 0 && count.at_least >= seen / 4)
        .filter_map(|(cause, _)| {
            let (kind, _) = names.cause_kind(*cause)?;
            Some(Cause {
                kind: &kind.name,
                code: cause.code << kind.code_shift,
                class: cause.subcode,
                x86,
            })
        })
        .collect();
    advice::find(Subject::Reason(&names.reason(key), &frequent), time)
}

fn time_breakdown(group: &GroupStats, idle_ns: u64, is_halt: bool) -> TimeBreakdown {
    let totals = &group.totals;
    TimeBreakdown {
        vmm_ns: totals.vmm_ns,
        halted_ns: totals.halted_ns,
        preempted_ns: totals.preempted_ns,
        busy_ns: totals.total_ns.saturating_sub(idle_ns),
        is_halt,
    }
}
