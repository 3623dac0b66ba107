//! An evaluator for the integer expressions in macros of the kernel's headers.

/// A word of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number(i128),
    Name(String),
    Operator(&'static str),
}

const OPERATORS: [&str; 11] = ["<<", ">>", "(", ")", "+", "-", "*", "|", "&", "~", ","];

/// Evaluates an expression. `call` returns the value of a macro for a name and, if it has one, an
/// argument. The result is `None` for everything that is not an integer expression.
pub(crate) fn evaluate(
    text: &str,
    call: &dyn Fn(&str, Option<i128>) -> Option<i128>,
) -> Option<i128> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        call,
    };
    let value = parser.binary(0)?;
    parser.tokens.is_empty().then_some(value)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length > 0 {
            let (word, tail) = rest.split_at(length);
            tokens.push(if word.starts_with(|c: char| c.is_ascii_digit()) {
                Token::Number(number(word)?)
            } else {
                Token::Name(word.to_owned())
            });
            rest = tail.trim_start();
        } else {
            let operator = OPERATORS.iter().find(|it| rest.starts_with(**it))?;
            tokens.push(Token::Operator(operator));
            rest = rest[operator.len()..].trim_start();
        }
    }
    Some(tokens)
}

fn number(word: &str) -> Option<i128> {
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    match hex {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// A recursive-descent parser that evaluates.
struct Parser<'a> {
    tokens: &'a [Token],
    call: &'a dyn Fn(&str, Option<i128>) -> Option<i128>,
}

/// Binary operators by their precedence in C, the weakest first.
const LEVELS: [&[&str]; 5] = [&["|"], &["&"], &["<<", ">>"], &["+", "-"], &["*"]];

impl Parser<'_> {
    fn operator(&mut self, wanted: &[&str]) -> Option<&'static str> {
        let (Token::Operator(operator), rest) = self.tokens.split_first()? else {
            return None;
        };
        if !wanted.contains(operator) {
            return None;
        }
        self.tokens = rest;
        Some(operator)
    }

    fn binary(&mut self, level: usize) -> Option<i128> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            let right = self.binary(level + 1)?;
            left = match operator {
                "|" => left | right,
                "&" => left & right,
                "<<" => left.checked_shl(right.try_into().ok()?)?,
                ">>" => left.checked_shr(right.try_into().ok()?)?,
                "+" => left.checked_add(right)?,
                "-" => left.checked_sub(right)?,
                _ => left.checked_mul(right)?,
            };
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<i128> {
        if self.operator(&["-"]).is_some() {
            return self.unary()?.checked_neg();
        }
        if self.operator(&["~"]).is_some() {
            return Some(!self.unary()?);
        }
        if self.operator(&["("]).is_some() {
            let value = self.binary(0)?;
            return self.operator(&[")"]).map(|_| value);
        }
        let (token, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        match token {
            Token::Number(number) => Some(*number),
            Token::Name(name) => {
                let mut argument = None;
                if self.operator(&["("]).is_some() {
                    argument = Some(self.binary(0)?);
                    self.operator(&[")"])?;
                }
                match (name.as_str(), argument) {
                    ("BIT" | "BIT_ULL", Some(bit)) => 1_i128.checked_shl(bit.try_into().ok()?),
                    ("UL" | "ULL", Some(value)) => Some(value),
                    _ => (self.call)(name, argument),
                }
            }
            Token::Operator(_) => None,
        }
    }
}

/// Checks the evaluator itself.
pub(crate) fn check() -> Vec<String> {
    let call = |name: &str, argument: Option<i128>| match (name, argument) {
        ("BASE", None) => Some(0x400),
        ("TWICE", Some(value)) => Some(2 * value),
        _ => None,
    };
    let mut differences = Vec::new();
    for (text, expected) in [
        ("0x10", Some(16)),
        ("0x000000feULL", Some(0xfe)),
        ("(1 << 8) | 2", Some(258)),
        ("BASE + 4*(3)", Some(0x40c)),
        ("(0x200 + 2 * (1) + 1)", Some(0x203)),
        ("BIT(11)", Some(2048)),
        ("UL(0x15)", Some(0x15)),
        ("TWICE(2) - 1", Some(3)),
        ("-1", Some(-1)),
        ("UNKNOWN + 1", None),
        ("\"text\"", None),
        ("1 +", None),
        ("(1", None),
    ] {
        let value = evaluate(text, &call);
        if value != expected {
            differences.push(format!("{text} is {value:?}, not {expected:?}"));
        }
    }
    differences
}
