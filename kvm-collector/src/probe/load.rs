//! Loads the eBPF object.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use aya::{Ebpf, EbpfLoader, include_bytes_aligned, util::KernelVersion};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type, bpf_prog_type};
use kvm_ebpf_common::{
    CHUNK_BYTES, DetailSettings, FilterSettings, GeneralSettings, MAX_DETAILS, TimingSettings,
};

use super::{
    barrier, bind,
    error::{ProbeError, is_permission_error},
    notifications::NOTIFICATION_RING_BYTES,
    plan::Plan,
    request::Request,
    sizes::{possible_cpus, present_cpus},
    tables,
    timing_programs::TimingPrograms,
};

/// Name of the map of skipped processes.
pub(super) const SKIPPED_PROCESSES: &str = "SKIPPED_PROCESSES";

/// Maximum number of skipped processes.
const MAX_SKIPPED_PROCESSES: u32 = 16_384;

/// The eBPF object, from `build.rs`. Empty if it was not built.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kvm-ebpf.o"));

/// Since this version, the kernel does not run a raw tracepoint program while the same program runs on that CPU
/// (`__bpf_trace_run`, kernel/trace/bpf_trace.c).
const RAW_GUARD_SINCE: KernelVersion = KernelVersion::new(6, 1, 0);

/// Loads the eBPF object with the settings and map sizes that the request needs. Attaches nothing.
///
/// # Errors
/// If the kernel does not permit it, or the object is damaged.
pub(super) fn load(request: &Request<'_>, plan: &Plan) -> Result<Ebpf, ProbeError> {
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
            if_needed(has_rings, present_cpus().saturating_mul(chunks)),
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
                return ProbeError::Privilege(error.into());
            }
            // aya adapts the object to what its own attempts show, so a refusal of these can cause an unrelated error.
            match try_bpf() {
                Err(refusal) if is_permission_error(&refusal) => {
                    ProbeError::Privilege(refusal.into())
                }
                _ => ProbeError::Load(error),
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

/// Creates the smallest map and loads the smallest program, to find out whether the kernel lets this process do so.
fn try_bpf() -> io::Result<()> {
    barrier::create_map(bpf_map_type::BPF_MAP_TYPE_ARRAY, 8, None)?;
    // r0 = 0; exit
    let program: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    // SAFETY: all bytes of the attribute may be zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: these are the fields of this command; the program and the license live until the call returns.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT as u32;
    load.insn_cnt = 2;
    load.insns = program.as_ptr() as u64;
    load.license = license.as_ptr() as u64;
    let fd = barrier::bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: the descriptor is new, and nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// Checks that the kernel can run the programs.
///
/// # Errors
/// [`ProbeError::Unordered`] if the kernel does not support the instructions that keep the order of writes.
pub(super) fn check_kernel_version() -> Result<(), ProbeError> {
    let kernel = kernel_version();
    if bind::REORDERS_WRITES && kernel < KernelVersion::new(5, 18, 0) {
        return Err(ProbeError::Unordered(kernel));
    }
    Ok(())
}

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
