//! What the tests have shown on this machine and kernel. `cargo xtask test` collects it for docs/support.md.

/// One thing that a test shows, and its name in the output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    /// Exits whose counts equal those of an independent source.
    Counts,
    /// Lines of a trace that equal ftrace's.
    Text,
    /// Exits of a recording for which perf reports the same.
    Perf,
    /// Exits whose times equal those of an independent source, within the error that the test states.
    Times,
}

impl Shown {
    const fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Text => "text",
            Self::Perf => "perf",
            Self::Times => "times",
        }
    }

    /// Prints how many events were compared. Must be called when all of them have been found equal.
    pub(crate) fn print(self, events: u64) {
        println!("\nsupport: {} {events}", self.name());
    }
}

/// Prints the release of the running kernel.
pub(crate) fn print_kernel(release: &str) {
    println!("\nsupport: kernel {}", release.trim());
}
