//! Lists VMs during a measurement, in a process of its own.
//!
//! Listing VMs means reading the open files of all processes, which needs `CAP_SYS_PTRACE`. That capability also
//! permits reading the memory of every process. So a small separate process keeps it, and the process that parses events
//! can give up all privileges. Nothing else than listing VMs, and what their vCPUs do, can be requested.

mod child;
mod connection;
mod local;
mod protocol;

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{namespaces::PROC, vcpu_activity::IdleVcpu, vm::VmList};
use connection::Connection;
use local::LocalLister;
use protocol::Request;

/// Which process lists VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// This process.
    InProcess,
    /// A process of its own, so that this one can give up its privileges.
    Separate,
}

/// Lists VMs and reads what their vCPUs do.
#[derive(Debug)]
pub struct VmLister(Place);

#[derive(Debug)]
enum Place {
    Here(LocalLister),
    Separate(Connection),
}

impl VmLister {
    /// Creates a lister of the processes in `proc` (`/proc`). Starts the separate process if it is requested. Call it early:
    /// while this process has only one thread, few open files and its privileges.
    ///
    /// # Errors
    /// If the separate process cannot be started.
    pub fn start(proc: &Path, listing: Listing) -> io::Result<Self> {
        let local = LocalLister::new(proc.to_owned());
        Ok(Self(match listing {
            Listing::InProcess => Place::Here(local),
            Listing::Separate => Place::Separate(Connection::start(local)?),
        }))
    }

    /// Lists the VMs; see [`list`](super::vm::list).
    ///
    /// # Errors
    /// If `/proc` cannot be read, or the separate process has ended or does not answer.
    pub fn list(&mut self) -> io::Result<VmList> {
        match &mut self.0 {
            Place::Here(local) => local.list(),
            Place::Separate(connection) => connection.request(Request::List),
        }
    }

    /// Reads what the vCPUs of a VM do; none if the VM is not in the latest list.
    ///
    /// # Errors
    /// If the separate process has ended or does not answer.
    pub fn read_vcpus(&mut self, tgid: u32) -> io::Result<Vec<IdleVcpu>> {
        match &mut self.0 {
            Place::Here(local) => Ok(local.read_vcpus(tgid)),
            Place::Separate(connection) => connection.request(Request::Vcpus(tgid)),
        }
    }

    /// Returns the process id of the separate process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.0 {
            Place::Here(_) => None,
            Place::Separate(connection) => Some(connection.pid()),
        }
    }
}

static SHARED: OnceLock<Mutex<VmLister>> = OnceLock::new();

/// Starts the lister of this process, which [`shared`] returns.
///
/// # Errors
/// If the separate process cannot be started. This process lists VMs itself then.
pub fn start_shared(listing: Listing) -> io::Result<()> {
    let lister = VmLister::start(Path::new(PROC), listing)?;
    log::debug!("process {:?} lists VMs", lister.pid());
    // Only one lister is started.
    let _ = SHARED.set(Mutex::new(lister));
    Ok(())
}

/// Ends the separate process of [`start_shared`], if there is one.
pub fn end_shared() {
    if let Some(lister) = SHARED.get()
        && let Place::Separate(connection) =
            &lister.lock().unwrap_or_else(PoisonError::into_inner).0
    {
        connection.end();
    }
}

/// Returns the lister of this process. Unless [`start_shared`] has started another one, it lists VMs in this process.
pub fn shared() -> MutexGuard<'static, VmLister> {
    let in_process = || {
        let local = LocalLister::new(PROC.into());
        Mutex::new(VmLister(Place::Here(local)))
    };
    let shared = SHARED.get_or_init(in_process).lock();
    shared.unwrap_or_else(PoisonError::into_inner)
}
