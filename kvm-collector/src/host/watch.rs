//! Reports loading and unloading of KVM's vendor module during a measurement.
//!
//! A program attached to a tracepoint of kvm.ko keeps kvm.ko loaded, but not the vendor module
//! (kvm_amd, kvm_intel). Without the vendor module no VM runs and no event occurs, which needs an
//! explanation.

use super::kvm;

/// The vendor module at the last check.
#[derive(Debug)]
pub struct ModuleWatch {
    flavour: Option<String>,
    /// The last module that was loaded, for messages.
    last: Option<String>,
}

impl ModuleWatch {
    /// Reads the current vendor module.
    #[must_use]
    pub fn start() -> Self {
        let flavour = kvm::vendor_module();
        Self {
            last: flavour.clone(),
            flavour,
        }
    }

    /// Checks again and logs a warning if the module was loaded or unloaded.
    pub fn check(&mut self) {
        let now = kvm::vendor_module();
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
