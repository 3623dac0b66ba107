//! Reading ahead: while events are given out, the next are read, decompressed and scanned by a second thread.

use std::{mem, sync::mpsc, thread};

use super::scan::{Scanned, Scanner};
use crate::recording::{Next, ReadError, Runs};

/// Handed over at a time, in bytes: it wakes the other thread, which takes as long as scanning a run.
const HANDED_OVER: usize = 1 << 20;

/// And in runs, where little of them is of interest.
const MOST_RUNS: usize = 16;

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Run(Scanned),
    /// It ends here; and should not, if there is something to say about it.
    End(Option<String>),
}

impl Step {
    fn bytes(&self) -> usize {
        match self {
            Self::Run(scanned) => scanned.run.len() + size_of_val(scanned.timed.as_slice()),
            Self::End(_) => 0,
        }
    }
}

/// Reads a recording while `play` asks for one step after the other. It may stop asking at any time, and does after an end or an error.
pub(super) fn read<R>(
    mut runs: Runs,
    mut scanner: Scanner<'_>,
    play: impl FnOnce(&mut dyn FnMut() -> Result<Step, ReadError>) -> R,
) -> R {
    // A stream is not read ahead: a thread that waits for more of it could not be ended.
    let is_file = runs.is_file();
    let path = runs.path().to_owned();
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
        // While some are played, some wait, and some are being read.
        let (ahead, steps) = mpsc::sync_channel::<Vec<_>>(1);
        let read_ahead = move || {
            let (mut read, mut bytes) = (Vec::new(), 0);
            loop {
                let step = next();
                let is_last = !matches!(step, Ok(Step::Run(_)));
                bytes += step.as_ref().map_or(0, Step::bytes);
                read.push(step);
                if is_last || bytes >= HANDED_OVER || read.len() >= MOST_RUNS {
                    bytes = 0;
                    // Nobody asks any more: enough has been seen.
                    if ahead.send(mem::take(&mut read)).is_err() || is_last {
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("reader".to_owned());
        let mut failed = thread.spawn_scoped(scope, read_ahead).err();
        let mut steps = steps.into_iter().flatten();
        // Without an end there is none only where the thread has panicked, and then so does the scope.
        play(&mut move || match failed.take() {
            Some(source) => Err(ReadError::Io {
                path: path.clone(),
                source,
            }),
            None => steps.next().unwrap_or(Ok(Step::End(None))),
        })
    })
}
