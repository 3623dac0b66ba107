//! Attribution of events to threads. It is decided once, when an event is decoded, for live and
//! recorded events alike.
//!
//! KVM's events concern the thread in which they happen. An event of another system, such as
//! `sched:sched_switch`, concerns the first of two threads that is a selected vCPU thread: the
//! thread in which it happens, or the thread that it names. vCPU threads are identified by events
//! that only vCPU threads have. If a stream contains no such events, an event of another system
//! concerns the thread in which it happens. The rule itself is in `kvm_ebpf_common`, because the
//! eBPF programs apply it, too.

use std::collections::HashMap;

use kvm_ebpf_common::{Decision, VCPU_UNKNOWN, VcpuThreadId, decide, select_vcpu_thread};

use super::{Selection, Selector, selection::SelectedIds};
use crate::{
    model::{ThreadId, VmName, capacity::MAX_KNOWN_TASKS},
    tracefs::{Field, Format, ReasonNames},
};

/// Entries of a cache that is indexed by the low bits of the thread id. It saves a hash lookup for
/// nearly every event.
const RECENT_THREADS: usize = 1024;

/// Events that only happen in vCPU threads.
const VCPU_THREAD_EVENTS: [&str; 3] = ["kvm_exit", "kvm_entry", "kvm_userspace_exit"];

/// The fields of one event that tell which thread it concerns.
#[derive(Debug, Clone, Default)]
struct EventFields {
    /// Whether the event is one of the `kvm` system.
    is_kvm_event: bool,
    /// Whether the event only happens in vCPU threads.
    is_vcpu_thread_event: bool,
    /// The vCPU index.
    vcpu: Option<Field>,
    /// The other thread that the event names.
    named_thread: Option<Field>,
    /// The exit reason of `kvm_exit`.
    reason: Option<Field>,
}

impl EventFields {
    fn new(format: &Format) -> Self {
        let is_kvm_event = format.is_kvm_event();
        let is_exit = format.is_event("kvm", "kvm_exit");
        let field = |name| format.field(name).cloned();
        Self {
            is_kvm_event,
            is_vcpu_thread_event: Attribution::identifies_vcpu_threads(format),
            vcpu: field("vcpu_id"),
            named_thread: (!is_kvm_event)
                .then(|| ["next_pid", "pid"].into_iter().find_map(field))
                .flatten(),
            reason: is_exit
                .then(|| field(ReasonNames::reason_fields(Some(format)).1))
                .flatten(),
        }
    }
}

/// A vCPU thread, and the vCPU it ran last.
#[derive(Debug, Clone, Copy)]
struct KnownThread {
    thread: ThreadId,
    vcpu: u32,
}

impl KnownThread {
    fn with_unknown_vcpu(thread: ThreadId) -> Self {
        let vcpu = VCPU_UNKNOWN;
        Self { thread, vcpu }
    }
}

/// Decides for each event of a stream which thread it concerns, and whether it is selected.
#[derive(Debug)]
pub struct Attribution {
    /// The fields of each event, by index of its format.
    fields: Vec<EventFields>,
    selector: Selector,
    /// Whether there is no selection and all events are KVM's: each event is selected and concerns
    /// its own thread.
    is_trivial: bool,
    /// Whether there is no selection by process, thread or vCPU.
    shows_all: bool,
    /// Whether vCPU threads must be identified: for a selection by vCPU, or for events of other
    /// systems.
    learns_vcpu_threads: bool,
    known_threads: HashMap<u32, KnownThread>,
    /// Cache of `known_threads`; see [`RECENT_THREADS`].
    recent_threads: Vec<KnownThread>,
    selects_by_vcpu: bool,
    unattributed: u64,
}

impl Attribution {
    /// Creates an attribution for events with these formats, by index. A format is `None` if its
    /// events cannot be decoded.
    pub fn new<'f>(
        formats: impl IntoIterator<Item = Option<&'f Format>>,
        selection: Selection,
    ) -> Self {
        let undecoded = EventFields {
            is_kvm_event: true,
            ..EventFields::default()
        };
        let fields = formats
            .into_iter()
            .map(|format| format.map_or_else(|| undecoded.clone(), EventFields::new));
        let fields: Vec<_> = fields.collect();
        let selects_by_vcpu = !selection.filter.vcpus.is_empty();
        let has_non_kvm_events = fields.iter().any(|it| !it.is_kvm_event);
        let has_vcpu_threads = fields.iter().any(|it| it.is_vcpu_thread_event);
        let has_selection = selects_by_vcpu
            || selection.is_by_process()
            || !selection.filter.tids.is_empty()
            || selection.filter.reasons.is_some();
        Self {
            is_trivial: !has_selection && !has_non_kvm_events,
            shows_all: !selects_by_vcpu
                && !selection.is_by_process()
                && selection.filter.tids.is_empty(),
            learns_vcpu_threads: has_vcpu_threads && (selects_by_vcpu || has_non_kvm_events),
            known_threads: HashMap::new(),
            recent_threads: Vec::new(),
            selector: Selector::new(selection),
            fields,
            selects_by_vcpu,
            unattributed: 0,
        }
    }

    /// Identifies all vCPU threads, for [`Attribution::vcpu_of_event`].
    pub fn learn_vcpu_threads(&mut self) {
        self.learns_vcpu_threads = self.fields.iter().any(|it| it.is_vcpu_thread_event);
        self.is_trivial &= !self.learns_vcpu_threads;
    }

    /// Returns the index of the vCPU that an event concerns, by the rule of a selection by vCPU. `None` if
    /// no earlier event tells it. `subject` is the thread that [`Attribution::attribute`] has returned.
    #[must_use]
    pub fn vcpu_of_event(&self, index: usize, subject: ThreadId, raw: &[u8]) -> Option<u32> {
        let fields = self.fields.get(index)?;
        let own_vcpu = number(&fields.vcpu, raw).filter(|_| fields.is_kvm_event);
        let vcpu = own_vcpu.unwrap_or_else(|| self.vcpu_of(subject));
        (vcpu != VCPU_UNKNOWN).then_some(vcpu)
    }

    /// Returns whether the events of a format identify vCPU threads.
    #[must_use]
    pub fn identifies_vcpu_threads(format: &Format) -> bool {
        VCPU_THREAD_EVENTS
            .iter()
            .any(|it| format.is_event("kvm", it))
    }

    /// Returns whether the events of this index must be attributed even if they are not selected,
    /// because they identify vCPU threads.
    #[must_use]
    pub fn needs_unselected(&self, index: usize) -> bool {
        self.learns_vcpu_threads
            && self
                .fields
                .get(index)
                .is_some_and(|it| it.is_vcpu_thread_event)
    }

    /// Returns whether [`Attribution::attribute`] reads the records of events.
    #[must_use]
    pub fn needs_records(&self) -> bool {
        self.learns_vcpu_threads
            || self.selects_by_vcpu
            || self.selector.selection().filter.reasons.is_some()
    }

    /// Returns the number of events that were omitted because their VM or vCPU is unknown.
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Attributes an event that happened in `thread`.
    ///
    /// Returns `None` if the event is not selected, otherwise the thread that it concerns.
    /// `Some(None)` is an event that concerns no vCPU thread; it is only returned if there is no
    /// selection by process, thread or vCPU.
    #[inline]
    pub fn attribute(
        &mut self,
        index: usize,
        thread: ThreadId,
        raw: &[u8],
        vm_name: &dyn Fn(u32) -> Option<VmName>,
    ) -> Option<Option<ThreadId>> {
        if self.is_trivial {
            return Some(Some(thread));
        }
        self.attribute_selected(index, thread, raw, vm_name)
    }

    fn attribute_selected(
        &mut self,
        index: usize,
        thread: ThreadId,
        raw: &[u8],
        vm_name: &dyn Fn(u32) -> Option<VmName>,
    ) -> Option<Option<ThreadId>> {
        let number = |field: &Option<Field>| number(field, raw);
        let fields = self.fields.get(index)?;
        let own_vcpu =
            number(&fields.vcpu).filter(|_| self.selects_by_vcpu || self.learns_vcpu_threads);
        let (is_kvm_event, named_tid) = (fields.is_kvm_event, number(&fields.named_thread));
        let is_reason_selected =
            fields.reason.is_none() || self.selector.is_reason_selected(|| number(&fields.reason));
        if self.learns_vcpu_threads && fields.is_vcpu_thread_event {
            self.learn_vcpu_thread(thread, own_vcpu);
        }
        if !is_reason_selected {
            return None;
        }
        if is_kvm_event || !self.learns_vcpu_threads {
            return self.attribute_to_own_thread(thread, own_vcpu, vm_name);
        }
        let current = self
            .find_thread(thread.tid)
            .filter(|it| it.thread == thread);
        let named = named_tid.and_then(|tid| self.find_thread(tid));
        let mut decide_process = |known: Option<KnownThread>| {
            let tgid = known.map_or(0, |it| it.thread.tgid);
            let is_selected = self.selector.decide_process(tgid, vm_name);
            (tgid, is_selected.unwrap_or(false))
        };
        let processes = [decide_process(current), decide_process(named)];
        let filter = &self.selector.selection().filter;
        let ids = SelectedIds { filter, processes };
        let id = |it: &KnownThread| VcpuThreadId {
            tgid: it.thread.tgid,
            tid: it.thread.tid,
            vcpu: it.vcpu,
        };
        match select_vcpu_thread(&ids, current, || named, id) {
            Some(known) => Some(Some(known.thread)),
            // Without a selection, all events are shown.
            None => self.shows_all.then_some(None),
        }
    }

    /// Decides whether an event is selected that concerns the thread in which it happened.
    fn attribute_to_own_thread(
        &mut self,
        thread: ThreadId,
        own_vcpu: Option<u32>,
        vm_name: &dyn Fn(u32) -> Option<VmName>,
    ) -> Option<Option<ThreadId>> {
        let Some(is_selected) = self.selector.decide_process(thread.tgid, vm_name) else {
            self.unattributed += 1;
            return None;
        };
        let ids = SelectedIds {
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

    /// Removes a thread that has ended: the kernel may reuse its number.
    pub fn remove_thread(&mut self, tid: u32) {
        if self.known_threads.remove(&tid).is_some()
            && let Some(recent) = self.recent_threads.get_mut(tid as usize % RECENT_THREADS)
            && recent.thread.tid == tid
        {
            recent.thread = ThreadId::default();
        }
        // A process has the number of its main thread, and ends with it.
        self.selector.remove_process(tid);
    }

    fn learn_vcpu_thread(&mut self, thread: ThreadId, vcpu: Option<u32>) {
        if self.recent_threads.is_empty() {
            let unused = KnownThread::with_unknown_vcpu(ThreadId::default());
            self.recent_threads.resize(RECENT_THREADS, unused);
        }
        let recent = &self.recent_threads[thread.tid as usize % RECENT_THREADS];
        if recent.thread == thread && vcpu.is_none_or(|it| it == recent.vcpu) {
            return;
        }
        if self.known_threads.len() >= MAX_KNOWN_TASKS
            && !self.known_threads.contains_key(&thread.tid)
        {
            // Other events that concern this thread cannot be attributed to it.
            self.unattributed += 1;
            return;
        }
        let unknown = KnownThread::with_unknown_vcpu(thread);
        let known = self.known_threads.entry(thread.tid).or_insert(unknown);
        if known.thread != thread {
            *known = unknown;
        }
        known.vcpu = vcpu.unwrap_or(known.vcpu);
        let known = *known;
        self.recent_threads[thread.tid as usize % RECENT_THREADS] = known;
    }

    fn find_thread(&self, tid: u32) -> Option<KnownThread> {
        if tid == 0 {
            return None;
        }
        match self.recent_threads.get(tid as usize % RECENT_THREADS) {
            Some(recent) if recent.thread.tid == tid => Some(*recent),
            _ => self.known_threads.get(&tid).copied(),
        }
    }

    fn vcpu_of(&self, thread: ThreadId) -> u32 {
        self.find_thread(thread.tid)
            .filter(|known| known.thread == thread)
            .map_or(VCPU_UNKNOWN, |known| known.vcpu)
    }
}

/// Reads a number of up to 32 bits.
fn number(field: &Option<Field>, raw: &[u8]) -> Option<u32> {
    let number = field.as_ref()?.read_u64(raw)?;
    u32::try_from(number).ok()
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

    /// Attributes an event of a thread other than the main thread.
    fn is_selected(attribution: &mut Attribution, tgid: u32, name: &str) -> bool {
        let tid = tgid + 1;
        let name = |_| Some(name.into());
        let raw = vec![0; formats()[0].fixed_size()];
        let attributed = attribution.attribute(0, ThreadId { tgid, tid }, &raw, &name);
        attributed.is_some()
    }

    #[test]
    fn process_is_removed_when_its_main_thread_ends() {
        let web = globset::Glob::new("web-*").expect("a glob");
        let selection = || Selection {
            vms: vec![web.compile_matcher()],
            ..Selection::default()
        };
        // The main thread has no KVM events: it only starts the other threads.
        let mut attribution = attribution(selection());
        assert!(is_selected(&mut attribution, 100, "web-1"));
        attribution.remove_thread(101);
        assert!(
            is_selected(&mut attribution, 100, "db"),
            "the process still runs"
        );
        attribution.remove_thread(100);
        assert!(
            !is_selected(&mut attribution, 100, "db"),
            "the number was reused"
        );
        attribution.remove_thread(100);
        assert!(is_selected(&mut attribution, 100, "web-2"));
    }

    #[test]
    fn exit_with_an_unselected_reason_still_tells_the_vcpu() {
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
        let thread = ThreadId { tgid: 1, tid: 2 };
        let mut raw = vec![0; exit.fixed_size()];
        raw[exit.field("vcpu_id").expect("a field").offset] = 3;
        assert_eq!(attribution.attribute(0, thread, &raw, &|_| None), None);
        let raw = vec![0; pio.fixed_size()];
        let attributed = attribution.attribute(1, thread, &raw, &|_| None);
        assert_eq!(attributed, Some(Some(thread)));
        assert_eq!(attribution.unattributed(), 0);
    }

    #[test]
    fn every_event_of_a_known_thread_has_its_vcpu() {
        let mut attribution = attribution(Selection::default());
        attribution.learn_vcpu_threads();
        let [exit, pio] = formats();
        let thread = ThreadId { tgid: 1, tid: 2 };
        let pio_raw = vec![0; pio.fixed_size()];
        let attributed = attribution.attribute(1, thread, &pio_raw, &|_| None);
        assert_eq!(attributed, Some(Some(thread)));
        assert_eq!(attribution.vcpu_of_event(1, thread, &pio_raw), None);
        let mut raw = vec![0; exit.fixed_size()];
        raw[exit.field("vcpu_id").expect("a field").offset] = 3;
        attribution.attribute(0, thread, &raw, &|_| None);
        assert_eq!(attribution.vcpu_of_event(0, thread, &raw), Some(3));
        assert_eq!(attribution.vcpu_of_event(1, thread, &pio_raw), Some(3));
        let other = ThreadId { tgid: 9, tid: 2 };
        assert_eq!(attribution.vcpu_of_event(1, other, &pio_raw), None);
    }

    #[test]
    fn threads_beyond_the_capacity_are_counted() {
        let selection = Selection {
            filter: Filter {
                vcpus: vec![0],
                ..Filter::default()
            },
            vms: Vec::new(),
        };
        let mut attribution = attribution(selection);
        let capacity = u32::try_from(MAX_KNOWN_TASKS).expect("a small number");
        let raw = vec![0; formats()[0].fixed_size()];
        for tid in 1..=capacity + 5 {
            attribution.attribute(0, ThreadId { tgid: 1, tid }, &raw, &|_| None);
        }
        assert_eq!(attribution.unattributed(), 5);
        assert_eq!(attribution.known_threads.len(), MAX_KNOWN_TASKS);
    }
}
