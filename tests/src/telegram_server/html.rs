//! Reads the HTML of `parse_mode: "HTML"` as the Bot API does, with its error texts.

use serde_json::{Value, json};

use super::book::utf16;

/// Tags of the Bot API's "HTML style", with the entity that they make.
const TAGS: [(&str, &str); 17] = [
    ("b", "bold"),
    ("strong", "bold"),
    ("i", "italic"),
    ("em", "italic"),
    ("u", "underline"),
    ("ins", "underline"),
    ("s", "strikethrough"),
    ("strike", "strikethrough"),
    ("del", "strikethrough"),
    ("span", "spoiler"),
    ("tg-spoiler", "spoiler"),
    ("a", "text_link"),
    ("code", "code"),
    ("pre", "pre"),
    ("blockquote", "blockquote"),
    ("tg-emoji", "custom_emoji"),
    ("tg-time", "date_time"),
];

/// Visible text and entities, or the description of the refusal.
pub fn parse(html: &str) -> Result<(String, Vec<Value>), String> {
    let mut text = String::new();
    let mut entities = Vec::new();
    let mut open: Vec<(String, &str, String, usize)> = Vec::new();
    let mut at = 0;
    while let Some(c) = html[at..].chars().next() {
        match c {
            '<' => {
                let end =
                    html[at..].find('>').ok_or_else(|| format!("Unclosed start tag at byte offset {at}"))?;
                let tag = &html[at + 1..at + end];
                if let Some(name) = tag.strip_prefix('/') {
                    let Some((expected, kind, argument, start)) = open.pop() else {
                        return Err(format!("Unexpected end tag at byte offset {at}"));
                    };
                    let name = name.trim().to_ascii_lowercase();
                    if !name.is_empty() && name != expected {
                        return Err(format!(
                            "Unmatched end tag at byte offset {at}, expected \"</{expected}>\", found \"</{name}>\""
                        ));
                    }
                    let length = utf16(&text) - start;
                    if length > 0 {
                        entities.push(entity(kind, &argument, start, length));
                    }
                } else {
                    let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                    let name = name.to_ascii_lowercase();
                    let Some((_, kind)) = TAGS.iter().find(|(known, _)| *known == name) else {
                        return Err(format!("Unsupported start tag \"{name}\" at byte offset {at}"));
                    };
                    if name == "blockquote" && open.iter().any(|(_, kind, ..)| *kind == "blockquote") {
                        return Err(format!("Can't nest blockquote entities at byte offset {at}"));
                    }
                    open.push((name, kind, attribute(attributes)?, utf16(&text)));
                }
                at += end + 1;
            }
            '&' => {
                let (decoded, length) = decode(&html[at..]);
                text.push_str(&decoded);
                at += length;
            }
            c => {
                text.push(c);
                at += c.len_utf8();
            }
        }
    }
    match open.pop() {
        Some((name, ..)) => Err(format!("Can't find end tag corresponding to start tag \"{name}\"")),
        None => Ok((text, entities)),
    }
}

fn entity(kind: &str, argument: &str, offset: usize, length: usize) -> Value {
    let mut entity = json!({"type": kind, "offset": offset, "length": length});
    match kind {
        "text_link" => entity["url"] = json!(argument),
        "code" | "pre" if !argument.is_empty() => {
            entity["language"] = json!(argument.trim_start_matches("language-"));
        }
        _ => {}
    }
    entity
}

/// The value of the one attribute that a tag may have.
fn attribute(attributes: &str) -> Result<String, String> {
    let attributes = attributes.trim();
    if attributes.is_empty() || attributes == "expandable" {
        return Ok(String::new());
    }
    let (_, value) =
        attributes.split_once('=').ok_or("Expected equal sign in declaration of an attribute")?;
    let value = value.trim().trim_matches(['"', '\'']);
    let mut out = String::new();
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        let (piece, length) = if c == '&' { decode(rest) } else { (c.to_string(), c.len_utf8()) };
        out.push_str(&piece);
        rest = &rest[length..];
    }
    Ok(out)
}

/// One entity at the start of the text; anything unknown stays as it is.
fn decode(text: &str) -> (String, usize) {
    for (entity, c) in [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"), ("&quot;", "\"")] {
        if text.starts_with(entity) {
            return (c.to_owned(), entity.len());
        }
    }
    if let Some(number) = text.strip_prefix("&#").and_then(|rest| rest.split_once(';')) {
        let code = match number.0.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.0.parse().ok(),
        };
        if let Some(c) = code.and_then(char::from_u32) {
            return (c.to_string(), number.0.len() + 3);
        }
    }
    ("&".to_owned(), 1)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_nested_tags_and_entities() {
        let (text, entities) =
            parse("a <b>b &lt;<i>c</i></b> <pre><code class=\"language-rs\">x</code></pre>").unwrap();
        assert_eq!(text, "a b <c x");
        let kinds: Vec<&str> = entities.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["italic", "bold", "code", "pre"]);
        assert_eq!(entities[2]["language"], "rs");
    }

    #[test]
    fn refuses_what_the_real_server_refuses() {
        assert!(parse("<b>x").unwrap_err().contains("Can't find end tag"));
        assert!(parse("<b>x</i>").unwrap_err().contains("Unmatched end tag at byte offset 4"));
        assert!(parse("<h1>x</h1>").unwrap_err().contains("Unsupported start tag \"h1\""));
        assert!(parse("x</b>").unwrap_err().contains("Unexpected end tag"));
    }
}
