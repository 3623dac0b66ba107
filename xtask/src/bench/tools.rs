//! The measured tools.

/// Groups of tools, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// No tool.
    Baseline,
    /// eBPF programs that do nothing.
    EmptyPrograms,
    /// kvm-collector.
    Collector,
    /// Tools that people would use instead.
    OtherTools,
}

impl Group {
    /// Returns the name for tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::EmptyPrograms => "empty programs",
            Self::Collector => "kvm-collector",
            Self::OtherTools => "other tools",
        }
    }
}

/// A tool, with certain options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// Name in tables and budgets.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// Shell command. SIGINT ends it.
    pub(crate) command: &'static str,
    /// Debian package of the tool.
    pub(crate) package: Option<&'static str>,
}

const fn tool(name: &'static str, group: Group, command: &'static str) -> Tool {
    Tool {
        name,
        group,
        command,
        package: None,
    }
}

const fn package_tool(package: &'static str, name: &'static str, command: &'static str) -> Tool {
    Tool {
        name,
        group: Group::OtherTools,
        command,
        package: Some(package),
    }
}

/// All tools. The baseline is the first.
pub(crate) const ALL: &[Tool] = &[
    tool("no tool", Group::Baseline, "sleep 1000"),
    tool(
        "empty raw, exit+entry",
        Group::EmptyPrograms,
        "empty_programs raw kvm_exit kvm_entry",
    ),
    tool(
        "empty classic, exit+entry",
        Group::EmptyPrograms,
        "empty_programs classic kvm_exit kvm_entry",
    ),
    tool(
        "empty raw, all events",
        Group::EmptyPrograms,
        "empty_programs raw 'kvm:*'",
    ),
    tool(
        "empty classic, all events",
        Group::EmptyPrograms,
        "empty_programs classic 'kvm:*'",
    ),
    tool("stat", Group::Collector, "kvm-collector stat"),
    tool(
        "stat --per-vm",
        Group::Collector,
        "kvm-collector stat --per-vm",
    ),
    tool("exits", Group::Collector, "kvm-collector exits"),
    tool(
        "exits -p OTHER",
        Group::Collector,
        "kvm-collector exits -p 1",
    ),
    tool(
        "exits --preempt",
        Group::Collector,
        "kvm-collector exits --preempt",
    ),
    tool(
        "exits --causes",
        Group::Collector,
        "kvm-collector exits --causes",
    ),
    tool(
        "exits --kind pio",
        Group::Collector,
        "kvm-collector exits --kind pio",
    ),
    tool(
        "exits --slow 1s",
        Group::Collector,
        "kvm-collector exits --slow 1s",
    ),
    tool(
        "trace, exit+entry",
        Group::Collector,
        "kvm-collector trace -e kvm_exit,kvm_entry -o /dev/null",
    ),
    tool(
        "trace, all events",
        Group::Collector,
        "kvm-collector trace -o /dev/null",
    ),
    tool(
        "record, exit+entry",
        Group::Collector,
        "kvm-collector record -e kvm_exit,kvm_entry -o /tmp/kvm.data",
    ),
    tool(
        "record, all events",
        Group::Collector,
        "kvm-collector record -o /tmp/kvm.data",
    ),
    tool(
        "ftrace, exit+entry",
        Group::OtherTools,
        "cd /sys/kernel/tracing; echo 1 > events/kvm/kvm_exit/enable; echo 1 > events/kvm/kvm_entry/enable; sleep 1000",
    ),
    package_tool(
        "linux-perf",
        "perf stat, all events",
        "perf stat -e 'kvm:*' -a sleep 1000",
    ),
    package_tool(
        "linux-perf",
        "perf record, exit+entry",
        "perf record -q -o /tmp/perf.data -e kvm:kvm_exit,kvm:kvm_entry -a sleep 1000",
    ),
    package_tool(
        "linux-perf",
        "perf record, all events",
        "perf record -q -o /tmp/perf.data -e 'kvm:*' -a sleep 1000",
    ),
    package_tool(
        "linux-perf",
        "perf kvm stat record",
        "perf kvm stat record -o /tmp/perf.data -a sleep 1000",
    ),
    package_tool("linux-perf", "perf kvm stat live", "perf kvm stat live -a"),
    package_tool(
        "trace-cmd",
        "trace-cmd record, exit+entry",
        "trace-cmd record -q -o /tmp/trace.dat -e kvm:kvm_exit -e kvm:kvm_entry",
    ),
    package_tool(
        "trace-cmd",
        "trace-cmd record, all events",
        "trace-cmd record -q -o /tmp/trace.dat -e kvm",
    ),
    package_tool(
        "bpftrace",
        "bpftrace, count by reason",
        "bpftrace -e 'tracepoint:kvm:kvm_exit { @[args->exit_reason] = count(); }'",
    ),
    package_tool(
        "bpftrace",
        "bpftrace, latency histogram by reason",
        "bpftrace -e 'tracepoint:kvm:kvm_exit { @s[tid] = nsecs; @r[tid] = args->exit_reason; } tracepoint:kvm:kvm_entry /@s[tid]/ { @h[@r[tid]] = hist(nsecs - @s[tid]); delete(@s[tid]); delete(@r[tid]); }'",
    ),
];
