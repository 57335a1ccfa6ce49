//! What other policies would change.

use std::collections::BTreeSet;

use countersign_verify::outcome::{Decision, Effect};
use serde::Serialize;

/// How an image's verdict differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Change {
    /// It was let in, and would be denied.
    NewlyDenied,
    /// It is denied, and would be by another policy or for another reason.
    DeniedOtherwise,
    /// It was let in without a word, and would be with a warning.
    NewlyWarned,
    /// It was denied, and would be let in.
    NewlyAdmitted,
    /// It was warned of, and would be let in without a word.
    NoLongerWarned,
    /// Either verdict is a denial for want of evidence: this is not the policies' doing.
    NotKnown,
    /// None of these.
    Unchanged,
}

impl Change {
    /// All that are changes, the worst first.
    pub(super) const ALL: [Self; 6] = [
        Self::NewlyDenied,
        Self::DeniedOtherwise,
        Self::NewlyWarned,
        Self::NewlyAdmitted,
        Self::NoLongerWarned,
        Self::NotKnown,
    ];

    pub(super) fn between(before: &Decision, after: &Decision) -> Self {
        if [before, after].into_iter().any(Decision::denied_for_want_of_evidence) {
            return Self::NotKnown;
        }
        match (before.effect(), after.effect()) {
            (Effect::Deny, Effect::Deny) if reasons(before) != reasons(after) => {
                Self::DeniedOtherwise
            }
            (Effect::Deny, Effect::Deny) => Self::Unchanged,
            (_, Effect::Deny) => Self::NewlyDenied,
            (Effect::Deny, _) => Self::NewlyAdmitted,
            (Effect::Allow, Effect::Warn) => Self::NewlyWarned,
            (Effect::Warn, Effect::Allow) => Self::NoLongerWarned,
            (Effect::Allow, Effect::Allow) | (Effect::Warn, Effect::Warn) => Self::Unchanged,
        }
    }

    /// As a person reads it, after a number or as a heading.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NewlyDenied => "newly denied",
            Self::DeniedOtherwise => "denied for another reason",
            Self::NewlyWarned => "newly warned of",
            Self::NewlyAdmitted => "newly admitted",
            Self::NoLongerWarned => "no longer warned of",
            Self::NotKnown => "not known for want of evidence",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Who denies, and with which code.
fn reasons(decision: &Decision) -> BTreeSet<(Option<&str>, &'static str)> {
    let denying = decision.denying();
    denying.map(|(verdict, refusal)| (verdict.policy.as_deref(), refusal.code())).collect()
}

#[cfg(test)]
mod tests {
    use countersign_verify::outcome::{Denial, Finding, PolicyVerdict, Refusal, Unavailable};
    use countersign_verify::policy::Action;

    use super::*;

    fn decision(verdicts: &[(Option<&str>, Action, Finding)]) -> Decision {
        let verdict = |(policy, action, finding): &(Option<&str>, Action, Finding)| PolicyVerdict {
            policy: policy.map(str::to_owned),
            finding: finding.clone(),
            ..PolicyVerdict::by_installation(*action, Denial::NotPinned)
        };
        let verdicts = verdicts.iter().map(verdict).collect();
        Decision { reference: None, digest: None, verdicts }
    }

    fn refused(refusal: impl Into<Refusal>) -> Finding {
        Finding::Refused(refusal.into())
    }

    #[test]
    fn only_what_the_author_of_a_pod_would_notice_is_a_change() {
        let verified = || decision(&[(Some("p"), Action::Deny, Finding::Verified)]);
        let denied = || decision(&[(Some("p"), Action::Deny, refused(Denial::NotPinned))]);
        let unmatched = || decision(&[(None, Action::Deny, refused(Denial::NoMatchingPolicy))]);
        let late =
            || decision(&[(Some("p"), Action::Deny, refused(Unavailable::DeadlineExceeded))]);
        let by_two = || {
            let refused = || refused(Denial::NotPinned);
            decision(&[(Some("p"), Action::Deny, refused()), (Some("q"), Action::Deny, refused())])
        };
        let warned = || decision(&[(Some("p"), Action::Warn, refused(Denial::NotPinned))]);
        let audited = || decision(&[(Some("p"), Action::Audit, refused(Denial::NotPinned))]);
        let table = [
            (verified(), denied(), Change::NewlyDenied),
            (warned(), late(), Change::NotKnown),
            (late(), verified(), Change::NotKnown),
            (late(), late(), Change::NotKnown),
            (unmatched(), verified(), Change::NewlyAdmitted),
            (denied(), warned(), Change::NewlyAdmitted),
            (unmatched(), denied(), Change::DeniedOtherwise),
            (denied(), late(), Change::NotKnown),
            (denied(), by_two(), Change::DeniedOtherwise),
            (verified(), warned(), Change::NewlyWarned),
            (warned(), audited(), Change::NoLongerWarned),
            (denied(), denied(), Change::Unchanged),
            (warned(), warned(), Change::Unchanged),
            (verified(), audited(), Change::Unchanged),
        ];
        for (before, after, wanted) in table {
            assert_eq!(Change::between(&before, &after), wanted, "{before:?} {after:?}");
        }
    }
}
