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

use kvm_ebpf_common::{
    Decision, VCPU_UNKNOWN, VcpuThreadId, decide, select_vcpu_thread, vcpu_index_in_name,
};

use super::{Selection, Selector, selection::SelectedIds, vcpus_are_named};
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
    /// Whether vCPU threads must be identified: for a selection by vCPU, for events of other
    /// systems, or because their names tell the vCPUs.
    learns_vcpu_threads: bool,
    /// Whether vCPU indices are read from the names of vCPU threads.
    vcpus_are_named: bool,
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
        let formats: Vec<_> = formats.into_iter().collect();
        let vcpus_are_named = vcpus_are_named(formats.iter().copied().flatten());
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
            is_trivial: !has_selection && !has_non_kvm_events && !vcpus_are_named,
            shows_all: !selects_by_vcpu
                && !selection.is_by_process()
                && selection.filter.tids.is_empty(),
            learns_vcpu_threads: has_vcpu_threads
                && (selects_by_vcpu || has_non_kvm_events || vcpus_are_named),
            vcpus_are_named,
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

    /// Returns the index of the vCPU in the name of a thread, if it is known as a vCPU thread and vCPU indices are read
    /// from names; otherwise [`VCPU_UNKNOWN`].
    #[inline]
    #[must_use]
    pub fn named_vcpu(&self, thread: ThreadId) -> u32 {
        match self.vcpus_are_named {
            true => self.vcpu_of(thread),
            false => VCPU_UNKNOWN,
        }
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
    /// selection by process, thread or vCPU. `thread_name` returns the name of a thread, or a text that is no name of a
    /// vCPU thread.
    #[inline]
    pub fn attribute(
        &mut self,
        index: usize,
        thread: ThreadId,
        raw: &[u8],
        vm_name: &dyn Fn(u32) -> Option<VmName>,
        thread_name: &mut dyn FnMut(ThreadId) -> String,
    ) -> Option<Option<ThreadId>> {
        if self.is_trivial {
            return Some(Some(thread));
        }
        self.attribute_selected(index, thread, raw, vm_name, thread_name)
    }

    fn attribute_selected(
        &mut self,
        index: usize,
        thread: ThreadId,
        raw: &[u8],
        vm_name: &dyn Fn(u32) -> Option<VmName>,
        thread_name: &mut dyn FnMut(ThreadId) -> String,
    ) -> Option<Option<ThreadId>> {
        let number = |field: &Option<Field>| number(field, raw);
        let fields = self.fields.get(index)?;
        let own_vcpu =
            number(&fields.vcpu).filter(|_| self.selects_by_vcpu || self.learns_vcpu_threads);
        let (is_kvm_event, named_tid) = (fields.is_kvm_event, number(&fields.named_thread));
        let is_reason_selected =
            fields.reason.is_none() || self.selector.is_reason_selected(|| number(&fields.reason));
        if self.learns_vcpu_threads && fields.is_vcpu_thread_event {
            self.learn_vcpu_thread(thread, own_vcpu, thread_name);
        }
        if !is_reason_selected {
            return None;
        }
        if is_kvm_event || !self.learns_vcpu_threads {
            return self.attribute_to_own_thread(thread, own_vcpu, vm_name, thread_name);
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
        thread_name: &mut dyn FnMut(ThreadId) -> String,
    ) -> Option<Option<ThreadId>> {
        let Some(is_selected) = self.selector.decide_process(thread.tgid, vm_name) else {
            self.unattributed += 1;
            return None;
        };
        let ids = SelectedIds {
            filter: &self.selector.selection().filter,
            processes: [(thread.tgid, is_selected); 2],
        };
        let known = || match self.find_known(thread) {
            Some(known) => known.vcpu,
            None => self.vcpu_in_name(thread, thread_name),
        };
        let vcpu = || own_vcpu.unwrap_or_else(known);
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

    fn learn_vcpu_thread(
        &mut self,
        thread: ThreadId,
        vcpu: Option<u32>,
        thread_name: &mut dyn FnMut(ThreadId) -> String,
    ) {
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
        let known = self.known_threads.get(&thread.tid).copied();
        let mut known = known.filter(|it| it.thread == thread).unwrap_or_else(|| {
            let vcpu = self.vcpu_in_name(thread, thread_name);
            KnownThread { thread, vcpu }
        });
        known.vcpu = vcpu.unwrap_or(known.vcpu);
        self.known_threads.insert(thread.tid, known);
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

    fn find_known(&self, thread: ThreadId) -> Option<KnownThread> {
        self.find_thread(thread.tid)
            .filter(|known| known.thread == thread)
    }

    fn vcpu_of(&self, thread: ThreadId) -> u32 {
        self.find_known(thread)
            .map_or(VCPU_UNKNOWN, |known| known.vcpu)
    }

    /// Returns the vCPU in the name of a thread, if the events do not have it.
    fn vcpu_in_name(
        &self,
        thread: ThreadId,
        thread_name: &mut dyn FnMut(ThreadId) -> String,
    ) -> u32 {
        match self.vcpus_are_named {
            true => vcpu_index_in_name(&thread_name(thread)).unwrap_or(VCPU_UNKNOWN),
            false => VCPU_UNKNOWN,
        }
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

    fn unnamed(_: ThreadId) -> String {
        "<...>".to_owned()
    }

    /// Attributes an event of a thread other than the main thread.
    fn is_selected(attribution: &mut Attribution, tgid: u32, name: &str) -> bool {
        let tid = tgid + 1;
        let name = |_| Some(name.into());
        let raw = vec![0; formats()[0].fixed_size()];
        let attributed =
            attribution.attribute(0, ThreadId { tgid, tid }, &raw, &name, &mut unnamed);
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
        assert_eq!(
            attribution.attribute(0, thread, &raw, &|_| None, &mut unnamed),
            None
        );
        let raw = vec![0; pio.fixed_size()];
        let attributed = attribution.attribute(1, thread, &raw, &|_| None, &mut unnamed);
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
        let attributed = attribution.attribute(1, thread, &pio_raw, &|_| None, &mut unnamed);
        assert_eq!(attributed, Some(Some(thread)));
        assert_eq!(attribution.vcpu_of_event(1, thread, &pio_raw), None);
        let mut raw = vec![0; exit.fixed_size()];
        raw[exit.field("vcpu_id").expect("a field").offset] = 3;
        attribution.attribute(0, thread, &raw, &|_| None, &mut unnamed);
        assert_eq!(attribution.vcpu_of_event(0, thread, &raw), Some(3));
        assert_eq!(attribution.vcpu_of_event(1, thread, &pio_raw), Some(3));
        let other = ThreadId { tgid: 9, tid: 2 };
        assert_eq!(attribution.vcpu_of_event(1, other, &pio_raw), None);
    }

    const ARM_EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_exit");
    const ARM_MMIO: &str = include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_mmio");

    #[test]
    fn without_a_field_the_name_of_a_vcpu_thread_tells_its_vcpu() {
        let formats =
            [ARM_EXIT, ARM_MMIO].map(|text| Format::parse("kvm", text).expect("a format"));
        let vcpus = vec![1];
        let selection = Selection {
            filter: Filter {
                vcpus,
                ..Filter::default()
            },
            vms: Vec::new(),
        };
        let mut attribution = Attribution::new(formats.iter().map(Some), selection);
        let [exit, mmio] = formats.map(|it| vec![0; it.fixed_size()]);
        let [first, second, other] = [2, 3, 4].map(|tid| ThreadId { tgid: 1, tid });
        let mut lookups = 0;
        let mut attribute = |attribution: &mut Attribution, index, thread, raw: &[u8]| {
            let mut name = |it: ThreadId| {
                lookups += 1;
                ["CPU 0/KVM", "CPU 1/KVM", "worker"][it.tid as usize - 2].to_owned()
            };
            attribution.attribute(index, thread, raw, &|_| None, &mut name)
        };
        // Not known as vCPU threads yet.
        assert_eq!(
            attribute(&mut attribution, 1, second, &mmio),
            Some(Some(second))
        );
        assert_eq!(attribute(&mut attribution, 1, other, &mmio), None);
        for _ in 0..2 {
            assert_eq!(attribute(&mut attribution, 0, first, &exit), None);
            assert_eq!(
                attribute(&mut attribution, 0, second, &exit),
                Some(Some(second))
            );
            assert_eq!(
                attribute(&mut attribution, 1, second, &mmio),
                Some(Some(second))
            );
            assert_eq!(attribute(&mut attribution, 0, other, &exit), None);
        }
        assert_eq!(lookups, 2 + 3, "names of known vCPU threads are read once");
        assert_eq!(attribution.unattributed(), 3);
        let named = [first, second, other].map(|it| attribution.named_vcpu(it));
        assert_eq!(named, [0, 1, VCPU_UNKNOWN]);
        // Another thread with this number.
        attribution.remove_thread(second.tid);
        assert_eq!(attribution.named_vcpu(second), VCPU_UNKNOWN);
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
            attribution.attribute(0, ThreadId { tgid: 1, tid }, &raw, &|_| None, &mut unnamed);
        }
        assert_eq!(attribution.unattributed(), 5);
        assert_eq!(attribution.known_threads.len(), MAX_KNOWN_TASKS);
    }
}
