//! A recording as a source: its events in the order of time.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bytes::Bytes;
use globset::GlobMatcher;

use super::{VmNames, window::Window};
use crate::{
    model::{Event, Loss},
    probe::Filter,
    recording::{self, Attr, Catalog, Next, ReadError, Reader, kind},
    tracefs::{Field, Format, ReasonNames},
};

/// Records that are held back at most, at 24 bytes each, until a round is over: perf's rounds are as long as its buffers.
const MOST_HELD: usize = 1 << 21;

/// And their bytes.
const MOST_HELD_BYTES: usize = 512 << 20;

/// What a recording gives.
#[derive(Debug, Clone, Copy)]
pub enum Played<'a> {
    /// An event.
    Event(Event<'a>),
    /// Events that are missing here.
    Lost {
        /// Which, if the recording knows: the index of its format.
        slot: Option<usize>,
        /// How many.
        lost: u64,
        /// Before this time.
        time_ns: u64,
    },
}

/// Which events are asked for.
#[derive(Debug, Default)]
pub struct Selection {
    /// By process, thread, vCPU and exit reason.
    pub filter: Filter,
    /// By the VM's name.
    pub vms: Vec<GlobMatcher>,
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// What is missing.
    pub loss: Loss,
    /// Events given out after one with a later time.
    pub late: u64,
    /// What is wrong with the recording, in words.
    pub defect: Option<String>,
    /// Names, as of the last event.
    pub names: Names,
    /// The processes seen, whether asked for or not.
    pub processes: Vec<(u32, String)>,
}

/// Names of threads and VMs, as of the event that is given out.
#[derive(Debug, Default)]
pub struct Names {
    comms: HashMap<u32, Box<str>>,
    vms: VmNames,
}

impl Names {
    /// The thread's name; `<...>`, as ftrace has it, if the recording does not say.
    #[must_use]
    pub fn comm(&self, tid: u32) -> &str {
        let unknown = if tid == 0 { "<idle>" } else { "<...>" };
        self.comms.get(&tid).map_or(unknown, |it| it)
    }

    /// The VM's name: as it was when it was recorded, or made of its process' name.
    #[must_use]
    pub fn vm(&self, tgid: u32) -> String {
        match (self.vms.known(tgid), self.comms.get(&tgid)) {
            (Some(name), _) => name.to_owned(),
            (None, Some(comm)) => format!("{comm}-{tgid}"),
            (None, None) => "?".to_owned(),
        }
    }
}

/// A recording that is played.
#[derive(Debug)]
pub struct Recording {
    reader: Reader,
    /// All events in it, sorted by name.
    formats: Vec<Format>,
    /// Per attr, the slot among the events chosen.
    slots: Vec<Option<usize>>,
    /// Per attr, where its event says the vCPU.
    vcpu_fields: Vec<Option<Field>>,
    entry_attr: Option<usize>,
    exit_attr: Option<usize>,
    reason: Option<Field>,
}

impl Recording {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::new(Reader::open(path)?))
    }

    /// Plays what a reader reads.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let catalog = reader.catalog();
        let mut formats: Vec<Format> = Vec::new();
        for (system, text) in &catalog.formats {
            match Format::parse(system, text) {
                Ok(format) => formats.push(format),
                Err(error) => log::warn!(
                    "{}: the format of an event of {system} cannot be understood, its events are left out: {error}",
                    reader.path().display()
                ),
            }
        }
        let is_recorded = |format: &Format| {
            let id = Some(u64::from(format.id));
            catalog.attrs.iter().any(|attr| attr.tracepoint == id)
        };
        formats.retain(is_recorded);
        formats.sort_by_key(Format::event);
        formats.dedup_by_key(|it| it.id);
        let attrs = catalog.attrs.len();
        Self {
            reader,
            formats,
            slots: vec![None; attrs],
            vcpu_fields: vec![None; attrs],
            entry_attr: None,
            exit_attr: None,
            reason: None,
        }
    }

    /// What it says of itself.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        self.reader.catalog()
    }

    /// All events in it, sorted by name.
    #[must_use]
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// Chooses events; an event's slot is its place in `chosen`.
    pub fn choose(&mut self, chosen: &[Format]) {
        let attrs = &self.reader.catalog().attrs;
        for (index, attr) in attrs.iter().enumerate() {
            let id = attr.tracepoint;
            let is_this = |format: &&Format| Some(u64::from(format.id)) == id;
            self.slots[index] = chosen.iter().position(|it| is_this(&it));
            let Some(format) = self.formats.iter().find(is_this) else {
                continue;
            };
            self.vcpu_fields[index] = format.field("vcpu_id").cloned();
            if format.system == "kvm" && format.name == "kvm_entry" {
                self.entry_attr = Some(index);
            }
            if format.system == "kvm" && format.name == "kvm_exit" {
                self.exit_attr = Some(index);
                self.reason = format.field(ReasonNames::fields(Some(format)).1).cloned();
            }
        }
    }

    /// Gives out the events asked for, in order, until `each` returns false.
    ///
    /// # Errors
    /// When the recording cannot be read, or the first error of `each`.
    pub fn play<E: From<ReadError>>(
        mut self,
        selection: &Selection,
        mut each: impl FnMut(&Played<'_>, &Names) -> Result<bool, E>,
    ) -> Result<Ended, E> {
        let mut player = Player::new(&self, selection);
        let mut window = Window::default();
        let (mut round_ns, mut newest_ns) = (0, 0);
        let mut held_bytes = 0;
        loop {
            let (run, defect) = match self.reader.next_run()? {
                Next::Run(run) => (run, None),
                Next::End => break,
                Next::Damaged(what) => (Bytes::new(), Some(what)),
            };
            if let Some(what) = defect {
                player.ended.loss.damaged += 1;
                player.ended.defect = Some(what);
                break;
            }
            let mut give_out_until = None;
            let held_before = window.held();
            for (place, record) in recording::records(&run) {
                match self.time_of(record, &mut player) {
                    Timed::At(time_ns) => {
                        newest_ns = time_ns.max(newest_ns);
                        window.hold(time_ns, place);
                    }
                    Timed::Now => player.at_once(record),
                    Timed::Round => {
                        // What is before the newest of the round before cannot be preceded any more.
                        give_out_until = Some(round_ns);
                        round_ns = newest_ns;
                    }
                    Timed::Never => {}
                }
            }
            if window.held() > held_before {
                held_bytes += run.len();
                window.add_block(run);
            }
            let mut most_held = MOST_HELD;
            if held_bytes > MOST_HELD_BYTES {
                most_held = window.held() / 2;
            }
            if give_out_until.is_some() || window.held() > most_held {
                let until_ns = give_out_until.unwrap_or(0);
                let give = window.give_out(until_ns, most_held, |run, place| {
                    player.give(&self, selection, run, place, &mut each)
                });
                held_bytes = window.block_bytes(Bytes::len);
                if player.enough(give)? {
                    return Ok(player.end(window.late()));
                }
            }
        }
        let give = window.give_out(u64::MAX, 0, |run, place| {
            player.give(&self, selection, run, place, &mut each)
        });
        player.enough(give)?;
        Ok(player.end(window.late()))
    }

    /// When a record's turn is.
    fn time_of(&self, record: &[u8], player: &mut Player) -> Timed {
        let catalog = self.reader.catalog();
        match kind::of(record) {
            kind::SAMPLE => {
                let body = kind::body(record);
                let Some(index) = catalog.attr_of_sample(body) else {
                    player.ended.loss.damaged += 1;
                    return Timed::Never;
                };
                let needed = player.vcpus_matter && self.entry_attr == Some(index);
                if self.slots[index].is_none() && !needed {
                    return Timed::Never;
                }
                match catalog.attrs[index].time_of_sample(body) {
                    Some(time_ns) => Timed::At(time_ns),
                    None => {
                        player.ended.loss.damaged += 1;
                        Timed::Never
                    }
                }
            }
            kind::COMM | kind::FORK | kind::LOST | kind::LOST_SAMPLES => {
                let time_ns = catalog.attrs.first().map_or(0, |it| it.time_of(record));
                if time_ns == 0 {
                    Timed::Now
                } else {
                    Timed::At(time_ns)
                }
            }
            kind::FINISHED_ROUND => Timed::Round,
            _ => Timed::Never,
        }
    }
}

enum Timed {
    /// In the order of time.
    At(u64),
    /// It says no time: as it comes.
    Now,
    /// The end of a round.
    Round,
    /// Not of interest.
    Never,
}

/// Why giving out stops.
enum Stop<E> {
    Error(E),
    Enough,
}

/// What changes while a recording is played.
struct Player {
    names: Names,
    /// vCPUs of threads.
    vcpus: HashMap<u32, u32>,
    vcpus_matter: bool,
    /// Per process, whether its VM is asked for.
    processes: BTreeMap<u32, bool>,
    last_process: Option<(u32, bool)>,
    ours: bool,
    ended: Ended,
}

impl Player {
    fn new(recording: &Recording, selection: &Selection) -> Self {
        let catalog = recording.catalog();
        Self {
            names: Names {
                comms: HashMap::new(),
                vms: VmNames::from_lines(&catalog.vm_names),
            },
            vcpus: HashMap::new(),
            vcpus_matter: !selection.filter.vcpus.is_empty(),
            processes: BTreeMap::new(),
            last_process: None,
            ours: catalog.is_ours(),
            ended: Ended::default(),
        }
    }

    fn enough<E>(&self, result: Result<(), Stop<E>>) -> Result<bool, E> {
        match result {
            Ok(()) => Ok(false),
            Err(Stop::Enough) => Ok(true),
            Err(Stop::Error(error)) => Err(error),
        }
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

    /// A record that says no time.
    fn at_once(&mut self, record: &[u8]) {
        match kind::of(record) {
            kind::LOST | kind::LOST_SAMPLES => {
                self.ended.loss.lost = self.ended.loss.lost.saturating_add(lost(record).1);
            }
            _ => self.name(record),
        }
    }

    fn name(&mut self, record: &[u8]) {
        if let Some((tid, comm)) = kind::comm(record) {
            self.names.comms.insert(tid, comm);
        } else if let Some((tid, parent)) = kind::fork(record)
            && tid != parent
            && let Some(comm) = self.names.comms.get(&parent).cloned()
        {
            self.names.comms.insert(tid, comm);
        }
    }

    /// Its turn has come. Is it an event?
    fn give<E>(
        &mut self,
        recording: &Recording,
        selection: &Selection,
        run: &Bytes,
        place: usize,
        each: &mut impl FnMut(&Played<'_>, &Names) -> Result<bool, E>,
    ) -> Result<bool, Stop<E>> {
        let Some(record) = kind::at(run, place) else {
            return Ok(false);
        };
        let catalog = recording.reader.catalog();
        let (played, is_event) = match kind::of(record) {
            kind::SAMPLE => {
                let body = kind::body(record);
                let Some(index) = catalog.attr_of_sample(body) else {
                    return Ok(false);
                };
                match self.event(recording, selection, &catalog.attrs[index], index, body) {
                    Some(event) => (Played::Event(event), true),
                    None => return Ok(false),
                }
            }
            kind::LOST | kind::LOST_SAMPLES => {
                let (id, lost) = lost(record);
                self.ended.loss.lost = self.ended.loss.lost.saturating_add(lost);
                let attr = id.filter(|_| self.ours).and_then(|id| catalog.attr_of(id));
                let time_ns = catalog.attrs.first().map_or(0, |it| it.time_of(record));
                let slot = attr.and_then(|attr| recording.slots[attr]);
                (
                    Played::Lost {
                        slot,
                        lost,
                        time_ns,
                    },
                    false,
                )
            }
            _ => {
                self.name(record);
                return Ok(false);
            }
        };
        match each(&played, &self.names) {
            Ok(true) => Ok(is_event),
            Ok(false) => Err(Stop::Enough),
            Err(error) => Err(Stop::Error(error)),
        }
    }

    /// The event of a sample, if it is asked for.
    fn event<'a>(
        &mut self,
        recording: &Recording,
        selection: &Selection,
        attr: &Attr,
        index: usize,
        body: &'a [u8],
    ) -> Option<Event<'a>> {
        let Some(sample) = attr.sample(body) else {
            self.ended.loss.damaged += 1;
            return None;
        };
        let filter = &selection.filter;
        let number = |field: &Option<Field>| {
            let number = field.as_ref()?.read_u64(sample.raw)?;
            u32::try_from(number).ok()
        };
        let vcpu = if self.vcpus_matter {
            let own = number(&recording.vcpu_fields[index]);
            if recording.entry_attr == Some(index)
                && let Some(vcpu) = own
            {
                self.vcpus.insert(sample.tid, vcpu);
            }
            own.or_else(|| self.vcpus.get(&sample.tid).copied())
        } else {
            None
        };
        let slot = recording.slots[index]?;
        let listed = |list: &[u32], it: u32| list.is_empty() || list.contains(&it);
        if !self.process(selection, sample.pid) || !listed(&filter.tids, sample.tid) {
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
            && recording.exit_attr == Some(index)
            && !number(&recording.reason).is_some_and(|it| reasons.contains(&it))
        {
            return None;
        }
        Some(Event {
            time_ns: sample.time_ns,
            cpu: sample.cpu,
            tgid: sample.pid,
            tid: sample.tid,
            slot,
            raw: sample.raw,
        })
    }

    /// Is this process asked for?
    fn process(&mut self, selection: &Selection, tgid: u32) -> bool {
        if let Some((last, wanted)) = self.last_process
            && last == tgid
        {
            return wanted;
        }
        let tgids = &selection.filter.tgids;
        let names = &self.names;
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

/// The id and the number of a record of lost events.
fn lost(record: &[u8]) -> (Option<u64>, u64) {
    kind::lost(record).unwrap_or_default()
}
