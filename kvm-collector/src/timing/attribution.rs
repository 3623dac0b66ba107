//! Which thread an event is about: decided once, where the event is decoded, for live and recorded events alike.
//!
//! KVM's events are about the thread in which they happen. An event of another system, such as
//! `sched:sched_switch`, is about the first of two threads that is a selected vCPU thread: the one in which it
//! happens, and the one that it names. Which threads are vCPU threads is learnt from the events that only such
//! threads have; where a stream has none of those, an event of another system is about the thread in which it
//! happens. The rule itself is in `kvm_ebpf_common`: the eBPF programs follow it, too.

use std::collections::HashMap;

use kvm_ebpf_common::{Decision, VCPU_UNKNOWN, VcpuThreadId, decide, subject};

use super::{Selection, Selector, selection::DecidedIds};
use crate::{
    model::{Thread, capacity::MOST_NAMED},
    tracefs::{Field, Format, ReasonNames},
};

/// Threads are remembered in a table by the last bits of their number, to save a search for nearly every event.
const RECENT_THREADS: usize = 1024;

/// Events that only a vCPU thread has.
const OF_VCPU_THREADS: [&str; 3] = ["kvm_exit", "kvm_entry", "kvm_userspace_exit"];

/// Where the events of one format say which thread they are about.
#[derive(Debug, Clone, Default)]
struct EventFields {
    is_of_kvm: bool,
    /// Only vCPU threads have it.
    is_of_vcpu_thread: bool,
    vcpu: Option<Field>,
    /// The other thread that it names.
    other: Option<Field>,
    /// `kvm_exit`'s reason.
    reason: Option<Field>,
}

impl EventFields {
    fn of(format: &Format) -> Self {
        let is_of_kvm = format.is_of_kvm();
        let is_exit = format.is("kvm", "kvm_exit");
        let field = |name| format.field(name).cloned();
        Self {
            is_of_kvm,
            is_of_vcpu_thread: Attribution::identifies(format),
            vcpu: field("vcpu_id"),
            other: (!is_of_kvm)
                .then(|| ["next_pid", "pid"].into_iter().find_map(field))
                .flatten(),
            reason: is_exit
                .then(|| field(ReasonNames::fields(Some(format)).1))
                .flatten(),
        }
    }
}

/// A vCPU thread, and the vCPU it ran last.
#[derive(Debug, Clone, Copy)]
struct VcpuThread {
    thread: Thread,
    vcpu: u32,
}

impl VcpuThread {
    fn of_unknown_vcpu(thread: Thread) -> Self {
        let vcpu = VCPU_UNKNOWN;
        Self { thread, vcpu }
    }
}

/// Says of each event of a stream which thread it is about, and whether it is selected.
#[derive(Debug)]
pub struct Attribution {
    /// Per index of a format.
    fields: Vec<EventFields>,
    selector: Selector,
    /// Nothing is selected and all events are KVM's: an event is selected, and about its own thread.
    is_trivial: bool,
    /// No process, thread, vCPU or reason is selected.
    selects_all: bool,
    /// It has to be known which threads are vCPU threads.
    learns: bool,
    known: HashMap<u32, VcpuThread>,
    recent: Vec<VcpuThread>,
    by_vcpu: bool,
    unattributed: u64,
}

impl Attribution {
    /// Of events of these formats, by their index; `None` for events that cannot be decoded.
    pub fn new<'f>(
        formats: impl IntoIterator<Item = Option<&'f Format>>,
        selection: Selection,
    ) -> Self {
        let undecoded = EventFields {
            is_of_kvm: true,
            ..EventFields::default()
        };
        let fields = formats
            .into_iter()
            .map(|format| format.map_or_else(|| undecoded.clone(), EventFields::of));
        let fields: Vec<_> = fields.collect();
        let by_vcpu = !selection.filter.vcpus.is_empty();
        let has_others = fields.iter().any(|it| !it.is_of_kvm);
        let has_vcpu_threads = fields.iter().any(|it| it.is_of_vcpu_thread);
        let selects = by_vcpu
            || selection.is_by_process()
            || !selection.filter.tids.is_empty()
            || selection.filter.reasons.is_some();
        Self {
            is_trivial: !selects && !has_others,
            selects_all: !by_vcpu && !selection.is_by_process() && selection.filter.tids.is_empty(),
            learns: has_vcpu_threads && (by_vcpu || has_others),
            known: HashMap::new(),
            recent: Vec::new(),
            selector: Selector::new(selection),
            fields,
            by_vcpu,
            unattributed: 0,
        }
    }

    /// Do the events of a format say which threads are vCPU threads?
    #[must_use]
    pub fn identifies(format: &Format) -> bool {
        OF_VCPU_THREADS.iter().any(|it| format.is("kvm", it))
    }

    /// Has it to see the events of this index, whether they are selected or not?
    #[must_use]
    pub fn learns_from(&self, index: usize) -> bool {
        self.learns
            && self
                .fields
                .get(index)
                .is_some_and(|it| it.is_of_vcpu_thread)
    }

    /// Does it need an event's record?
    #[must_use]
    pub fn needs_records(&self) -> bool {
        self.learns || self.by_vcpu || self.selector.selection().filter.reasons.is_some()
    }

    /// Events left out because it is not known which VM or vCPU they belong to.
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Attributes an event that happened in a thread. `None`: it is not selected. Otherwise the thread that it is
    /// about; `Some(None)` for one that is about no vCPU thread, in a stream in which nothing is selected.
    #[inline]
    pub fn attribute(
        &mut self,
        index: usize,
        thread: Thread,
        raw: &[u8],
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) -> Option<Option<Thread>> {
        if self.is_trivial {
            return Some(Some(thread));
        }
        self.attribute_selected(index, thread, raw, vm_name)
    }

    fn attribute_selected(
        &mut self,
        index: usize,
        thread: Thread,
        raw: &[u8],
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) -> Option<Option<Thread>> {
        let number = |field: &Option<Field>| {
            let number = field.as_ref()?.read_u64(raw)?;
            u32::try_from(number).ok()
        };
        let fields = self.fields.get(index)?;
        let own_vcpu = number(&fields.vcpu).filter(|_| self.by_vcpu || self.learns);
        let (is_of_kvm, other) = (fields.is_of_kvm, number(&fields.other));
        let is_reason_selected =
            fields.reason.is_none() || self.selector.selects_reason(|| number(&fields.reason));
        if self.learns && fields.is_of_vcpu_thread {
            self.learn(thread, own_vcpu);
        }
        if !is_reason_selected {
            return None;
        }
        if is_of_kvm || !self.learns {
            return self.own(thread, own_vcpu, vm_name);
        }
        let current = self.find(thread.tid).filter(|it| it.thread == thread);
        let named = other.and_then(|tid| self.find(tid));
        let mut decide_process = |known: Option<VcpuThread>| {
            let tgid = known.map_or(0, |it| it.thread.tgid);
            let is_selected = self.selector.process(tgid, vm_name);
            (tgid, is_selected.unwrap_or(false))
        };
        let processes = [decide_process(current), decide_process(named)];
        let filter = &self.selector.selection().filter;
        let ids = DecidedIds { filter, processes };
        let id = |it: &VcpuThread| VcpuThreadId {
            tgid: it.thread.tgid,
            tid: it.thread.tid,
            vcpu: it.vcpu,
        };
        match subject(&ids, current, || named, id) {
            Some(known) => Some(Some(known.thread)),
            // Where nothing is selected, all that happened is shown.
            None => self.selects_all.then_some(None),
        }
    }

    /// Decides about an event that is about the thread in which it happened.
    fn own(
        &mut self,
        thread: Thread,
        own_vcpu: Option<u32>,
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) -> Option<Option<Thread>> {
        let Some(is_selected) = self.selector.process(thread.tgid, vm_name) else {
            self.unattributed += 1;
            return None;
        };
        let ids = DecidedIds {
            filter: &self.selector.selection().filter,
            processes: [(thread.tgid, is_selected); 2],
        };
        let vcpu = || own_vcpu.unwrap_or_else(|| self.vcpu_of(thread));
        match decide(&ids, thread.tgid, thread.tid, vcpu) {
            Decision::Selected => Some(Some(thread)),
            Decision::Skipped => None,
            Decision::VcpuUnknown => {
                self.unattributed += 1;
                None
            }
        }
    }

    /// A thread has ended: its number may be another thread's from here on.
    pub fn thread_end(&mut self, tid: u32) {
        if self.known.remove(&tid).is_some()
            && let Some(recent) = self.recent.get_mut(tid as usize % RECENT_THREADS)
            && recent.thread.tid == tid
        {
            recent.thread = Thread::default();
        }
        // A process ends with its main thread, whose number it has. No other process can have that.
        self.selector.forget_process(tid);
    }

    fn learn(&mut self, thread: Thread, vcpu: Option<u32>) {
        if self.recent.is_empty() {
            let none = VcpuThread::of_unknown_vcpu(Thread::default());
            self.recent.resize(RECENT_THREADS, none);
        }
        let recent = &self.recent[thread.tid as usize % RECENT_THREADS];
        if recent.thread == thread && vcpu.is_none_or(|it| it == recent.vcpu) {
            return;
        }
        if self.known.len() >= MOST_NAMED && !self.known.contains_key(&thread.tid) {
            // What other events are about it is not recognised.
            self.unattributed += 1;
            return;
        }
        let unknown = VcpuThread::of_unknown_vcpu(thread);
        let known = self.known.entry(thread.tid).or_insert(unknown);
        if known.thread != thread {
            *known = unknown;
        }
        known.vcpu = vcpu.unwrap_or(known.vcpu);
        let known = *known;
        self.recent[thread.tid as usize % RECENT_THREADS] = known;
    }

    fn find(&self, tid: u32) -> Option<VcpuThread> {
        if tid == 0 {
            return None;
        }
        match self.recent.get(tid as usize % RECENT_THREADS) {
            Some(recent) if recent.thread.tid == tid => Some(*recent),
            _ => self.known.get(&tid).copied(),
        }
    }

    fn vcpu_of(&self, thread: Thread) -> u32 {
        self.find(thread.tid)
            .filter(|known| known.thread == thread)
            .map_or(VCPU_UNKNOWN, |known| known.vcpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::Filter;

    const EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");
    const PIO: &str = include_str!("../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_pio");

    fn formats() -> [Format; 2] {
        [EXIT, PIO].map(|text| Format::parse("kvm", text).expect("a format"))
    }

    fn attribution(selection: Selection) -> Attribution {
        Attribution::new(formats().iter().map(Some), selection)
    }

    /// Of a thread beside the main one.
    fn is_selected(attribution: &mut Attribution, tgid: u32, name: &str) -> bool {
        let tid = tgid + 1;
        let name = |_| Some(name.to_owned());
        let raw = vec![0; formats()[0].fixed_size()];
        let attributed = attribution.attribute(0, Thread { tgid, tid }, &raw, &name);
        attributed.is_some()
    }

    #[test]
    fn a_process_ends_with_its_main_thread_whatever_that_does() {
        let web = globset::Glob::new("web-*").expect("a glob");
        let selection = || Selection {
            vms: vec![web.compile_matcher()],
            ..Selection::default()
        };
        // The main thread has no event of KVM: it only starts the others.
        let mut attribution = attribution(selection());
        assert!(is_selected(&mut attribution, 100, "web-1"));
        attribution.thread_end(101);
        assert!(is_selected(&mut attribution, 100, "db"), "it lives");
        attribution.thread_end(100);
        assert!(!is_selected(&mut attribution, 100, "db"), "it is another");
        attribution.thread_end(100);
        assert!(is_selected(&mut attribution, 100, "web-2"));
    }

    #[test]
    fn an_exit_for_another_reason_still_tells_the_vcpu() {
        let selection = Selection {
            filter: Filter {
                vcpus: vec![3],
                reasons: Some(vec![0x7b]),
                ..Filter::default()
            },
            vms: Vec::new(),
        };
        let mut attribution = attribution(selection);
        let [exit, pio] = formats();
        let thread = Thread { tgid: 1, tid: 2 };
        let mut raw = vec![0; exit.fixed_size()];
        raw[exit.field("vcpu_id").expect("a field").offset] = 3;
        assert_eq!(attribution.attribute(0, thread, &raw, &|_| None), None);
        let raw = vec![0; pio.fixed_size()];
        let attributed = attribution.attribute(1, thread, &raw, &|_| None);
        assert_eq!(attributed, Some(Some(thread)));
        assert_eq!(attribution.unattributed(), 0);
    }

    #[test]
    fn a_thread_that_finds_no_room_is_counted() {
        let selection = Selection {
            filter: Filter {
                vcpus: vec![0],
                ..Filter::default()
            },
            vms: Vec::new(),
        };
        let mut attribution = attribution(selection);
        let most = u32::try_from(MOST_NAMED).expect("a small number");
        let raw = vec![0; formats()[0].fixed_size()];
        for tid in 1..=most + 5 {
            attribution.attribute(0, Thread { tgid: 1, tid }, &raw, &|_| None);
        }
        assert_eq!(attribution.unattributed(), 5);
        assert_eq!(attribution.known.len(), MOST_NAMED);
    }
}
