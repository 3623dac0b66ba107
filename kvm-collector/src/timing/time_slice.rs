//! Divides the duration of an exit into slices that follow one another, as a timeline or a track
//! draws them.

use crate::model::{Exit, ExitPart, Segment, VcpuState};

/// A time interval within an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSlice {
    /// The part of the exit; `None` is time in the kernel.
    pub part: Option<ExitPart>,
    /// Start, in ns.
    pub from_ns: u64,
    /// End, in ns.
    pub to_ns: u64,
}

impl TimeSlice {
    fn duration_ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }

    /// Divides a completed exit into slices that cover it from start to end without gaps.
    ///
    /// The slices of each part add up to exactly the time in [`Exit::parts`]. The segments in
    /// `parts` may disagree with that: a preemption within a part does not count for that part, and
    /// segments may be missing. Then time is moved from or to the kernel's slices, starting with
    /// the last ones.
    #[must_use]
    pub fn split_exit(segment: &Segment, exit: &Exit, parts: &[Segment]) -> Vec<Self> {
        let mut slices = vec![Self {
            part: None,
            from_ns: segment.from_ns,
            to_ns: segment.to_ns,
        }];
        for part in [ExitPart::Vmm, ExitPart::Halted, ExitPart::Preempted] {
            for it in parts {
                if it.state == VcpuState::Part(part) {
                    overlay(&mut slices, part, it.from_ns, it.to_ns);
                }
            }
        }
        let sums = [
            (ExitPart::Vmm, exit.parts.vmm_ns),
            (ExitPart::Halted, exit.parts.halted_ns),
            (ExitPart::Preempted, exit.parts.preempted_ns),
        ];
        let sum = |slices: &[Self], part| -> u64 {
            let of_part = slices.iter().filter(|it| it.part == Some(part));
            of_part.map(Self::duration_ns).sum()
        };
        for (part, ns) in sums {
            let excess_ns = sum(&slices, part).saturating_sub(ns);
            reassign(&mut slices, Some(part), None, excess_ns);
        }
        for (part, ns) in sums {
            let missing_ns = ns.saturating_sub(sum(&slices, part));
            reassign(&mut slices, None, Some(part), missing_ns);
        }
        slices
    }
}

/// Assigns a time interval to a part, whatever it was assigned to before.
fn overlay(slices: &mut Vec<TimeSlice>, part: ExitPart, from_ns: u64, to_ns: u64) {
    let mut result = Vec::with_capacity(slices.len() + 2);
    for it in slices.drain(..) {
        let (start_ns, end_ns) = (from_ns.max(it.from_ns), to_ns.min(it.to_ns));
        if start_ns >= end_ns {
            result.push(it);
            continue;
        }
        let pieces = [
            (it.part, it.from_ns, start_ns),
            (Some(part), start_ns, end_ns),
            (it.part, end_ns, it.to_ns),
        ];
        let pieces = pieces
            .into_iter()
            .filter(|(_, from_ns, to_ns)| from_ns < to_ns);
        result.extend(pieces.map(|(part, from_ns, to_ns)| TimeSlice {
            part,
            from_ns,
            to_ns,
        }));
    }
    *slices = result;
}

/// Reassigns `ns` of the time of one part to another part, starting with the last slices.
fn reassign(
    slices: &mut Vec<TimeSlice>,
    from: Option<ExitPart>,
    to: Option<ExitPart>,
    mut ns: u64,
) {
    let mut index = slices.len();
    while ns > 0 && index > 0 {
        index -= 1;
        let slice = slices[index];
        if slice.part != from {
            continue;
        }
        if slice.duration_ns() <= ns {
            slices[index].part = to;
            ns -= slice.duration_ns();
        } else {
            let split_ns = slice.to_ns - ns;
            slices[index].to_ns = split_ns;
            let rest = TimeSlice {
                part: to,
                from_ns: split_ns,
                to_ns: slice.to_ns,
            };
            slices.insert(index + 1, rest);
            ns = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use kvm_ebpf_common::{Key, SpanBreakdown};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ExitEnd, VcpuId};

    fn segment(from_ns: u64, to_ns: u64, state: VcpuState) -> Segment {
        Segment {
            vcpu_id: VcpuId::default(),
            cpu: 0,
            from_ns,
            to_ns,
            state,
        }
    }

    fn exit(vmm_ns: u64, halted_ns: u64, preempted_ns: u64) -> Exit {
        Exit {
            key: Key::default(),
            guest_rip: 0,
            cause: None,
            parts: SpanBreakdown {
                vmm_ns,
                halted_ns,
                preempted_ns,
            },
            end: ExitEnd::Entry,
        }
    }

    fn slices(exit: Exit, parts: &[(ExitPart, u64, u64)]) -> Vec<(Option<ExitPart>, u64, u64)> {
        let parts: Vec<_> = parts
            .iter()
            .map(|(part, from_ns, to_ns)| segment(*from_ns, *to_ns, VcpuState::Part(*part)))
            .collect();
        let whole = segment(100, 200, VcpuState::Exit(exit));
        TimeSlice::split_exit(&whole, &exit, &parts)
            .iter()
            .map(|it| (it.part, it.from_ns, it.to_ns))
            .collect()
    }

    #[test]
    fn preemption_does_not_count_for_the_surrounding_part() {
        let parts = [(ExitPart::Vmm, 110, 180), (ExitPart::Preempted, 130, 150)];
        assert_eq!(
            slices(exit(50, 0, 20), &parts),
            [
                (None, 100, 110),
                (Some(ExitPart::Vmm), 110, 130),
                (Some(ExitPart::Preempted), 130, 150),
                (Some(ExitPart::Vmm), 150, 180),
                (None, 180, 200),
            ]
        );
    }

    #[test]
    fn slices_add_up_even_if_segments_disagree() {
        assert_eq!(
            slices(exit(0, 30, 0), &[]),
            [(None, 100, 170), (Some(ExitPart::Halted), 170, 200)]
        );
        assert_eq!(
            slices(exit(5, 0, 0), &[(ExitPart::Vmm, 150, 200)]),
            [
                (None, 100, 150),
                (Some(ExitPart::Vmm), 150, 155),
                (None, 155, 200)
            ]
        );
    }

    proptest! {
        #[test]
        fn slices_cover_the_exit_and_add_up_to_its_parts(
            (vmm_ns, halted_ns, preempted_ns) in (0u64..34, 0u64..33, 0u64..33),
            parts in prop::collection::vec((0usize..3, 90u64..210, 0u64..60), 0..6),
        ) {
            let all = [ExitPart::Vmm, ExitPart::Halted, ExitPart::Preempted];
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(part, from_ns, ns)| (all[part], from_ns, from_ns + ns))
                .collect();
            let slices = slices(exit(vmm_ns, halted_ns, preempted_ns), &parts);
            let mut expected_ns = 100;
            for (_, from_ns, to_ns) in &slices {
                prop_assert_eq!(*from_ns, expected_ns);
                expected_ns = *to_ns;
            }
            prop_assert_eq!(expected_ns, 200);
            for (part, ns) in all.into_iter().zip([vmm_ns, halted_ns, preempted_ns]) {
                let sum: u64 = slices
                    .iter()
                    .filter(|it| it.0 == Some(part))
                    .map(|it| it.2 - it.1)
                    .sum();
                prop_assert_eq!(sum, ns);
            }
        }
    }
}
