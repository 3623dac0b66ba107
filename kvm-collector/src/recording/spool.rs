//! Stores a finished recording that comes through a pipe: the tables at its end are needed first.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
};

use crate::output_file::temporary_file;

/// Maximum size of a recording that is stored.
const MAX_BYTES: u64 = 4 << 30;

/// Whether a file can only be read from start to end, as pipes.
pub(super) fn is_stream(file: &File) -> bool {
    (&mut &*file).stream_position().is_err()
}

/// Stores a stream in a file without a name. `start` is what has been read of the stream.
///
/// # Errors
/// When the stream cannot be read or stored, or is larger than 4 GiB.
pub(super) fn spool(stream: File, start: &[u8]) -> io::Result<File> {
    spool_at_most(stream, start, MAX_BYTES)
}

fn spool_at_most(stream: File, start: &[u8], max_bytes: u64) -> io::Result<File> {
    let folder = std::env::temp_dir();
    let in_folder = |error: io::Error| {
        let message = format!(
            "a finished recording in a pipe is stored in {} first: {error}. Save it as a file for -i, or set TMPDIR to another folder",
            folder.display()
        );
        io::Error::new(error.kind(), message)
    };
    let mut file = temporary_file(&folder).map_err(in_folder)?;
    file.write_all(start).map_err(in_folder)?;
    let rest = (max_bytes + 1).saturating_sub(start.len() as u64);
    let copied = io::copy(&mut stream.take(rest), &mut file).map_err(in_folder)?;
    if copied == rest {
        let message = format!(
            "a finished recording in a pipe can have at most {} MiB: save it as a file for -i",
            max_bytes >> 20
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_stored_up_to_a_limit() {
        let zeros = || File::open("/dev/zero").expect("a device");
        let error = spool_at_most(zeros(), b"start", 1 << 20).expect_err("endless");
        assert!(error.to_string().contains("at most 1 MiB"), "{error}");
        let comm = || File::open("/proc/self/comm").expect("procfs");
        let mut expected = b"start".to_vec();
        comm().read_to_end(&mut expected).expect("procfs");
        for max_bytes in [expected.len() as u64, 1 << 20] {
            let mut file = spool_at_most(comm(), b"start", max_bytes).expect("a small stream");
            assert!(!is_stream(&file));
            let mut stored = Vec::new();
            file.rewind().expect("a file");
            file.read_to_end(&mut stored).expect("a file");
            assert_eq!(stored, expected);
        }
    }
}
