//! Lists of values on the command line.

/// Splits a list at commas outside of braces and brackets: `kvm_{pio,msr},kvm_exit` has two values.
#[must_use]
pub fn split_list(text: &str) -> Vec<String> {
    let (mut values, mut value) = (Vec::new(), String::new());
    let mut depth = 0usize;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' if depth == 0 => {
                values.push(std::mem::take(&mut value));
                continue;
            }
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        value.push(c);
        match c {
            '\\' => value.extend(chars.next()),
            '[' => push_class(&mut value, &mut chars),
            _ => {}
        }
    }
    values.push(value);
    values
}

/// Returns the values of a list in their order, each once: the rule for every list, whose values select or name something.
pub fn each_once<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut each = Vec::new();
    for value in values {
        if !each.contains(&value) {
            each.push(value);
        }
    }
    each
}

/// Appends the rest of a class of characters, up to its `]`. Without one it is not a class, and nothing
/// is appended. The first character may be a `]` that does not end the class, also after `!` or `^`.
fn push_class(value: &mut String, chars: &mut std::str::Chars<'_>) {
    let rest = chars.as_str();
    let negation = usize::from(rest.starts_with(['!', '^']));
    let start = negation + usize::from(rest[negation..].starts_with(']'));
    let Some(length) = rest[start..].find(']') else {
        return;
    };
    let (class, rest) = rest.split_at(start + length + 1);
    value.push_str(class);
    *chars = rest.chars();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_braces_and_brackets_do_not_separate() {
        let split = |text: &str| split_list(text).join(" ");
        assert_eq!(split("kvm_{pio,msr}"), "kvm_{pio,msr}");
        assert_eq!(split("kvm_{pio,msr},kvm_exit"), "kvm_{pio,msr} kvm_exit");
        assert_eq!(split("{a,{b,c}},d"), "{a,{b,c}} d");
        assert_eq!(split("a[,]b,c"), "a[,]b c");
        assert_eq!(split("[!],],b"), "[!],] b");
        assert_eq!(split("[]{],b"), "[]{] b");
        assert_eq!(split("a\\,b,c\\{,d"), "a\\,b c\\{ d");
        assert_eq!(split("a[b,c"), "a[b c");
        assert_eq!(split("a},b"), "a} b");
        assert_eq!(split_list("a,,"), ["a", "", ""]);
        assert_eq!(split_list(""), [""]);
    }

    #[test]
    fn a_value_that_is_given_twice_counts_once() {
        assert_eq!(each_once([99.0, 50.0, 99.0, 50.0]), [99.0, 50.0]);
        assert_eq!(each_once(Vec::<u32>::new()), [0u32; 0]);
    }
}
