//! Finds names that are similar to an unknown one, for error messages.

/// Maximum number of suggested names.
const MAX_NAMES: usize = 3;

/// Maximum length of a word. The time to compare it with a name grows with its length.
const MAX_WORD_BYTES: usize = 256;

/// Minimum similarity of suggested names. With lower values, names that only share the prefix `kvm_` are suggested.
const MIN_SIMILARITY: f64 = 0.88;

/// Returns up to three of `names` that `word` could have meant, the most similar first. Case does not matter.
///
/// Names at a small edit distance come first, then names that contain the word, the shortest first.
#[must_use]
pub fn similar_names<'a>(names: impl IntoIterator<Item = &'a str>, word: &str) -> Vec<&'a str> {
    let word = word.trim_matches('*').to_lowercase();
    if word.is_empty() || word.len() > MAX_WORD_BYTES {
        return Vec::new();
    }
    let mut similar: Vec<(usize, usize, &str)> = Vec::new();
    for name in names {
        let lower = name.to_lowercase();
        let distance = strsim::osa_distance(&lower, &word);
        // One error in four characters.
        let is_typo = distance <= word.len().div_ceil(4)
            || is_short_typo(&lower, &word, distance)
            || strsim::jaro_winkler(&lower, &word) >= MIN_SIMILARITY;
        if is_typo {
            similar.push((0, distance, name));
        } else if lower.contains(&word) {
            similar.push((1, name.len(), name));
        }
    }
    similar.sort_unstable();
    similar.dedup();
    similar.truncate(MAX_NAMES);
    similar.into_iter().map(|(_, _, name)| name).collect()
}

/// Returns whether a word of three letters has two letters of a name of about the same length: `pci` and `iop` of `pio`.
fn is_short_typo(name: &str, word: &str, distance: usize) -> bool {
    if word.len() != 3 || name.len().abs_diff(word.len()) > 1 || distance > 2 {
        return false;
    }
    let mut letters = name.chars().collect::<Vec<_>>();
    let mut common = 0;
    for letter in word.chars() {
        if let Some(at) = letters.iter().position(|it| *it == letter) {
            letters.swap_remove(at);
            common += 1;
        }
    }
    common >= 2
}

/// Returns `: did you mean a, b or c?`, or nothing if no name is similar.
#[must_use]
pub fn did_you_mean(similar: &[&str]) -> String {
    match similar {
        [] => String::new(),
        [name] => format!(": did you mean {name}?"),
        [names @ .., last] => format!(": did you mean {} or {last}?", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [&str; 5] = [
        "kvm_entry",
        "kvm_exit",
        "kvm_hv_stimer_expiration",
        "kvm_userspace_exit",
        "kvm_vmgexit_exit",
    ];

    #[test]
    fn typos_come_first() {
        assert_eq!(similar_names(EVENTS, "kvm_exti"), ["kvm_exit", "kvm_entry"]);
        assert_eq!(similar_names(["hlt", "HLT", "npf"], "hltt"), ["HLT", "hlt"]);
    }

    #[test]
    fn short_words_may_have_one_wrong_letter_or_another_order() {
        let kinds = ["mmio", "pio", "msr", "cpuid", "vmexit"];
        for word in ["pci", "iop", "poi"] {
            assert_eq!(similar_names(kinds, word), ["pio"], "{word}");
        }
        for word in ["foo", "npt", "xyz"] {
            assert!(similar_names(kinds, word).is_empty(), "{word}");
        }
    }

    #[test]
    fn a_part_of_a_name_finds_the_shortest_names() {
        let names = ["kvm_exit", "kvm_vmgexit_exit", "kvm_userspace_exit"];
        assert_eq!(similar_names(EVENTS, "exit"), names);
    }

    #[test]
    fn other_names_are_not_suggested() {
        assert!(similar_names(EVENTS, "frobnicate").is_empty());
        assert!(similar_names(EVENTS, "*").is_empty());
    }

    #[test]
    fn the_question_lists_the_names() {
        assert_eq!(did_you_mean(&[]), "");
        assert_eq!(did_you_mean(&["a"]), ": did you mean a?");
        assert_eq!(did_you_mean(&["a", "b", "c"]), ": did you mean a, b or c?");
    }
}
