//! Processes, distinguished over time: the kernel uses the number of a process that has ended again.

/// Bits of a process's number (`PID_MAX_LIMIT`, include/linux/threads.h: 4 million).
const PID_BITS: u32 = 22;

/// Set in the identity of a process whose number was used before. No number has this bit: it would be negative.
const IS_REUSED: u32 = 1 << 31;

/// How often a number is used again at most; beyond that, processes are not distinguished any more.
const MOST_REUSES: u32 = (IS_REUSED >> PID_BITS) - 2;

/// The identity of a process: its number (pid), if no other process had it since the measurement began, as is so for nearly
/// all. Otherwise it also has a bit that no number has, and how many processes had the number before it.
#[must_use]
pub const fn process_id(pid: u32, reuses: u32) -> u32 {
    let reuses = if reuses < MOST_REUSES {
        reuses
    } else {
        MOST_REUSES
    };
    match reuses {
        0 => pid,
        _ => IS_REUSED | reuses << PID_BITS | pid,
    }
}

/// How many processes had the number of a process before it.
const fn reuses(process_id: u32) -> u32 {
    match is_reused(process_id) {
        true => (process_id & !IS_REUSED) >> PID_BITS,
        false => 0,
    }
}

const fn is_reused(process_id: u32) -> bool {
    // In recordings of perf, -1 is a process that is gone (`perf_event_pid`, kernel/events/core.c).
    process_id & IS_REUSED != 0 && process_id != u32::MAX
}

/// The number (pid) of a process with an identity.
#[must_use]
pub const fn pid_of(process_id: u32) -> u32 {
    match is_reused(process_id) {
        true => process_id & ((1 << PID_BITS) - 1),
        false => process_id,
    }
}

/// The identity of the next process that has the same number.
#[must_use]
pub const fn next_process_id(process_id: u32) -> u32 {
    self::process_id(pid_of(process_id), reuses(process_id) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_one_number_differ() {
        let pid = (1 << PID_BITS) - 1;
        let first = process_id(pid, 0);
        assert_eq!(first, pid);
        let mut ids = vec![first];
        for _ in 0..MOST_REUSES {
            ids.push(next_process_id(ids[ids.len() - 1]));
        }
        assert!(ids.iter().all(|id| pid_of(*id) == pid && *id != u32::MAX));
        let last = ids[ids.len() - 1];
        assert_eq!(next_process_id(last), last);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), MOST_REUSES as usize + 1);
    }

    #[test]
    fn what_is_no_identity_is_a_number() {
        for pid in [0, 1, 1 << 22, 1 << 30, u32::MAX] {
            assert_eq!(pid_of(pid), pid);
        }
    }
}
