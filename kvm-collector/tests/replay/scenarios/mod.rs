//! Streams of single events that test one rule of the replay each.

mod incomplete_streams;
mod named_vcpus;
mod slow_exits;
mod vcpu_threads;

use kvm_collector::{model::VcpuId, timing::ReplayOptions};

use crate::{
    Row, Rows,
    event::{CountMode, EventType, StreamEvent},
    feeder::{Feeder, replay_options, timing_request},
    read,
};

fn default_options() -> ReplayOptions {
    replay_options(timing_request(CountMode::Reason))
}

fn event(time_ns: u64, cpu: u32, tid: u32, event_type: EventType) -> StreamEvent {
    StreamEvent {
        time_ns,
        cpu,
        tgid: 1,
        tid,
        event_type,
    }
}

/// An exit of the vCPU with the thread's id as its index.
fn exit(tid: u32) -> EventType {
    EventType::Exit {
        vcpu: tid,
        code: 0x78,
        rip: 0xfff0,
    }
}

fn feed(options: ReplayOptions, events: &[StreamEvent]) -> (Feeder, Rows) {
    let mut feeder = Feeder::with_options(options);
    events.iter().for_each(|event| feeder.feed(event));
    let (rows, _) = read(&mut feeder);
    (feeder, rows)
}

/// Returns the thread, and the counts of all, of untimed and of open exits, of each row.
fn counts(rows: &Rows) -> Vec<(u32, u64, u64, u64)> {
    let count = |(key, row): (&(VcpuId, _), &Row)| {
        let totals = &row.totals;
        (key.0.tid, totals.count, totals.untimed, totals.open)
    };
    rows.iter().map(count).collect()
}

/// An exit of a vCPU that any thread may run.
fn exit_of_vcpu(vcpu: u32) -> EventType {
    EventType::Exit {
        vcpu,
        code: 0x78,
        rip: 0,
    }
}

const USERSPACE_EXIT: EventType = EventType::UserspaceExit {
    reason: 0,
    errno: 0,
};
