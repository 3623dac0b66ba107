//! Sort keys of the rows.

use std::cmp::Ordering;

use crate::view::TopRow;

/// A sort key. Rows with the largest values come first; names are in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Exits per second.
    Exits,
    /// Time outside the guest without idle time.
    Cost,
    /// Cost as a share of cost and guest time.
    Overhead,
    /// Time outside the guest, as a share of the time of the vCPUs.
    Out,
    /// Time in the guest, as a share of the time of the vCPUs.
    Guest,
    /// Time in the kernel, as a share of the time of the vCPUs.
    Kernel,
    /// Time in the user space of the VMM except during halts, as a share of the time of the vCPUs.
    Vmm,
    /// Idle time, as a share of the time of the vCPUs.
    Idle,
    /// Preempted time, as a share of the time of the vCPUs.
    Preempted,
    /// Mean time of an exit.
    Mean,
    /// Median time of an exit.
    P50,
    /// 99th percentile of an exit's time.
    P99,
    /// Longest exit.
    Max,
    /// Name.
    Name,
}

impl Sort {
    /// All sort keys, in the order of their columns.
    pub const ALL: [Self; 14] = [
        Self::Name,
        Self::Exits,
        Self::Cost,
        Self::Overhead,
        Self::Out,
        Self::Guest,
        Self::Kernel,
        Self::Vmm,
        Self::Idle,
        Self::Preempted,
        Self::Mean,
        Self::P50,
        Self::P99,
        Self::Max,
    ];

    /// Returns the heading of the column.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exits => "exits/s",
            Self::Cost => "cost/s",
            Self::Overhead => "overhead%",
            Self::Out => "out%",
            Self::Guest => "guest%",
            Self::Kernel => "kern%",
            Self::Vmm => "VMM%",
            Self::Idle => "idle%",
            Self::Preempted => "prmt%",
            Self::Mean => "mean",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Max => "max",
            Self::Name => "name",
        }
    }

    /// Returns the sort key of the next or previous column. Skips `Preempted` unless it is measured.
    #[must_use]
    pub fn step(self, forward: bool, preempt_watched: bool) -> Self {
        let all: Vec<_> = Self::ALL
            .into_iter()
            .filter(|it| preempt_watched || *it != Self::Preempted)
            .collect();
        let at = all.iter().position(|it| *it == self).unwrap_or(0);
        all[(at + if forward { 1 } else { all.len() - 1 }) % all.len()]
    }

    /// Returns the value that rows are sorted by; 0 for names.
    fn sort_value(self, row: &TopRow) -> f64 {
        let time =
            |field: fn(&crate::view::DurationStats) -> u64| row.durations.as_ref().map_or(0, field);
        match self {
            Self::Exits => to_f64(row.breakdown.exits),
            Self::Cost => to_f64(row.breakdown.cost_ns()),
            Self::Overhead => overhead(row),
            Self::Out => share(row.breakdown.time_ns, row.wall_ns),
            Self::Guest => share(row.guest_ns.unwrap_or(0), row.wall_ns),
            Self::Kernel => share(row.breakdown.kernel_ns, row.wall_ns),
            Self::Vmm => share(row.breakdown.vmm_ns, row.wall_ns),
            Self::Idle => share(row.breakdown.idle_ns, row.wall_ns),
            Self::Preempted => share(row.breakdown.preempted_ns, row.wall_ns),
            Self::Mean => to_f64(time(|it| it.mean_ns)),
            Self::P50 => to_f64(time(|it| it.p50_ns)),
            Self::P99 => to_f64(time(|it| it.p99_ns)),
            Self::Max => to_f64(time(|it| it.max_ns)),
            Self::Name => 0.0,
        }
    }

    /// Returns whether rows with the smallest values come first.
    #[must_use]
    pub fn is_ascending(self, reverse: bool) -> bool {
        (self == Self::Name) != reverse
    }

    /// Sorts rows by this key, then by the number of exits, then by name.
    pub fn sort(self, rows: &mut [TopRow], reverse: bool) {
        rows.sort_by(|a, b| {
            let first = self.sort_value(b).total_cmp(&self.sort_value(a));
            let exits = if self == Self::Name {
                Ordering::Equal
            } else {
                b.breakdown.exits.cmp(&a.breakdown.exits)
            };
            let order = first
                .then(exits)
                .then_with(|| natural_cmp(&a.name, &b.name))
                .then_with(|| a.key.cmp(&b.key));
            if reverse { order.reverse() } else { order }
        });
    }
}

/// Returns the row's cost as a share of the cost and the guest time of its vCPUs.
pub(super) fn overhead(row: &TopRow) -> f64 {
    share(row.breakdown.cost_ns(), row.active_ns)
}

pub(super) fn share(part_ns: u64, whole_ns: u64) -> f64 {
    if whole_ns == 0 {
        0.0
    } else {
        to_f64(part_ns) / to_f64(whole_ns)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display and sorting")]
pub(super) fn to_f64(number: u64) -> f64 {
    number as f64
}

/// Compares names in natural order: `vCPU 2` is before `vCPU 10`.
fn natural_cmp(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits_a, digits_b) = (digits(a), digits(b));
        let order = if digits_a > 0 && digits_b > 0 {
            let (number_a, number_b) = (
                a[..digits_a].trim_start_matches('0'),
                b[..digits_b].trim_start_matches('0'),
            );
            (a, b) = (&a[digits_a..], &b[digits_b..]);
            number_a
                .len()
                .cmp(&number_b.len())
                .then(number_a.cmp(number_b))
        } else {
            let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
            let order = chars_a.next().cmp(&chars_b.next());
            if a.is_empty() || b.is_empty() {
                return order;
            }
            (a, b) = (chars_a.as_str(), chars_b.as_str());
            order
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_natural_order() {
        let mut names = [
            "vCPU 10", "vCPU 2", "web", "", "vCPU", "db-007", "db-7a", "db-8",
        ];
        names.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(
            names,
            [
                "", "db-007", "db-7a", "db-8", "vCPU", "vCPU 2", "vCPU 10", "web"
            ]
        );
    }

    #[test]
    fn stepping_visits_all_keys() {
        let mut sort = Sort::Cost;
        for _ in 0..13 {
            sort = sort.step(true, false);
            assert_ne!(sort, Sort::Preempted);
        }
        assert_eq!(sort, Sort::Cost);
        assert_eq!(sort.step(true, true).step(false, true), sort);
    }
}
