//! Behaviour of the text model: what people see, and the properties that no input may break.

use proptest::prelude::*;

use super::split::{ChunkMode, cuts, messages};
use super::{Tables, file_names, html, parse, plain, utf16_len, utf16_prefix};

fn to_html(markdown: &str) -> String {
    html::render(&parse(markdown, Tables::Code))
}

#[test]
fn inline_styles_become_tags_and_everything_else_is_escaped() {
    assert_eq!(to_html("**b** _i_ ~~s~~ `a<b`"), "<b>b</b> <i>i</i> <s>s</s> <code>a&lt;b</code>");
    assert_eq!(to_html("a < b & c > \"d\""), "a &lt; b &amp; c &gt; &quot;d&quot;");
    assert_eq!(to_html("**a _b_**"), "<b>a <i>b</i></b>");
    assert_eq!(to_html("***x***"), "<i><b>x</b></i>");
    assert_eq!(to_html("||secret|| shown"), "<tg-spoiler>secret</tg-spoiler> shown");
    assert_eq!(to_html("<b>raw</b>"), "&lt;b&gt;raw&lt;/b&gt;");
}

#[test]
fn links_keep_their_target_and_bare_ones_show_it() {
    assert_eq!(to_html("[x](https://e.org/?a=1&b=\"2\")").matches("&amp;").count(), 1);
    assert_eq!(to_html("[x](https://e.org)"), "<a href=\"https://e.org\">x</a>");
    assert_eq!(
        to_html("![](https://e.org/p.png)"),
        "<a href=\"https://e.org/p.png\">https://e.org/p.png</a>"
    );
    assert_eq!(
        plain::render(&parse("see [x](https://e.org) now", Tables::Code)),
        "see x (https://e.org) now"
    );
    assert_eq!(plain::render(&parse("<https://e.org>", Tables::Code)), "https://e.org");
}

#[test]
fn blocks_are_laid_out_for_a_chat() {
    insta::assert_snapshot!(to_html(
        "# Title\n\nA line\nand another.\n\n- one\n- two\n  - inner\n\n1. first\n2. second\n\n> said\n> twice\n\n---\n\n```rust\nfn main() {\n    x < 1\n}\n```\n\n- [x] done\n- [ ] open\n\nend"
    ));
}

#[test]
fn tables_follow_the_configured_mode() {
    let table = "| Name | Size |\n|---|---|\n| **a** | 1 |\n| bb | 22 |";
    let shown = |mode| html::render(&parse(table, mode));
    assert_eq!(shown(Tables::Code), "<pre><code>Name | Size\n-----|-----\na    | 1\nbb   | 22</code></pre>");
    assert_eq!(shown(Tables::Bullets), "• <b>a</b> – Size: 1\n• <b>bb</b> – Size: 22");
    assert!(shown(Tables::Off).starts_with("| Name | Size |\n|---|---|"));
}

#[test]
fn file_names_that_look_like_domains_are_code() {
    let guarded = |markdown: &str| {
        let mut styled = parse(markdown, Tables::Code);
        file_names::guard(&mut styled);
        html::render(&styled)
    };
    assert_eq!(
        guarded("open README.md, then src/main.rs."),
        "open <code>README.md</code>, then <code>src/main.rs</code>."
    );
    assert_eq!(guarded("**see a.py**"), "<b>see <code>a.py</code></b>");
    assert_eq!(guarded("`x.sh` [y.go](http://z.md)"), "<code>x.sh</code> <a href=\"http://z.md\">y.go</a>");
    assert_eq!(
        guarded("https://docs.rs and me@site.at, e.g. example.com"),
        "https://docs.rs and me@site.at, e.g. example.com"
    );
}

#[test]
fn a_cut_prefers_a_newline_then_a_space_outside_parentheses() {
    let parts = |text: &str, limit| {
        let whole = parse(text, Tables::Code);
        cuts(&whole, limit).into_iter().map(|r| whole.text[r].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(parts("one two\nthree four", 14), ["one two", "three four"]);
    assert_eq!(parts("one two three", 9), ["one two", "three"]);
    assert_eq!(parts("aa (bb cc) dd", 9), ["aa", "(bb cc)", "dd"]);
    assert_eq!(parts("sad :( but true", 10), ["sad", ":( but", "true"]);
    assert_eq!(parts("abcdefgh", 3), ["abc", "def", "gh"]);
    assert_eq!(parts("😀😀😀", 4), ["😀😀", "😀"]);
    assert_eq!(parts("text", 0), ["text"]);
    assert!(parts("", 10).is_empty());
}

#[test]
fn a_code_block_is_closed_and_opened_again_and_keeps_its_indentation() {
    let markdown = "```py\ndef f():\n    a = 1\n    b = 2\n```";
    let parts: Vec<String> =
        messages(markdown, 20, ChunkMode::Length, Tables::Code).iter().map(html::render).collect();
    assert_eq!(
        parts,
        [
            "<pre><code class=\"language-py\">def f():\n    a = 1</code></pre>",
            "<pre><code class=\"language-py\">    b = 2</code></pre>",
        ]
    );
}

#[test]
fn newline_mode_sends_each_paragraph_and_leaves_fences_whole() {
    let parts: Vec<String> =
        messages("a\n\nb\n\n```\nx\n\ny\n```\n\nc", 100, ChunkMode::Newline, Tables::Code)
            .iter()
            .map(|part| part.text.clone())
            .collect();
    assert_eq!(parts, ["a", "b", "x\n\ny", "c"]);
}

/// Markdown-like soup: every construct, balanced or not, and characters outside the basic plane.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z ]{1,12}",
        "[\\*_~`|>#\\[\\]()<&\"-]{1,4}",
        Just("```rust\n".to_owned()),
        Just("\n```\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("\n- ".to_owned()),
        Just("\n    ".to_owned()),
        Just("**bold _both_**".to_owned()),
        Just("[l](http://e.org)".to_owned()),
        Just("| a | b |\n|---|---|\n| 1 | 2 |\n".to_owned()),
        Just("read.md".to_owned()),
        Just("😀🧑‍💻é".to_owned()),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Reads rendered HTML back: `Err` when a tag is not closed in order, else the visible text.
fn read_html(html: &str) -> Result<String, String> {
    let (mut text, mut open, mut rest) = (String::new(), Vec::new(), html);
    while let Some((before, tag_on)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, after) = tag_on.split_once('>').ok_or("tag without end")?;
        match tag.strip_prefix('/') {
            Some(name) if open.pop() == Some(name.to_owned()) => {}
            Some(name) => return Err(format!("</{name}> closes nothing")),
            None => open.push(tag.split(' ').next().unwrap_or_default().to_owned()),
        }
        rest = after;
    }
    text.push_str(rest);
    if !open.is_empty() {
        return Err(format!("left open: {open:?}"));
    }
    Ok(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

proptest! {
    #[test]
    fn parts_keep_the_text_and_the_limit(markdown in soup(), limit in 2usize..80) {
        let whole = parse(&markdown, Tables::Code);
        let mut end = 0;
        for part in cuts(&whole, limit) {
            prop_assert!(part.start >= end && part.end > part.start);
            prop_assert!(whole.text[end..part.start].trim().is_empty(), "visible text between parts");
            prop_assert!(utf16_len(&whole.text[part.clone()]) <= limit);
            prop_assert!(!whole.text[part.clone()].trim().is_empty());
            end = part.end;
        }
        prop_assert!(whole.text[end..].trim().is_empty(), "visible text after the last part");
    }

    #[test]
    fn every_part_renders_to_balanced_html_with_the_same_text(markdown in soup(), limit in 2usize..80) {
        for mode in [ChunkMode::Length, ChunkMode::Newline] {
            for mut part in messages(&markdown, limit, mode, Tables::Code) {
                file_names::guard(&mut part);
                let read = read_html(&html::render(&part));
                prop_assert_eq!(read.as_deref(), Ok(part.text.as_str()));
            }
        }
    }

    #[test]
    fn parts_that_grow_when_rendered_are_cut_again(markdown in soup()) {
        fn fits(part: &super::Styled) -> bool {
            utf16_len(&html::render(part)) <= 60
        }
        let whole = parse(&markdown, Tables::Code);
        let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let pieces = super::split::refine(whole.clone(), fits);
        prop_assert_eq!(visible(&pieces.iter().map(|p| p.text.as_str()).collect::<String>()), visible(&whole.text));
        for piece in pieces {
            prop_assert!(fits(&piece) || utf16_len(&piece.text) <= 32);
        }
    }

    #[test]
    fn spans_nest_and_stay_inside(markdown in soup()) {
        for tables in [Tables::Code, Tables::Bullets, Tables::Off] {
            let whole = parse(&markdown, tables);
            for a in &whole.spans {
                prop_assert!(a.range.start < a.range.end && a.range.end <= whole.text.len());
                for b in &whole.spans {
                    let apart = a.range.end <= b.range.start || b.range.end <= a.range.start;
                    let nested = (a.range.start <= b.range.start && b.range.end <= a.range.end)
                        || (b.range.start <= a.range.start && a.range.end <= b.range.end);
                    prop_assert!(apart || nested, "{a:?} crosses {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_prefix_never_splits_a_pair(text in "\\PC{0,40}", units in 0usize..60) {
        let end = utf16_prefix(&text, units);
        prop_assert!(text.is_char_boundary(end));
        prop_assert!(utf16_len(&text[..end]) <= units);
        let next = text[end..].chars().next().map_or(usize::MAX, char::len_utf16);
        prop_assert!(next == usize::MAX || utf16_len(&text[..end]) + next > units);
    }
}
