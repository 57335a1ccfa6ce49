//! Locks that another process holds, and what a store lets fall.

use std::fs::{self, File};
use std::sync::mpsc;
use std::time::Duration;

use countersign_verify::memory::{Floor, Keys, RootFloor, Signers};

use super::local::TRIAL;
use super::*;

fn place(repository: &str) -> Place {
    Place {
        source: "notary".to_owned(),
        repository: repository.to_owned(),
        anchor: "pin".to_owned(),
    }
}

fn file(folder: &Path, place: &Place, ending: &str) -> PathBuf {
    folder.join(format!("{}.{ending}", place.name(253)))
}

/// What an update comes to that begins and ends now.
fn raise(store: &Local, place: &Place, memory: &Memory) -> Result<Memory, MemoryError> {
    store.raise(place, &store.load(place)?, memory)
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
    let held = hold(&file(folder.path(), &stuck, "lock"));
    raise(&store, &free, &memory(1)).expect("another repository's lock");
    let error = raise(&store, &stuck, &memory(1)).expect_err("held");
    assert!(matches!(error, MemoryError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another process has held the lock"), "{error}");
    drop(held);
    raise(&store, &stuck, &memory(1)).expect("let go of");
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
    let held = hold(&file(folder.path(), &place, "lock"));
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(held);
    });
    raise(&store, &place, &memory(1)).expect("let go of in time");
    later.join().expect("ended");
}

#[test]
fn t4_t8_a_store_lets_fall_what_those_signed_who_may_not_any_more_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    for store in [Local::in_process(), Local::in_folder(folder.path()).expect("a folder")] {
        // By every root but the first, a may not sign any more.
        let signed = |root: u64, version: u64, signer: &str| {
            let floor = Floor { version, keys: format!("sha256:{signer}") };
            let may = if root == 1 { "sha256:a,sha256:b" } else { "sha256:b,sha256:c" };
            let may = Keys { keys: may.to_owned(), threshold: 1 };
            let signers = Some(Box::new(Signers { timestamp: may.clone(), snapshot: may }));
            let root = RootFloor { version: root, sha256: format!("{root:064}"), signers };
            Memory { root: Some(root), roles: [("timestamp".to_owned(), floor)].into() }
        };
        let place = place("corp");
        let raise = |base: &Memory, memory: Memory| {
            let loaded = Remembered { memory: base.clone(), resets: 0 };
            store.raise(&place, &loaded, &memory).expect("raised")
        };
        let (nothing, base) = (Memory::default(), signed(1, 4, "a"));
        assert_eq!(raise(&nothing, base.clone()), base);
        assert_eq!(raise(&base, signed(1, 9, "b")), signed(1, 9, "b"));
        assert_eq!(raise(&base, signed(2, 5, "c")), signed(2, 9, "b"), "b may sign still");
        let high = signed(1, 1000, "a");
        assert_eq!(raise(&base, high), signed(2, 9, "b"), "a may not");
        let lowered = signed(2, 9, "b");
        assert_eq!(store.load(&place).expect("loaded").memory, lowered);
    }
}

#[test]
fn t21_a_state_file_restored_from_a_backup_loosens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Local::in_folder(folder.path()).expect("a store");
    let place = place("registry.example.com/a");
    let (kept, backup) = (file(folder.path(), &place, "json"), folder.path().join("backup"));
    raise(&store, &place, &memory(5)).expect("written");
    fs::copy(&kept, &backup).expect("copied");
    raise(&store, &place, &memory(9)).expect("written");
    let restore = || fs::copy(&backup, &kept).expect("copied");
    restore();
    assert_eq!(store.load(&place).expect("loaded").memory, memory(9));
    assert_eq!(raise(&store, &place, &memory(4)).expect("raised"), memory(9));
    // And it is written again.
    let later = Local::in_folder(folder.path()).expect("a store");
    assert_eq!(later.load(&place).expect("loaded").memory, memory(9));
    // While an update is under way.
    let loaded = store.load(&place).expect("loaded");
    restore();
    assert_eq!(store.raise(&place, &loaded, &memory(6)).expect("raised"), memory(9));
}

#[test]
fn t21_a_state_file_that_is_deleted_is_forgotten_by_every_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = [(); 2].map(|()| Local::in_folder(folder.path()).expect("a store"));
    let place = place("registry.example.com/a");
    let kept = file(folder.path(), &place, "json");
    raise(&stores[0], &place, &memory(9)).expect("written");
    let before = stores.each_ref().map(|store| store.load(&place).expect("loaded"));
    assert!(before.iter().all(|loaded| loaded.memory == memory(9)));
    fs::remove_file(&kept).expect("deleted");
    // An update under way does not bring it back.
    let error = stores[0].raise(&place, &before[0], &memory(9)).expect_err("deleted");
    assert!(matches!(error, MemoryError::Deleted { .. }), "{error}");
    assert!(!kept.exists());
    assert_eq!(raise(&stores[0], &place, &memory(4)).expect("raised"), memory(4));
    // Neither does one that has not seen it missing.
    let error = stores[1].raise(&place, &before[1], &memory(9)).expect_err("deleted");
    assert!(matches!(error, MemoryError::Deleted { .. }), "{error}");
    assert_eq!(stores[1].load(&place).expect("loaded").memory, memory(4));
    assert_eq!(raise(&stores[1], &place, &memory(6)).expect("raised"), memory(6));
}

#[test]
fn t21_a_state_file_that_cannot_be_written_loosens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Local::in_folder(folder.path()).expect("a store");
    let place = place("registry.example.com/a");
    raise(&store, &place, &memory(5)).expect("written");
    let held = hold(&file(folder.path(), &place, "lock"));
    raise(&store, &place, &memory(9)).expect_err("held");
    drop(held);
    assert_eq!(store.load(&place).expect("loaded").memory, memory(9));
    assert_eq!(raise(&store, &place, &memory(4)).expect("written"), memory(9));
}

#[test]
fn a_state_file_of_before_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = place("registry.example.com/a");
    let named = "notary-c3163e261304f904e2f24c1f976b8ef0.json";
    let kept = folder.path().join(named);
    let text = r#"{"source": "notary", "repository": "registry.example.com/a", "anchor": "pin",
        "memory": {"root": null, "roles": {"timestamp": {"version": 5, "keys": "k"}}}}"#;
    fs::write(&kept, text).expect("written");
    let store = Local::in_folder(folder.path()).expect("a store");
    assert_eq!(raise(&store, &place, &memory(4)).expect("read"), memory(5));
    assert_eq!(raise(&store, &place, &memory(6)).expect("written"), memory(6));
    let later = Local::in_folder(folder.path()).expect("a store");
    assert_eq!(later.load(&place).expect("loaded").memory, memory(6));
}

#[test]
fn t9_a_pipe_in_a_state_folder_is_not_waited_for() {
    for ending in ["json", "partial"] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Local::in_folder(folder.path()).expect("a store");
        let place = place("registry.example.com/a");
        let made = std::process::Command::new("mkfifo")
            .arg(file(folder.path(), &place, ending))
            .status()
            .expect("run");
        assert!(made.success());
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || done.send(raise(&store, &place, &memory(1))));
        let raised = ended.recv_timeout(Duration::from_secs(20)).expect("it ends");
        assert_eq!(raised.is_ok(), ending == "partial", "{raised:?}");
    }
}

#[test]
fn o8_a_state_file_is_read_up_to_its_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Local::in_folder(folder.path()).expect("a store");
    let place = place("registry.example.com/a");
    let endless = File::create(file(folder.path(), &place, "json")).expect("made");
    endless.set_len(1 << 40).expect("sparse");
    let error = store.load(&place).expect_err("too long").to_string();
    assert!(error.contains("it is longer than 1048576 bytes"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn t9_a_state_folder_that_hangs_is_waited_for_no_longer_than_the_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let local = Arc::new(Local::in_folder(folder.path()).expect("a store"));
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let hanging = Arc::clone(&local);
    let hangs = std::thread::spawn(move || {
        hanging.change(&place("registry.example.com/a"), |_, _| {
            begin.send(()).expect("listened to");
            // Until its sender is dropped.
            let _ = released.recv();
            Ok(())
        })
    });
    begun.recv().expect("begun");
    let store = MemoryStore { place: Store::Local(local) };
    let (stuck, free) = (place("registry.example.com/a"), place("registry.example.com/b"));
    let passes = async {
        tokio::task::yield_now().await;
        tokio::time::advance(TIMEOUT).await;
    };
    let (loaded, ()) = tokio::join!(store.load(&stuck), passes);
    assert!(matches!(loaded, Err(MemoryError::Hangs)), "{loaded:?}");
    assert!(store.load(&free).await.is_ok());
    drop(release);
    hangs.join().expect("no panic").expect("nothing");
}

#[test]
fn o8_what_nothing_was_verified_of_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Local::in_folder(folder.path()).expect("a store");
    let files = || fs::read_dir(folder.path()).expect("a folder").count();
    let before = files();
    raise(&store, &place("registry.example.com/made-up"), &Memory::default()).expect("nothing");
    assert_eq!(files(), before);
}

#[test]
fn o8_t8_no_repository_is_forgotten_for_another() {
    let store = Local::remembering(3);
    for number in 0..10 {
        let raised = raise(&store, &place(&format!("registry.example.com/{number}")), &memory(5));
        assert_eq!(raised.is_ok(), number < 3, "{number}: {raised:?}");
    }
    let known = place("registry.example.com/0");
    assert_eq!(raise(&store, &known, &memory(4)).expect("known"), memory(5));
    assert_eq!(raise(&store, &known, &memory(6)).expect("known"), memory(6));
    let unknown = place("registry.example.com/9");
    assert_eq!(store.load(&unknown).expect("nothing"), Remembered::default());
}

#[test]
fn roles_are_bounded_and_those_of_before_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    for store in [Local::in_process(), Local::in_folder(folder.path()).expect("a folder")] {
        let place = place("registry.example.com/a");
        let of = |roles: std::ops::Range<usize>, version: u64| {
            let role =
                |number| (format!("targets/{number}"), memory(version).roles["timestamp"].clone());
            Memory { root: None, roles: roles.map(role).collect() }
        };
        let error = raise(&store, &place, &of(0..CHECKPOINT_ROLES + 1, 5)).expect_err("too many");
        assert!(matches!(error, MemoryError::Roles { .. }), "{error}");
        assert_eq!(store.load(&place).expect("loaded"), Remembered::default());
        let all = of(0..CHECKPOINT_ROLES, 5);
        assert_eq!(raise(&store, &place, &all).expect("as many as there may be"), all);
        for more in 1..4 {
            let others = more * CHECKPOINT_ROLES;
            let error = raise(&store, &place, &of(others..others + 1, 5)).expect_err("too many");
            assert!(error.to_string().contains("more than 128 roles"), "{error}");
        }
        let newer = of(0..CHECKPOINT_ROLES + 1, 6);
        raise(&store, &place, &newer).expect_err("too many");
        let held = store.load(&place).expect("loaded").memory;
        assert_eq!(held, of(0..CHECKPOINT_ROLES, 6), "what was verified of them holds");
    }
}

#[test]
fn a_source_of_any_name_has_state_files_and_those_of_before_are_named_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let label = "a".repeat(63);
    let long = [&*label, &label, &label, &label[..61]].join(".");
    for length in [1, 63, 200, 214, 215, 217, 218, 253] {
        let source = long[..length].trim_end_matches('.').to_owned();
        let place = Place { source: source.clone(), ..place("registry.example.com/a") };
        for version in [1, 2] {
            let store = Local::in_folder(folder.path()).expect("a store");
            raise(&store, &place, &memory(version)).expect("written");
        }
        let names = fs::read_dir(folder.path()).expect("a folder").flatten();
        let of_source = names.filter(|entry| {
            let name = entry.file_name().into_string().expect("text");
            let hash = name.strip_suffix(".json").and_then(|name| name.strip_prefix(&*source));
            hash.is_some_and(|hash| hash.len() == 33)
        });
        assert_eq!(of_source.count(), usize::from(length <= 214), "{length}");
    }
}
