//! The running VMs without exits, for readings.

use std::collections::HashMap;

use crate::{
    source::{IdleVms, Live},
    view::TopReading,
};

/// Adds VMs that made no exits since the previous reading.
#[derive(Debug)]
pub(super) struct IdleRows {
    vms: IdleVms,
    /// Number of exits at the previous reading, by process id.
    exits: HashMap<u32, u64>,
}

impl IdleRows {
    /// Reads the VMs that run at the start. `None` if other events than exits are counted.
    pub(super) fn new(live: &Live) -> Option<Self> {
        Some(Self {
            vms: IdleVms::of(live.options())?,
            exits: HashMap::new(),
        })
    }

    /// Adds the VMs without exits to a reading.
    pub(super) fn add_to(&mut self, reading: &mut TopReading, live: &Live) {
        let exits = reading.exits_by_process();
        let process_of = |pid| live.names().latest(pid);
        let count_in = |counts: &HashMap<u32, u64>, pid| counts.get(&process_of(pid)).copied();
        let has_exits = |pid| {
            let now = count_in(&exits, pid).unwrap_or(0);
            now > count_in(&self.exits, pid).unwrap_or(0)
        };
        let vms = self.vms.read(live.names().count(), &has_exits);
        reading.idle_failure = self.vms.failure().map(str::to_owned);
        for vm in vms.unwrap_or_default() {
            reading.add_idle_vm(process_of(vm.pid), &vm);
        }
        self.exits = exits;
    }
}
