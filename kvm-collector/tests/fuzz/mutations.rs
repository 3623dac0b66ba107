//! Random changes of a valid input.

/// Text that parsers treat specially.
const TOKENS: [&[u8]; 24] = [
    b"*",
    b"?",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b"!",
    b"&&",
    b"||",
    b",",
    b"-",
    b"=",
    b"\"",
    b"\\",
    b"\0",
    b"\n",
    b"\t",
    b"-1",
    b"18446744073709551615",
    b"9223372036854775808",
    b"\xff",
    b"\x1b[31m",
];

/// The longest input, in bytes.
const MAX_BYTES: usize = 1 << 16;

/// A sequence of pseudorandom numbers (`SplitMix64`).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or 0 if that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let random = self.next() >> 1;
        usize::try_from(random)
            .unwrap_or(usize::MAX)
            .checked_rem(end)
            .unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Returns one of the seeds with a few random changes.
pub(crate) fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(data.len() + 1);
        let end = (at + random.below(16)).min(data.len());
        match random.below(9) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = random.byte(),
            2 => {
                data.drain(at..end);
            }
            3 => {
                let byte = random.byte();
                data.insert(at, byte);
            }
            4 => insert(&mut data, at, TOKENS[random.below(TOKENS.len())]),
            // A sequence of many equal parts is what overflows stacks and counters.
            5 => {
                let part = data[at..end].repeat(1 << random.below(12));
                insert(&mut data, at, &part);
            }
            6 => {
                let token = TOKENS[random.below(TOKENS.len())].repeat(1 << random.below(14));
                insert(&mut data, at, &token);
            }
            7 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let part = &other[from..(from + random.below(64)).min(other.len())];
                insert(&mut data, at, part);
            }
            8 => data.truncate(at),
            _ => {}
        }
    }
    data.truncate(MAX_BYTES);
    data
}

fn insert(data: &mut Vec<u8>, at: usize, part: &[u8]) {
    data.splice(at..at, part.iter().copied());
}
