//! Enough of Rust's lexical grammar to tell code from comments, strings and characters.
//!
//! The rules look at words and brackets only, so a full parser would add a large dependency and no
//! finding. What is not code is blanked byte by byte: offsets and lines stay those of the file.

/// One word or sign of the code, as a range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// `text` with comments, strings and character literals replaced by spaces; line ends stay.
pub fn code_of(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        match opaque_end(text.as_bytes(), at) {
            Some(end) => {
                blank(&mut code[at..end]);
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Words, `::` and single signs of `code`, which holds no comments or strings any more.
pub fn tokens_of(code: &str) -> Vec<Token> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let end = match bytes[start] {
            byte if is_word(byte) => bytes[start..]
                .iter()
                .position(|&byte| !is_word(byte))
                .map_or(bytes.len(), |length| start + length),
            b':' if bytes.get(start + 1) == Some(&b':') => start + 2,
            _ => start + 1,
        };
        if !bytes[start].is_ascii_whitespace() {
            tokens.push(Token { start, end });
        }
        start = end;
    }
    tokens
}

/// Whether `byte` can stand inside an identifier or number.
pub const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The end of the comment, string or character literal that starts at `at`, if one does.
fn opaque_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length));
    }
    if rest.starts_with(b"/*") {
        return Some(block_comment_end(bytes, at));
    }
    match rest[0] {
        b'"' => Some(string_end(bytes, at + 1)),
        b'\'' => character_end(bytes, at),
        b'r' | b'b' | b'c' if at == 0 || !is_word(bytes[at - 1]) => raw_string_end(bytes, at),
        _ => None,
    }
}

/// Block comments nest.
fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let prefix = ["r", "br", "cr"].iter().find(|prefix| bytes[start..].starts_with(prefix.as_bytes()))?;
    let opening = start + prefix.len();
    let hashes = bytes[opening..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(opening + hashes) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let content = opening + hashes + 1;
    let length = bytes[content..].windows(closing.len()).position(|window| window == closing);
    Some(length.map_or(bytes.len(), |length| content + length + closing.len()))
}

/// `None` for a lifetime, which begins like a character.
fn character_end(bytes: &[u8], start: usize) -> Option<usize> {
    let first = *bytes.get(start + 1)?;
    if first == b'\\' {
        let escaped = start + 3;
        let length = bytes.get(escaped..)?.iter().position(|&byte| byte == b'\'')?;
        return Some(escaped + length + 1);
    }
    let width = match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    (bytes.get(start + 1 + width) == Some(&b'\'')).then_some(start + width + 2)
}

fn blank(range: &mut [u8]) {
    for byte in range {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let code = code_of(text);
        tokens_of(&code).iter().map(|token| code[token.start..token.end].to_owned()).collect()
    }

    #[test]
    fn comments_nest_and_strings_hide_what_looks_like_code() {
        assert_eq!(words("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
        assert_eq!(words(r#"a("b \" c", d)"#), ["a", "(", ",", "d", ")"]);
        assert_eq!(words("a(r#\"b \" c\"#, br\"d\\\", e)"), ["a", "(", ",", ",", "e", ")"]);
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_not() {
        assert_eq!(words("fn f<'a>(x: &'a str)"), words("fn f < ' a > ( x : & ' a str )"));
        assert_eq!(words(r"m('\'', '{', 'ü', b'x', '\u{7d}')").concat(), "m(,,,b,)");
    }

    #[test]
    fn identifiers_that_end_like_a_raw_prefix_stay_whole() {
        assert_eq!(words("for r in br { r#type }").concat(), "forrinbr{r#type}");
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "a\n\"x\ny\"\n/* z\n */ b";
        let lines = |text: &str| text.matches('\n').count();
        assert_eq!(lines(&code_of(text)), lines(text));
        assert_eq!(code_of(text).len(), text.len());
    }
}
