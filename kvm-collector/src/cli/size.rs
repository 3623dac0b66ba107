//! Parses sizes such as `64K`.

use crate::{probe::MAX_RING_BYTES, session::MIN_QUEUE_BYTES};

/// Parses a number of bytes with an optional suffix K, M or G (powers of 1024).
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Parses the size of a CPU's ring.
pub(super) fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    parse_bytes(text)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two() && (4096..=MAX_RING_BYTES).contains(bytes))
        .ok_or_else(|| "give a power of two from 4K to 64M, such as 64K or 8M".into())
}

/// Default memory for events that wait to be written: about 8 s of 100,000 events of 80 bytes per second.
pub(super) const QUEUE_BYTES: &str = "64M";

/// Parses the memory limit for events that wait to be written.
pub(super) fn parse_queue_bytes(text: &str) -> Result<usize, String> {
    parse_bytes(text)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| *bytes >= MIN_QUEUE_BYTES)
        .ok_or_else(|| "give 2M or more, such as 64M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_can_have_units() {
        assert_eq!(parse_bytes("100"), Some(100));
        assert_eq!(parse_bytes("64k"), Some(64 << 10));
        assert_eq!(parse_bytes("2G"), Some(2 << 30));
        for text in [
            "",
            "M",
            "-1",
            "1T",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_queue_holds_at_least_one_batch() {
        assert_eq!(parse_queue_bytes("2M"), Ok(2 << 20));
        assert!(parse_queue_bytes("1M").is_err());
        assert!(parse_queue_bytes("much").is_err());
    }

    #[test]
    fn ring_sizes_are_powers_of_two() {
        assert_eq!(parse_ring_bytes("8M"), Ok(8 << 20));
        assert!(parse_ring_bytes("5M").is_err());
        assert!(parse_ring_bytes("128M").is_err());
    }
}
