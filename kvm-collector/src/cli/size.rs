//! Sizes as people write them.

use crate::{probe::MOST_RING_BYTES, session::LEAST_QUEUE_BYTES};

/// A number with K, M or G behind it, or without.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The size of a CPU's ring.
pub(super) fn ring_bytes(text: &str) -> Result<u32, String> {
    bytes(text)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two() && (4096..=MOST_RING_BYTES).contains(bytes))
        .ok_or_else(|| "give a power of two from 4K to 64M, such as 64K or 8M".into())
}

/// The memory for events that wait to be written, by default: at 100,000 events a second of 80 bytes, some 8 s.
pub(super) const QUEUE_BYTES: &str = "64M";

/// The memory for events that wait to be written.
pub(super) fn queue_bytes(text: &str) -> Result<usize, String> {
    bytes(text)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| *bytes >= LEAST_QUEUE_BYTES)
        .ok_or_else(|| "give 2M or more, such as 64M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("100"), Some(100));
        assert_eq!(bytes("64k"), Some(64 << 10));
        assert_eq!(bytes("2G"), Some(2 << 30));
        for text in [
            "",
            "M",
            "-1",
            "1T",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_queue_has_room_for_a_batch() {
        assert_eq!(queue_bytes("2M"), Ok(2 << 20));
        assert!(queue_bytes("1M").is_err());
        assert!(queue_bytes("much").is_err());
    }

    #[test]
    fn a_ring_is_a_power_of_two() {
        assert_eq!(ring_bytes("8M"), Ok(8 << 20));
        assert!(ring_bytes("5M").is_err());
        assert!(ring_bytes("128M").is_err());
    }
}
