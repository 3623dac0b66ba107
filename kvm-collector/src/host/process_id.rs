//! Identities of processes. A pid alone is not one: the kernel reuses the pid of an ended process.

/// Bits of a pid (`PID_MAX_LIMIT` in include/linux/threads.h is 4 million).
const PID_BITS: u32 = 22;

/// Set in the identity of a process with a reused pid. No pid has this bit: it would be negative.
const IS_REUSED: u32 = 1 << 31;

/// Maximum reuse count of a pid. Processes beyond it share an identity.
const MAX_REUSES: u32 = (IS_REUSED >> PID_BITS) - 2;

/// Returns the identity of a process: its pid if no other process has had it since the measurement
/// began, which is the usual case. Otherwise a value with a bit that no pid has, the pid, and the
/// number of processes that had the pid before.
#[must_use]
pub const fn process_id(pid: u32, reuses: u32) -> u32 {
    let reuses = if reuses < MAX_REUSES {
        reuses
    } else {
        MAX_REUSES
    };
    match reuses {
        0 => pid,
        _ => IS_REUSED | reuses << PID_BITS | pid,
    }
}

/// Number of processes that had the same pid before.
const fn reuses(process_id: u32) -> u32 {
    match is_reused(process_id) {
        true => (process_id & !IS_REUSED) >> PID_BITS,
        false => 0,
    }
}

const fn is_reused(process_id: u32) -> bool {
    // In recordings of perf, -1 stands for an ended process (`perf_event_pid`, kernel/events/core.c).
    process_id & IS_REUSED != 0 && process_id != u32::MAX
}

/// Returns the pid of a process identity.
#[must_use]
pub const fn pid_of(process_id: u32) -> u32 {
    match is_reused(process_id) {
        true => process_id & ((1 << PID_BITS) - 1),
        false => process_id,
    }
}

/// Returns the identity of the next process with the same pid.
#[must_use]
pub const fn next_process_id(process_id: u32) -> u32 {
    self::process_id(pid_of(process_id), reuses(process_id) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_the_same_pid_have_different_identities() {
        let pid = (1 << PID_BITS) - 1;
        let first = process_id(pid, 0);
        assert_eq!(first, pid);
        let mut ids = vec![first];
        for _ in 0..MAX_REUSES {
            ids.push(next_process_id(ids[ids.len() - 1]));
        }
        assert!(ids.iter().all(|id| pid_of(*id) == pid && *id != u32::MAX));
        let last = ids[ids.len() - 1];
        assert_eq!(next_process_id(last), last);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), MAX_REUSES as usize + 1);
    }

    #[test]
    fn a_plain_pid_is_its_own_identity() {
        for pid in [0, 1, 1 << 22, 1 << 30, u32::MAX] {
            assert_eq!(pid_of(pid), pid);
        }
    }
}
