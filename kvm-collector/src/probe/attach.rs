//! Attaches the eBPF programs, and starts and stops the measurement.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{Ebpf, maps::Array, programs::Program};
use aya_log::EbpfLogger;
use kvm_ebpf_common::{SlotTable, TimingCounters};

use super::{
    background_detach::BackgroundDetach,
    barrier,
    counted_threads::CountedThreadTables,
    error::{ProbeError, not_attached, not_loaded},
    load::{OBJECT, check_kernel_version, load},
    mapped::MappedArray,
    notifications::Notifications,
    plan::{Plan, VCPU_THREAD_EVENTS},
    request::Request,
    ring::Rings,
    tables::ExitTables,
    tracepoint,
};
use crate::{timing::THREAD_END_EVENT, tracefs::EventName};

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
        check_kernel_version()?;
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
            .then(|| Rings::open(&ebpf, request.events, request.sizes.ring_bytes))
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
            for attachment in &timing.attachments {
                attached.attach(&attachment.program, &attachment.event, attachment.id)?;
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
            Some(Program::TracePoint(classic)) => {
                classic.load().map_err(|error| not_loaded(&name, error))?;
                let fd = classic.fd().map_err(|error| not_loaded(&name, error))?;
                let link = tracepoint::attach(fd.as_fd(), id)
                    .map_err(|error| not_attached(&name, error))?;
                self.slow_links.push(link);
            }
            // A raw tracepoint has the name of the event without the system.
            Some(Program::RawTracePoint(raw)) => {
                // A program that is attached to several events is loaded only once.
                if raw.fd().is_err() {
                    raw.load().map_err(|error| not_loaded(&name, error))?;
                }
                raw.attach(&event.name)
                    .map_err(|error| not_attached(&name, error))?;
            }
            _ => return Err(ProbeError::Missing(program.to_owned())),
        }
        let known = self.programs.iter_mut().find(|known| known.name == program);
        match known {
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

    /// Does what is done with the programs and maps until the end, without an effect.
    ///
    /// # Errors
    /// If this process may not do it.
    pub fn try_access(&mut self) -> Result<(), ProbeError> {
        // All calls with a map or program need the same privileges.
        self.set_epoch(self.epoch)?;
        barrier::check_access().map_err(ProbeError::Wait)
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
    /// If the process has too many open files.
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
