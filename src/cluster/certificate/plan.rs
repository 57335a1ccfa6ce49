//! What is to be done about the certificates now: pure, of what the Secret holds and the time.
//!
//! A new authority is published before it signs, so that whoever connects already trusts it, and an
//! old one stays published until it has ended, and with it everything that it signed. No replica
//! has to say what it serves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long certificates are valid already when they are made, for clients whose clocks are late.
/// Source: client-go's `GenerateSelfSignedCertKey`.
pub(super) const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// Longest wait between the moment when every webhook configuration names a new authority and the
/// moment when it signs: the API servers read the configurations by a watch, within a second or so.
const SETTLE: Duration = Duration::from_secs(60);

/// How long a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Backdated.
    pub(super) begins: Timestamp,
    pub(super) ends: Timestamp,
}

impl Span {
    /// Not before it begins either: made by a clock that was ahead, it would be of no use until then.
    fn lasts(self, now: Timestamp) -> bool {
        self.begins <= now && now < self.ends
    }

    /// When two thirds of its life are over.
    fn due(self) -> Timestamp {
        let issued = after(self.begins, BACKDATED);
        let life = self.ends.duration_since(issued).max(SignedDuration::ZERO);
        issued.saturating_add(life * 2 / 3).unwrap_or(Timestamp::MAX)
    }
}

/// The serving certificate, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) span: Span,
    /// Which of the authorities has signed it.
    pub(super) issuer: usize,
    /// Whether it has the names that are wanted.
    pub(super) named: bool,
}

/// What the Secret holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// The authorities in the bundle.
    pub(super) authorities: Vec<Span>,
    /// Which of them can sign: its key is here.
    pub(super) signer: Option<usize>,
    pub(super) leaf: Option<Leaf>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing that a client could trust: a new authority and a certificate at once.
    Begin,
    /// Publish a new authority that does not sign yet.
    AddAuthority,
    /// Sign a new certificate.
    Sign,
    /// Take authorities that have ended out of the bundle.
    Drop,
    /// Nothing before then; `None` where only news can change it.
    Wait(Option<Timestamp>),
}

/// What to do now. `announced` is since when every client has been told of the signer, and
/// `lifetime` that of new certificates.
pub(super) fn plan(
    outline: &Outline,
    announced: Option<Timestamp>,
    lifetime: Duration,
    now: Timestamp,
) -> Step {
    let live = |index: usize| outline.authorities.get(index).filter(|span| span.lasts(now));
    let signer = outline.signer.and_then(|index| Some((index, *live(index)?)));
    let leaf = outline.leaf.filter(|leaf| leaf.span.lasts(now) && live(leaf.issuer).is_some());
    let (signer, authority, leaf) = match (signer, leaf) {
        (None, None) => return Step::Begin,
        (None, Some(_)) => return Step::AddAuthority,
        (Some((_, authority)), Some(_)) if authority.due() <= now => return Step::AddAuthority,
        (Some((_, authority)), None) if authority.due() <= now => return Step::Begin,
        (Some(_), None) => return Step::Sign,
        (Some((signer, authority)), Some(leaf)) => (signer, authority, leaf),
    };
    if leaf.issuer == signer && (leaf.span.due() <= now || !leaf.named) {
        return Step::Sign;
    }
    if outline.authorities.iter().any(|span| span.ends <= now) {
        return Step::Drop;
    }
    let ends = outline.authorities.iter().map(|span| span.ends);
    let mut next = ends.chain([authority.due()]).min();
    if leaf.issuer == signer {
        next = next.map(|next| next.min(leaf.span.due()));
    } else if let Some(announced) = announced {
        let settled = after(announced, settle(lifetime));
        if settled <= now {
            return Step::Sign;
        }
        next = next.map(|next| next.min(settled));
    }
    Step::Wait(next)
}

/// How long a new authority is published before it signs: for short lives a part of them.
fn settle(lifetime: Duration) -> Duration {
    SETTLE.min(lifetime / 12)
}

/// `time` and so much later; the end of time where there is none such.
pub(super) fn after(time: Timestamp, later: Duration) -> Timestamp {
    time.saturating_add(later).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;
    const LIFETIME: Duration = Duration::from_secs(90 * DAY as u64);

    fn day(days: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + days * DAY).expect("a time")
    }

    /// Issued on this day.
    fn span(from: i64, to: i64) -> Span {
        let begins = day(from).checked_sub(BACKDATED).expect("a time");
        Span { begins, ends: day(to) }
    }

    fn outline(
        authorities: &[(i64, i64)],
        signer: Option<usize>,
        leaf: Option<(i64, i64, usize)>,
    ) -> Outline {
        let leaf =
            leaf.map(|(from, to, issuer)| Leaf { span: span(from, to), issuer, named: true });
        let authorities = authorities.iter().map(|(from, to)| span(*from, *to)).collect();
        Outline { authorities, signer, leaf }
    }

    #[test]
    fn what_to_do_follows_from_what_there_is_and_the_time() {
        let one = [(0, 90)];
        let two = [(0, 90), (60, 150)];
        let whole = outline(&one, Some(0), Some((0, 90, 0)));
        let added = outline(&two, Some(1), Some((0, 90, 0)));
        let over = outline(&two, Some(1), Some((60, 150, 1)));
        let wait = |days| Step::Wait(Some(day(days)));
        for (what, outline, announced, now, expected) in [
            ("nothing", outline(&[], None, None), None, 0, Step::Begin),
            ("all is well", whole.clone(), None, 0, wait(60)),
            ("a day before two thirds", whole.clone(), None, 59, wait(60)),
            ("two thirds", whole.clone(), None, 60, Step::AddAuthority),
            ("the new one is not known to be published", added.clone(), None, 60, wait(90)),
            ("nor while that lasts", added.clone(), None, 89, wait(90)),
            ("published for long enough", added.clone(), Some(60), 61, Step::Sign),
            ("signed", over.clone(), Some(60), 61, wait(90)),
            ("the old one ends", over.clone(), Some(60), 90, Step::Drop),
            ("and the next is due", over, Some(60), 120, Step::AddAuthority),
            ("the certificate ran out before", added, None, 90, Step::Sign),
            ("everything ran out", whole, None, 90, Step::Begin),
            ("no certificate", outline(&one, Some(0), None), None, 1, Step::Sign),
            ("no certificate, old authority", outline(&one, Some(0), None), None, 60, Step::Begin),
            ("no key", outline(&one, None, Some((0, 90, 0))), None, 1, Step::AddAuthority),
            ("no key, no certificate", outline(&one, None, None), None, 1, Step::Begin),
            ("a shorter life", outline(&one, Some(0), Some((0, 30, 0))), None, 1, wait(20)),
            (
                "a certificate of the future",
                outline(&one, Some(0), Some((2, 90, 0))),
                None,
                1,
                Step::Sign,
            ),
            (
                "all of the future",
                outline(&[(2, 92)], Some(0), Some((2, 92, 0))),
                None,
                1,
                Step::Begin,
            ),
            ("and its end", outline(&one, Some(0), Some((0, 30, 0))), None, 20, Step::Sign),
        ] {
            let step = plan(&outline, announced.map(day), LIFETIME, day(now));
            assert_eq!(step, expected, "{what}");
        }
    }

    #[test]
    fn a_new_authority_signs_only_after_it_was_published_for_a_while() {
        let added = outline(&[(0, 90), (60, 150)], Some(1), Some((0, 90, 0)));
        let announced = day(60);
        let at = |seconds| after(announced, Duration::from_secs(seconds));
        let planned = |now| plan(&added, Some(announced), LIFETIME, now);
        assert_eq!(planned(at(59)), Step::Wait(Some(at(60))));
        assert_eq!(planned(at(60)), Step::Sign);
        let short = Duration::from_secs(24);
        assert_eq!(plan(&added, Some(announced), short, at(1)), Step::Wait(Some(at(2))));
        assert_eq!(plan(&added, Some(announced), short, at(2)), Step::Sign);
    }

    #[test]
    fn other_names_are_signed_by_an_authority_that_is_published() {
        let mut other = outline(&[(0, 90)], Some(0), Some((0, 90, 0)));
        other.leaf.as_mut().expect("a leaf").named = false;
        assert_eq!(plan(&other, None, LIFETIME, day(1)), Step::Sign);
        other.authorities.push(span(1, 91));
        other.signer = Some(1);
        assert_eq!(plan(&other, None, LIFETIME, day(1)), Step::Wait(Some(day(61))));
    }

    #[test]
    fn an_authority_stays_published_for_as_long_as_what_it_signed() {
        // Every minute of a year, whatever the announcements.
        let mut outline = Outline::default();
        let mut announced: Option<Timestamp> = None;
        let mut steps = 0;
        for minute in 0..525_600 {
            let now = after(day(0), Duration::from_secs(minute * 60));
            let new = Span {
                begins: now.checked_sub(BACKDATED).expect("a time"),
                ends: after(now, LIFETIME),
            };
            loop {
                let step = plan(&outline, announced, LIFETIME, now);
                if matches!(step, Step::Wait(_)) {
                    break;
                }
                steps += 1;
                if matches!(step, Step::Begin | Step::AddAuthority) {
                    outline.authorities.push(new);
                    outline.signer = Some(outline.authorities.len() - 1);
                    announced = None;
                }
                if matches!(step, Step::Begin | Step::Sign) {
                    let issuer = outline.signer.expect("a signer");
                    let ends = new.ends.min(outline.authorities[issuer].ends);
                    let span = Span { ends, ..new };
                    outline.leaf = Some(Leaf { span, issuer, named: true });
                }
                if step == Step::Drop {
                    let gone = outline.authorities.iter().filter(|span| span.ends <= now).count();
                    outline.authorities.drain(..gone);
                    outline.signer = outline.signer.map(|index| index - gone);
                    let leaf = outline.leaf.as_mut().expect("a leaf");
                    assert!(leaf.issuer >= gone, "its authority goes before it");
                    leaf.issuer -= gone;
                }
            }
            announced = announced.or(Some(now));
            let leaf = outline.leaf.expect("a leaf");
            let left = leaf.span.ends.duration_since(now);
            assert!(left >= SignedDuration::from_hours(29 * 24), "{left:?} left on {now}");
        }
        // Six rotations of three steps each, after the first.
        assert!((16..=20).contains(&steps), "{steps}");
    }
}
