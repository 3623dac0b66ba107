//! Segments of vCPU threads, put together: each exit with the parts of its time.

use std::{cmp::Reverse, collections::HashMap};

use crate::model::{Exit, Part, Segment, VcpuState, capacity::MOST_EXIT_PARTS};

/// Parts of one exit that are stored at most: a thread that is preempted over and over may have any number. The exit's
/// own sums have all of them, also those beyond [`MOST_EXIT_PARTS`] of all exits in progress.
const MOST_PARTS: usize = 256;

/// What segments make up.
#[derive(Debug, Clone, Copy)]
pub enum Assembled<'a> {
    /// Time in the guest.
    Guest(&'a Segment),
    /// An exit, and those of its parts that have a known time, by their beginning; outer ones first.
    Exit(&'a Segment, &'a Exit, &'a [Segment]),
}

/// Collects the parts of each thread's exit until the exit itself comes.
#[derive(Debug, Default)]
pub struct ExitAssembler {
    parts: HashMap<u32, Vec<Segment>>,
    /// Parts of all of them.
    count: usize,
}

impl ExitAssembler {
    /// Takes the next segment in the order in which [`Replay::segments`](super::Replay::segments) gives them, and
    /// passes on what it completes.
    pub fn add<R>(
        &mut self,
        segment: &Segment,
        each: impl FnOnce(Assembled<'_>) -> R,
    ) -> Option<R> {
        match &segment.state {
            VcpuState::Guest => Some(each(Assembled::Guest(segment))),
            VcpuState::Part(_) => {
                if self.count >= MOST_EXIT_PARTS {
                    return None;
                }
                let parts = self.parts.entry(segment.vcpu_id.tid).or_default();
                if parts.len() < MOST_PARTS {
                    parts.push(*segment);
                    self.count += 1;
                }
                None
            }
            VcpuState::Exit(exit) => {
                let mut parts = self.parts.remove(&segment.vcpu_id.tid).unwrap_or_default();
                self.count -= parts.len();
                parts.sort_by_key(|it| (it.from_ns, Reverse(it.to_ns)));
                Some(each(Assembled::Exit(segment, exit, &parts)))
            }
        }
    }
}

/// A piece of an exit's time: in a part, or in the kernel where that is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSlice {
    /// Where the thread was.
    pub part: Option<Part>,
    /// Since when.
    pub from_ns: u64,
    /// Until when.
    pub to_ns: u64,
}

impl TimeSlice {
    fn ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }

    /// Divides a completed exit into slices that lie one after the other, from its beginning to its end. The slices of
    /// each part add up to exactly what [`Exit::parts`] says; where the places of its segments leave less or more than
    /// that (a preemption within a part is not that part's time, and segments may be missing), the last slices give
    /// way.
    #[must_use]
    pub fn of(segment: &Segment, exit: &Exit, parts: &[Segment]) -> Vec<Self> {
        let mut slices = vec![Self {
            part: None,
            from_ns: segment.from_ns,
            to_ns: segment.to_ns,
        }];
        for wanted in [Part::Vmm, Part::Halted, Part::Preempted] {
            for it in parts {
                if it.state == VcpuState::Part(wanted) {
                    paint(&mut slices, wanted, it.from_ns, it.to_ns);
                }
            }
        }
        let sums = [
            (Part::Vmm, exit.parts.vmm_ns),
            (Part::Halted, exit.parts.halted_ns),
            (Part::Preempted, exit.parts.preempted_ns),
        ];
        let sum = |slices: &[Self], part| -> u64 {
            let of_part = slices.iter().filter(|it| it.part == Some(part));
            of_part.map(Self::ns).sum()
        };
        for (part, ns) in sums {
            let excess_ns = sum(&slices, part).saturating_sub(ns);
            relabel(&mut slices, Some(part), None, excess_ns);
        }
        for (part, ns) in sums {
            let missing_ns = ns.saturating_sub(sum(&slices, part));
            relabel(&mut slices, None, Some(part), missing_ns);
        }
        slices
    }
}

/// Puts a part over whatever was there.
fn paint(slices: &mut Vec<TimeSlice>, part: Part, from_ns: u64, to_ns: u64) {
    let mut painted = Vec::with_capacity(slices.len() + 2);
    for it in slices.drain(..) {
        let (began_ns, ended_ns) = (from_ns.max(it.from_ns), to_ns.min(it.to_ns));
        if began_ns >= ended_ns {
            painted.push(it);
            continue;
        }
        let pieces = [
            (it.part, it.from_ns, began_ns),
            (Some(part), began_ns, ended_ns),
            (it.part, ended_ns, it.to_ns),
        ];
        let pieces = pieces
            .into_iter()
            .filter(|(_, from_ns, to_ns)| from_ns < to_ns);
        painted.extend(pieces.map(|(part, from_ns, to_ns)| TimeSlice {
            part,
            from_ns,
            to_ns,
        }));
    }
    *slices = painted;
}

/// Turns so much time of one part into another's, from the end on.
fn relabel(slices: &mut Vec<TimeSlice>, from: Option<Part>, to: Option<Part>, mut ns: u64) {
    let mut index = slices.len();
    while ns > 0 && index > 0 {
        index -= 1;
        let slice = slices[index];
        if slice.part != from {
            continue;
        }
        if slice.ns() <= ns {
            slices[index].part = to;
            ns -= slice.ns();
        } else {
            let at_ns = slice.to_ns - ns;
            slices[index].to_ns = at_ns;
            let rest = TimeSlice {
                part: to,
                from_ns: at_ns,
                to_ns: slice.to_ns,
            };
            slices.insert(index + 1, rest);
            ns = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use kvm_ebpf_common::{Key, Parts};
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
            parts: Parts {
                vmm_ns,
                halted_ns,
                preempted_ns,
            },
            end: ExitEnd::Entry,
        }
    }

    fn slices(exit: Exit, parts: &[(Part, u64, u64)]) -> Vec<(Option<Part>, u64, u64)> {
        let parts: Vec<_> = parts
            .iter()
            .map(|(part, from_ns, to_ns)| segment(*from_ns, *to_ns, VcpuState::Part(*part)))
            .collect();
        let whole = segment(100, 200, VcpuState::Exit(exit));
        TimeSlice::of(&whole, &exit, &parts)
            .iter()
            .map(|it| (it.part, it.from_ns, it.to_ns))
            .collect()
    }

    #[test]
    fn a_preemption_is_no_part_of_what_it_lies_in() {
        let parts = [(Part::Vmm, 110, 180), (Part::Preempted, 130, 150)];
        assert_eq!(
            slices(exit(50, 0, 20), &parts),
            [
                (None, 100, 110),
                (Some(Part::Vmm), 110, 130),
                (Some(Part::Preempted), 130, 150),
                (Some(Part::Vmm), 150, 180),
                (None, 180, 200),
            ]
        );
    }

    #[test]
    fn sums_hold_whatever_is_known_of_places() {
        assert_eq!(
            slices(exit(0, 30, 0), &[]),
            [(None, 100, 170), (Some(Part::Halted), 170, 200)]
        );
        assert_eq!(
            slices(exit(5, 0, 0), &[(Part::Vmm, 150, 200)]),
            [(Some(Part::Vmm), 150, 155), (None, 155, 200)]
                .into_iter()
                .fold(vec![(None, 100, 150)], |mut all, it| {
                    all.push(it);
                    all
                })
        );
    }

    proptest! {
        #[test]
        fn slices_cover_the_exit_and_add_up_to_its_parts(
            (vmm_ns, halted_ns, preempted_ns) in (0u64..34, 0u64..33, 0u64..33),
            parts in prop::collection::vec((0usize..3, 90u64..210, 0u64..60), 0..6),
        ) {
            let all = [Part::Vmm, Part::Halted, Part::Preempted];
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(part, from_ns, ns)| (all[part], from_ns, from_ns + ns))
                .collect();
            let slices = slices(exit(vmm_ns, halted_ns, preempted_ns), &parts);
            let mut at_ns = 100;
            for (_, from_ns, to_ns) in &slices {
                prop_assert_eq!(*from_ns, at_ns);
                at_ns = *to_ns;
            }
            prop_assert_eq!(at_ns, 200);
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
