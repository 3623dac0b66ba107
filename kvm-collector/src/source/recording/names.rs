//! Names of threads and VMs, as a recording says them.

use std::collections::HashMap;

use crate::{host::VmNames, recording::kind};

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
        match tgid {
            0 => self.vms.get(0).to_owned(),
            tgid => self.vm_known(tgid).unwrap_or_else(|| "?".to_owned()),
        }
    }

    /// As [`Names::vm`], if the recording says it.
    #[must_use]
    pub fn vm_known(&self, tgid: u32) -> Option<String> {
        match (self.vms.known(tgid), self.comms.get(&tgid)) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(comm)) => Some(format!("{comm}-{tgid}")),
            (None, None) => None,
        }
    }

    pub(super) fn from_lines(vms: &str) -> Self {
        Self {
            comms: HashMap::new(),
            vms: VmNames::from_lines(vms),
        }
    }

    /// Learns what a record says of a thread's name.
    pub(super) fn learn(&mut self, record: &[u8]) {
        if let Some((tid, comm)) = kind::comm(record) {
            self.comms.insert(tid, comm);
        } else if let Some((tid, parent)) = kind::fork(record)
            && tid != parent
            && let Some(comm) = self.comms.get(&parent).cloned()
        {
            self.comms.insert(tid, comm);
        }
    }
}
