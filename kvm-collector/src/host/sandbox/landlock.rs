//! Restricts with Landlock which files can be opened.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, PathFd, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    Scope, make_bitflags,
};

use super::{needs::Files, status::Layer};

/// The latest version whose rights are restricted. Kernels that do not have all of them restrict those that they have.
const ABI: ABI = ABI::V7;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// For files that are written, also through another name such as `/dev/stdout`.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | Truncate});

/// For directories in which outputs and temporary files are created.
const CREATE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir
});

const DEVICE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | IoctlDev});

/// Restricts this thread to these files, and to no network. `signals_others` permits signals to other processes.
pub(super) fn restrict(files: &Files, signals_others: bool) -> Layer {
    match restrict_to(files, signals_others) {
        Ok(layer) => layer,
        Err(error) => Layer::Off(error.to_string()),
    }
}

fn restrict_to(files: &Files, signals_others: bool) -> Result<Layer, RulesetError> {
    let mut scope: BitFlags<Scope> = Scope::AbstractUnixSocket.into();
    if !signals_others {
        scope |= Scope::Signal;
    }
    let mut ruleset = landlock::Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI))?
        .handle_access(AccessNet::from_all(ABI))?
        .scope(scope)?
        .create()?;
    let rules: [(&[PathBuf], _); 4] = [
        (&files.read, READ),
        (&files.written, WRITE),
        (&files.directories, CREATE),
        (&files.devices, DEVICE),
    ];
    for (paths, access) in rules {
        for path in paths {
            // What does not exist needs no rule: opening it fails with the usual error.
            let Ok(file) = PathFd::new(path) else {
                continue;
            };
            // A pipe or socket has no place in a file system, and is not restricted.
            if let Err(error) = (&mut ruleset).add_rule(PathBeneath::new(file, access)) {
                log::debug!("no Landlock rule for {}: {error}", path.display());
            }
        }
    }
    let status = ruleset.restrict_self()?;
    Ok(match (status.landlock, status.ruleset) {
        (
            LandlockStatus::Available { effective_abi, .. },
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
        ) => Layer::On(format!("ABI {}", effective_abi as i32)),
        (LandlockStatus::NotEnabled, _) => {
            Layer::Off("disabled: add landlock to the kernel parameter lsm=".to_owned())
        }
        _ => Layer::Off("the kernel does not have it".to_owned()),
    })
}
