//! What an event says, and about whom.

use countersign_verify::image::Digest;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::api::{API_VERSION, Kind, is_dns_subdomain, is_namespace};
use crate::cluster::FIELD_MANAGER;

/// Longest note, in bytes. Source: k8s.io/kubernetes, pkg/apis/core/validation/events.go
/// (`NoteLengthLimit`).
const NOTE_BYTES: usize = 1024;

/// Longest name of who reports, in bytes. Source: the same (`ReportingInstanceLengthLimit`).
const INSTANCE_BYTES: usize = 128;

/// Longest version or kind, in bytes: a DNS label, as definitions of resources require.
const LABEL_BYTES: usize = 63;

/// Longest uid, in bytes; they are UUIDs.
const UID_BYTES: usize = 64;

/// As much of the owner's name begins its events' names, which may have 253 bytes.
const NAME_BYTES: usize = 200;

/// As many hexadecimal digits tell the events of one owner apart.
const HASH_DIGITS: usize = 16;

/// Where events about objects without a namespace are. Source: k8s.io/kubernetes,
/// pkg/apis/core/validation/events.go (`legacyValidateEvent`).
const CLUSTER_SCOPED: &str = "default";

/// The object that a refused one belongs to, as the refused one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Owner {
    /// `None` where no object can be called that. Whether there is one, nobody has checked: an
    /// event about another is seen by nobody who looks at objects.
    pub fn checked(api_version: &str, kind: &str, name: &str, uid: &str) -> Option<Self> {
        let (group, version) = match api_version.split_once('/') {
            Some((group, version)) => (Some(group), version),
            None => (None, api_version),
        };
        let fits = group.is_none_or(is_dns_subdomain)
            && is_dns_subdomain(version)
            && version.len() <= LABEL_BYTES
            && !version.contains('.')
            && made_of(kind, LABEL_BYTES, |c| c.is_ascii_alphanumeric())
            && is_dns_subdomain(name)
            && made_of(uid, UID_BYTES, |c| c.is_ascii_alphanumeric() || c == '-');
        fits.then(|| Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        })
    }
}

fn made_of(text: &str, most: usize, allowed: fn(char) -> bool) -> bool {
    (1..=most).contains(&text.len()) && text.chars().all(allowed)
}

/// One refusal, or a warning that only a controller has seen; or what is to be told of a source.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Where its event is.
    pub(super) namespace: String,
    pub(super) owner: Owner,
    /// Whether the owner is in that namespace, rather than in none.
    namespaced: bool,
    action: &'static str,
    pub(in crate::cluster) code: &'static str,
    /// What is refused and by whom, as a hash.
    subject: String,
    pub(in crate::cluster) note: String,
    pub(super) at: Timestamp,
}

impl Refusal {
    /// A refusal, now, of an object of `owner` in `namespace` for the reason `code`, with the
    /// message that the object's author gets. Refusals of the same `subject` are one event, though
    /// their messages tell the time. `None` where the namespace is none.
    pub fn new(
        namespace: &str,
        owner: Owner,
        code: &'static str,
        subject: &str,
        message: &str,
    ) -> Option<Self> {
        // It becomes a part of a URL.
        is_namespace(namespace).then(|| Self {
            namespace: namespace.to_owned(),
            owner,
            namespaced: true,
            action: "Admit",
            code,
            subject: Digest::sha256(subject.as_bytes()).to_string(),
            note: note(message),
            at: Timestamp::now(),
        })
    }

    /// What is to be told of a TrustSource, now, for the reason `code`. The same message is one
    /// event. `None` where no object has this name and uid.
    pub fn of_source(name: &str, uid: &str, code: &'static str, message: &str) -> Option<Self> {
        let owner = Owner::checked(API_VERSION, Kind::Source.as_str(), name, uid)?;
        let told = Self::new(CLUSTER_SCOPED, owner, code, message, message)?;
        Some(Self { namespaced: false, action: "Refresh", ..told })
    }

    /// The same for every refusal of the same owner and subject for the same reason, on every
    /// replica.
    pub(super) fn event_name(&self) -> String {
        let said = [&self.owner.uid, self.code, &self.subject].join("\n");
        let hash = Digest::sha256(said.as_bytes()).to_string();
        let hash = hash.rsplit(':').next().unwrap_or_default();
        // Names of objects are ASCII, and what comes before a dot ends with a letter or a digit.
        let name = cut(&self.owner.name, NAME_BYTES).trim_end_matches(['.', '-']);
        format!("{name}.{}", cut(hash, HASH_DIGITS))
    }

    /// The event of this name, as it is created.
    pub(super) fn event(&self, name: &str, instance: &str) -> Event {
        let regarding = ObjectReference {
            api_version: Some(self.owner.api_version.clone()),
            kind: Some(self.owner.kind.clone()),
            name: Some(self.owner.name.clone()),
            namespace: self.namespaced.then(|| self.namespace.clone()),
            uid: Some(self.owner.uid.clone()),
            ..ObjectReference::default()
        };
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(self.at)),
            type_: Some("Warning".to_owned()),
            reason: Some(self.code.to_owned()),
            action: Some(self.action.to_owned()),
            note: Some(self.note.clone()),
            regarding: Some(regarding),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(cut(instance, INSTANCE_BYTES).to_owned()),
            ..Event::default()
        }
    }
}

/// The message on one line, as `kubectl get events` shows no other, and within the bound.
fn note(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.len() {
        0..=NOTE_BYTES => line,
        _ => format!("{}…", cut(&line, NOTE_BYTES - '…'.len_utf8())),
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

    fn owner(name: &str) -> Owner {
        Owner::checked("apps/v1", "ReplicaSet", name, UID).expect("an owner")
    }

    fn refusal(name: &str, message: &str) -> Refusal {
        Refusal::new("payments", owner(name), "Unsigned", message, message).expect("a refusal")
    }

    #[test]
    fn only_what_an_object_can_be_called_is_an_owner() {
        let long = "a".repeat(254);
        for (api_version, kind, name, uid) in [
            ("", "Job", "a", UID),
            ("/v1", "Job", "a", UID),
            ("batch/", "Job", "a", UID),
            ("batch/v1/x", "Job", "a", UID),
            ("batch/v1.2", "Job", "a", UID),
            ("Batch/v1", "Job", "a", UID),
            (&long, "Job", "a", UID),
            ("batch/v1", "", "a", UID),
            ("batch/v1", "J b", "a", UID),
            ("batch/v1", &long, "a", UID),
            ("batch/v1", "Job", "", UID),
            ("batch/v1", "Job", "../a", UID),
            ("batch/v1", "Job", "a b", UID),
            ("batch/v1", "Job", "A", UID),
            ("batch/v1", "Job", "ä", UID),
            ("batch/v1", "Job", &long, UID),
            ("batch/v1", "Job", "a", ""),
            ("batch/v1", "Job", "a", "x y"),
            ("batch/v1", "Job", "a", "x\n"),
            ("batch/v1", "Job", "a", &long),
        ] {
            let owner = Owner::checked(api_version, kind, name, uid);
            assert_eq!(owner, None, "{api_version} {kind} {name} {uid}");
        }
        assert!(Owner::checked("v1", "ReplicationController", "a.b-c", UID).is_some());
        for namespace in ["", "a/b", "..", "A", "a.b"] {
            let refusal = Refusal::new(namespace, owner("a"), "Unsigned", "s", "m");
            assert!(refusal.is_none(), "{namespace}");
        }
    }

    #[test]
    fn who_reports_is_told_within_the_bound() {
        let reporting = |instance: &str| refusal("a", "m").event("n", instance).reporting_instance;
        assert_eq!(reporting("countersign-1").as_deref(), Some("countersign-1"));
        assert_eq!(reporting(&"a".repeat(253)), Some("a".repeat(INSTANCE_BYTES)));
    }

    #[test]
    fn a_note_is_one_line_that_begins_as_the_message_does() {
        let message = "1 of 1 images denied by TrustPolicy \"p\": Unsigned\n\
                       spec.containers[name=a] r.example/a:1\n  check: countersign verify r.example/a:1\n";
        let note = refusal("a", message).note;
        assert_eq!(
            note,
            "1 of 1 images denied by TrustPolicy \"p\": Unsigned; \
             spec.containers[name=a] r.example/a:1; check: countersign verify r.example/a:1"
        );
        // Cut between characters, wherever the limit falls.
        for begin in ["", "a", "ab", "abc"] {
            let long = refusal("a", &format!("{begin}first\n{}", "€".repeat(5000))).note;
            assert!(long.len() <= NOTE_BYTES && long.len() > NOTE_BYTES - 8, "{}", long.len());
            assert!(long.starts_with(&format!("{begin}first; €")) && long.ends_with('…'));
        }
        assert_eq!(refusal("a", &"x".repeat(NOTE_BYTES)).note.len(), NOTE_BYTES);
        assert!(!refusal("a", "a\u{1b}[31m\tb").note.contains(char::is_control));
    }

    #[test]
    fn events_of_the_same_words_about_the_same_owner_have_one_name() {
        let name = |name: &str, message: &str| refusal(name, message).event_name();
        assert_eq!(name("a", "m"), name("a", "m"));
        assert_ne!(name("a", "m"), name("a", "n"));
        let mut other = refusal("a", "m");
        other.owner.uid = "other".to_owned();
        assert_ne!(other.event_name(), name("a", "m"));
        let mut other = refusal("a", "m");
        other.code = "Expired";
        assert_ne!(other.event_name(), name("a", "m"));
        for owner in ["a".repeat(253), format!("{}.b{}", "a".repeat(198), "-c".repeat(20))] {
            let name = name(&owner, "m");
            assert!(is_dns_subdomain(&name), "{name}");
        }
    }
}
