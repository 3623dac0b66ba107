//! Who watches, in each of the measurements.

/// What a watcher's cost is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Nobody watches.
    Nothing,
    /// Programs that do nothing.
    Floor,
    /// The collector.
    Ours,
    /// What people would use instead.
    Others,
}

impl Group {
    /// As tables name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nobody",
            Self::Floor => "empty programs",
            Self::Ours => "kvm-collector",
            Self::Others => "others",
        }
    }
}

/// One who watches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watcher {
    /// What it is called in tables and budgets.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// A command of the shell; `$PID` is the guest's process. Ended by SIGINT.
    pub(crate) command: &'static str,
    /// The Debian package it comes from.
    pub(crate) package: Option<&'static str>,
}

const fn watcher(name: &'static str, group: Group, command: &'static str) -> Watcher {
    Watcher {
        name,
        group,
        command,
        package: None,
    }
}

const fn of_package(package: &'static str, name: &'static str, command: &'static str) -> Watcher {
    Watcher {
        name,
        group: Group::Others,
        command,
        package: Some(package),
    }
}

/// All of them, those first that others are compared with.
pub(crate) const ALL: &[Watcher] = &[
    watcher("nothing", Group::Nothing, "sleep 1000"),
    watcher(
        "empty raw pair",
        Group::Floor,
        "floor raw kvm_exit kvm_entry",
    ),
    watcher(
        "empty classic pair",
        Group::Floor,
        "floor classic kvm_exit kvm_entry",
    ),
    watcher("empty raw, all events", Group::Floor, "floor raw 'kvm:*'"),
    watcher(
        "empty classic, all events",
        Group::Floor,
        "floor classic 'kvm:*'",
    ),
    watcher("stat", Group::Ours, "kvm-collector stat"),
    watcher("stat --per-vm", Group::Ours, "kvm-collector stat --per-vm"),
    watcher("exits", Group::Ours, "kvm-collector exits"),
    watcher("exits -p another", Group::Ours, "kvm-collector exits -p 1"),
    watcher(
        "exits --preempt",
        Group::Ours,
        "kvm-collector exits --preempt",
    ),
    watcher(
        "exits --causes",
        Group::Ours,
        "kvm-collector exits --causes",
    ),
    watcher(
        "exits --kind pio",
        Group::Ours,
        "kvm-collector exits --kind pio",
    ),
    watcher(
        "exits --slow 1s",
        Group::Ours,
        "kvm-collector exits --slow 1s",
    ),
    watcher(
        "trace, the pair",
        Group::Ours,
        "kvm-collector trace -e kvm_exit,kvm_entry -o /dev/null",
    ),
    watcher(
        "trace, all events",
        Group::Ours,
        "kvm-collector trace -o /dev/null",
    ),
    watcher(
        "record, the pair",
        Group::Ours,
        "kvm-collector record -e kvm_exit,kvm_entry -o /tmp/kvm.data",
    ),
    watcher(
        "record, all events",
        Group::Ours,
        "kvm-collector record -o /tmp/kvm.data",
    ),
    watcher(
        "ftrace, the pair",
        Group::Others,
        "cd /sys/kernel/tracing; echo 1 > events/kvm/kvm_exit/enable; echo 1 > events/kvm/kvm_entry/enable; sleep 1000",
    ),
    of_package(
        "linux-perf",
        "perf stat, all events",
        "perf stat -e 'kvm:*' -a sleep 1000",
    ),
    of_package(
        "linux-perf",
        "perf record, the pair",
        "perf record -q -o /tmp/perf.data -e kvm:kvm_exit,kvm:kvm_entry -a sleep 1000",
    ),
    of_package(
        "linux-perf",
        "perf record, all events",
        "perf record -q -o /tmp/perf.data -e 'kvm:*' -a sleep 1000",
    ),
    of_package(
        "linux-perf",
        "perf kvm stat record",
        "perf kvm stat record -o /tmp/perf.data -a sleep 1000",
    ),
    of_package("linux-perf", "perf kvm stat live", "perf kvm stat live -a"),
    of_package(
        "trace-cmd",
        "trace-cmd record, the pair",
        "trace-cmd record -q -o /tmp/trace.dat -e kvm:kvm_exit -e kvm:kvm_entry",
    ),
    of_package(
        "trace-cmd",
        "trace-cmd record, all events",
        "trace-cmd record -q -o /tmp/trace.dat -e kvm",
    ),
    of_package(
        "bpftrace",
        "bpftrace, count by reason",
        "bpftrace -e 'tracepoint:kvm:kvm_exit { @[args->exit_reason] = count(); }'",
    ),
    of_package(
        "bpftrace",
        "bpftrace, latency histogram by reason",
        "bpftrace -e 'tracepoint:kvm:kvm_exit { @s[tid] = nsecs; @r[tid] = args->exit_reason; } tracepoint:kvm:kvm_entry /@s[tid]/ { @h[@r[tid]] = hist(nsecs - @s[tid]); delete(@s[tid]); delete(@r[tid]); }'",
    ),
];
