//! The valid name that a wrong one was probably meant to be.

/// Longer names are not compared: nobody mistypes them, and the comparison is quadratic.
const NAME_CHARS_MAX: usize = 64;

/// So long a common start earns one more edit: `maxRetry` is `maxRetries`.
const ALIKE_CHARS: usize = 5;

/// The closest candidate within a third of the name's length (at least one, at most three edits).
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = folded(name);
    if wanted.is_empty() || wanted.len() > NAME_CHARS_MAX {
        return None;
    }
    let limit = (wanted.len() / 3).clamp(1, 3);
    let alike =
        |folded: &[char]| folded.iter().zip(&wanted).take_while(|(a, b)| a == b).count() >= ALIKE_CHARS;
    candidates
        .filter(|candidate| candidate.len() <= NAME_CHARS_MAX)
        .filter_map(|candidate| {
            let folded = folded(candidate);
            let edits = distance(&wanted, &folded);
            (edits <= limit + usize::from(alike(&folded))).then_some((edits, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters only, lower case: `bot_token` is `botToken`.
fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(ca != cb)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_typing_errors_and_nothing_else() {
        let names = ["port", "bind", "customBindHost", "botToken", "controlUi"];
        let found = |name| nearest(name, names.iter().copied());
        assert_eq!(found("prot"), Some("port"));
        assert_eq!(found("bot_token"), Some("botToken"));
        assert_eq!(found("controlUI"), Some("controlUi"));
        assert_eq!(found("custmBindHost"), Some("customBindHost"));
        assert_eq!(nearest("maxRetry", ["maxRetries"].into_iter()), Some("maxRetries"));
        assert_eq!(found("telegram"), None);
        assert_eq!(found(""), None);
        assert_eq!(found(&"x".repeat(500)), None);
    }
}
