//! Drops capabilities.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use rustix::process::getuid;

/// Something that the command still does, and the capabilities that it may need for that.
pub(super) struct Task<'a> {
    /// Tries it. Must have no lasting effect.
    pub(super) works: Box<dyn FnMut() -> bool + 'a>,
    /// The capabilities that may be needed. The first one that is enough is kept.
    pub(super) candidates: Vec<Capability>,
}

/// Drops all capabilities except those without which a task fails. Returns the remaining ones, sorted.
///
/// Which these are depends on the kernel and on the files, so each task is tried without capabilities. A task that fails anyway
/// keeps none.
pub(super) fn drop_unneeded(tasks: &mut [Task<'_>]) -> Result<Vec<Capability>, String> {
    let kept = drop_effective(tasks).and_then(|kept| {
        // The order matters: effective capabilities must be permitted.
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
        caps::set(None, CapSet::Permitted, &kept)?;
        caps::read(None, CapSet::Permitted)
    });
    let kept = kept.map_err(|error| error.to_string())?;
    let mut kept: Vec<_> = kept.into_iter().collect();
    kept.sort_by_key(|it| it.index());
    Ok(kept)
}

/// Calls a function with the rights of the caller of this program: without the capabilities of its binary.
pub(super) fn as_caller<T>(function: impl FnOnce() -> T) -> Result<T, CapsError> {
    if getuid().is_root() {
        return Ok(function());
    }
    let held = caps::read(None, CapSet::Effective)?;
    if held.is_empty() {
        // In the sandbox, capabilities cannot be changed any more.
        return Ok(function());
    }
    caps::clear(None, CapSet::Effective)?;
    let result = function();
    caps::set(None, CapSet::Effective, &held)?;
    Ok(result)
}

/// Returns whether a capability is effective in this thread.
pub(super) fn is_effective(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Finds the capabilities to keep. Changes only the effective ones.
fn drop_effective(tasks: &mut [Task<'_>]) -> Result<CapsHashSet, CapsError> {
    let held = caps::read(None, CapSet::Effective)?;
    let mut kept = CapsHashSet::new();
    if held.is_empty() {
        return Ok(kept);
    }
    for task in tasks {
        if !(task.works)() {
            continue;
        }
        caps::clear(None, CapSet::Effective)?;
        let mut works_with = |capability: Option<Capability>| {
            if let Some(capability) = capability {
                caps::set(None, CapSet::Effective, &CapsHashSet::from([capability]))?;
            }
            Ok::<_, CapsError>((task.works)())
        };
        let mut needed = (!works_with(None)?).then(|| held.clone());
        for capability in &task.candidates {
            if needed.is_some() && held.contains(capability) && works_with(Some(*capability))? {
                needed = Some(CapsHashSet::from([*capability]));
                break;
            }
        }
        kept.extend(needed.unwrap_or_default());
        caps::set(None, CapSet::Effective, &held)?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, thread};

    use super::*;

    /// Capabilities are those of a thread, so each test has its own.
    fn in_thread(test: impl FnOnce(CapsHashSet) + Send + 'static) {
        let test = move || test(caps::read(None, CapSet::Effective).expect("capabilities"));
        thread::spawn(test).join().expect("no panic");
    }

    #[test]
    fn only_what_a_task_needs_is_kept() {
        in_thread(|held| {
            let task = |works: Box<dyn FnMut() -> bool>, candidates| Task { works, candidates };
            let kept = drop_unneeded(&mut [
                task(
                    Box::new(|| is_effective(Capability::CAP_KILL)),
                    vec![Capability::CAP_BPF, Capability::CAP_KILL],
                ),
                // These need none.
                task(Box::new(|| true), vec![Capability::CAP_FOWNER]),
                task(Box::new(|| false), vec![Capability::CAP_CHOWN]),
            ]);
            let needed = Capability::CAP_KILL;
            let expected: Vec<_> = held
                .contains(&needed)
                .then_some(needed)
                .into_iter()
                .collect();
            assert_eq!(kept.as_ref(), Ok(&expected));
            let effective = caps::read(None, CapSet::Effective).expect("capabilities");
            assert_eq!(effective.into_iter().collect::<Vec<_>>(), expected);
        });
    }

    #[test]
    fn a_task_that_no_candidate_permits_keeps_all() {
        in_thread(|held| {
            let tried = RefCell::new(Vec::new());
            let is_privileged = || {
                let effective = caps::read(None, CapSet::Effective).expect("capabilities");
                tried.borrow_mut().push(effective.len());
                effective.len() > 1
            };
            let task = Task {
                works: Box::new(is_privileged),
                candidates: vec![Capability::CAP_KILL],
            };
            let kept = drop_unneeded(&mut [task]).expect("capabilities can be dropped");
            let expected = if held.len() > 1 { held.len() } else { 0 };
            assert_eq!(kept.len(), expected, "{tried:?}");
        });
    }
}
