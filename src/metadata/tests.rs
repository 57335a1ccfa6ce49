//! What must not keep a runtime's threads, and what is not asked.

use std::collections::BTreeSet;
use std::fs::File;

use countersign_verify::notary::Pins;

use super::*;
use crate::api::{Connection, Source, SourceKind};

fn live() -> Live {
    let source = Source {
        name: "notary".to_owned(),
        fingerprint: [0; 32],
        kind: SourceKind::Notary {
            url: "https://notary.example.com".parse().expect("a URL"),
            pins: Arc::new(Pins(Vec::new())),
        },
        connection: Connection::default(),
        refresh_after: Duration::from_secs(60),
        refuse_after: Duration::from_secs(60),
    };
    Live::notary(Arc::new(source), "registry.example.com/a".to_owned(), BTreeSet::new())
}

// One thread, as long as the lock is held: with a blocked one nothing else would run.
#[tokio::test]
async fn waiting_for_a_state_folder_leaves_the_thread_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = MemoryStore::in_folder(folder.path()).expect("a store");
    let repositories = Repositories::new(memory, Arc::new(Clock::system()));
    let live = live();
    let place = Place {
        source: live.source.name.clone(),
        repository: live.repository.clone(),
        anchor: "pin".to_owned(),
    };
    let lock = folder.path().join(format!("{}.lock", place.name(253)));
    let held = File::create(lock).expect("made");
    held.lock().expect("locked");
    let floor = countersign_verify::memory::Floor { version: 1, keys: "k".to_owned() };
    let newer = countersign_verify::memory::Memory {
        root: None,
        roles: [("timestamp".to_owned(), floor)].into(),
    };
    let loaded = Remembered::default();
    let raise = repositories.shared.raise(&live, &place, &loaded, newer);
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(held);
        Instant::now()
    };
    let begun = Instant::now();
    let (raised, went_on) = tokio::join!(raise, others);
    raised.expect("let go of");
    assert!(went_on - begun < Duration::from_secs(1));
}

#[tokio::test]
async fn k14_a_source_whose_objects_could_not_be_read_is_not_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("it is a socket");
    let mut live = live();
    let source = Arc::make_mut(&mut live.source);
    source.connection.unread = Some("you may not read Secret \"login\"".to_owned());
    let pins = Pins(vec![countersign_verify::notary::Pin {
        name: "all".to_owned(),
        repositories: vec![countersign_verify::image::Pattern::parse("**").expect("a pattern")],
        keys: countersign_verify::notary::PinnedKeys::RootKeyIds { ids: Vec::new(), threshold: 1 },
    }]);
    let address = listener.local_addr().expect("bound");
    source.kind = SourceKind::Notary {
        url: format!("http://{address}").parse().expect("a URL"),
        pins: Arc::new(pins),
    };
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::new(Clock::system()));
    let refusal = repositories.update(&live, "payments").await.expect_err("not asked");
    let cause = "you may not read Secret \"login\"".to_owned();
    assert_eq!(
        refusal,
        Unavailable::SourceUnavailable { source_name: "notary".to_owned(), cause, is_away: false }
            .into()
    );
    assert!(listener.accept().is_err(), "without its credentials it is not contacted");
}

#[test]
fn o8_the_answers_that_are_given_again_are_bounded_in_bytes() {
    let answers = answers();
    let most = ANSWERS_BYTES / u64::from(REFUSAL_BYTES);
    for number in 0..2 * most {
        let answer = Err(unavailable(&live(), &"it is away").into());
        answers.insert(([0; 32], number.to_string()), (Instant::now(), answer));
    }
    answers.run_pending_tasks();
    let kept = answers.entry_count();
    assert!(0 < kept && kept <= most, "{kept}");
}

#[test]
fn o8_the_sources_to_which_connections_are_kept_are_bounded() {
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::new(Clock::system()));
    let (servers, live) = (&repositories.shared.servers, live());
    let connected = Servers::of(&live.source, repositories.measures()).expect("connected");
    for number in 0..2 * SERVERS {
        let mut fingerprint = [0; 32];
        fingerprint[..8].copy_from_slice(&number.to_be_bytes());
        servers.insert(fingerprint, connected.clone());
    }
    servers.run_pending_tasks();
    let kept = servers.entry_count();
    assert!(0 < kept && kept <= SERVERS, "{kept}");
}
