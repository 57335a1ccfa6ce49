//! Delegations: by path, by hashed bins, and succinct ones.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::document::{KeyTable, RoleKeys, read_keys, read_role_keys};
use super::glob::{Effort, Glob};
use super::kept::Covers;
use super::metadata::{check_role_name, read_strings};
use crate::hash::{hex, sha256};
use crate::json::Node;
use crate::limits::{self, check_count};
use crate::outcome::{Denial, shortened};
use crate::sorted::ALLOCATION;

/// A target's name, with what its bins are found by.
#[derive(Debug)]
pub(super) struct Name<'n> {
    pub(super) text: &'n str,
    sha256: [u8; 32],
    hex: String,
}

impl<'n> Name<'n> {
    pub(super) fn new(text: &'n str) -> Self {
        let sha256 = sha256(text.as_bytes());
        Self { text, sha256, hex: hex(&sha256) }
    }
}

/// What a targets file delegates.
#[derive(Debug, Default)]
pub(super) enum Delegations {
    #[default]
    None,
    Roles(Roles),
    Succinct(Succinct),
}

/// Delegations, as a file lists them.
#[derive(Debug)]
pub(super) struct Roles {
    /// In the file's order.
    all: Vec<Delegation>,
    /// Those by path, by their place in it.
    by_path: Vec<usize>,
    /// Every prefix of those by hash, of which there may be thousands, in order.
    by_prefix: Box<[Prefix]>,
}

/// A role that a targets file delegates to.
#[derive(Debug)]
pub(super) struct Delegation {
    pub(super) name: String,
    pub(super) keys: RoleKeys,
    terminating: bool,
    paths: Paths,
}

#[derive(Debug)]
enum Paths {
    Globs(Box<[Glob]>),
    /// Hex digits that the sha256 of a name begins with.
    HashPrefixes(Box<[Box<str>]>),
}

/// A hash prefix, by the place of its delegation and its own place there.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    role: u32,
    place: u32,
}

impl Prefix {
    fn text(self, roles: &[Delegation]) -> &str {
        match roles.get(self.role as usize).map(|role| &role.paths) {
            Some(Paths::HashPrefixes(prefixes)) => {
                prefixes.get(self.place as usize).map_or("", |prefix| prefix)
            }
            _ => "",
        }
    }
}

impl Paths {
    fn covers(&self) -> Covers {
        match self {
            Self::Globs(globs) => {
                Covers::Paths(globs.iter().map(|glob| glob.pattern().to_owned()).collect())
            }
            Self::HashPrefixes(prefixes) => {
                Covers::HashPrefixes(prefixes.iter().map(ToString::to_string).collect())
            }
        }
    }

    fn footprint(&self) -> usize {
        let each = |text: &str| ALLOCATION + size_of::<Box<str>>() + text.len();
        match self {
            Self::Globs(globs) => globs.iter().map(|glob| each(glob.pattern())).sum(),
            Self::HashPrefixes(prefixes) => {
                prefixes.iter().map(|prefix| size_of::<Prefix>() + each(prefix)).sum()
            }
        }
    }
}

/// TAP 15: so many bins that their numbers take `bits` bits, signed by the same keys.
#[derive(Debug)]
pub(super) struct Succinct {
    keys: RoleKeys,
    bits: u32,
    prefix: String,
}

/// A delegation on a name's path.
pub(super) struct Step<'d> {
    pub(super) role: Cow<'d, str>,
    pub(super) keys: &'d RoleKeys,
    pub(super) terminating: bool,
}

impl Delegations {
    pub(super) fn read(node: Node<'_>) -> Result<Self, Denial> {
        let table = read_keys(node.get("keys")?)?;
        match (node.optional("roles")?, node.optional("succinct_roles")?) {
            (Some(roles), None) => Self::read_roles(roles, &table),
            (None, Some(succinct)) => Ok(Self::Succinct(Succinct::read(succinct, &table)?)),
            (None, None) => Ok(Self::None),
            (Some(_), Some(_)) => Err(node.malformed("it has both roles and succinct_roles")),
        }
    }

    fn read_roles(node: Node<'_>, table: &KeyTable) -> Result<Self, Denial> {
        let listed = node.elements()?;
        check_count(node, "delegations", listed.len(), limits::TUF_DELEGATIONS_LISTED)?;
        let mut roles = Vec::new();
        let mut names = BTreeSet::new();
        for listed in listed {
            let role = Delegation::read(listed, table)?;
            if !names.insert(role.name.clone()) {
                let name = shortened(&role.name);
                return Err(node.malformed(format!("it delegates to {name:?} twice")));
            }
            roles.push(role);
        }
        Ok(Self::Roles(Roles::new(roles)))
    }

    /// The delegations whose paths cover a name, in their order.
    ///
    /// # Errors
    /// Where finding them takes more than what is left.
    pub(super) fn on_path<'d>(
        &'d self,
        name: &Name<'_>,
        effort: &Effort,
    ) -> Result<Vec<Step<'d>>, Denial> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Roles(roles) => roles.on_path(name, effort),
            Self::Succinct(bins) => Ok(vec![bins.step(name)]),
        }
    }

    /// The delegations by path, bins left out, that cover some name of these components; `None`
    /// is any.
    ///
    /// # Errors
    /// Where finding them takes more than what is left.
    pub(super) fn that_may_cover<'d>(
        &'d self,
        components: &[Option<&str>],
        effort: &Effort,
    ) -> Result<Vec<Step<'d>>, Denial> {
        let Self::Roles(roles) = self else { return Ok(Vec::new()) };
        let mut steps = Vec::new();
        for role in roles.by_path() {
            if role.covers(|glob| glob.matches_components(components.iter().copied(), effort))? {
                steps.push(role.step());
            }
        }
        Ok(steps)
    }

    /// Every delegation with which targets it is for; of succinct bins those of these names only.
    pub(super) fn told<'d>(&'d self, names: &BTreeSet<&'d str>) -> Vec<(Step<'d>, Covers)> {
        match self {
            Self::None => Vec::new(),
            Self::Roles(roles) => {
                roles.all.iter().map(|role| (role.step(), role.paths.covers())).collect()
            }
            Self::Succinct(bins) => {
                let named = names.iter().filter(|name| bins.has(name));
                named.map(|name| (bins.bin(Cow::Borrowed(name)), Covers::Bin)).collect()
            }
        }
    }

    /// The memory that they take, in bytes, without the keys.
    pub(super) fn footprint(&self) -> usize {
        match self {
            Self::None | Self::Succinct(_) => 0,
            Self::Roles(roles) => roles.all.iter().map(Delegation::footprint).sum(),
        }
    }

    /// How many succinct bins there are.
    pub(super) fn bins(&self) -> u64 {
        match self {
            Self::Succinct(bins) => 1 << bins.bits,
            Self::None | Self::Roles(_) => 0,
        }
    }

    /// Those of these roles that are delegated to, with their keys.
    pub(super) fn among<'d>(&'d self, names: &BTreeSet<&'d str>) -> Vec<(&'d str, &'d RoleKeys)> {
        match self {
            Self::None => Vec::new(),
            Self::Roles(roles) => {
                let named = roles.all.iter().filter(|role| names.contains(&*role.name));
                named.map(|role| (&*role.name, &role.keys)).collect()
            }
            Self::Succinct(bins) => {
                let named = names.iter().filter(|name| bins.has(name));
                named.map(|name| (*name, &bins.keys)).collect()
            }
        }
    }
}

impl Roles {
    fn new(all: Vec<Delegation>) -> Self {
        let mut by_path = Vec::new();
        let mut by_prefix = Vec::new();
        for (role, delegation) in (0..).zip(&all) {
            match &delegation.paths {
                Paths::Globs(_) => by_path.push(role as usize),
                Paths::HashPrefixes(prefixes) => {
                    by_prefix.extend((0..).zip(prefixes).map(|(place, _)| Prefix { role, place }));
                }
            }
        }
        by_prefix.sort_unstable_by(|a, b| a.text(&all).cmp(b.text(&all)));
        Self { all, by_path, by_prefix: by_prefix.into() }
    }

    fn by_path(&self) -> impl Iterator<Item = &Delegation> {
        self.by_path.iter().filter_map(|place| self.all.get(*place))
    }

    /// The places of those that list this very prefix.
    fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = usize> {
        let start = self.by_prefix.partition_point(|it| it.text(&self.all) < prefix);
        let after = self.by_prefix.iter().skip(start);
        after.take_while(move |it| it.text(&self.all) == prefix).map(|it| it.role as usize)
    }

    fn on_path(&self, name: &Name<'_>, effort: &Effort) -> Result<Vec<Step<'_>>, Denial> {
        let mut places = BTreeSet::new();
        for place in &self.by_path {
            let role = self.all.get(*place);
            let covers = role.map(|role| role.covers(|glob| glob.matches(name.text, effort)));
            if covers.transpose()?.unwrap_or(false) {
                places.insert(*place);
            }
        }
        let prefixes = (0..=name.hex.len()).filter_map(|length| name.hex.get(..length));
        places.extend(prefixes.flat_map(|prefix| self.with_prefix(prefix)));
        let covering = places.into_iter().filter_map(|place| self.all.get(place));
        Ok(covering.map(Delegation::step).collect())
    }
}

impl Delegation {
    /// Whether any of its globs matches.
    fn covers(&self, matches: impl Fn(&Glob) -> Result<bool, Denial>) -> Result<bool, Denial> {
        let Paths::Globs(globs) = &self.paths else { return Ok(false) };
        for glob in globs {
            if matches(glob)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(node: Node<'_>, table: &KeyTable) -> Result<Self, Denial> {
        let name = node.get("name")?.string()?;
        check_role_name(node, name)?;
        let paths = node.optional("paths")?;
        let prefixes = node.optional("path_hash_prefixes")?;
        let limit = limits::TUF_DELEGATION_PATHS;
        let paths = match (paths, prefixes) {
            (Some(_), Some(_)) => {
                let name = shortened(name);
                let reason = format!("it delegates to {name:?} by paths and by hash prefixes");
                return Err(node.malformed(reason));
            }
            (None, Some(prefixes)) => {
                let prefixes = read_strings(prefixes, "hash prefixes of one role", limit)?;
                Paths::HashPrefixes(prefixes.into_iter().map(Box::from).collect())
            }
            (Some(paths), None) => {
                let paths = read_strings(paths, "paths of one delegation", limit)?;
                Paths::Globs(paths.into_iter().map(Glob::new).collect())
            }
            // No path is none, not all.
            (None, None) => Paths::Globs(Box::default()),
        };
        let terminating = node.optional("terminating")?;
        Ok(Self {
            name: name.to_owned(),
            keys: read_role_keys(node, table)?,
            terminating: terminating.map_or(Ok(false), |terminating| terminating.boolean())?,
            paths,
        })
    }

    fn footprint(&self) -> usize {
        let lists = self.keys.footprint() + self.paths.footprint();
        size_of::<Self>() + ALLOCATION + self.name.len() + lists
    }

    fn step(&self) -> Step<'_> {
        let Self { name, keys, terminating, .. } = self;
        Step { role: Cow::Borrowed(name), keys, terminating: *terminating }
    }
}

impl Succinct {
    fn read(node: Node<'_>, table: &KeyTable) -> Result<Self, Denial> {
        let bits = node.get("bit_length")?.unsigned()?;
        let bits =
            u32::try_from(bits).ok().filter(|bits| (1..=limits::SUCCINCT_BITS).contains(bits));
        let bits = bits.ok_or_else(|| node.malformed("its bit_length is not from 1 to 32"))?;
        let prefix = node.get("name_prefix")?.string()?.to_owned();
        check_role_name(node, &format!("{prefix}-"))?;
        Ok(Self { keys: read_role_keys(node, table)?, bits, prefix })
    }

    /// How many hex digits a bin's number has: those of the last one.
    fn digits(&self) -> usize {
        self.bits.div_ceil(4) as usize
    }

    fn step(&self, name: &Name<'_>) -> Step<'_> {
        let [a, b, c, d, ..] = name.sha256;
        let bin = u64::from(u32::from_be_bytes([a, b, c, d])) >> (32 - self.bits);
        let role = format!("{}-{bin:0digits$x}", self.prefix, digits = self.digits());
        self.bin(Cow::Owned(role))
    }

    /// TAP 15: a bin is the only role for its names.
    fn bin<'d>(&'d self, role: Cow<'d, str>) -> Step<'d> {
        Step { role, keys: &self.keys, terminating: true }
    }

    /// Whether a role is named like one of the bins.
    fn has(&self, role: &str) -> bool {
        let number = role.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|number| number.len() == self.digits())
    }
}
