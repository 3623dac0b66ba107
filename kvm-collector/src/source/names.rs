//! VM names, read while the VM lives and kept after it has ended.

use std::{collections::HashMap, path::Path};

use crate::host;

/// Names of VMs by process.
#[derive(Debug, Default)]
pub struct VmNames {
    known: HashMap<u32, String>,
}

impl VmNames {
    /// Learns the names of processes not seen before.
    pub fn learn(&mut self, tgids: impl IntoIterator<Item = u32>) {
        for tgid in tgids {
            if !self.known.contains_key(&tgid)
                && let Some(name) = host::vm::name_of(Path::new("/proc"), tgid)
            {
                self.known.insert(tgid, name);
            }
        }
    }

    /// The name, or `?` for a process that ended before it could be asked. 0 stands for the VMs that ended
    /// so long ago that they are not told apart any more.
    #[must_use]
    pub fn get(&self, tgid: u32) -> &str {
        if tgid == 0 {
            return "VMs that ended earlier";
        }
        self.known.get(&tgid).map_or("?", String::as_str)
    }
}
