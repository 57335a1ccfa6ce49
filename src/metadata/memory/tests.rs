//! Locks that another process holds, and what a store lets fall.

use countersign_verify::notary::{Floor, RootFloor};

use super::*;

fn place(repository: &str) -> Place {
    Place {
        source: "notary".to_owned(),
        repository: repository.to_owned(),
        anchor: "pin".to_owned(),
    }
}

fn memory(version: u64) -> Memory {
    let floor = Floor { version, keys: "k".to_owned() };
    Memory { root: None, roles: [("timestamp".to_owned(), floor)].into() }
}

/// As another process would: a lock belongs to the open file, not to who opened it.
fn hold(path: &Path) -> File {
    let file = File::create(path).expect("made");
    file.lock().expect("locked");
    file
}

#[test]
fn a_lock_that_is_not_let_go_of_is_an_error_and_stops_one_repository_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Local::in_folder(folder.path()).expect("a store");
    let (stuck, free) = (place("registry.example.com/a"), place("registry.example.com/b"));
    let held = hold(&folder.path().join(stuck.file_name()).with_extension("lock"));
    store.raise(&free, &Memory::default(), memory(1)).expect("another repository's lock");
    let error = store.raise(&stuck, &Memory::default(), memory(1)).expect_err("held");
    assert!(matches!(error, MemoryError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another process has held the lock"), "{error}");
    drop(held);
    store.raise(&stuck, &Memory::default(), memory(1)).expect("let go of");
}

#[test]
fn a_folder_whose_lock_is_not_let_go_of_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let _held = hold(&folder.path().join(TRIAL));
    let error = Local::in_folder(folder.path()).expect_err("held");
    assert!(matches!(error, MemoryError::Locked { .. }), "{error}");
}

#[test]
fn a_lock_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Local::in_folder(folder.path()).expect("a store");
    let place = place("registry.example.com/a");
    let held = hold(&folder.path().join(place.file_name()).with_extension("lock"));
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(held);
    });
    store.raise(&place, &Memory::default(), memory(1)).expect("let go of in time");
    later.join().expect("ended");
}

#[test]
fn t4_t8_a_store_lets_an_update_lower_what_it_began_with_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    for store in [Local::in_process(), Local::in_folder(folder.path()).expect("a folder")] {
        let signed = |root: u64, version: u64, signer: &str| {
            let floor = Floor { version, keys: format!("sha256:{signer}") };
            let root = RootFloor { version: root, sha256: format!("{root:064}") };
            Memory { root: Some(root), roles: [("timestamp".to_owned(), floor)].into() }
        };
        let place = place("corp");
        let raise =
            |base: &Memory, memory: Memory| store.raise(&place, base, memory).expect("raised");
        let (nothing, base) = (Memory::default(), signed(2, 4, "a"));
        assert_eq!(raise(&nothing, base.clone()), base);
        let high = signed(2, 9, "b");
        assert_eq!(raise(&base, high.clone()), high);
        let both = signed(3, 9, "b");
        assert_eq!(raise(&base, signed(3, 5, "a")), both, "another signer is no rotation");
        let lowered = signed(3, 1, "c");
        assert_eq!(raise(&both, lowered.clone()), lowered);
        assert_eq!(store.load(&place).expect("loaded"), lowered);
    }
}
