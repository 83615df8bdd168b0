use proptest::prelude::*;

use super::*;

#[test]
fn the_exact_text_is_replaced_once() {
    assert_eq!(replace_once("a b c", "b", "X"), Ok("a X c".into()));
    assert_eq!(replace_once("a b b", "b", "X"), Err(EditError::NotUnique(2)));
    assert_eq!(replace_once("a", "z", "X"), Err(EditError::NotFound));
    assert_eq!(replace_once("a", "a", "a"), Err(EditError::NoChange));
    assert_eq!(replace_once("a", "", "x"), Err(EditError::Empty));
    assert_eq!(replace_once("abc", "b", ""), Ok("ac".into()));
}

#[test]
fn look_alikes_and_line_ends_are_forgiven_but_the_rest_keeps_its_bytes() {
    let content = "say \u{201c}hi\u{201d}   \nnext\u{a0}line \u{2014} end\nkeep \u{201c}this\u{201d}  \n";
    let got = replace_once(content, "say \"hi\"\nnext line - end", "done").unwrap();
    assert_eq!(got, "done\nkeep \u{201c}this\u{201d}  \n");
    assert_eq!(
        replace_once("a  \nb", "  \n ", "x"),
        Err(EditError::NotFound),
        "blanks alone match nothing by tolerance"
    );
}

#[test]
fn mark_and_line_endings_stay() {
    assert_eq!(replace_once("\u{feff}a\r\nb\r\nc", "a\nb", "x\ny"), Ok("\u{feff}x\r\ny\r\nc".into()));
    assert_eq!(replace_once("a\r\nb\nc\r\n", "b", "B\nB"), Ok("a\r\nB\nB\nc\r\n".into()));
    assert_eq!(replace_once("a\nb\n", "a\r\nb", "c"), Ok("c\n".into()));
}

/// A mark inside of a text is a character like others: it may come to the front when what stood before it goes.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a", "b", " ", "\n", "\r\n", "\u{201c}", "\"", "\u{a0}", "ä", "\u{feff}", "-", "\r",
    ]);
    prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn whatever_is_asked_nothing_panics_and_an_edit_only_touches_its_piece(content in words(), old in words(), new in words()) {
        if let Ok(after) = replace_once(&content, &old, &new) {
            let mark = '\u{feff}';
            if content.starts_with(mark) {
                prop_assert!(after.starts_with(mark), "the file's mark stays");
            } else if !content.contains(mark) && !new.contains(mark) {
                prop_assert!(!after.contains(mark), "none is added");
            }
            let lf = |text: &str| text.replace("\r\n", "\n");
            let common = lf(&content).bytes().zip(lf(&after).bytes()).take_while(|(a, b)| a == b).count();
            prop_assert!(common <= lf(&content).len());
        }
    }

    #[test]
    fn an_exact_unique_piece_is_always_found(before in "[a-f\n]{0,20}", piece in "[x-z]{1,8}", after in "[a-f\n]{0,20}", new in "[0-9\n]{0,8}") {
        let content = format!("{before}{piece}{after}");
        prop_assert_eq!(replace_once(&content, &piece, &new), Ok(format!("{before}{new}{after}")));
    }
}
