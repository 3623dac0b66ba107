//! The file or stdout to which a command writes.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::usage::bail_usage;
use crate::output_file::{
    OutputFile, OutputFiles, Previous, is_same_file, is_same_output, name_output,
};

/// Size of the buffer of an output.
const BUFFER_BYTES: usize = 64 << 10;

/// When an output file replaces an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appears {
    /// With its first lines, so that it can be read while the command runs.
    AtFirstFlush,
    /// When it is complete.
    AtEnd,
}

/// An output whose errors have its name.
#[derive(Debug)]
pub(super) struct NamedOutput {
    path: PathBuf,
    file: OutputFile,
    appears: Appears,
}

/// A buffered output.
pub(super) type BufferedOutput = BufWriter<NamedOutput>;

/// Opens a file, or stdout for `None` and `-`.
///
/// # Errors
/// See [`OutputFile::create`].
pub(super) fn open_output(file: Option<&Path>, appears: Appears) -> anyhow::Result<BufferedOutput> {
    let path = file.filter(|it| *it != Path::new("-"));
    let name = path.unwrap_or(Path::new("stdout")).to_owned();
    let file = match path {
        Some(path) => OutputFile::create(path),
        None => OutputFile::stdout(),
    };
    let output = NamedOutput {
        file: file.map_err(|error| name_output(&name, &error))?,
        path: name,
        appears,
    };
    Ok(BufWriter::with_capacity(BUFFER_BYTES, output))
}

/// Opens stdout.
///
/// # Errors
/// If it cannot be duplicated.
pub(super) fn open_stdout() -> anyhow::Result<BufferedOutput> {
    open_output(None, Appears::AtFirstFlush)
}

/// Completes outputs: existing files are replaced when all new ones are stored.
///
/// # Errors
/// When an output cannot be written.
pub(super) fn complete(outputs: Vec<BufferedOutput>) -> io::Result<()> {
    let mut files = OutputFiles::default();
    for mut output in outputs {
        output.flush()?;
        let NamedOutput { path, file, .. } = output.into_inner().map_err(io::Error::from)?;
        files.add(&path, file);
    }
    files.complete()
}

/// Refuses outputs that would overwrite an input or each other.
///
/// # Errors
/// When two of the files are the same.
pub(super) fn check_outputs(
    inputs: &[PathBuf],
    output: Option<&Path>,
    loss: Option<&Path>,
) -> anyhow::Result<()> {
    for path in [output, loss].into_iter().flatten() {
        if inputs.iter().any(|it| is_same_file(it, path)) {
            bail_usage!(
                "{} is the recording itself: choose another file for the result",
                path.display()
            );
        }
    }
    if let (Some(output), Some(loss)) = (output, loss)
        && is_same_output(output, loss)
    {
        bail_usage!("-o and --loss are the same file: use another one for --loss");
    }
    Ok(())
}

impl Write for NamedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        result.map_err(|error| name_output(&self.path, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = match self.appears {
            Appears::AtFirstFlush => self.file.publish(Previous::Replace),
            Appears::AtEnd => Ok(()),
        };
        result.map_err(|error| name_output(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_errors_name_the_output() {
        let path = Some(Path::new("/dev/full"));
        let mut out = open_output(path, Appears::AtEnd).unwrap();
        out.write_all(b"report").unwrap();
        let error = out.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        assert!(text.starts_with("cannot write to /dev/full: "), "{text}");
    }
}
