//! Which vCPU thread this is.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::{VCPU_UNKNOWN, VcpuThread};

use crate::{
    maps::{FREE_THREADS, NEAR_THREAD, THREAD_OF, THREADS},
    task::Task,
    turns,
};

/// A vCPU thread and its place among all.
pub(crate) struct Place {
    pub(crate) index: u32,
    pub(crate) thread: &'static mut VcpuThread,
}

/// The thread at an index. Only the thread itself writes there, and a switch from or to it.
#[inline(always)]
pub(crate) fn at(index: u32) -> Option<Place> {
    let thread = THREADS.get_ptr_mut(index)?;
    Some(Place {
        index,
        // SAFETY: the map's value, valid while the program runs; exclusive, see above.
        thread: unsafe { &mut *thread },
    })
}

/// The current thread, if it is known to be a vCPU's.
#[inline(always)]
pub(crate) fn find(task: Task) -> Option<Place> {
    // A CPU that idles is in no thread, as is a place that is not in use.
    if task.tid == 0 {
        return None;
    }
    // SAFETY: a helper without arguments.
    let near = NEAR_THREAD.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)?;
    // SAFETY: this CPU's; a tracepoint program is not entered twice on one CPU.
    let near = unsafe { &mut *near };
    // A vCPU tends to stay on its CPU; an array's element is found at once, a hash table's is not.
    if let Some(place) = at(*near)
        && place.thread.task == task.both()
    {
        return Some(place);
    }
    // SAFETY: a copy of a number that the thread itself has put in.
    let index = *unsafe { THREAD_OF.get(task.tid) }?;
    let place = at(index).filter(|place| place.thread.task == task.both())?;
    *near = index;
    Some(place)
}

/// The current thread, which is a vCPU's. `None` when there is no room for another one.
#[inline(always)]
pub(crate) fn find_or_make(task: Task, vcpu: u32) -> Option<Place> {
    let mut known = find(task);
    if let Some(place) = &mut known {
        if vcpu == VCPU_UNKNOWN || place.thread.vcpu == vcpu {
            return known;
        }
        if place.thread.vcpu == VCPU_UNKNOWN {
            set_vcpu(place, vcpu);
            return known;
        }
    }
    let mut made = make(task);
    // It runs another vCPU from here on, and has since the last entry. The old entry ends last: user space may clear it
    // then.
    if let Some(Place { thread: old, .. }) = known {
        if let Some(Place { thread: new, .. }) = &mut made {
            old.clock.hand_over_guest_time(&mut new.clock);
        }
        end(old);
    }
    if let Some(place) = &mut made {
        set_vcpu(place, vcpu);
    }
    made
}

/// Notes which vCPU a thread runs, when that becomes known.
#[inline(always)]
fn set_vcpu(place: &mut Place, vcpu: u32) {
    place.thread.vcpu = vcpu;
    if vcpu != VCPU_UNKNOWN {
        // It enters the vCPU now, or did before the exit that says so.
        turns::record(place.index, place.thread);
    }
}

#[inline(always)]
fn make(task: Task) -> Option<Place> {
    let index = FREE_THREADS.pop().ok()??;
    if THREAD_OF.insert(task.tid, index, 0).is_err() {
        let _ = FREE_THREADS.push(index, 0);
        return None;
    }
    let place = at(index)?;
    // All else is zero, as user space has left it.
    place.thread.was = task.both();
    place.thread.task = task.both();
    Some(place)
}

/// Nothing is counted for the thread from here on, at this place; user space may clear it.
#[inline(always)]
pub(crate) fn end(thread: &mut VcpuThread) {
    thread.task = 0;
    thread.ended = 1;
}
