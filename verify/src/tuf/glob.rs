//! Patterns of target paths, as the shell and python-tuf's `fnmatch` read them, component by
//! component: no wildcard matches a `/`.

use std::cell::Cell;
use std::fmt::{self, Write as _};

use crate::limits;
use crate::outcome::Denial;

/// A pattern.
#[derive(Debug, Clone)]
pub(super) struct Glob(Vec<Component>);

/// What is between two slashes.
#[derive(Debug, Clone)]
enum Component {
    /// Without wildcards.
    Literal(String),
    Pattern(Vec<Token>),
}

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
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Many,
    /// Inclusive ranges, and whether the rest is meant.
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.split('/').map(Component::new).collect())
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
        let mut patterns = self.0.iter();
        for component in components {
            let Some(pattern) = patterns.next() else { return Ok(false) };
            if let Some(component) = component
                && !pattern.matches(component, effort)?
            {
                return Ok(false);
            }
        }
        Ok(patterns.next().is_none())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, component) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "/" })?;
            match component {
                Component::Literal(text) => f.write_str(text)?,
                Component::Pattern(tokens) => tokens.iter().try_for_each(|token| token.fmt(f))?,
            }
        }
        Ok(())
    }
}

impl Component {
    fn new(pattern: &str) -> Self {
        let tokens = tokens(pattern);
        match tokens.iter().all(|token| matches!(token, Token::Literal(_))) {
            true => Self::Literal(pattern.to_owned()),
            false => Self::Pattern(tokens),
        }
    }

    fn matches(&self, text: &str, effort: &Effort) -> Result<bool, Denial> {
        match self {
            Self::Literal(literal) => {
                effort.spend(1)?;
                Ok(literal == text)
            }
            Self::Pattern(tokens) => matches(tokens, text, effort),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(character) => f.write_char(*character),
            Self::One => f.write_char('?'),
            Self::Many => f.write_char('*'),
            Self::Class { ranges, negated } => {
                f.write_str(if *negated { "[!" } else { "[" })?;
                for (first, last) in ranges {
                    f.write_char(*first)?;
                    if first != last {
                        write!(f, "-{last}")?;
                    }
                }
                f.write_char(']')
            }
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        at += 1;
        tokens.push(match character {
            '*' => Token::Many,
            '?' => Token::One,
            '[' => match class(&characters[at..]) {
                Some((token, length)) => {
                    at += length;
                    token
                }
                // Unclosed, it is itself.
                None => Token::Literal('['),
            },
            other => Token::Literal(*other),
        });
    }
    tokens
}

/// The class that begins after its `[`, and how many characters it takes with its `]`.
fn class(rest: &[char]) -> Option<(Token, usize)> {
    let negated = rest.first() == Some(&'!');
    let start = usize::from(negated);
    // A `]` that comes first is a member.
    let end = rest.iter().skip(start + 1).position(|character| *character == ']')? + start + 1;
    let members = &rest[start..end];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        let is_range = at + 2 < members.len() && members[at + 1] == '-';
        let last = if is_range { at + 2 } else { at };
        ranges.push((members[at], members[last]));
        at = last + 1;
    }
    Some((Token::Class { ranges, negated }, end + 1))
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == character,
            Self::One | Self::Many => true,
            Self::Class { ranges, negated } => {
                let within = |(first, last): &(char, char)| (*first..=*last).contains(&character);
                ranges.iter().any(within) != *negated
            }
        }
    }
}

/// The last `*` takes one character more wherever the rest does not fit: at most the product of
/// both lengths in steps.
fn matches(pattern: &[Token], text: &str, effort: &Effort) -> Result<bool, Denial> {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut next) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while next < text.len() {
        effort.spend(1)?;
        match pattern.get(at) {
            Some(Token::Many) => {
                retry = Some((at, next));
                at += 1;
            }
            Some(token) if token.accepts(text[next]) => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((star, taken)) = retry else { return Ok(false) };
                retry = Some((star, taken + 1));
                at = star + 1;
                next = taken + 1;
            }
        }
    }
    Ok(pattern[at..].iter().all(|token| *token == Token::Many))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_told_as_it_was_written() {
        for pattern in ["", "*", "a/*/b?c", "[abc]", "[!a-z0]x", "[", "a]b", "[]]", "ü//"] {
            assert_eq!(Glob::new(pattern).to_string(), pattern);
        }
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
}
