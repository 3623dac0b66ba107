//! Processes, distinguished over time: the kernel uses the number of a process that has ended again.

/// Bits of a process's number (`PID_MAX_LIMIT`, include/linux/threads.h: 4 million).
const PID_BITS: u32 = 22;

/// The identity of a process: its number (pid), and in the bits above how many processes had that number before it since
/// the measurement began. For nearly all of them that is 0, and the identity is the number.
///
/// Beyond 1,022 reuses of one number, processes are not distinguished any more.
#[must_use]
pub const fn process_id(pid: u32, reuses: u32) -> u32 {
    // Below the largest, so that no identity is perf's number for a process that is gone, -1.
    let most = (u32::MAX >> PID_BITS) - 1;
    let reuses = if reuses < most { reuses } else { most };
    pid | reuses << PID_BITS
}

/// The number (pid) of a process with an identity.
#[must_use]
pub const fn pid_of(process_id: u32) -> u32 {
    match process_id {
        // In recordings of perf, a process that is gone (`perf_event_pid`, kernel/events/core.c).
        u32::MAX => u32::MAX,
        _ => process_id & ((1 << PID_BITS) - 1),
    }
}

/// The identity of the next process that has the same number.
#[must_use]
pub const fn next_process_id(process_id: u32) -> u32 {
    self::process_id(pid_of(process_id), (process_id >> PID_BITS) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_one_number_differ() {
        let pid = (1 << PID_BITS) - 1;
        let first = process_id(pid, 0);
        assert_eq!(first, pid);
        let second = next_process_id(first);
        assert_ne!(second, first);
        assert_eq!(pid_of(second), pid);
        assert_ne!(next_process_id(second), second);
        let last = process_id(pid, 5_000);
        assert_eq!((next_process_id(last), pid_of(last)), (last, pid));
    }
}
