//! Loading the kernel half's object and attaching what the plan says.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned, maps::Array, programs::Program, util::KernelVersion,
};
use aya_log::EbpfLogger;
use kvm_ebpf_common::{
    CHUNK_BYTES, DetailSettings, FilterSettings, GeneralSettings, MAX_DETAILS, SlotTable,
    TimingCounters, TimingSettings,
};

use super::{
    barrier, bind,
    counted::CountedThreadTables,
    error::{ProbeError, not_attached, not_loaded, refused},
    mapped::MappedArray,
    notices::{NOTIFICATION_RING_BYTES, Notifications},
    plan::{OF_VCPU_THREADS, Plan},
    programs::TimingPrograms,
    release::Release,
    request::Request,
    ring::Rings,
    sizes::possible_cpus,
    tables::{self, ExitTables},
    tracepoint,
};
use crate::{timing::THREAD_END_EVENT, tracefs::EventName};

/// Name of the map of processes whose events are skipped.
pub(super) const SKIPPED_PROCESSES: &str = "SKIPPED_PROCESSES";

/// Maximum number of skipped processes.
const MAX_SKIPPED_PROCESSES: u32 = 16_384;

/// The kernel half, put here by `build.rs`; empty when it had not been built.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kvm-ebpf.o"));

/// What the kernel says of one loaded program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramReport {
    /// Its name in the object.
    pub program: String,
    /// The event it is attached to.
    pub event: String,
    /// Instructions the verifier went through; `None` where the kernel does not say (before 5.16).
    pub verified_instructions: Option<u32>,
    /// Length of the machine code, in bytes.
    pub jited_bytes: u32,
}

/// A program in its place.
#[derive(Debug)]
pub(super) struct AttachedProgram {
    /// Its name in the object.
    pub(super) name: String,
    /// Its event, as `kvm:kvm_exit`; or its events, with commas between them.
    pub(super) event: String,
}

/// Loaded and attached programs. Dropping it detaches and unloads everything.
pub struct AttachedPrograms {
    pub(super) ebpf: Ebpf,
    pub(super) events: usize,
    pub(super) programs: Vec<AttachedProgram>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// All programs are raw, and count events in `RAW_SLOT_COUNTS`.
    pub(super) is_raw: bool,
    /// Counters of events, by CPU, otherwise.
    pub(super) slot_counts: MappedArray<SlotTable>,
    /// Counters of what could not be counted or timed, by CPU.
    pub(super) pairing_counters: MappedArray<TimingCounters>,
    /// The tables of threads and their exits, if threads have to be known.
    pub(super) tables: Option<ExitTables>,
    /// The tables of threads whose events are counted by themselves, if that was requested.
    pub(super) counted: Option<CountedThreadTables>,
    /// Which threads come and go, if one of the two is there.
    pub(super) notices: Option<Notifications>,
    /// The rings, if anything is shipped, until they are taken.
    rings: Option<Rings>,
    /// What they take, in bytes.
    ring_bytes: u64,
    /// The current epoch; see [`AttachedPrograms::next_epoch`].
    epoch: u64,
    /// Of programs that take long to detach.
    slow_links: Vec<OwnedFd>,
    /// Dropped after the programs and links.
    release: Option<Release>,
}

impl std::fmt::Debug for AttachedPrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachedPrograms")
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}

impl Drop for AttachedPrograms {
    fn drop(&mut self) {
        if self.slow_links.len() > 1 {
            self.release = Release::begin(&self.slow_links);
        }
    }
}

impl AttachedPrograms {
    /// Loads and attaches what the request needs, and nothing else. Nothing is counted before
    /// [`AttachedPrograms::start`].
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn new(request: &Request<'_>) -> Result<Self, ProbeError> {
        if OBJECT.is_empty() {
            return Err(ProbeError::NoObject);
        }
        let kernel = kernel_version();
        if REORDERS_WRITES && kernel < KernelVersion::new(5, 18, 0) {
            return Err(ProbeError::Unordered(kernel));
        }
        let plan = Plan::of(request)?;
        let mut ebpf = load(request, &plan)?;
        let logger = if request.log {
            EbpfLogger::init(&mut ebpf)
                .inspect_err(|error| log::warn!("no diagnostics of the kernel half: {error}"))
                .ok()
        } else {
            None
        };
        let tables = plan
            .knows_threads()
            .then(|| ExitTables::open(&ebpf))
            .transpose()?;
        let counted = request
            .per_thread
            .then(|| CountedThreadTables::open(&ebpf, request.events.len()))
            .transpose()?;
        let notices = (tables.is_some() || counted.is_some())
            .then(|| Notifications::take_from(&mut ebpf))
            .transpose()?;
        let rings = plan
            .ships(request)
            .then(|| Rings::of(&ebpf, request.events))
            .transpose()?;
        let mut attached = Self {
            is_raw: plan.is_raw,
            slot_counts: MappedArray::open(&ebpf, "SLOT_COUNTS")?,
            pairing_counters: MappedArray::open(&ebpf, "TIMING_COUNTERS")?,
            ebpf,
            events: request.events.len(),
            programs: Vec::new(),
            logger,
            tables,
            counted,
            notices,
            ring_bytes: rings.as_ref().map_or(0, Rings::bytes),
            rings,
            epoch: 0,
            slow_links: Vec::new(),
            release: None,
        };
        if let Some(entry) = request.entry_format
            && let Some(id) = plan.learn_vcpus
        {
            attached.attach("learn_vcpu", &entry.event_name(), id)?;
        }
        if plan.learn_threads {
            for event in OF_VCPU_THREADS {
                attached.attach("learn_thread", &event.into(), 0)?;
            }
        }
        if plan.knows_threads() && plan.pairing.is_none() {
            attached.attach("vcpu_thread_end", &THREAD_END_EVENT.into(), 0)?;
        }
        let mut taken: &[usize] = &[];
        if let Some(pairing) = &plan.pairing {
            for it in &pairing.uses {
                attached.attach(&it.program, &it.event, it.id)?;
            }
            taken = &pairing.slots_taken;
        }
        if request.per_thread {
            attached.attach("counted_thread_end", &THREAD_END_EVENT.into(), 0)?;
        }
        if request.skip_processes {
            attached.attach("process_end", &THREAD_END_EVENT.into(), 0)?;
        }
        if request.emit {
            attached.attach("thread_end", &THREAD_END_EVENT.into(), 0)?;
        }
        for (slot, event) in request.events.iter().enumerate() {
            if !taken.contains(&slot) {
                attached.attach(&plan.program_of(slot), &event.event_name(), event.id)?;
            }
        }
        Ok(attached)
    }

    /// Loads a program and attaches it to an event, by its id if it is a classic tracepoint program.
    fn attach(&mut self, program: &str, event: &EventName, id: u16) -> Result<(), ProbeError> {
        let name = event.to_string();
        match self.ebpf.program_mut(program) {
            Some(Program::TracePoint(it)) => {
                it.load().map_err(|error| not_loaded(&name, error))?;
                let fd = it.fd().map_err(|error| not_loaded(&name, error))?;
                let link = tracepoint::attach(fd.as_fd(), id)
                    .map_err(|error| not_attached(&name, error))?;
                self.slow_links.push(link);
            }
            // A raw tracepoint has the event's name, without a system.
            Some(Program::RawTracePoint(it)) => {
                // One may be for several events.
                if it.fd().is_err() {
                    it.load().map_err(|error| not_loaded(&name, error))?;
                }
                it.attach(&event.name)
                    .map_err(|error| not_attached(&name, error))?;
            }
            _ => return Err(ProbeError::Missing(program.to_owned())),
        }
        match self.programs.iter_mut().find(|it| it.name == program) {
            Some(known) => known.event = format!("{}, {name}", known.event),
            None => self.programs.push(AttachedProgram {
                name: program.to_owned(),
                event: name,
            }),
        }
        Ok(())
    }

    /// Begins to count and to ship, for all events at once.
    ///
    /// # Errors
    /// When the programs cannot be told.
    pub fn start(&mut self) -> Result<(), ProbeError> {
        self.next_epoch().map(drop)
    }

    /// Stops counting and shipping, and waits until no program is running: what was counted is final, and can be read.
    ///
    /// # Errors
    /// When the programs cannot be told.
    pub fn stop(&mut self) -> Result<(), ProbeError> {
        self.set_epoch(0)?;
        barrier::wait_for_programs().map_err(ProbeError::Wait)
    }

    /// Begins another epoch, and returns the one before, whose extremes are final now (but for
    /// exits that are just being counted).
    ///
    /// # Errors
    /// When the programs cannot be told.
    pub fn next_epoch(&mut self) -> Result<u64, ProbeError> {
        self.set_epoch(self.epoch + 1)?;
        self.epoch += 1;
        Ok(self.epoch - 1)
    }

    /// The current epoch, or the last one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn set_epoch(&mut self, epoch: u64) -> Result<(), ProbeError> {
        // The kernel half's only global that changes.
        const NAME: &str = ".bss";
        let map = self.ebpf.map_mut(NAME);
        let map = map.ok_or_else(|| ProbeError::Missing(NAME.to_owned()))?;
        Array::try_from(map)
            .and_then(|mut map: Array<_, u64>| map.set(0, epoch, 0))
            .map_err(|source| ProbeError::Map { name: NAME, source })
    }

    /// What the kernel says of each attached program.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramReport> {
        self.programs
            .iter()
            .filter_map(|program| {
                let info = self.ebpf.program(&program.name)?.info().ok()?;
                Some(ProgramReport {
                    program: program.name.clone(),
                    event: program.event.clone(),
                    verified_instructions: info.verified_instruction_count(),
                    jited_bytes: info.size_jitted(),
                })
            })
            .collect()
    }

    /// Takes the rings that shipped events arrive in; `None` the second time, or if nothing is shipped.
    pub fn take_rings(&mut self) -> Option<Rings> {
        self.rings.take()
    }

    /// What the rings take, in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// A descriptor that is readable when [`AttachedPrograms::read_notices`] has something to read; `None` if threads need not be
    /// known.
    ///
    /// # Errors
    /// When there can be no further descriptor.
    pub fn notifications_fd(&self) -> io::Result<Option<OwnedFd>> {
        self.notices
            .as_ref()
            .map(Notifications::readable_fd)
            .transpose()
    }

    /// Passes the kernel half's diagnostics, if they were asked for, on to the log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn load(request: &Request<'_>, plan: &Plan) -> Result<Ebpf, ProbeError> {
    let sizes = request.sizes;
    let cpus = possible_cpus();
    // A map that is not needed costs one entry.
    let if_needed = |needed: bool, size: u32| if needed { size } else { 1 };
    let pairs = plan.pairing.is_some();
    let knows_threads = plan.knows_threads();
    let threads = if_needed(knows_threads, sizes.threads);
    let rows = if_needed(pairs, sizes.exit_rows);
    let mut pairing = TimingSettings::NONE;
    let mut details = [DetailSettings::NONE; MAX_DETAILS];
    if let Some(plan) = &plan.pairing {
        (pairing, details) = (plan.settings, plan.details);
    }
    let turns = if_needed(knows_turns(plan), turn_slots(threads));
    pairing.last_thread_mask = turns - 1;
    let filter = FilterSettings {
        skip_processes: u32::from(request.skip_processes),
        ..plan.filter
    };
    let causes = if_needed(pairing.stores_causes != 0, rows);
    let counted = if_needed(request.per_thread, sizes.counted_threads);
    let interrupts_itself = kernel_version() < RAW_GUARD_SINCE;
    let ship = GeneralSettings {
        weakly_ordered: u32::from(REORDERS_WRITES),
        raw_can_nest: u32::from(interrupts_itself),
        plain_increment: u32::from(plan.ship.needs_task == 0 && !interrupts_itself),
        ..plan.ship
    };
    let has_notices = knows_threads || request.per_thread;
    let ring = plan.ships(request);
    let chunks = sizes.ring_bytes >> CHUNK_BYTES.ilog2();
    let mut ebpf = EbpfLoader::new()
        // The kernel's own types are 50 MB here, and no program refers to them.
        .btf(None)
        .override_global("SLOTS", &plan.slots[..], true)
        .override_global("FILTER", &filter, true)
        .override_global("TIMING", &pairing, true)
        .override_global("DETAILS", &details[..], true)
        .override_global("GENERAL", &ship, true)
        .override_global(
            aya_log::LEVEL,
            if request.log { &u8::MAX } else { &0 },
            false,
        )
        .map_max_entries("RING_CHUNKS", if_needed(ring, cpus.saturating_mul(chunks)))
        .map_max_entries("RING_POSITIONS", if_needed(ring, cpus))
        .map_max_entries("LAST_THREAD_ON_CPU", cpus)
        .map_max_entries("VCPU_THREADS", threads)
        .map_max_entries("VCPU_THREAD_BY_TID", threads)
        .map_max_entries("LAST_THREAD_OF_VCPU", turns)
        .map_max_entries("FREE_VCPU_THREADS", threads)
        .map_max_entries("ROWS", rows)
        .map_max_entries("ROW_BY_KEY", rows)
        .map_max_entries("FREE_ROWS", rows)
        .map_max_entries("CAUSES", causes)
        .map_max_entries(
            SKIPPED_PROCESSES,
            if_needed(request.skip_processes, MAX_SKIPPED_PROCESSES),
        )
        .map_max_entries("SLOT_COUNTS", if_needed(!plan.is_raw, cpus))
        .map_max_entries("TIMING_COUNTERS", cpus)
        .map_max_entries(
            "NOTIFICATIONS",
            if has_notices {
                NOTIFICATION_RING_BYTES
            } else {
                4096
            },
        )
        .map_max_entries("COUNTED_THREADS", counted)
        .map_max_entries("COUNTED_THREAD_BY_TID", counted)
        .map_max_entries("FREE_COUNTED_THREADS", counted)
        .map_max_entries(
            "THREAD_COUNTS",
            counted.saturating_mul(ship.slot_count.max(1)),
        )
        .map_max_entries("AYA_LOGS", if request.log { 1 << 17 } else { 4096 })
        .load(&bind::bind(OBJECT, &plan.places)?)
        .map_err(|error| {
            if refused(&error) {
                ProbeError::Privilege(error.into())
            } else {
                ProbeError::Load(error)
            }
        })?;
    if knows_threads {
        tables::push_all_indices(&mut ebpf, "FREE_VCPU_THREADS", threads)?;
        tables::push_all_indices(&mut ebpf, "FREE_ROWS", rows)?;
    }
    if request.per_thread {
        tables::push_all_indices(&mut ebpf, "FREE_COUNTED_THREADS", counted)?;
    }
    Ok(ebpf)
}

/// Does this processor make writes visible in another order than they were made in?
const REORDERS_WRITES: bool = cfg!(not(target_arch = "x86_64"));

/// Since this version, a raw tracepoint program does not interrupt itself (`__bpf_trace_run`, kernel/trace/bpf_trace.c).
const RAW_GUARD_SINCE: KernelVersion = KernelVersion::new(6, 1, 0);

/// The running kernel's version; the oldest where it cannot be read.
fn kernel_version() -> KernelVersion {
    KernelVersion::current().unwrap_or(KernelVersion::new(0, 0, 0))
}

/// Can the programs know that a vCPU has moved to another thread? The kernel's events have to say which vCPU they are of,
/// and when a thread returns to user space.
fn knows_turns(plan: &Plan) -> bool {
    plan.pairing
        .as_ref()
        .is_some_and(TimingPrograms::knows_turns)
}

/// The size of the table of who entered a vCPU last, for so many threads: a power of two, and four times as many, so that
/// few vCPUs share an entry.
fn turn_slots(threads: u32) -> u32 {
    const MOST: u32 = 1 << 24;
    threads.saturating_mul(4).clamp(4, MOST).next_power_of_two()
}
