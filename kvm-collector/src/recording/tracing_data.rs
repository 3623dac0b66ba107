//! The tracing data of a recording: the format files of its events, in the layout of trace-cmd's files (version 0.6),
//! which perf took over.

use std::collections::BTreeMap;

use super::{
    abi::{u32_at, u64_at},
    head::RecordedEvent,
};

const START: &[u8] = b"\x17\x08\x44tracing0.6\0";

/// What precedes the version.
const MAGIC: &[u8] = b"\x17\x08\x44tracing";

/// What a 64-bit kernel says of its buffers' pages: perf takes no file without it, though it has no use for it.
const HEADER_PAGE: &[u8] = b"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";

/// And of the events in them.
const HEADER_EVENT: &[u8] = b"# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\
\tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\
\tdata max type_len  == 28\n";

/// More events than this no kernel has.
const MOST_EVENTS: usize = 1 << 16;

/// What the kernel says of its trace buffers, besides its events' formats.
#[derive(Debug, Clone, Default)]
pub struct KernelText {
    /// `events/header_page`.
    pub header_page: Vec<u8>,
    /// `events/header_event`.
    pub header_event: Vec<u8>,
    /// `printk_formats`.
    pub printk_formats: Vec<u8>,
}

/// The tracing data of some events.
pub(super) fn write(kernel: &KernelText, events: &[RecordedEvent]) -> Vec<u8> {
    let page_size = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut data = START.to_vec();
    data.push(u8::from(cfg!(target_endian = "big")));
    data.push(u8::try_from(size_of::<usize>()).unwrap_or(8));
    data.extend_from_slice(&page_size.to_ne_bytes());
    for (name, text, usual) in [
        (&b"header_page\0"[..], &kernel.header_page, HEADER_PAGE),
        (b"header_event\0", &kernel.header_event, HEADER_EVENT),
    ] {
        data.extend_from_slice(name);
        put_sized(&mut data, if text.is_empty() { usual } else { text });
    }
    // No formats of ftrace's own events.
    data.extend_from_slice(&0u32.to_ne_bytes());
    let mut systems: BTreeMap<&str, Vec<&RecordedEvent>> = BTreeMap::new();
    for event in events {
        systems.entry(&event.system).or_default().push(event);
    }
    super::head::put_u32(&mut data, systems.len());
    for (system, events) in systems {
        data.extend_from_slice(system.as_bytes());
        data.push(0);
        super::head::put_u32(&mut data, events.len());
        for event in events {
            put_sized(&mut data, event.format.as_bytes());
        }
    }
    // No symbols of the kernel.
    data.extend_from_slice(&0u32.to_ne_bytes());
    super::head::put_u32(&mut data, kernel.printk_formats.len());
    data.extend_from_slice(&kernel.printk_formats);
    // No names of threads: those are in records.
    data.extend_from_slice(&0u64.to_ne_bytes());
    data
}

fn put_sized(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&(text.len() as u64).to_ne_bytes());
    to.extend_from_slice(text);
}

/// The texts of the format files, each with its system; what of them is there before the data ends or stops making
/// sense. `None` if there is nothing at all to read.
pub(super) fn read(data: &[u8]) -> Option<Vec<(String, String)>> {
    let mut rest = Rest(data);
    if rest.take(MAGIC.len())? != MAGIC {
        return None;
    }
    rest.text()?;
    rest.take(1 + 1 + 4)?;
    for _ in 0..2 {
        rest.text()?;
        rest.sized()?;
    }
    for _ in 0..rest.number()? {
        rest.sized()?;
    }
    let mut formats = Vec::new();
    // From here on, part of it is better than nothing.
    let mut systems = || -> Option<()> {
        for _ in 0..rest.number()? {
            let system = String::from_utf8_lossy(rest.text()?).into_owned();
            for _ in 0..rest.number()? {
                let text = String::from_utf8_lossy(rest.sized()?).into_owned();
                if formats.len() == MOST_EVENTS {
                    return None;
                }
                formats.push((system.clone(), text));
            }
        }
        Some(())
    };
    let _ = systems();
    Some(formats)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// Text up to a NUL.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    fn number(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0)
    }

    /// What follows its length.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = u64_at(self.take(8)?, 0)?;
        self.take(usize::try_from(length).ok()?)
    }
}
