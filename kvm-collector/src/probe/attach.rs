//! Loads the eBPF object and attaches its programs.

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
    background_detach::BackgroundDetach,
    barrier, bind,
    counted_threads::CountedThreadTables,
    error::{ProbeError, is_permission_error, not_attached, not_loaded},
    mapped::MappedArray,
    notifications::{NOTIFICATION_RING_BYTES, Notifications},
    plan::{Plan, VCPU_THREAD_EVENTS},
    request::Request,
    ring::Rings,
    sizes::possible_cpus,
    tables::{self, ExitTables},
    timing_programs::TimingPrograms,
    tracepoint,
};
use crate::{timing::THREAD_END_EVENT, tracefs::EventName};

/// Name of the map of processes whose events are skipped.
pub(super) const SKIPPED_PROCESSES: &str = "SKIPPED_PROCESSES";

/// Maximum number of skipped processes.
const MAX_SKIPPED_PROCESSES: u32 = 16_384;

/// The eBPF object, from `build.rs`. Empty if it was not built.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kvm-ebpf.o"));

/// The kernel's information about a loaded program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramReport {
    /// Name in the object.
    pub program: String,
    /// The event that the program is attached to.
    pub event: String,
    /// Number of instructions that the verifier processed; `None` before Linux 5.16, which does not report it.
    pub verified_instructions: Option<u32>,
    /// Size of the machine code, in bytes.
    pub jited_bytes: u32,
}

/// An attached program.
#[derive(Debug)]
pub(super) struct AttachedProgram {
    /// Name in the object.
    pub(super) name: String,
    /// The event, such as `kvm:kvm_exit`. Several events are separated by commas.
    pub(super) event: String,
}

/// Loaded and attached programs. Dropping it detaches and unloads everything.
pub struct AttachedPrograms {
    pub(super) ebpf: Ebpf,
    pub(super) events: usize,
    pub(super) programs: Vec<AttachedProgram>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Whether all programs are raw, and count events in `RAW_SLOT_COUNTS`.
    pub(super) is_raw: bool,
    /// Event counters per CPU, if the programs are not raw.
    pub(super) slot_counts: MappedArray<SlotTable>,
    /// Counters per CPU of what could not be counted or timed.
    pub(super) timing_counters: MappedArray<TimingCounters>,
    /// The tables of vCPU threads and their exits, if vCPU threads have to be known.
    pub(super) tables: Option<ExitTables>,
    /// The tables of threads with event counts of their own, if requested.
    pub(super) counted: Option<CountedThreadTables>,
    /// Notifications about new and ended threads, if there is a table of threads.
    pub(super) notifications: Option<Notifications>,
    /// The rings, if events are sent to user space, until they are taken.
    rings: Option<Rings>,
    /// Size of the rings in bytes.
    ring_bytes: u64,
    /// The current epoch; see [`AttachedPrograms::next_epoch`].
    epoch: u64,
    /// Links of programs that take long to detach.
    slow_links: Vec<OwnedFd>,
    /// Detaches the programs of `slow_links`. Dropped after the programs and links.
    background_detach: Option<BackgroundDetach>,
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
            self.background_detach = BackgroundDetach::begin(&self.slow_links);
        }
    }
}

impl AttachedPrograms {
    /// Loads and attaches the programs that the request needs. They count nothing before [`AttachedPrograms::start`].
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
        let plan = Plan::new(request)?;
        let mut ebpf = load(request, &plan)?;
        let logger = if request.log {
            EbpfLogger::init(&mut ebpf)
                .inspect_err(|error| log::warn!("no log messages of the eBPF programs: {error}"))
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
        let notifications = (tables.is_some() || counted.is_some())
            .then(|| Notifications::take_from(&mut ebpf))
            .transpose()?;
        let rings = plan
            .sends_records(request)
            .then(|| Rings::open(&ebpf, request.events))
            .transpose()?;
        let mut attached = Self {
            is_raw: plan.is_raw,
            slot_counts: MappedArray::open(&ebpf, "SLOT_COUNTS")?,
            timing_counters: MappedArray::open(&ebpf, "TIMING_COUNTERS")?,
            ebpf,
            events: request.events.len(),
            programs: Vec::new(),
            logger,
            tables,
            counted,
            notifications,
            ring_bytes: rings.as_ref().map_or(0, Rings::bytes),
            rings,
            epoch: 0,
            slow_links: Vec::new(),
            background_detach: None,
        };
        if let Some(entry) = request.entry_format
            && let Some(id) = plan.learn_vcpus
        {
            attached.attach("learn_vcpu", &entry.event_name(), id)?;
        }
        if plan.learn_threads {
            for event in VCPU_THREAD_EVENTS {
                attached.attach("learn_thread", &event.into(), 0)?;
            }
        }
        if plan.knows_threads() && plan.timing.is_none() {
            attached.attach("vcpu_thread_end", &THREAD_END_EVENT.into(), 0)?;
        }
        let mut handled_slots: &[usize] = &[];
        if let Some(timing) = &plan.timing {
            for it in &timing.attachments {
                attached.attach(&it.program, &it.event, it.id)?;
            }
            handled_slots = &timing.handled_slots;
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
            if !handled_slots.contains(&slot) {
                attached.attach(&plan.slot_program(slot), &event.event_name(), event.id)?;
            }
        }
        Ok(attached)
    }

    /// Loads a program and attaches it to an event. `id` is the event's id, which a classic tracepoint program needs.
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
            // A raw tracepoint has the name of the event without the system.
            Some(Program::RawTracePoint(it)) => {
                // A program that is attached to several events is loaded only once.
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

    /// Starts the measurement, for all events at the same time.
    ///
    /// # Errors
    /// If the map with the epoch cannot be written.
    pub fn start(&mut self) -> Result<(), ProbeError> {
        self.next_epoch().map(drop)
    }

    /// Stops the measurement, and waits until no program is running. Afterwards the counts are final.
    ///
    /// # Errors
    /// If the map with the epoch cannot be written, or the kernel cannot wait.
    pub fn stop(&mut self) -> Result<(), ProbeError> {
        self.set_epoch(0)?;
        barrier::wait_for_programs().map_err(ProbeError::Wait)
    }

    /// Starts the next epoch. Returns the previous one, in which minimum and maximum durations are now final, except for
    /// exits that a program is counting at this moment.
    ///
    /// # Errors
    /// If the map with the epoch cannot be written.
    pub fn next_epoch(&mut self) -> Result<u64, ProbeError> {
        self.set_epoch(self.epoch + 1)?;
        self.epoch += 1;
        Ok(self.epoch - 1)
    }

    /// Returns the current epoch. After the end, it is the last one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn set_epoch(&mut self, epoch: u64) -> Result<(), ProbeError> {
        // The section of global variables. The epoch is the only one that changes.
        const NAME: &str = ".bss";
        let map = self.ebpf.map_mut(NAME);
        let map = map.ok_or_else(|| ProbeError::Missing(NAME.to_owned()))?;
        Array::try_from(map)
            .and_then(|mut map: Array<_, u64>| map.set(0, epoch, 0))
            .map_err(|source| ProbeError::Map { name: NAME, source })
    }

    /// Returns the kernel's information about each attached program.
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

    /// Takes the rings in which events arrive. `None` at the second call, or if no events are sent to user space.
    pub fn take_rings(&mut self) -> Option<Rings> {
        self.rings.take()
    }

    /// Returns the size of the rings in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// Returns a descriptor that is readable when [`AttachedPrograms::read_notifications`] has something to read. `None` if
    /// threads need not be known.
    ///
    /// # Errors
    /// If the process cannot have another file descriptor.
    pub fn notifications_fd(&self) -> io::Result<Option<OwnedFd>> {
        self.notifications
            .as_ref()
            .map(Notifications::readable_fd)
            .transpose()
    }

    /// Passes log messages of the eBPF programs on to the log, if they were requested.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn load(request: &Request<'_>, plan: &Plan) -> Result<Ebpf, ProbeError> {
    let sizes = request.sizes;
    let cpus = possible_cpus();
    // A map cannot be left out. One that is not needed gets one entry.
    let if_needed = |needed: bool, size: u32| if needed { size } else { 1 };
    let times_exits = plan.timing.is_some();
    let knows_threads = plan.knows_threads();
    let threads = if_needed(knows_threads, sizes.threads);
    let rows = if_needed(times_exits, sizes.exit_rows);
    let mut timing = TimingSettings::NONE;
    let mut details = [DetailSettings::NONE; MAX_DETAILS];
    if let Some(plan) = &plan.timing {
        (timing, details) = (plan.settings, plan.details);
    }
    let last_threads = if_needed(sees_moving_vcpus(plan), last_thread_entries(threads));
    timing.last_thread_mask = last_threads - 1;
    let filter = FilterSettings {
        skip_processes: u32::from(request.skip_processes),
        ..plan.filter
    };
    let causes = if_needed(timing.stores_causes != 0, rows);
    let counted = if_needed(request.per_thread, sizes.counted_threads);
    let raw_can_nest = kernel_version() < RAW_GUARD_SINCE;
    let general = GeneralSettings {
        weakly_ordered: u32::from(REORDERS_WRITES),
        raw_can_nest: u32::from(raw_can_nest),
        plain_increment: u32::from(plan.general.needs_task == 0 && !raw_can_nest),
        ..plan.general
    };
    let has_notifications = knows_threads || request.per_thread;
    let has_rings = plan.sends_records(request);
    let chunks = sizes.ring_bytes >> CHUNK_BYTES.ilog2();
    let mut ebpf = EbpfLoader::new()
        // Parsing the kernel's own types takes 50 MB, and no program refers to them.
        .btf(None)
        .override_global("SLOTS", &plan.slots[..], true)
        .override_global("FILTER", &filter, true)
        .override_global("TIMING", &timing, true)
        .override_global("DETAILS", &details[..], true)
        .override_global("GENERAL", &general, true)
        .override_global(
            aya_log::LEVEL,
            if request.log { &u8::MAX } else { &0 },
            false,
        )
        .map_max_entries(
            "RING_CHUNKS",
            if_needed(has_rings, cpus.saturating_mul(chunks)),
        )
        .map_max_entries("RING_POSITIONS", if_needed(has_rings, cpus))
        .map_max_entries("LAST_THREAD_ON_CPU", cpus)
        .map_max_entries("VCPU_THREADS", threads)
        .map_max_entries("VCPU_THREAD_BY_TID", threads)
        .map_max_entries("LAST_THREAD_OF_VCPU", last_threads)
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
            if has_notifications {
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
            counted.saturating_mul(general.slot_count.max(1)),
        )
        .map_max_entries("AYA_LOGS", if request.log { 1 << 17 } else { 4096 })
        .load(&bind::bind(OBJECT, &plan.locations)?)
        .map_err(|error| {
            if is_permission_error(&error) {
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

/// Whether other CPUs may see this processor's writes in another order.
const REORDERS_WRITES: bool = cfg!(not(target_arch = "x86_64"));

/// Since this version, the kernel does not run a raw tracepoint program while the same program runs on that CPU
/// (`__bpf_trace_run`, kernel/trace/bpf_trace.c).
const RAW_GUARD_SINCE: KernelVersion = KernelVersion::new(6, 1, 0);

/// Returns the version of the running kernel, or 0.0.0 if it cannot be read.
fn kernel_version() -> KernelVersion {
    KernelVersion::current().unwrap_or(KernelVersion::new(0, 0, 0))
}

/// Returns whether the programs notice that a vCPU has moved to another thread.
fn sees_moving_vcpus(plan: &Plan) -> bool {
    plan.timing
        .as_ref()
        .is_some_and(TimingPrograms::sees_moving_vcpus)
}

/// Returns the size of the table of the thread that entered each vCPU last. It is a power of two of at least four times the
/// number of threads, so that few vCPUs share an entry.
fn last_thread_entries(threads: u32) -> u32 {
    const MAX_ENTRIES: u32 = 1 << 24;
    threads
        .saturating_mul(4)
        .clamp(4, MAX_ENTRIES)
        .next_power_of_two()
}
