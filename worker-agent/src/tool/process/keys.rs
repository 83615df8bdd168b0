//! Keys as bytes that a terminal sends (xterm): names, Ctrl and Alt combinations, hexadecimal, pasted text. Pure.

/// Bytes in one call; more is not typing.
const BYTES_MAX: usize = 64 * 1024;

/// The bytes of `literal`, then `hex`, then `keys`. The error names the key that is not known.
pub fn encode(keys: &[&str], hex: &[&str], literal: Option<&str>) -> Result<Vec<u8>, String> {
    let mut bytes = literal.unwrap_or_default().as_bytes().to_vec();
    for item in hex {
        let digits: String = item.trim().trim_start_matches("0x").split_whitespace().collect();
        let pairs = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        let decoded: Option<Vec<u8>> = pairs.collect();
        bytes.extend(decoded.ok_or_else(|| format!("Invalid parameter: hex {item:?} is not hexadecimal"))?);
    }
    for name in keys {
        bytes.extend(key(name).ok_or_else(|| format!("Invalid parameter: key {name:?} is not known"))?);
    }
    if bytes.len() > BYTES_MAX {
        return Err(format!("Too much to send: {} bytes, at most {BYTES_MAX}", bytes.len()));
    }
    Ok(bytes)
}

/// Pasted text; bracketed so that an editor does not take it for typing.
pub fn paste(text: &str, bracketed: bool) -> Vec<u8> {
    if text.is_empty() || !bracketed {
        return text.as_bytes().to_vec();
    }
    // The closing mark inside the text would end the paste early.
    format!("\u{1b}[200~{}\u{1b}[201~", text.replace("\u{1b}[201~", "")).into_bytes()
}

fn key(name: &str) -> Option<Vec<u8>> {
    if let Some(rest) = strip(name, &["M-", "Alt-", "Meta-"]) {
        return key(rest).map(|bytes| [b"\x1b".as_slice(), &bytes].concat());
    }
    if let Some(rest) = strip(name, &["C-", "Ctrl-", "^"]) {
        return control(rest).map(|byte| vec![byte]);
    }
    if let Some(bytes) = named(&name.to_lowercase()) {
        return Some(bytes.to_vec());
    }
    (name.chars().count() == 1).then(|| name.as_bytes().to_vec())
}

fn strip<'a>(name: &'a str, prefixes: &[&str]) -> Option<&'a str> {
    let prefix =
        prefixes.iter().find(|p| name.get(..p.len()).is_some_and(|head| head.eq_ignore_ascii_case(p)))?;
    name.get(prefix.len()..).filter(|rest| !rest.is_empty())
}

/// ASCII control codes: the letter's code without its upper bits.
fn control(name: &str) -> Option<u8> {
    if name.eq_ignore_ascii_case("space") {
        return Some(0);
    }
    let mut chars = name.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return None };
    match c.to_ascii_uppercase() {
        c @ '@'..='_' => u8::try_from(c).ok().map(|c| c & 0x1f),
        '?' => Some(0x7f),
        _ => None,
    }
}

fn named(name: &str) -> Option<&'static [u8]> {
    Some(match name {
        "enter" | "return" | "cr" => b"\r",
        "tab" => b"\t",
        "btab" | "s-tab" | "backtab" => b"\x1b[Z",
        "escape" | "esc" => b"\x1b",
        "space" => b" ",
        "backspace" | "bspace" | "bs" => b"\x7f",
        "delete" | "dc" | "del" => b"\x1b[3~",
        "insert" | "ic" | "ins" => b"\x1b[2~",
        "up" => b"\x1b[A",
        "down" => b"\x1b[B",
        "right" => b"\x1b[C",
        "left" => b"\x1b[D",
        "home" => b"\x1b[H",
        "end" => b"\x1b[F",
        "pageup" | "pgup" | "ppage" => b"\x1b[5~",
        "pagedown" | "pgdn" | "npage" => b"\x1b[6~",
        "f1" => b"\x1bOP",
        "f2" => b"\x1bOQ",
        "f3" => b"\x1bOR",
        "f4" => b"\x1bOS",
        "f5" => b"\x1b[15~",
        "f6" => b"\x1b[17~",
        "f7" => b"\x1b[18~",
        "f8" => b"\x1b[19~",
        "f9" => b"\x1b[20~",
        "f10" => b"\x1b[21~",
        "f11" => b"\x1b[23~",
        "f12" => b"\x1b[24~",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_a_terminal_sends() {
        let keys = ["Enter", "C-c", "M-x", "Up", "ctrl-D", "^[", "ä", "F5"];
        let bytes = encode(&keys, &["1b 5b", "0x41"], Some("ls")).unwrap();
        assert_eq!(bytes, b"ls\x1b[A\r\x03\x1bx\x1b[A\x04\x1b\xc3\xa4\x1b[15~");
        assert!(encode(&["Hyper-q"], &[], None).unwrap_err().contains("Hyper-q"));
        assert!(encode(&[], &["zz"], None).is_err());
    }

    #[test]
    fn a_paste_cannot_end_itself() {
        assert_eq!(paste("a\u{1b}[201~b", true), b"\x1b[200~ab\x1b[201~");
        assert_eq!(paste("a", false), b"a");
    }
}
