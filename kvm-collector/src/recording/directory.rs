//! Recordings that are directories. `perf record --threads` writes the metadata to the file `data`, and the records
//! of each of its threads to `data.0`, `data.1` and so on, without a header. `perf record --kcore` writes a
//! directory with only `data`, beside a copy of the kernel.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    abi::{FILE_HEADER_BYTES, MAGIC, feature, u64_at},
    chunks::Chunks,
    error::ReadError,
    input::{ByteSource, Input},
};

/// The name of the file with the metadata.
const HEADER_FILE: &str = "data";

/// Returns whether a path is a directory that `perf record --threads` wrote.
#[must_use]
pub fn is_directory_recording(path: &Path) -> bool {
    let header = path.join(HEADER_FILE);
    // Opening a FIFO would block.
    if !header.is_file() || is_empty_file(&header) {
        return false;
    }
    let mut start = Vec::new();
    if let Ok(file) = File::open(header) {
        let _ = file.take(FILE_HEADER_BYTES as u64).read_to_end(&mut start);
    }
    // A file named `data` may also be a recording of its own among others.
    u64_at(&start, 0) == Some(MAGIC)
        && u64_at(&start, 72).is_some_and(|features| features & 1 << feature::DIR_FORMAT != 0)
}

/// Returns whether a path is a file without contents, also through links. The files of procfs and tracefs are such files, and must
/// not be read if only a link of another user leads to them: some wait for data, and take it from those who need it, as
/// `trace_pipe` and `/proc/kmsg` do.
#[must_use]
pub fn is_empty_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0)
}

/// Returns whether a recording can be read more than once: a pipe cannot.
#[must_use]
pub fn can_be_read_again(path: &Path) -> bool {
    path.is_file() || is_directory_recording(path)
}

/// Returns the path of the file that starts with the header of a recording.
///
/// # Errors
/// [`ReadError::NotARecording`] if `path` is another directory.
pub(super) fn header_path(path: &Path) -> Result<PathBuf, ReadError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let header = path.join(HEADER_FILE);
    if header.is_file() {
        return Ok(header);
    }
    Err(ReadError::NotARecording {
        path: path.to_owned(),
        found: "a directory".to_owned(),
        remedy: "give a file in it; `stat` and `exits` add up all recordings of a directory"
            .to_owned(),
    })
}

/// Returns whether a file is one with the records of perf's threads, which cannot be read without the others.
pub(super) fn is_data_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|it| it.to_str());
    let number = name.and_then(data_file_number);
    number.is_some() && path.parent().is_some_and(is_directory_recording)
}

/// Opens the files with the records of perf's threads. `path` is the directory, or the file with the metadata in it.
///
/// # Errors
/// [`ReadError::Io`], or [`ReadError::Header`] if a file is missing.
pub(super) fn open_data_files(path: &Path) -> Result<Vec<Chunks>, ReadError> {
    let folder = match path.is_dir() {
        true => path,
        // The parent of a name without a folder is an empty path.
        false => path.parent().unwrap_or(path),
    };
    let io_error = |path: &Path, source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let readable = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(readable).map_err(|error| io_error(folder, error))? {
        let entry = entry.map_err(|error| io_error(folder, error))?;
        numbers.extend(data_file_number(&entry.file_name().to_string_lossy()));
    }
    numbers.sort_unstable();
    // perf numbers them from 0 on.
    let is_complete = numbers.iter().copied().eq(0..numbers.len());
    if numbers.is_empty() || !is_complete {
        let missing = (0..).find(|it| !numbers.contains(it)).unwrap_or(0);
        return Err(ReadError::Header {
            path: path.to_owned(),
            problem: format!(
                "its events are in further files of its directory, and {HEADER_FILE}.{missing} is missing: copy the whole directory"
            ),
        });
    }
    let open = |number: &usize| {
        let name = format!("{HEADER_FILE}.{number}");
        let file_path = folder.join(&name);
        let file = open_regular_file(&file_path).map_err(|error| io_error(&file_path, error))?;
        let file = file.ok_or_else(|| ReadError::Header {
            path: path.to_owned(),
            problem: format!("{name} in its directory is not a regular file"),
        })?;
        let input = Input::new(ByteSource::Stream(file), 0, None);
        Ok(Chunks::new(&file_path, input))
    };
    numbers.iter().map(open).collect()
}

/// Opens a file, unless it is a link or has another type: another user may have made the directory. A link would lead to any
/// file, and opening a FIFO would block.
fn open_regular_file(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the number in the name of a file with records: 1 for `data.1`.
fn data_file_number(name: &str) -> Option<usize> {
    let digits = name.strip_prefix(HEADER_FILE)?.strip_prefix('.')?;
    let number = digits.parse().ok()?;
    // `data.old`, `data.01` and `data.+1` are other files.
    (digits == usize::to_string(&number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_files_have_a_number() {
        assert_eq!(data_file_number("data.0"), Some(0));
        assert_eq!(data_file_number("data.12"), Some(12));
        for other in [
            "data",
            "data.",
            "data.old",
            "data.01",
            "data.+1",
            "kvm.data.1",
        ] {
            assert_eq!(data_file_number(other), None, "{other}");
        }
    }
}
