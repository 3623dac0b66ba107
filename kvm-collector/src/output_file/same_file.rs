//! Whether an output would overwrite an input or another output.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use super::resolve::{Kind, Missing, resolve};

/// Returns whether two paths are the same regular file or named pipe, also through links and by different names. A file is
/// identified by its device and inode. `-` is stdin as an input, and stdout as an output.
#[must_use]
pub fn is_same_file(input: &Path, output: &Path) -> bool {
    let status = |path: &Path, standard: &str| {
        let is_standard = path == Path::new("-");
        let path = if is_standard {
            Path::new(standard)
        } else {
            path
        };
        // Devices such as a terminal are read and written without harm.
        let status = fs::metadata(path).ok();
        status.filter(|it| it.is_file() || it.file_type().is_fifo())
    };
    match (
        status(input, "/proc/self/fd/0"),
        status(output, "/proc/self/fd/1"),
    ) {
        (Some(input), Some(output)) => (input.dev(), input.ino()) == (output.dev(), output.ino()),
        _ => false,
    }
}

/// Returns whether two outputs are the same file. It need not exist.
#[must_use]
pub fn is_same_output(one: &Path, other: &Path) -> bool {
    let name = |path: &Path| {
        let place = resolve(path, Missing::Refuse).ok()?;
        let directory = place.directory.status().ok()?;
        let id = (directory.st_dev, directory.st_ino, place.name);
        (place.kind == Kind::Replaced).then_some(id)
    };
    match (name(one), name(other)) {
        (Some(one), Some(other)) => one == other,
        _ if one == Path::new("-") => one == other,
        _ => is_same_file(one, other),
    }
}
