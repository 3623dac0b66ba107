//! Reading ahead: while events are given out, the next are read, decompressed and scanned by a second thread.

use std::{
    sync::mpsc::{self, RecvError},
    thread,
};

use super::scan::{Scanned, Scanner};
use crate::recording::{Next, ReadError, Runs};

/// So many runs are read ahead at most. One has 256 KiB, or what a compressed record has.
const MOST_AHEAD: usize = 8;

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Run(Scanned),
    /// It ends here; and should not, if there is something to say about it.
    End(Option<String>),
}

/// Reads a recording while `play` asks for one step after the other. It may stop asking at any time, and does after an end or an error.
pub(super) fn read<R>(
    mut runs: Runs,
    mut scanner: Scanner<'_>,
    play: impl FnOnce(&mut dyn FnMut() -> Result<Step, ReadError>) -> R,
) -> R {
    // A stream is not read ahead: a thread that waits for more of it could not be ended.
    let is_file = runs.is_file();
    let mut next = move || {
        Ok(match runs.next()? {
            Next::Run(run) => Step::Run(scanner.scan(run)),
            Next::End => Step::End(None),
            Next::Damaged(what) => Step::End(Some(what)),
        })
    };
    if !is_file {
        return play(&mut next);
    }
    thread::scope(|scope| {
        let (ahead, steps) = mpsc::sync_channel(MOST_AHEAD);
        scope.spawn(move || {
            loop {
                let step = next();
                let is_last = !matches!(step, Ok(Step::Run(_)));
                // Nobody asks any more: enough has been seen.
                if ahead.send(step).is_err() || is_last {
                    return;
                }
            }
        });
        // Without an end there is none only where the thread has panicked, and then so does the scope.
        play(&mut move || steps.recv().unwrap_or_else(|RecvError| Ok(Step::End(None))))
    })
}
