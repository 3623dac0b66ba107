//! Escaping of text from outside, such as VM names and file names: in HTML and in a script.

use std::{
    fmt::{self, Display, Write as _},
    io,
};

use serde::Serialize;

/// Displays text as HTML that is safe between tags and in a quoted attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                // HTML cannot represent control characters.
                c if c.is_control() && c != '\n' && c != '\t' => self.0.write_char('\u{fffd}')?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Returns data as JSON that is safe within a `<script>` element: it contains neither `</script>` nor
/// a line terminator of JavaScript.
pub(super) fn json(data: &impl Serialize) -> io::Result<String> {
    let json = serde_json::to_string(data)?;
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // These characters occur in JSON only within strings, so an escape is always valid.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    Ok(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_html() {
        let text = r#"<img src=x onerror="a('b')">&amp;"#;
        assert_eq!(
            Text(text).to_string(),
            "&lt;img src=x onerror=&quot;a(&#39;b&#39;)&quot;&gt;&amp;amp;"
        );
        assert_eq!(Text("a\0b\u{1b}[31m").to_string(), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(Text(5).to_string(), "5");
    }

    #[test]
    fn json_cannot_end_the_script_element() {
        let text = "</script><!--\u{2028}\u{2029}&\"\\";
        let json = json(&text).expect("JSON");
        for c in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
            assert!(!json.contains(c), "{json}");
        }
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }
}
