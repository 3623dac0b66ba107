//! The output of a command through an I/O port of Bochs.
//!
//! Bochs writes its own messages to the same stream. Therefore the init script marks the start and the end of the output.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    process::{self as std_process, Command},
};

use anyhow::Result;

use crate::{process, workspace};

/// Path in the VM of the program that writes to the port.
pub(super) const WRITER: &str = "/vm/port_writer";

const WRITER_SOURCE: &str = "xtask/src/vm/port_writer.rs";

// The control character RS does not occur in the output of usual commands.
const START: &str = "\x1eoutput";
/// The exit code and a newline follow.
const END: &str = "\x1eexit ";

/// Returns the settings for the init script, as shell variables.
pub(super) fn settings() -> String {
    format!("PORT_WRITER={WRITER}\nOUTPUT_START='{START}'\nOUTPUT_END='{END}'\n")
}

/// Compiles the program that writes to the port, without libraries that the VM lacks.
pub(super) fn build_writer() -> Result<Vec<u8>> {
    let program = workspace::target(&format!("vm/port_writer-{}", std_process::id()));
    process::run(
        Command::new("rustc")
            .current_dir(workspace::root())
            .args([
                "--edition",
                "2024",
                "-O",
                "-C",
                "target-feature=+crt-static",
            ])
            .args(["-C", "panic=abort", "-C", "strip=symbols", "-o"])
            .arg(&program)
            .arg(WRITER_SOURCE),
    )?;
    let bytes = fs::read(&program)?;
    fs::remove_file(&program)?;
    Ok(bytes)
}

/// Finds the output and the exit code of the command in the output of Bochs.
#[derive(Debug, Default)]
pub(super) struct PortOutput {
    /// Whether [`START`] was read.
    has_started: bool,
    exit_code: Option<u8>,
    /// Bytes that may be the beginning of a mark.
    pending: Vec<u8>,
}

impl PortOutput {
    /// Reads a piece of Bochs' output and writes the part of the command. Breaks at the end of the command's output.
    pub(super) fn receive(
        &mut self,
        chunk: &[u8],
        output: &mut dyn Write,
    ) -> Result<ControlFlow<()>> {
        self.pending.extend_from_slice(chunk);
        if !self.has_started {
            let start = format!("{START}\n");
            let Some(position) = find(&self.pending, start.as_bytes()) else {
                return Ok(ControlFlow::Continue(()));
            };
            self.pending.drain(..position + start.len());
            self.has_started = true;
        }
        let (length, exit_code) = parse_output(&self.pending);
        output.write_all(&self.pending[..length])?;
        output.flush()?;
        self.pending.drain(..length);
        self.exit_code = exit_code;
        Ok(match exit_code {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        })
    }

    /// Returns the exit code of the command, or `None` if it has not ended.
    pub(super) fn exit_code(&self) -> Option<u8> {
        self.exit_code
    }
}

/// Returns how many bytes are output of the command, and the exit code if the end is there.
fn parse_output(bytes: &[u8]) -> (usize, Option<u8>) {
    let mark = END.as_bytes();
    let mut from = 0;
    while let Some(offset) = bytes[from..].iter().position(|byte| *byte == mark[0]) {
        let position = from + offset;
        let rest = &bytes[position..];
        if mark.starts_with(rest) {
            return (position, None);
        }
        if let Some(code) = rest.strip_prefix(mark) {
            let Some(end) = code.iter().position(|byte| *byte == b'\n') else {
                return (position, None);
            };
            if let Some(code) = std::str::from_utf8(&code[..end])
                .ok()
                .and_then(|text| text.trim_end().parse().ok())
            {
                return (position, Some(code));
            }
        }
        from = position + 1;
    }
    (bytes.len(), None)
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"Bochs x86 Emulator\n<bochs:1> \x1eoutput\none\n\x1etwo\nno newline\x1eexit 3\nBochs is exiting\n";

    fn receive_in_chunks(stream: &[u8], size: usize) -> (String, Option<u8>) {
        let mut port = PortOutput::default();
        let mut output = Vec::new();
        for chunk in stream.chunks(size) {
            if port.receive(chunk, &mut output).unwrap().is_break() {
                break;
            }
        }
        (String::from_utf8(output).unwrap(), port.exit_code())
    }

    #[test]
    fn the_program_that_writes_to_the_port_compiles() {
        let metadata = workspace::target(&format!("port_writer-{}.rmeta", std_process::id()));
        let status = Command::new("rustc")
            .current_dir(workspace::root())
            .args(["--edition", "2024", "-D", "warnings", "--emit"])
            .arg(format!("metadata={}", metadata.display()))
            .arg(WRITER_SOURCE)
            .status()
            .unwrap();
        fs::remove_file(&metadata).unwrap();
        assert!(status.success());
    }

    #[test]
    fn only_the_output_of_the_command_is_written() {
        for size in 1..STREAM.len() {
            assert_eq!(
                receive_in_chunks(STREAM, size),
                ("one\n\x1etwo\nno newline".to_owned(), Some(3)),
                "chunks of {size} bytes"
            );
        }
    }

    #[test]
    fn a_command_that_has_not_ended_has_no_exit_code() {
        assert_eq!(
            receive_in_chunks(b"\x1eoutput\none\n\x1eexit 0", 100),
            ("one\n".to_owned(), None)
        );
        assert_eq!(
            receive_in_chunks(b"Bochs is exiting\n", 100),
            (String::new(), None)
        );
    }
}
