//! Shortens text for messages.

use std::borrow::Cow;

/// Maximum number of characters of text from outside in a message.
const MAX_CHARS: usize = 200;

/// Maximum number of characters of a message.
const MAX_MESSAGE_CHARS: usize = 4000;

/// Number of characters at the end of a message that are always shown: they say the reason.
const MESSAGE_END_CHARS: usize = 500;

/// Returns the start of a text that is too long for a message, or else the whole text.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Returns a message, or its start and end if it is too long. It may quote an argument of any length.
#[must_use]
pub fn bound_message(text: &str) -> Cow<'_, str> {
    if text.chars().nth(MAX_MESSAGE_CHARS).is_none() {
        return Cow::Borrowed(text);
    }
    let start = text.chars().take(MAX_MESSAGE_CHARS - MESSAGE_END_CHARS);
    let end = text.char_indices().nth_back(MESSAGE_END_CHARS - 1);
    let end = end.map_or(text, |(start, _)| &text[start..]);
    Cow::Owned(start.chain("...".chars()).chain(end.chars()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_text_is_shortened() {
        let longest = "é".repeat(MAX_CHARS);
        assert_eq!(excerpt(&longest), longest);
        assert_eq!(excerpt(&format!("{longest}x")), format!("{longest}..."));
        let message = "x".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(bound_message(&message), message);
        let long = format!("{message}: not found");
        let shortened = bound_message(&long);
        assert!(shortened.starts_with("xxx"), "{shortened}");
        assert!(shortened.ends_with("x: not found"), "{shortened}");
        assert_eq!(shortened.chars().count(), MAX_MESSAGE_CHARS + 3);
    }
}
