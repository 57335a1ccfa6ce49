//! Whom evidence answers.

use std::time::Duration;

use countersign_verify::image::Pattern;
use countersign_verify::notary::{self, Pins};
use countersign_verify::policy::{Action, NamespaceSelector, Policy, PolicySet, Rule, Tags};

use super::super::{ImageUse, Puller, Question, Subject};
use super::*;
use tokio::time::Instant;

use crate::api::{Connection, Source, SourceKind};
use crate::clock::Clock;
use crate::metadata::{MemoryStore, Repositories};
use crate::registry::{Registry, RegistryConfig};

fn source(name: &str) -> (String, Arc<Source>) {
    let source = Source {
        name: name.to_owned(),
        fingerprint: [0; 32],
        kind: SourceKind::Notary {
            url: "https://notary.example.com".parse().expect("a URL"),
            pins: Arc::new(Pins(Vec::new())),
        },
        connection: Connection::default(),
        refresh_after: Duration::from_secs(60),
        refuse_after: Duration::from_secs(60),
    };
    (name.to_owned(), Arc::new(source))
}

fn authority(source: &str) -> Authority {
    Authority {
        name: source.to_owned(),
        source: source.to_owned(),
        usable: Ok(()),
        lookup: Lookup::Notary(notary::Lookup::Docker),
    }
}

fn snapshot(sources: &[&str]) -> Snapshot {
    let authorities = sources.iter().map(|name| authority(name)).collect();
    let policy = Policy {
        name: "all".to_owned(),
        include: vec![Pattern::parse("registry.example.com/**").expect("a pattern")],
        exclude: Vec::new(),
        namespaces: NamespaceSelector::default(),
        action: Action::Deny,
        tags: Tags::Float,
        rule: Rule::Verify { min_authorities: 1, authorities },
        exceptions: Vec::new(),
        disclose: false,
        help: None,
    };
    Snapshot {
        policies: PolicySet::new(vec![policy]),
        sources: sources.iter().map(|name| source(name)).collect(),
        ..Snapshot::default()
    }
}

fn reviewer() -> Reviewer {
    let clock = Arc::new(Clock::system());
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::clone(&clock));
    let registry = Registry::new(RegistryConfig::default());
    Reviewer::new(Snapshot::default(), repositories, registry, Action::Deny, clock)
}

#[tokio::test]
async fn sources_that_differ_in_their_names_only_answer_each_for_itself() {
    let snapshot = snapshot(&["one", "other"]);
    let digest = "0".repeat(64);
    let uses: Vec<ImageUse> = (0..1_000)
        .map(|number| ImageUse {
            path: format!("spec.containers[{number}]"),
            image: format!("registry.example.com/api-{number}@sha256:{digest}"),
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(8);
    let request = Request {
        namespace: None,
        subject: Subject::Pod,
        uses: &uses,
        puller: Puller::default(),
        deadline,
    };
    let question =
        Question { snapshot: &snapshot, request: &request, labels: None, unmatched: Action::Deny };
    let plans: Vec<_> = uses.iter().map(|usage| question.plan(usage)).collect();
    let evidence = reviewer().gather(&snapshot, &plans, &request).await;
    for number in 0..1_000 {
        for source in ["one", "other"] {
            let name = format!("registry.example.com/api-{number}");
            let reference = Reference::parse(&name).expect("a reference");
            let found = evidence.of(Part::Deciding).repository(&authority(source), &reference);
            assert!(found.is_some(), "{name} in {source}");
        }
    }
}
