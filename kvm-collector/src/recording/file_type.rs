//! Recognizes files that are not recordings by their first bytes, and says how to get a recording.

use super::error::RECORD_KVM;

/// Number of bytes at the start of a file by which its type is recognized.
pub(super) const START_BYTES: usize = 4096;

/// A type of files that are not recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileType {
    /// What the file is, for the end of a sentence.
    pub(super) name: String,
    /// What to do.
    pub(super) remedy: String,
}

/// The bytes at an offset by which a type is recognized, its name, and what to do.
type Magic = (usize, &'static [u8], &'static str, Remedy);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Nothing is known about its contents.
    Record,
    /// Record again: no tool converts it.
    RecordAgain,
    /// It was made from a recording, which can be read instead.
    ReadOriginal,
    /// It may contain a recording. The command unpacks it.
    Unpack(&'static str),
    /// It is text in JSON, which only `--baseline` reads.
    Baseline,
}

/// trace-cmd's documentation (trace-cmd.dat.v6.5, trace-cmd.dat.v7.5) has the first two; the others are in the
/// database of file(1), or in the specification of the format. Longer ones are before shorter ones that they
/// start with.
const MAGICS: &[Magic] = &[
    (
        0,
        b"\x17\x08\x44tracing6\0",
        "a trace.dat file of trace-cmd (version 6)",
        Remedy::RecordAgain,
    ),
    (
        0,
        b"\x17\x08\x44tracing7\0",
        "a trace.dat file of trace-cmd (version 7)",
        Remedy::RecordAgain,
    ),
    (
        0,
        b"\x17\x08\x44tracing",
        "a trace.dat file of trace-cmd",
        Remedy::RecordAgain,
    ),
    (
        0,
        b"PERFFILE",
        "in version 1 of that format, which only old versions of perf read",
        Remedy::RecordAgain,
    ),
    (
        0,
        b"# tracer: ",
        "the text output of ftrace",
        Remedy::RecordAgain,
    ),
    (
        0,
        b"\xc1\x1f\xfc\xc1",
        "a stream of a CTF trace (LTTng)",
        Remedy::RecordAgain,
    ),
    (
        0,
        b"\x1f\x8b",
        "compressed by gzip",
        Remedy::Unpack("gzip -d"),
    ),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "compressed by zstd",
        Remedy::Unpack("zstd -d"),
    ),
    (
        0,
        b"\xfd7zXZ\0",
        "compressed by xz",
        Remedy::Unpack("xz -d"),
    ),
    (0, b"BZh", "compressed by bzip2", Remedy::Unpack("bzip2 -d")),
    (
        0,
        b"\x04\x22\x4d\x18",
        "compressed by lz4",
        Remedy::Unpack("lz4 -d"),
    ),
    (257, b"ustar", "a tar archive", Remedy::Unpack("tar -x")),
    (0, b"PK\x03\x04", "a zip archive", Remedy::Unpack("unzip")),
    (0, b"PAR1", "a Parquet file", Remedy::ReadOriginal),
    (0, b"<!doctype html", "an HTML page", Remedy::ReadOriginal),
    (0, b"<!DOCTYPE html", "an HTML page", Remedy::ReadOriginal),
    (0, b"{", "JSON", Remedy::Baseline),
    (0, b"[{", "JSON", Remedy::Baseline),
];

impl FileType {
    /// Recognizes a file that does not start like a recording. `start` has its first [`START_BYTES`] bytes, or
    /// fewer if it is shorter or a pipe.
    pub(super) fn recognize(start: &[u8]) -> Self {
        let (name, remedy) = find(start);
        let remedy = match remedy {
            Remedy::Record => RECORD_KVM.to_owned(),
            Remedy::RecordAgain => {
                format!("no tool converts it, so record again; {RECORD_KVM}")
            }
            Remedy::ReadOriginal => {
                format!("read the recording that it was made from; {RECORD_KVM}")
            }
            Remedy::Unpack(command) => {
                format!("unpack it with `{command}`, and read the perf.data file that it contains")
            }
            Remedy::Baseline => "read the recording that it was made from; `exits --baseline` reads reports of `exits --json`".to_owned(),
        };
        let name = name.to_owned();
        Self { name, remedy }
    }

    /// Describes a file of a recording that is a directory.
    pub(super) fn part_of_directory() -> Self {
        Self {
            name: "a part of a recording of `perf record --threads`".to_owned(),
            remedy: "read the directory that it is in".to_owned(),
        }
    }
}

fn find(start: &[u8]) -> (&'static str, Remedy) {
    if start.is_empty() {
        return ("empty", Remedy::Record);
    }
    let has = |(offset, magic, ..): &&Magic| {
        let rest = start.get(*offset..);
        rest.is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some((_, _, name, remedy)) = MAGICS.iter().find(has) {
        return (name, *remedy);
    }
    if is_text(start) {
        return ("text", Remedy::ReadOriginal);
    }
    if is_perfetto(start) {
        return ("a Perfetto trace", Remedy::ReadOriginal);
    }
    ("of an unknown format", Remedy::Record)
}

/// Whether all bytes are printable or white space. A character of several bytes may be cut off at the end.
fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text
            .chars()
            .all(|it| it.is_whitespace() || !it.is_control())
}

/// A Perfetto trace has no magic. It is a list of packets: protobuf fields with number 1, each with its length. So
/// the first one is followed by another.
fn is_perfetto(start: &[u8]) -> bool {
    const PACKET: u8 = 1 << 3 | 2;
    let Some((&PACKET, rest)) = start.split_first() else {
        return false;
    };
    let (mut length, mut length_bytes) = (0_usize, 0);
    for byte in rest.iter().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * length_bytes);
        length_bytes += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    rest.get(length_bytes + length) == Some(&PACKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(start: &[u8]) -> String {
        FileType::recognize(start).name
    }

    #[test]
    fn files_are_recognized_by_their_first_bytes() {
        for (start, expected) in [
            (&b""[..], "empty"),
            (
                b"\x17\x08\x44tracing6\0\0\x08",
                "a trace.dat file of trace-cmd (version 6)",
            ),
            (
                b"\x17\x08\x44tracing7\0\0\x08",
                "a trace.dat file of trace-cmd (version 7)",
            ),
            (b"\x1f\x8b\x08\x08", "compressed by gzip"),
            (b"\x28\xb5\x2f\xfd\xa4\xe0", "compressed by zstd"),
            (b"\xfd7zXZ\0\0\x04", "compressed by xz"),
            (
                b"# tracer: nop\n#\n# entries-in-buffer",
                "the text output of ftrace",
            ),
            (b"{\"a\":1}", "JSON"),
            (b"perf 570 [000] 35539.015781: sched", "text"),
            ("caf\u{e9}".as_bytes().split_last().unwrap().1, "text"),
            (b"\n text\n", "text"),
            (b"PAR1\x15\0\x15", "a Parquet file"),
            (b"\x7fELF\x02\x01\x01\0", "of an unknown format"),
            (b"\n\x03\x08\x01\x10\n\x04", "a Perfetto trace"),
            (b"\n\x03\x08\x01\x10\x0b\x04", "of an unknown format"),
            (b"\n", "text"),
        ] {
            assert_eq!(name(start), expected, "{start:?}");
        }
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(name(&tar), "a tar archive");
    }

    #[test]
    fn every_type_says_what_to_do() {
        let remedy = |start: &[u8]| FileType::recognize(start).remedy;
        assert!(remedy(b"\x17\x08\x44tracing6\0").contains("kvm-collector record"));
        assert!(remedy(b"\x17\x08\x44tracing6\0").contains("perf record -a -e 'kvm:*'"));
        assert!(remedy(b"\x1f\x8b").contains("`gzip -d`"));
        assert!(remedy(b"{").contains("--baseline"));
        assert!(remedy(b"PAR1").contains("read the recording"));
        assert!(remedy(b"\0").contains("kvm-collector record"));
    }

    /// A shorter magic must not hide a longer one.
    #[test]
    fn every_magic_is_found() {
        for (offset, magic, expected, _) in MAGICS {
            let mut start = vec![0; *offset];
            start.extend_from_slice(magic);
            assert_eq!(name(&start), *expected);
        }
    }
}
