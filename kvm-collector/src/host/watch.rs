//! KVM's modules, watched while something is measured.
//!
//! A program attached to one of kvm.ko's tracepoints keeps kvm.ko loaded, but not the module for the
//! processor (kvm_amd, kvm_intel). Without that no VM runs, so no event happens: whoever watches
//! should be told why.

use std::path::Path;

use super::kvm;

/// What was loaded when it was last looked at.
#[derive(Debug)]
pub struct ModuleWatch {
    flavour: Option<String>,
    /// The last one there was, for the messages.
    last: Option<String>,
}

impl ModuleWatch {
    /// Looks for the first time.
    #[must_use]
    pub fn begin() -> Self {
        let flavour = flavour();
        Self {
            last: flavour.clone(),
            flavour,
        }
    }

    /// Looks again, and says on the log what has changed.
    pub fn look(&mut self) {
        let now = flavour();
        if now == self.flavour {
            return;
        }
        match (&now, &self.last) {
            (Some(now), _) => log::warn!("{now} was loaded: VMs can run, and counting goes on"),
            (None, Some(last)) => log::warn!(
                "{last} was unloaded: no VM can run until it is loaded again; counting goes on, and keeps kvm itself loaded"
            ),
            (None, None) => {}
        }
        if now.is_some() {
            self.last.clone_from(&now);
        }
        self.flavour = now;
    }
}

fn flavour() -> Option<String> {
    kvm::read(Path::new("/"))
        .flavour
        .map(|flavour| flavour.name)
}
