//! How far the program of a vCPU is.

/// What follows an exit to user space.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The vCPU is entered again.
    Run,
    /// The vCPU has booted and is entered again.
    Booted,
    /// The program has ended.
    End,
    /// The vCPU has shut down after the end of its program.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "no kind shuts a vCPU down")
    )]
    ShutDown,
    /// The program does not cause this exit.
    Unexpected(String),
}

/// Registers that show how far the program of a vCPU is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Instruction pointer.
    pub(super) instruction: u64,
    /// Completed rounds.
    pub(super) rounds: u64,
    /// Page that the kind `page-fault` touches next.
    pub(super) next_page: u64,
}
