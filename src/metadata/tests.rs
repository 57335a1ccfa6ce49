//! What must not keep a runtime's threads.

use std::fs::File;

use countersign_verify::notary::Pins;

use super::*;

fn live() -> Live {
    let source = Source {
        name: "notary".to_owned(),
        fingerprint: [0; 32],
        url: "https://notary.example.com".parse().expect("a URL"),
        pins: Arc::new(Pins(Vec::new())),
        connection: Connection::default(),
        refresh_after: Duration::from_secs(60),
        refuse_after: Duration::from_secs(60),
    };
    Live {
        source: Arc::new(source),
        repository: "registry.example.com/a".to_owned(),
        roles: BTreeSet::new(),
    }
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
    let lock = folder.path().join(place.file_name()).with_extension("lock");
    let held = File::create(lock).expect("made");
    held.lock().expect("locked");
    let floor = countersign_verify::notary::Floor { version: 1, keys: "k".to_owned() };
    let newer = Memory { root: None, roles: [("timestamp".to_owned(), floor)].into() };
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
