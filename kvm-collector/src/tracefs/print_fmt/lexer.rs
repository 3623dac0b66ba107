//! Splits the C source of a print format into tokens.

use crate::tracefs::ctype::CType;

/// A token of C, as far as `TP_printk` uses them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Identifier(String),
    /// An integer or character literal and its type.
    Integer(u64, CType),
    /// A string literal with its escapes resolved. The parser joins adjacent literals.
    String(Vec<u8>),
    /// An operator, a bracket or a separator.
    Punct(&'static str),
}

/// Operators and separators, longest first, so that the first match is the longest.
const PUNCTUATION: [&str; 43] = [
    "<<=", ">>=", "...", "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "|=",
    "&=", "++", "--", "(", ")", "[", "]", "{", "}", "<", ">", "=", "!", "~", "&", "|", "^", "+",
    "-", "*", "/", "%", "?", ":", ";", ",", ".", "#",
];

/// Splits `text` into tokens.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut rest = text.as_bytes();
    let mut tokens = Vec::new();
    while let Some(&first) = rest.first() {
        let (token, length) = match first {
            b' ' | b'\t' | b'\n' | b'\r' => {
                rest = &rest[1..];
                continue;
            }
            b'"' => string(rest)?,
            b'\'' => character(rest)?,
            b'0'..=b'9' => number(rest)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => identifier(rest),
            _ => punctuation(rest)?,
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

// Each of these functions returns the token at the start of `text` and its length in bytes.

fn identifier(text: &[u8]) -> (Token, usize) {
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count();
    (
        Token::Identifier(String::from_utf8_lossy(&text[..length]).into_owned()),
        length,
    )
}

fn punctuation(text: &[u8]) -> Result<(Token, usize), String> {
    PUNCTUATION
        .iter()
        .find(|punct| text.starts_with(punct.as_bytes()))
        .map(|punct| (Token::Punct(punct), punct.len()))
        .ok_or_else(|| format!("unexpected character {:?}", char::from(text[0])))
}

fn number(text: &[u8]) -> Result<(Token, usize), String> {
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    let word = String::from_utf8_lossy(&text[..length]).to_ascii_lowercase();
    let (radix, digits) = match word.strip_prefix("0x") {
        Some(hex) => (16, hex),
        None if word.starts_with('0') => (8, word.as_str()),
        None => (10, word.as_str()),
    };
    let without_suffix = digits.trim_end_matches(['u', 'l']);
    let suffix = &digits[without_suffix.len()..];
    let value =
        u64::from_str_radix(without_suffix, radix).map_err(|_| format!("bad number {word}"))?;
    let ctype = CType::for_literal(
        value,
        radix == 10,
        suffix.contains('u'),
        suffix.contains('l'),
    );
    Ok((Token::Integer(value, ctype), length))
}

fn character(text: &[u8]) -> Result<(Token, usize), String> {
    let (value, length) = match text.get(1) {
        Some(b'\\') => {
            let (byte, length) = escape(&text[2..])?;
            (byte, length + 1)
        }
        Some(byte) => (*byte, 1),
        None => return Err("unterminated character".to_owned()),
    };
    let end = 1 + length;
    match text.get(end) {
        Some(b'\'') => Ok((Token::Integer(u64::from(value), CType::I32), end + 1)),
        _ => Err("unterminated character".to_owned()),
    }
}

fn string(text: &[u8]) -> Result<(Token, usize), String> {
    let mut bytes = Vec::new();
    let mut position = 1;
    loop {
        match text.get(position) {
            Some(b'"') => return Ok((Token::String(bytes), position + 1)),
            Some(b'\\') => {
                let (byte, length) = escape(&text[position + 1..])?;
                bytes.push(byte);
                position += 1 + length;
            }
            Some(byte) => {
                bytes.push(*byte);
                position += 1;
            }
            None => return Err("unterminated string".to_owned()),
        }
    }
}

/// Reads the escape sequence after a backslash. Returns its byte and its length in `text`.
fn escape(text: &[u8]) -> Result<(u8, usize), String> {
    let simple = |byte| Ok((byte, 1));
    match text.first() {
        Some(b'n') => simple(b'\n'),
        Some(b't') => simple(b'\t'),
        Some(b'r') => simple(b'\r'),
        Some(b'a') => simple(7),
        Some(b'x') => numeric_escape(&text[1..], 16, 2).map(|(byte, length)| (byte, length + 1)),
        Some(b'0'..=b'7') => numeric_escape(text, 8, 3),
        Some(byte) => simple(*byte),
        None => Err("text ends in a backslash".to_owned()),
    }
}

fn numeric_escape(text: &[u8], radix: u32, max_digits: usize) -> Result<(u8, usize), String> {
    let length = text
        .iter()
        .take(max_digits)
        .take_while(|byte| char::from(**byte).is_digit(radix))
        .count();
    let digits = String::from_utf8_lossy(&text[..length]);
    let value =
        u8::from_str_radix(&digits, radix).map_err(|_| "bad escape in a string".to_owned())?;
    Ok((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(text: &str) -> Vec<(u64, CType)> {
        let tokens = tokenize(text).unwrap_or_default();
        tokens
            .into_iter()
            .filter_map(|token| {
                if let Token::Integer(value, ctype) = token {
                    Some((value, ctype))
                } else {
                    None
                }
            })
            .collect()
    }

    #[test]
    fn integer_literals_have_their_c_type() {
        let found = integers("1 2147483648 0x80000000 1U 1UL 0xffffffffffffffff 010 '\\n' 1LL 0u");
        let expected = [
            (1, CType::I32),
            (0x8000_0000, CType::I64),
            (0x8000_0000, CType::U32),
            (1, CType::U32),
            (1, CType::U64),
            (u64::MAX, CType::U64),
            (8, CType::I32),
            (10, CType::I32),
            (1, CType::I64),
            (0, CType::U32),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn malformed_tokens_are_errors() {
        for text in [
            "\"open",
            "'x",
            "'",
            "@",
            "0x",
            "12ab",
            "\"\\",
            "\"\\xzz\"",
            "'\\",
        ] {
            assert!(tokenize(text).is_err(), "{text}");
        }
    }
}
