//! Encodes and decodes the tracing data of a recording: the format files of its events. It has the format
//! of trace-cmd's files (version 0.6).

use std::collections::BTreeMap;

use super::{
    abi::{put_u32, u32_at, u64_at},
    host_facts::{KernelFormats, RecordedEvent},
};

/// The start of the tracing data that we write: the magic and the version.
const FILE_START: &[u8] = b"\x17\x08\x44tracing0.6\0";

/// The magic before the version.
const MAGIC: &[u8] = b"\x17\x08\x44tracing";

/// The `header_page` of a 64-bit kernel. perf requires this part but does not use it.
const DEFAULT_HEADER_PAGE: &[u8] = b"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";

/// The `header_event` of a kernel.
const DEFAULT_HEADER_EVENT: &[u8] = b"# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\
\tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\
\tdata max type_len  == 28\n";

/// The maximum number of events.
const MAX_EVENTS: usize = 1 << 16;

/// Encodes the formats of events, grouped by system.
pub(super) fn encode(kernel: &KernelFormats, events: &[RecordedEvent]) -> Vec<u8> {
    let page_size = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut data = FILE_START.to_vec();
    data.push(u8::from(cfg!(target_endian = "big")));
    data.push(u8::try_from(size_of::<usize>()).unwrap_or(8));
    data.extend_from_slice(&page_size.to_ne_bytes());
    for (name, text, default) in [
        (
            &b"header_page\0"[..],
            &kernel.header_page,
            DEFAULT_HEADER_PAGE,
        ),
        (
            b"header_event\0",
            &kernel.header_event,
            DEFAULT_HEADER_EVENT,
        ),
    ] {
        data.extend_from_slice(name);
        put_sized_bytes(&mut data, if text.is_empty() { default } else { text });
    }
    // The number of formats of ftrace's own events.
    data.extend_from_slice(&0u32.to_ne_bytes());
    let mut systems: BTreeMap<&str, Vec<&RecordedEvent>> = BTreeMap::new();
    for event in events {
        systems.entry(&event.system).or_default().push(event);
    }
    put_u32(&mut data, systems.len());
    for (system, events) in systems {
        data.extend_from_slice(system.as_bytes());
        data.push(0);
        put_u32(&mut data, events.len());
        for event in events {
            put_sized_bytes(&mut data, event.format.as_bytes());
        }
    }
    // The size of the kernel's symbol table.
    data.extend_from_slice(&0u32.to_ne_bytes());
    put_u32(&mut data, kernel.printk_formats.len());
    data.extend_from_slice(&kernel.printk_formats);
    // The size of the table of thread names. COMM records have the names.
    data.extend_from_slice(&0u64.to_ne_bytes());
    data
}

fn put_sized_bytes(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&(text.len() as u64).to_ne_bytes());
    to.extend_from_slice(text);
}

/// Decodes the format files, each with its system. If the data is damaged or cut off, returns the formats
/// before that. `None` if the start is malformed.
pub(super) fn decode(data: &[u8]) -> Option<Vec<(String, String)>> {
    let mut rest = Cursor(data);
    if rest.take(MAGIC.len())? != MAGIC {
        return None;
    }
    rest.c_string()?;
    rest.take(1 + 1 + 4)?;
    for _ in 0..2 {
        rest.c_string()?;
        rest.sized_bytes()?;
    }
    for _ in 0..rest.u32()? {
        rest.sized_bytes()?;
    }
    let mut formats = Vec::new();
    // On damage, keep the formats read so far.
    let mut read_formats = || -> Option<()> {
        for _ in 0..rest.u32()? {
            let system = String::from_utf8_lossy(rest.c_string()?).into_owned();
            for _ in 0..rest.u32()? {
                let text = String::from_utf8_lossy(rest.sized_bytes()?).into_owned();
                if formats.len() == MAX_EVENTS {
                    return None;
                }
                formats.push((system.clone(), text));
            }
        }
        Some(())
    };
    let _ = read_formats();
    Some(formats)
}

/// The data that is not read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads text up to a NUL.
    fn c_string(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    fn u32(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0)
    }

    /// Reads bytes that are preceded by their length.
    fn sized_bytes(&mut self) -> Option<&'a [u8]> {
        let length = u64_at(self.take(8)?, 0)?;
        self.take(usize::try_from(length).ok()?)
    }
}
