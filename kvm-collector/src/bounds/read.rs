//! Reads files that are read whole.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    mem,
    path::Path,
};

/// Maximum size of a file in `/proc`, `/sys` or tracefs. `/proc/cpuinfo` has 1.5 KB per CPU.
pub const SYSTEM_FILE_BYTES: u64 = 64 << 20;

/// Reads a whole file or device of at most `max_bytes`.
///
/// # Errors
/// When it cannot be read, or has more bytes.
pub fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte beyond the limit detects large pipes and devices, which have no size.
    let mut source = File::open(path)?.take(max_bytes.saturating_add(1));
    source.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large("it", max_bytes));
    }
    Ok(bytes)
}

/// Reads a whole text file in `/proc`, `/sys` or tracefs.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or has more than 64 MiB.
pub fn read_system_file(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read_bounded(path.as_ref(), SYSTEM_FILE_BYTES)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The last line of a file that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLine {
    /// Number of the line, starting at 1.
    pub number: usize,
    /// The line.
    pub text: Vec<u8>,
}

/// Finds the last line of a text that is not blank. Stores one line at a time.
///
/// # Errors
/// When the file cannot be read, is not text, has a line of more than `max_line_bytes`, or has more than `max_bytes`.
pub fn read_last_line(
    source: impl BufRead,
    max_line_bytes: u64,
    max_bytes: u64,
) -> io::Result<Option<LastLine>> {
    let mut source = source.take(max_bytes.saturating_add(1));
    // An endless stream can have millions of lines, so both buffers are reused.
    let (mut text, mut last) = (Vec::new(), Vec::new());
    let mut last_number = None;
    for number in 1.. {
        text.clear();
        if !read_line(&mut source, number, max_line_bytes, &mut text)? {
            break;
        }
        if !text.trim_ascii().is_empty() {
            mem::swap(&mut text, &mut last);
            last_number = Some(number);
        }
    }
    if source.limit() == 0 {
        return Err(too_large("it", max_bytes));
    }
    Ok(last_number.map(|number| LastLine { number, text: last }))
}

/// Appends a line with its end to `line`. Returns false at the end of the file. Stops at the first part that is not text, because
/// a device has no end.
fn read_line(
    source: &mut impl BufRead,
    number: usize,
    max_bytes: u64,
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    loop {
        let part = match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if part.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = part.iter().position(|&it| it == b'\n');
        let part = end.map_or(part, |end| &part[..=end]);
        // JSON escapes all control characters except DEL.
        if part
            .iter()
            .any(|it| it.is_ascii_control() && !it.is_ascii_whitespace() && *it != 0x7f)
        {
            let message = format!("line {number} is not text");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        line.extend_from_slice(part);
        let length = part.len();
        source.consume(length);
        if line.len() as u64 > max_bytes {
            return Err(too_large(&format!("line {number}"), max_bytes));
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn too_large(what: &str, max_bytes: u64) -> io::Error {
    let limit = match max_bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{bytes} bytes"),
    };
    let message = format!("{what} has more than {limit}");
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_at_most_the_limit_are_read() {
        let path = Path::new("/proc/self/comm");
        let bytes = read_bounded(path, 100).expect("procfs");
        assert_eq!(bytes, read_system_file(path).expect("procfs").as_bytes());
        let size = bytes.len() as u64;
        assert_eq!(read_bounded(path, size).expect("procfs"), bytes);
        let error = read_bounded(path, size - 1).expect_err("too large");
        assert_eq!(
            error.to_string(),
            format!("it has more than {} bytes", size - 1)
        );
        let error = read_system_file("/dev/zero").expect_err("endless");
        assert_eq!(error.to_string(), "it has more than 64 MiB");
    }

    #[test]
    fn the_last_line_is_found_in_limited_memory() {
        let read = |text: &str| {
            let last = read_last_line(text.as_bytes(), 5, 12);
            last.map(|it| it.map(|it| (it.number, String::from_utf8(it.text).expect("text"))))
                .map_err(|it| it.to_string())
        };
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("\n \n"), Ok(None));
        assert_eq!(read("ab\n\ncd\n\n"), Ok(Some((3, "cd\n".to_owned()))));
        assert_eq!(read("ab\ncdefg"), Ok(Some((2, "cdefg".to_owned()))));
        assert_eq!(
            read("ab\ncdefgh"),
            Err("line 2 has more than 5 bytes".into())
        );
        assert_eq!(read("a\nb\nc\nd\ne\nf\n"), Ok(Some((6, "f\n".to_owned()))));
        assert_eq!(
            read("a\nb\nc\nd\ne\nf\ng"),
            Err("it has more than 12 bytes".into())
        );
        let endless = io::BufReader::new(io::repeat(b'{'));
        let error = read_last_line(endless, 1 << 20, 1 << 30).expect_err("endless");
        assert_eq!(error.to_string(), "line 1 has more than 1 MiB");
    }

    #[test]
    fn what_is_not_text_is_refused_at_once() {
        for device in ["/dev/zero", "/dev/urandom"] {
            let mut device =
                io::BufReader::new(File::open(device).expect("a device").take(1 << 20));
            let error = read_last_line(&mut device, 1 << 20, 1 << 30).expect_err("not text");
            assert!(error.to_string().ends_with(" is not text"), "{error}");
            let unread = device.into_inner().limit();
            assert!(unread > (1 << 20) - (1 << 17), "{unread}");
        }
        let text = "\u{e4}\t\r\n".as_bytes();
        let last = read_last_line(text, 100, 100)
            .expect("text")
            .expect("a line");
        assert_eq!(last.text, text);
    }
}
