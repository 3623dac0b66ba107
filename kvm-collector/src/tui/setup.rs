//! Options of the screen.

/// Options that do not change while the screen is shown.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Kind of events to count: a value of `--kind`.
    pub kind: String,
    /// Preempted time is measured.
    pub preempt_watched: bool,
    /// Use colours.
    pub color: bool,
    /// Use symbols that are not ASCII.
    pub unicode: bool,
    /// Name of the recording that is played; `None` for the running kernel.
    pub recording: Option<String>,
    /// The options that select VMs and vCPUs, as they are given; empty if all are selected.
    pub selection: String,
    /// The indices of vCPUs are from the names of threads.
    pub vcpus_from_thread_names: bool,
    /// The screen is on a terminal. False for `--once`, which prints all rows and no keys.
    pub interactive: bool,
}
