//! Strings in features.

use super::abi::u32_at;

/// Reads a string in perf's format: its length, then the text with a NUL.
pub(super) fn read_string(content: &[u8]) -> Option<String> {
    let text = content.get(4..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Reads a list of strings in perf's format: their number, then the strings.
pub(super) fn read_strings(content: &[u8]) -> Vec<String> {
    let mut rest = content.get(4..).unwrap_or_default();
    let mut all = Vec::new();
    // A wrong count does no harm: the loop ends with the content, since a string has at least 4 bytes.
    for _ in 0..u32_at(content, 0).unwrap_or(0) {
        let Some(text) = read_string(rest) else { break };
        all.push(text);
        let length = u32_at(rest, 0).and_then(|it| usize::try_from(it).ok());
        let next = length.and_then(|it| it.checked_add(4));
        rest = next.and_then(|it| rest.get(it..)).unwrap_or_default();
    }
    all
}
