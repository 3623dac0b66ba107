//! Shortens text for messages.

use std::borrow::Cow;

/// Maximum number of characters of text from outside in a message.
const MAX_CHARS: usize = 200;

/// Returns the start of a text that is too long for a message, or else the whole text.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_text_is_shortened() {
        let longest = "é".repeat(MAX_CHARS);
        assert_eq!(excerpt(&longest), longest);
        assert_eq!(excerpt(&format!("{longest}x")), format!("{longest}..."));
    }
}
