//! Tokens of a print format: C's, as far as TP_printk uses them.

use super::ctype::CType;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(u64, CType),
    /// A string literal, escapes resolved; neighbouring literals are not yet joined.
    Str(Vec<u8>),
    /// An operator or a bracket.
    Punct(&'static str),
}

/// Longest first, so that the first match is the longest.
const PUNCTUATION: [&str; 43] = [
    "<<=", ">>=", "...", "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "|=",
    "&=", "++", "--", "(", ")", "[", "]", "{", "}", "<", ">", "=", "!", "~", "&", "|", "^", "+",
    "-", "*", "/", "%", "?", ":", ";", ",", ".", "#",
];

/// Splits `text` into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut rest = text.as_bytes();
    let mut tokens = Vec::new();
    while let Some(&first) = rest.first() {
        let (token, used) = match first {
            b' ' | b'\t' | b'\n' | b'\r' => {
                rest = &rest[1..];
                continue;
            }
            b'"' => string(rest)?,
            b'\'' => character(rest)?,
            b'0'..=b'9' => number(rest)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => name(rest),
            _ => punctuation(rest)?,
        };
        tokens.push(token);
        rest = &rest[used..];
    }
    Ok(tokens)
}

fn name(text: &[u8]) -> (Token, usize) {
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count();
    (
        Token::Name(String::from_utf8_lossy(&text[..length]).into_owned()),
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
    let number = digits.trim_end_matches(['u', 'l']);
    let suffix = &digits[number.len()..];
    let value = u64::from_str_radix(number, radix).map_err(|_| format!("bad number {word}"))?;
    let ctype = CType::of_literal(
        value,
        radix == 10,
        suffix.contains('u'),
        suffix.contains('l'),
    );
    Ok((Token::Int(value, ctype), length))
}

fn character(text: &[u8]) -> Result<(Token, usize), String> {
    let (value, used) = match text.get(1) {
        Some(b'\\') => escape(&text[2..])?,
        Some(byte) => (*byte, 1),
        None => return Err("unterminated character".to_owned()),
    };
    let used = if text[1] == b'\\' { used + 2 } else { used + 1 };
    match text.get(used) {
        Some(b'\'') => Ok((Token::Int(u64::from(value), CType::I32), used + 1)),
        _ => Err("unterminated character".to_owned()),
    }
}

fn string(text: &[u8]) -> Result<(Token, usize), String> {
    let mut bytes = Vec::new();
    let mut at = 1;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok((Token::Str(bytes), at + 1)),
            Some(b'\\') => {
                let (byte, used) = escape(&text[at + 1..])?;
                bytes.push(byte);
                at += 1 + used;
            }
            Some(byte) => {
                bytes.push(*byte);
                at += 1;
            }
            None => return Err("unterminated string".to_owned()),
        }
    }
}

/// What follows a backslash: the byte it stands for and how much of `text` it took.
fn escape(text: &[u8]) -> Result<(u8, usize), String> {
    let simple = |byte| Ok((byte, 1));
    match text.first() {
        Some(b'n') => simple(b'\n'),
        Some(b't') => simple(b'\t'),
        Some(b'r') => simple(b'\r'),
        Some(b'a') => simple(7),
        Some(b'x') => coded(&text[1..], 16, 2).map(|(byte, used)| (byte, used + 1)),
        Some(b'0'..=b'7') => coded(text, 8, 3),
        Some(byte) => simple(*byte),
        None => Err("text ends in a backslash".to_owned()),
    }
}

fn coded(text: &[u8], radix: u32, longest: usize) -> Result<(u8, usize), String> {
    let digits = text
        .iter()
        .take(longest)
        .take_while(|byte| char::from(**byte).is_digit(radix))
        .count();
    let number = String::from_utf8_lossy(&text[..digits]);
    let value =
        u8::from_str_radix(&number, radix).map_err(|_| "bad escape in a string".to_owned())?;
    Ok((value, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(text: &str) -> Vec<(u64, CType)> {
        let tokens = tokens(text).unwrap_or_default();
        tokens
            .into_iter()
            .filter_map(|token| {
                if let Token::Int(value, ctype) = token {
                    Some((value, ctype))
                } else {
                    None
                }
            })
            .collect()
    }

    #[test]
    fn literals_have_the_type_c_gives_them() {
        let found = ints("1 2147483648 0x80000000 1U 1UL 0xffffffffffffffff 010 '\\n' 1LL 0u");
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
    fn broken_text_is_an_error() {
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
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
