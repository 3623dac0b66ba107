//! The character set of the terminal, from the environment.

use std::{env, ffi::OsString};

/// Returns whether the locale's character set is UTF-8.
pub(super) fn is_utf8() -> bool {
    is_utf8_with(|name| env::var_os(name))
}

fn is_utf8_with(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    // The first of these that is set and not empty determines the character set. Without any, it is ASCII.
    let names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = names.filter_map(variable).find(|it| !it.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_determines_the_character_set() {
        for (variables, expected) in [
            (&[("LANG", "en_US.UTF-8")][..], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
            (&[("LC_ALL", ""), ("LANG", "C.utf8")], true),
            (&[("LC_CTYPE", "de_DE.UTF-8"), ("LANG", "C")], true),
            (&[("LANG", "de_DE@euro")], false),
            (&[], false),
        ] {
            let find = |name: &str| {
                let variable = variables.iter().find(|it| it.0 == name);
                variable.map(|it| OsString::from(it.1))
            };
            assert_eq!(is_utf8_with(find), expected, "{variables:?}");
        }
    }
}
