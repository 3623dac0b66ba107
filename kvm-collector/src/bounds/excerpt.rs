//! Shortens text for messages.

use std::borrow::Cow;

/// Maximum number of characters of text from outside in a message.
const MAX_CHARS: usize = 200;

/// Maximum number of characters of a message.
const MAX_MESSAGE_CHARS: usize = 4000;

/// Returns the start of a text that is too long for a message, or else the whole text.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    shorten(text, MAX_CHARS)
}

/// Returns a message, or its start if it is too long. It may quote an argument of any length.
#[must_use]
pub fn bound_message(text: &str) -> Cow<'_, str> {
    shorten(text, MAX_MESSAGE_CHARS)
}

fn shorten(text: &str, max_chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max_chars) {
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
        let message = "x".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(bound_message(&message), message);
        let shortened = bound_message(&format!("{message}x")).into_owned();
        assert_eq!(shortened, format!("{message}..."));
    }
}
