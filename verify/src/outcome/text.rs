//! What a refusal may quote.

use std::borrow::Cow;

use crate::limits;

/// A text from a file or a server as a refusal may quote it: beyond
/// [`limits::QUOTED_CHARACTERS`], counted as they are escaped, it is cut, and ends in `…`.
pub fn shortened(text: &str) -> Cow<'_, str> {
    let mut left = limits::QUOTED_CHARACTERS;
    for (at, character) in text.char_indices() {
        match left.checked_sub(character.escape_debug().len()) {
            Some(rest) => left = rest,
            None => return Cow::Owned(format!("{}…", &text[..at])),
        }
    }
    Cow::Borrowed(text)
}

/// The first [`limits::LISTED`] of what a refusal lists, and how many more there are.
pub(crate) fn listed(mut texts: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let mut list: Vec<String> = texts.by_ref().take(limits::LISTED).collect();
    if texts.len() > 0 {
        list.push(format!("{} more", texts.len()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_as_they_are_escaped() {
        let fits = "a".repeat(limits::QUOTED_CHARACTERS);
        assert!(matches!(shortened(&fits), Cow::Borrowed(same) if same == fits));
        assert_eq!(shortened(&format!("{fits}b")), format!("{fits}…"));
        assert_eq!(shortened(&"€".repeat(300)), format!("{}…", "€".repeat(256)));
        assert_eq!(shortened(&"\u{1b}".repeat(300)), format!("{}…", "\u{1b}".repeat(42)));
        assert_eq!(format!("{:?}", shortened("\"\n")), r#""\"\n""#);
    }
}
