//! Parses sizes such as `64K`.

use std::ops::RangeInclusive;

use crate::{probe::MAX_RING_BYTES, session::MIN_QUEUE_BYTES};

/// Default memory for events that wait to be written: about 8 s of 100,000 events of 80 bytes per second.
pub(super) const QUEUE_BYTES: &str = "64M";

/// Sizes of memory. No host has as much as the last one.
const MAX_MEMORY_BYTES: u64 = 1 << 50;

/// Sizes of files. The first holds the formats of all events and one batch of the rings; the last is the
/// largest offset that the kernel accepts, rounded down.
const FILE_BYTES: RangeInclusive<u64> = 4 << 20..=1 << 62;

/// Parses a number of bytes with an optional suffix K, M or G (powers of 1024). Numbers that do not fit
/// are the largest one.
fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().unwrap_or(u64::MAX);
    Some(u64::saturating_mul(number, 1 << shift))
}

/// Parses a size in a range. The error names the range.
fn parse_size(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = parse_bytes(text).filter(|it| range.contains(it));
    bytes.ok_or_else(|| {
        let (first, last) = (describe(*range.start()), describe(*range.end()));
        format!("give a size from {first} to {last}, such as 100M or 2G")
    })
}

/// Writes a size with the largest unit in which it is a whole number.
fn describe(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units
        .iter()
        .find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(
        || bytes.to_string(),
        |(shift, unit)| format!("{}{unit}", bytes >> shift),
    )
}

/// Parses the size of a CPU's ring.
pub(super) fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    parse_bytes(text)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two() && (4096..=MAX_RING_BYTES).contains(bytes))
        .ok_or_else(|| "give a power of two from 4K to 64M, such as 64K or 8M".into())
}

/// Parses the memory limit for events that wait to be written.
pub(super) fn parse_queue_bytes(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text, MIN_QUEUE_BYTES as u64..=MAX_MEMORY_BYTES)?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Parses the memory limit of the flight recorder.
pub(super) fn parse_memory_bytes(text: &str) -> Result<u64, String> {
    parse_size(text, 4 << 20..=MAX_MEMORY_BYTES)
}

/// Parses the size limit of a file.
pub(super) fn parse_file_bytes(text: &str) -> Result<u64, String> {
    parse_size(text, FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_can_have_units() {
        assert_eq!(parse_bytes("100"), Some(100));
        assert_eq!(parse_bytes("64k"), Some(64 << 10));
        assert_eq!(parse_bytes("2G"), Some(2 << 30));
        for text in ["", "M", "-1", "+1", "1T", "1.5G"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        for text in ["99999999999999999999", "18446744073709551615G"] {
            assert_eq!(parse_bytes(text), Some(u64::MAX), "{text}");
        }
    }

    #[test]
    fn a_queue_holds_at_least_one_batch() {
        assert_eq!(parse_queue_bytes("2M"), Ok(2 << 20));
        assert!(parse_queue_bytes("1M").is_err());
        assert!(parse_queue_bytes("much").is_err());
    }

    #[test]
    fn errors_name_the_range() {
        let error = |text: &str| parse_memory_bytes(text).unwrap_err();
        let expected = "give a size from 4M to 1048576G, such as 100M or 2G";
        for text in ["3M", "1048577G", "99999999999999999G", "big"] {
            assert_eq!(error(text), expected, "{text}");
        }
        assert_eq!(parse_memory_bytes("1048576G"), Ok(1 << 50));
        assert_eq!(parse_file_bytes("4M"), Ok(4 << 20));
        let error = parse_file_bytes("17179869183G").unwrap_err();
        assert!(error.contains("from 4M to 4294967296G"), "{error}");
        let error = parse_queue_bytes("17179869183G").unwrap_err();
        assert!(error.contains("from 2M to 1048576G"), "{error}");
    }

    #[test]
    fn ring_sizes_are_powers_of_two() {
        assert_eq!(parse_ring_bytes("8M"), Ok(8 << 20));
        assert!(parse_ring_bytes("5M").is_err());
        assert!(parse_ring_bytes("128M").is_err());
    }
}
