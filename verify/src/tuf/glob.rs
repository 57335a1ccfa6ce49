//! Patterns of target paths, as the shell and python-tuf's `fnmatch` read them, component by
//! component: no wildcard matches a `/`.

use std::cell::Cell;

use crate::limits;
use crate::outcome::Denial;

/// A pattern, as it was written: metadata may hold megabytes of them, so it is read as it is
/// matched.
#[derive(Debug, Clone)]
pub(super) struct Glob(Box<str>);

/// The steps that one lookup has left: who signs patterns must not make others wait.
#[derive(Debug)]
pub(super) struct Effort(Cell<u64>);

impl Default for Effort {
    fn default() -> Self {
        Self(Cell::new(limits::TUF_GLOB_STEPS))
    }
}

impl Effort {
    fn spend(&self, steps: u64) -> Result<(), Denial> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| {
            let what = "the steps of comparing a name with the paths of delegations".to_owned();
            Denial::LimitExceeded { what, limit: limits::TUF_GLOB_STEPS }
        })
    }

    /// Looking a text through is quick.
    fn spend_on(&self, text: &str) -> Result<(), Denial> {
        self.spend(1 + text.len() as u64 / 64)
    }
}

enum Token<'p> {
    Literal(char),
    One,
    Many,
    /// Characters and inclusive ranges, and whether the rest is meant.
    Class {
        members: &'p str,
        negated: bool,
    },
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// As it was written.
    pub(super) fn pattern(&self) -> &str {
        &self.0
    }

    /// # Errors
    /// Where it takes more than what is left.
    pub(super) fn matches(&self, path: &str, effort: &Effort) -> Result<bool, Denial> {
        self.matches_components(path.split('/').map(Some), effort)
    }

    /// Whether a path of these components matches; `None` stands for some component that is not
    /// known, and matches whatever could match anything.
    ///
    /// # Errors
    /// Where it takes more than what is left.
    pub(super) fn matches_components<'c>(
        &self,
        components: impl Iterator<Item = Option<&'c str>>,
        effort: &Effort,
    ) -> Result<bool, Denial> {
        let mut patterns = self.0.split('/');
        for component in components {
            let Some(pattern) = patterns.next() else { return Ok(false) };
            if let Some(component) = component
                && !matches(pattern, component, effort)?
            {
                return Ok(false);
            }
        }
        Ok(patterns.next().is_none())
    }
}

/// The first token, and the pattern after it. `closing` is as [`class`] has it.
fn token(pattern: &str, closing: usize) -> Option<(Token<'_>, &str)> {
    let (first, rest) = split_first(pattern)?;
    Some(match first {
        '*' => (Token::Many, rest),
        '?' => (Token::One, rest),
        // Unclosed, it is itself.
        '[' => class(rest, closing).unwrap_or((Token::Literal('['), rest)),
        other => (Token::Literal(other), rest),
    })
}

/// The class that begins after its `[`, and the pattern after its `]`. The last `]` of all is
/// `closing` bytes before the pattern's end: no class is looked for beyond it.
fn class(rest: &str, closing: usize) -> Option<(Token<'_>, &str)> {
    let (negated, members) = match rest.strip_prefix('!') {
        Some(members) => (true, members),
        None => (false, rest),
    };
    // A `]` that comes first is a member.
    let (_, others) = split_first(members)?;
    if others.len() < closing {
        return None;
    }
    let (last, rest) = others.split_once(']')?;
    let end = members.len() - others.len() + last.len();
    Some((Token::Class { members: &members[..end], negated }, rest))
}

fn split_first(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    characters.next().map(|first| (first, characters.as_str()))
}

impl Token<'_> {
    fn accepts(&self, character: char, effort: &Effort) -> Result<bool, Denial> {
        Ok(match self {
            Self::Literal(literal) => *literal == character,
            Self::One | Self::Many => true,
            Self::Class { members, negated } => {
                effort.spend(members.len() as u64)?;
                has(members, character) != *negated
            }
        })
    }
}

fn has(members: &str, character: char) -> bool {
    let mut rest = members.chars();
    while let Some(first) = rest.next() {
        let mut ahead = rest.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                rest = ahead;
                last
            }
            _ => first,
        };
        if (first..=last).contains(&character) {
            return true;
        }
    }
    false
}

/// The last `*` takes one character more wherever the rest does not fit: at most the product of
/// both lengths in steps.
fn matches(pattern: &str, text: &str, effort: &Effort) -> Result<bool, Denial> {
    effort.spend_on(pattern)?;
    if !pattern.contains(['*', '?', '[']) {
        return Ok(pattern == text);
    }
    let closing = pattern.rfind(']').map_or(usize::MAX, |at| pattern.len() - at);
    let (mut pattern, mut text) = (pattern, text);
    let mut retry: Option<(&str, &str)> = None;
    while let Some((character, after)) = split_first(text) {
        effort.spend(1)?;
        match token(pattern, closing) {
            Some((Token::Many, rest)) => {
                retry = Some((rest, text));
                pattern = rest;
            }
            Some((token, rest)) if token.accepts(character, effort)? => {
                pattern = rest;
                text = after;
            }
            _ => {
                let Some((star, (_, after))) =
                    retry.and_then(|(star, taken)| Some((star, split_first(taken)?)))
                else {
                    return Ok(false);
                };
                retry = Some((star, after));
                pattern = star;
                text = after;
            }
        }
    }
    Ok(pattern.bytes().all(|byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_told_as_it_was_written() {
        for pattern in ["", "*", "a/*/b?c", "[abc]", "[!a-z0]x", "[", "a]b", "[]]", "ü//"] {
            assert_eq!(Glob::new(pattern).pattern(), pattern);
        }
    }

    #[test]
    fn t9_a_pattern_takes_the_memory_of_its_text() {
        let pattern = "a[b]*/?".repeat(1000);
        assert_eq!(size_of_val(&*Glob::new(&pattern).0), pattern.len());
    }

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let glob = Glob::new(pattern);
        for path in matching {
            assert!(glob.matches(path, &Effort::default()).expect("in bounds"), "{pattern} {path}");
        }
        for path in others {
            assert!(
                !glob.matches(path, &Effort::default()).expect("in bounds"),
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn t13_no_wildcard_matches_a_slash() {
        check("*", &["", "a", "a.b"], &["a/b", "/", "a/"]);
        check("a/*", &["a/b", "a/"], &["a", "a/b/c", "ab/c"]);
        check("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]);
        check("a?b", &["axb", "aéb"], &["a/b", "ab", "axxb"]);
        check("**", &["a"], &["a/b"]);
        check("a[!x]b", &["ayb"], &["axb", "a/b"]);
        check("a[/]b", &["a[/]b"], &["a/b"]);
    }

    #[test]
    fn patterns_match_whole_paths() {
        check("a*b*c", &["abc", "axbxc", "abcbc", "abbc"], &["abcd", "xabc", "acb"]);
        check("release-[0-9][ab].tgz", &["release-1a.tgz"], &["release-xa.tgz", "release-1.tgz"]);
        check("[]]", &["]"], &["[", ""]);
        check("[a", &["[a"], &["a"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[!é-ö]x", &["ax", "-x"], &["öx", "x"]);
        check("[!]]", &["a"], &["]"]);
        check("[!]", &["[!]"], &["a"]);
        check("a]b[c", &["a]b[c"], &["abc"]);
        check("*[ab]]", &["xa]", "a]"], &["a", "]"]);
        check("", &[""], &["a"]);
        check("a", &["a"], &["", "A", "aa"]);
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let pattern = "a*".repeat(500) + "b";
        assert!(
            !Glob::new(&pattern).matches(&"a".repeat(500), &Effort::default()).expect("in bounds")
        );
    }

    #[test]
    fn k10_what_one_lookup_may_spend_is_bounded() {
        let effort = Effort::default();
        let costly = Glob::new(&format!("evil/*{}b", "a".repeat(64)));
        let name = format!("evil/{}", "a".repeat(128));
        let compared = (0..4096).map(|_| costly.matches(&name, &effort));
        let failed = compared.filter_map(Result::err).next();
        assert!(matches!(failed, Some(Denial::LimitExceeded { .. })), "{failed:?}");
        // Ten thousand teams of a registry are told apart with what there is.
        let effort = Effort::default();
        for team in 0..10_000 {
            let paths = Glob::new(&format!("registry.example.com/team-{team}/*/*"));
            assert!(
                !paths.matches("registry.example.com/payments/api/1", &effort).expect("in bounds")
            );
        }
    }

    #[test]
    fn many_unclosed_classes_do_not_take_long() {
        let pattern = "]*".to_owned() + &"[".repeat(1_000_000);
        let name = "]".to_owned() + &"[".repeat(5_000);
        let matched = Glob::new(&pattern).matches(&name, &Effort::default());
        assert!(matched.is_ok_and(|matched| !matched));
    }
}
