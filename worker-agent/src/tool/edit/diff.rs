//! A unified diff of one changed region, for the details of a result. Pure.
//!
//! An edit changes one region, so that what both texts have in common at their ends is all there is to find; no general
//! difference algorithm is needed.

/// Unchanged lines shown around the change.
const CONTEXT_LINES: usize = 3;
/// Characters of a diff; people look at it, nobody applies it.
const DIFF_CHARS_MAX: usize = 20_000;

/// The diff, and the number of the first changed line in the new text (from 1).
pub fn unified(before: &str, after: &str) -> (String, usize) {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(&new).take_while(same).count();
    let shorter = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count().min(shorter);
    let from = head.saturating_sub(CONTEXT_LINES);
    let context = (head - from, tail.min(CONTEXT_LINES));
    let range = |lines: usize| (from + 1, lines - tail - head + context.0 + context.1);
    let ((old_at, old_count), (new_at, new_count)) = (range(old.len()), range(new.len()));
    let mut diff = format!("@@ -{old_at},{old_count} +{new_at},{new_count} @@\n");
    let mut push = |sign: char, lines: &[&str], skip: usize, take: usize| {
        for line in lines.iter().skip(skip).take(take) {
            diff.push(sign);
            diff.push_str(line.trim_end_matches('\r'));
            diff.push('\n');
        }
    };
    push(' ', &old, from, context.0);
    push('-', &old, head, old.len() - tail - head);
    push('+', &new, head, new.len() - tail - head);
    push(' ', &old, old.len() - tail, context.1);
    (super::super::output::head_chars(&diff, DIFF_CHARS_MAX).to_owned(), head + 1)
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn a_change_is_shown_with_its_surroundings() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let (diff, first) = unified(before, "1\n2\n3\n4\nX\nY\n6\n7\n8\n9\n");
        assert_eq!(diff, "@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-5\n+X\n+Y\n 6\n 7\n 8\n");
        assert_eq!(first, 5);
        assert_eq!(unified("", "a\n"), ("@@ -1,0 +1,1 @@\n+a\n".into(), 1));
        assert_eq!(unified("a\na\n", "a\na\na\n").1, 3);
    }
}
