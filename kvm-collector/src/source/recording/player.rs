//! Giving out events in the order of time, with what is known by then.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{
    Ended, Names, Played, Selection,
    ahead::Step,
    choice::Choice,
    scan::{Item, Scanned},
};
use crate::{
    model::Event,
    recording::{Catalog, ReadError, kind},
    source::window::Window,
    tracefs::Field,
};

/// Records that are held back at most, at 32 bytes each, until a round is over: perf's rounds are as long as its buffers.
const MOST_HELD: usize = 1 << 21;

/// And their bytes.
const MOST_HELD_BYTES: usize = 512 << 20;

/// Why giving out stops.
enum Stop<E> {
    Error(E),
    Enough,
}

/// What changes while a recording is played.
pub(super) struct Player<'a> {
    catalog: &'a Catalog,
    choices: &'a [Choice],
    selection: &'a Selection,
    ours: bool,
    names: Names,
    /// vCPUs of threads.
    vcpus: HashMap<u32, u32>,
    vcpus_matter: bool,
    /// Per process, whether its VM is asked for.
    processes: BTreeMap<u32, bool>,
    last_process: Option<(u32, bool)>,
    ended: Ended,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        choices: &'a [Choice],
        selection: &'a Selection,
    ) -> Self {
        Self {
            catalog,
            choices,
            selection,
            ours: catalog.is_ours(),
            names: Names::from_lines(&catalog.vm_names),
            vcpus: HashMap::new(),
            vcpus_matter: !selection.filter.vcpus.is_empty(),
            processes: BTreeMap::new(),
            last_process: None,
            ended: Ended::default(),
        }
    }

    /// Takes what is read, and gives out events until there are no more, or `each` has enough.
    pub(super) fn play<E: From<ReadError>>(
        mut self,
        next: &mut dyn FnMut() -> Result<Step, ReadError>,
        each: &mut impl FnMut(&Played<'_>, &Names) -> Result<bool, E>,
    ) -> Result<Ended, E> {
        let mut window = Window::default();
        let mut held_bytes = 0;
        loop {
            let scanned = match next()? {
                Step::Run(scanned) => scanned,
                Step::End(defect) => {
                    self.ended.loss.damaged += u64::from(defect.is_some());
                    self.ended.defect = defect;
                    break;
                }
            };
            self.take_in(&scanned);
            let until_ns = scanned.until_ns;
            if !scanned.timed.is_empty() {
                held_bytes += scanned.run.len();
                window.add(scanned.run, scanned.timed);
            }
            let mut most_held = MOST_HELD;
            if held_bytes > MOST_HELD_BYTES {
                most_held = window.held() / 2;
            }
            if until_ns.is_some() || window.held() > most_held {
                let give =
                    window.give_out(until_ns.unwrap_or(0), most_held, |run, time_ns, item| {
                        self.give(run, time_ns, item, each)
                    });
                held_bytes = window.block_bytes(Bytes::len);
                if enough(give)? {
                    return Ok(self.end(window.late()));
                }
            }
        }
        let give = window.give_out(u64::MAX, 0, |run, time_ns, item| {
            self.give(run, time_ns, item, each)
        });
        enough(give)?;
        Ok(self.end(window.late()))
    }

    fn end(mut self, late: u64) -> Ended {
        self.ended.late = late;
        self.ended.processes = self
            .processes
            .keys()
            .map(|tgid| (*tgid, self.names.vm(*tgid)))
            .collect();
        self.ended.names = self.names;
        self.ended
    }

    /// What of a run is not to wait for its turn.
    fn take_in(&mut self, scanned: &Scanned) {
        self.ended.loss.damaged += scanned.damaged;
        let untimed = scanned.untimed.iter();
        for record in untimed.filter_map(|at| kind::at(&scanned.run, *at)) {
            match kind::of(record) {
                kind::LOST | kind::LOST_SAMPLES => {
                    self.lose(record);
                }
                _ => self.names.learn(record),
            }
        }
    }

    /// Counts what a record says to be lost: which event, if it is known, and how many.
    fn lose(&mut self, record: &[u8]) -> (Option<u64>, u64) {
        let (id, lost) = kind::lost(record).unwrap_or_default();
        self.ended.loss.lost = self.ended.loss.lost.saturating_add(lost);
        (id, lost)
    }

    /// Its turn has come. Is it an event?
    #[inline]
    fn give<E>(
        &mut self,
        run: &Bytes,
        time_ns: u64,
        item: Item,
        each: &mut impl FnMut(&Played<'_>, &Names) -> Result<bool, E>,
    ) -> Result<bool, Stop<E>> {
        let bytes = item.bytes(run);
        let (played, is_event) = match item.attr() {
            Some(attr) => {
                let event = self.event(attr, time_ns, item, bytes);
                (event.map(Played::Event), true)
            }
            None => (self.other(bytes), false),
        };
        let Some(played) = played else {
            return Ok(false);
        };
        match each(&played, &self.names) {
            Ok(true) => Ok(is_event),
            Ok(false) => Err(Stop::Enough),
            Err(error) => Err(Stop::Error(error)),
        }
    }

    /// A record that is no sample.
    fn other(&mut self, record: &[u8]) -> Option<Played<'static>> {
        if !matches!(kind::of(record), kind::LOST | kind::LOST_SAMPLES) {
            self.names.learn(record);
            return None;
        }
        let (id, lost) = self.lose(record);
        let attr = id
            .filter(|_| self.ours)
            .and_then(|id| self.catalog.attr_of(id));
        Some(Played::Lost {
            slot: attr.and_then(|attr| self.choices[attr].slot),
            lost,
            time_ns: self.catalog.time_of(record),
        })
    }

    /// The event of a sample, if it is asked for.
    #[inline(always)]
    fn event<'s>(
        &mut self,
        attr: usize,
        time_ns: u64,
        sample: Item,
        raw: &'s [u8],
    ) -> Option<Event<'s>> {
        let (filter, choice) = (&self.selection.filter, &self.choices[attr]);
        let number = |field: &Option<Field>| {
            let number = field.as_ref()?.read_u64(raw)?;
            u32::try_from(number).ok()
        };
        let vcpu = if self.vcpus_matter {
            let own = number(&choice.vcpu);
            if choice.is_entry
                && let Some(vcpu) = own
            {
                self.vcpus.insert(sample.tid, vcpu);
            }
            own.or_else(|| self.vcpus.get(&sample.tid).copied())
        } else {
            None
        };
        let slot = choice.slot?;
        let listed = |list: &[u32], it: u32| list.is_empty() || list.contains(&it);
        if !self.process(sample.pid) || !listed(&filter.tids, sample.tid) {
            return None;
        }
        if self.vcpus_matter {
            let Some(vcpu) = vcpu else {
                self.ended.loss.unattributed += 1;
                return None;
            };
            if !filter.vcpus.contains(&vcpu) {
                return None;
            }
        }
        if let Some(reasons) = &filter.reasons
            && choice.is_exit
            && !number(&choice.reason).is_some_and(|it| reasons.contains(&it))
        {
            return None;
        }
        Some(Event {
            time_ns,
            cpu: sample.cpu,
            tgid: sample.pid,
            tid: sample.tid,
            slot,
            raw,
        })
    }

    /// Is this process asked for?
    #[inline]
    fn process(&mut self, tgid: u32) -> bool {
        if let Some((last, wanted)) = self.last_process
            && last == tgid
        {
            return wanted;
        }
        self.other_process(tgid)
    }

    #[cold]
    fn other_process(&mut self, tgid: u32) -> bool {
        let (selection, names) = (self.selection, &self.names);
        let tgids = &selection.filter.tgids;
        let wanted = *self.processes.entry(tgid).or_insert_with(|| {
            if tgids.is_empty() && selection.vms.is_empty() {
                return true;
            }
            let name = names.vm(tgid);
            tgids.contains(&tgid) || selection.vms.iter().any(|it| it.is_match(&name))
        });
        self.last_process = Some((tgid, wanted));
        wanted
    }
}

/// Has `each` had enough?
fn enough<E>(given: Result<(), Stop<E>>) -> Result<bool, E> {
    match given {
        Ok(()) => Ok(false),
        Err(Stop::Enough) => Ok(true),
        Err(Stop::Error(error)) => Err(error),
    }
}
