//! What the watch and answers tell, in every order, and what holds then.

use countersign_verify::memory::{Floor, RootFloor};
use proptest::prelude::*;

use super::*;

mod signers;

pub(in crate::cluster::checkpoints) fn place() -> Place {
    Place {
        source: "corp-notary".to_owned(),
        repository: "registry.example.com/payments/api".to_owned(),
        anchor: "ab".repeat(32),
    }
}

/// Root `root`, and the timestamp at `version` under keys that the root lists.
pub(in crate::cluster::checkpoints) fn memory(root: u64, version: u64) -> Memory {
    let floor = Floor { version, keys: format!("{root:064}") };
    Memory {
        root: Some(RootFloor { version: root, sha256: format!("{root:064}"), signers: None }),
        roles: [("timestamp".to_owned(), floor)].into(),
    }
}

/// The place's object of this uid and resourceVersion.
fn object(uid: &str, version: u64, timestamp: u64) -> (String, Read) {
    let spec = object::spec(&place(), &memory(1, timestamp));
    let read = Read {
        uid: uid.to_owned(),
        version: version.to_string(),
        spec: spec.ok_or_else(String::new),
    };
    (object::name(&place()), read)
}

fn listed(objects: Vec<(String, Read)>) -> Known {
    let mut known = Known::default();
    relist(&mut known, objects);
    known
}

fn relist(known: &mut Known, objects: Vec<(String, Read)>) -> Vec<String> {
    known.take(Event::Init);
    objects.into_iter().for_each(|object| drop(known.take(Event::InitApply(object))));
    known.take(Event::InitDone)
}

fn load(known: &Known) -> Remembered {
    known.load(&object::name(&place()), &place()).expect("sound")
}

/// The timestamp's floor; 0 for none.
fn floor(known: &Known) -> u64 {
    load(known).memory.roles.get("timestamp").map_or(0, |floor| floor.version)
}

#[test]
fn o8_names_that_nothing_was_verified_of_leave_nothing_behind() {
    let mut known = listed(Vec::new());
    for number in 0..100 {
        let name = format!("corp-notary-{number}");
        let step = known.plan(&name, &place(), &Remembered::default(), &Memory::default());
        assert_eq!(step.expect("nothing to do"), Step::Done(Memory::default()));
    }
    assert!(known.entries.is_empty());
}

fn plan(known: &mut Known, timestamp: u64) -> Result<Step, CheckpointError> {
    let loaded = load(known);
    known.plan(&object::name(&place()), &place(), &loaded, &memory(1, timestamp))
}

fn answered(known: &mut Known, (name, read): (String, Read)) -> bool {
    let resets = load(known).resets;
    known.answered(&name, resets, read)
}

#[test]
fn t8_what_another_replica_raised_is_known_before_the_next_update() {
    let mut known = listed(Vec::new());
    assert_eq!(load(&known), Remembered::default());
    known.take(Event::Apply(object("a", 1, 5)));
    assert_eq!(floor(&known), 5);
    assert_eq!(plan(&mut known, 4), Ok(Step::Done(memory(1, 5))), "nothing to write");
}

#[test]
fn t21_an_old_backup_lowers_nothing_and_is_written_anew() {
    let mut known = listed(vec![object("a", 1, 5)]);
    for restored in [Event::Apply(object("a", 9, 3)), Event::Init] {
        let list = matches!(restored, Event::Init);
        assert!(known.take(restored).is_empty());
        if list {
            known.take(Event::InitApply(object("a", 9, 3)));
            assert!(known.take(Event::InitDone).is_empty());
        }
        assert_eq!(floor(&known), 5);
        match plan(&mut known, 4) {
            Ok(Step::Change { stored, spec }) => {
                assert_eq!(stored, object("a", 9, 3).1);
                assert_eq!(Some(spec), object::spec(&place(), &memory(1, 5)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn t21_a_deletion_resets_however_it_is_seen() {
    let name = object::name(&place());
    type See = fn(&mut Known) -> Vec<String>;
    let ways: [See; 4] = [
        |known| known.take(Event::Delete(object("a", 2, 5))),
        |known| relist(known, Vec::new()),
        // Made anew meanwhile.
        |known| known.take(Event::Apply(object("b", 3, 2))),
        |known| relist(known, vec![object("b", 3, 2)]),
    ];
    for (number, see) in ways.into_iter().enumerate() {
        let mut known = listed(vec![object("a", 1, 5)]);
        let before = load(&known);
        assert_eq!(see(&mut known), std::slice::from_ref(&name), "{number}");
        assert_eq!(floor(&known), if number < 2 { 0 } else { 2 }, "{number}");
        // An update that began before does not bring the floors back.
        let late = known.plan(&name, &place(), &before, &before.memory);
        assert_eq!(late, Err(CheckpointError::Deleted { name: name.clone() }), "{number}");
        assert!(!known.answered(&name, before.resets, object("a", 4, 5).1));
        assert_eq!(floor(&known), if number < 2 { 0 } else { 2 }, "{number}");
        // One that begins now may.
        assert!(plan(&mut known, 4).is_ok());
        assert_eq!(floor(&known), 4);
    }
}

#[test]
fn t21_a_list_that_began_before_the_object_was_made_is_no_deletion() {
    let mut known = listed(Vec::new());
    known.take(Event::Init);
    assert!(matches!(plan(&mut known, 5), Ok(Step::Create(_))));
    answered(&mut known, object("a", 7, 5));
    assert!(known.take(Event::InitDone).is_empty());
    assert_eq!(floor(&known), 5);
    // The next list began later.
    assert_eq!(relist(&mut known, Vec::new()).len(), 1);
    assert_eq!(floor(&known), 0);
}

#[test]
fn t21_a_watch_that_lags_behind_our_own_write_loosens_nothing() {
    let mut known = listed(vec![object("a", 1, 3)]);
    // It was deleted, as this replica learns by its own request, and made anew.
    let name = object::name(&place());
    assert!(known.gone(&name, "a"));
    assert!(matches!(plan(&mut known, 5), Ok(Step::Create(_))));
    answered(&mut known, object("b", 4, 5));
    // The watch comes along.
    for event in [
        Event::Apply(object("a", 2, 4)),
        Event::Delete(object("a", 3, 4)),
        Event::Apply(object("b", 4, 5)),
    ] {
        assert!(known.take(event).is_empty());
        assert_eq!(floor(&known), 5);
        assert_eq!(plan(&mut known, 5), Ok(Step::Done(memory(1, 5))), "nothing to write");
    }
    // From now on it is not behind any more.
    assert_eq!(known.take(Event::Apply(object("c", 6, 1))), [name]);
    assert_eq!(floor(&known), 1);
}

#[test]
fn t21_a_list_that_began_after_our_own_write_is_believed() {
    let mut known = listed(Vec::new());
    assert!(matches!(plan(&mut known, 5), Ok(Step::Create(_))));
    answered(&mut known, object("a", 7, 5));
    // Deleted and made anew while the watch was away.
    assert_eq!(relist(&mut known, vec![object("b", 9, 2)]).len(), 1);
    assert_eq!(floor(&known), 2);
    assert_eq!(plan(&mut known, 2), Ok(Step::Done(memory(1, 2))));
}

#[test]
fn a_change_that_the_watch_tells_before_the_answer_comes_is_no_write_more() {
    let mut known = listed(vec![object("a", 1, 3)]);
    assert!(matches!(plan(&mut known, 5), Ok(Step::Change { .. })));
    known.take(Event::Apply(object("a", 2, 5)));
    answered(&mut known, object("a", 2, 5));
    assert_eq!(plan(&mut known, 5), Ok(Step::Done(memory(1, 5))));
    assert_eq!(relist(&mut known, Vec::new()).len(), 1, "and its deletion is seen");
}

#[test]
fn a_floor_holds_in_the_replica_though_it_could_not_be_written() {
    let mut known = listed(vec![object("a", 1, 3)]);
    assert!(matches!(plan(&mut known, 5), Ok(Step::Change { .. })));
    assert_eq!(floor(&known), 5);
    assert!(matches!(plan(&mut known, 4), Ok(Step::Change { .. })), "it is tried again");
}

#[test]
fn t21_a_checkpoint_that_is_none_of_ours_refuses_its_repository_only() {
    let mut known = listed(vec![object("a", 1, 5)]);
    let (name, read) = object("a", 2, 5);
    let broken = Read { spec: Err("spec: missing field `root`".to_owned()), ..read };
    known.take(Event::Apply((name.clone(), broken)));
    let error = known.load(&name, &place()).expect_err("broken");
    let said = error.to_string();
    assert!(said.contains("missing field `root`") && said.contains("deleting it"), "{said}");
    assert_eq!(known.plan(&name, &place(), &Remembered::default(), &memory(1, 6)), Err(error));
    let other = Place { repository: "registry.example.com/other".to_owned(), ..place() };
    assert!(known.load(&object::name(&other), &other).is_ok());
    // Mended: what was known before holds, and what was verified meanwhile.
    known.take(Event::Apply(object("a", 3, 2)));
    assert_eq!(floor(&known), 6);
}

#[test]
fn t21_odd_values_are_no_panic_and_no_loosening() {
    let mut known = listed(vec![object("a", 1, 5)]);
    let (name, read) = object("a", 2, 5);
    let mut spec = read.spec.clone().expect("sound");
    spec.root.version = i64::MIN;
    spec.roles[0].version = i64::MIN;
    known.take(Event::Apply((name, Read { spec: Ok(spec), ..read })));
    assert_eq!(floor(&known), 5);
}

#[test]
fn roles_are_bounded() {
    let mut known = listed(Vec::new());
    let name = object::name(&place());
    let mut many = memory(1, 5);
    for number in 1..CHECKPOINT_ROLES {
        let floor = Floor { version: 1, keys: "k".to_owned() };
        many.roles.insert(format!("targets/{number}"), floor);
    }
    assert!(matches!(
        known.plan(&name, &place(), &Remembered::default(), &many),
        Ok(Step::Create(_))
    ));
    let one_more = Floor { version: 1, keys: "k".to_owned() };
    many.roles.insert("targets/more".to_owned(), one_more);
    let error =
        known.plan(&name, &place(), &Remembered::default(), &many).expect_err("one too many");
    assert_eq!(error, CheckpointError::Roles { name: name.clone() });
    // Those that were known before hold, and no others are kept.
    let timestamp = many.roles.get_mut("timestamp").expect("a timestamp");
    timestamp.version = 6;
    known.plan(&name, &place(), &Remembered::default(), &many).expect_err("one too many");
    many.roles.remove("targets/more");
    assert_eq!(load(&known).memory, many);
}

#[test]
fn o8_checkpoints_of_one_source_count_for_their_roles() {
    let mut known = listed(Vec::new());
    let plan = |known: &mut Known, number: usize, roles: usize, version: u64| {
        let place = Place { repository: format!("registry.example.com/{number}"), ..place() };
        let mut memory = memory(1, version);
        for number in 1..roles {
            let floor = Floor { version: 1, keys: "k".to_owned() };
            memory.roles.insert(format!("targets/{number}"), floor);
        }
        let name = object::name(&place);
        known.plan(&name, &place, &Remembered::default(), &memory)
    };
    let sixteens = CHECKPOINTS / 16;
    for number in 0..sixteens {
        assert!(plan(&mut known, number, CHECKPOINT_ROLES, 1).is_ok());
    }
    assert_eq!(
        known.counts().into_iter().collect::<Vec<_>>(),
        [("corp-notary".to_owned(), CHECKPOINTS)]
    );
    let full = || Err(CheckpointError::Full { of: "corp-notary".to_owned() });
    assert_eq!(plan(&mut known, sixteens, 1, 1), full());
    assert_eq!(known.entries.len(), sixteens);
    // Those that are known go on, and grow: all of them together by as much again.
    let mut known = listed(Vec::new());
    for number in 0..CHECKPOINTS {
        assert!(plan(&mut known, number, 1, 1).is_ok());
    }
    assert!(plan(&mut known, 0, COUNTED_ROLES, 2).is_ok());
    assert!(plan(&mut known, 0, COUNTED_ROLES + 1, 3).is_ok());
    assert_eq!(plan(&mut known, CHECKPOINTS, 1, 1), full());
    // As many as sixteen each.
    let grown = (CHECKPOINTS - 1) / 15;
    for number in 1..=grown {
        assert!(plan(&mut known, number, CHECKPOINT_ROLES, 3).is_ok());
    }
    let next = grown + 1;
    assert_eq!(plan(&mut known, next, CHECKPOINT_ROLES, 3), full());
    assert!(plan(&mut known, next, COUNTED_ROLES, 3).is_ok());
    assert!(known.counts()["corp-notary"] <= GROWN);
}

#[test]
fn t4_a_version_of_64_bits_is_kept_as_the_largest_integer_and_written_once() {
    let mut known = listed(Vec::new());
    let Ok(Step::Create(spec)) = plan(&mut known, u64::MAX) else { panic!("no object") };
    assert_eq!(spec.roles[0].version, i64::MAX);
    let (_, read) = object("a", 1, 1);
    answered(&mut known, (object::name(&place()), Read { spec: Ok(spec), ..read }));
    assert_eq!(plan(&mut known, u64::MAX), Ok(Step::Done(memory(1, u64::MAX))));
}

#[test]
fn t4_a_rotation_recovers_and_is_written() {
    let mut known = listed(vec![object("a", 1, u64::MAX)]);
    let rotated = memory(2, 1);
    match known.plan(&object::name(&place()), &place(), &Remembered::default(), &rotated) {
        Ok(Step::Change { spec, .. }) => assert_eq!(object::memory(&spec), rotated),
        other => panic!("{other:?}"),
    }
    // Someone who has not seen it changes nothing.
    known.take(Event::Apply(object("a", 2, u64::MAX)));
    assert_eq!(load(&known).memory, rotated);
}

proptest! {
    /// Whatever comes in which order, only a deletion lowers a floor.
    #[test]
    fn t21_without_a_deletion_nothing_is_lowered(
        steps in proptest::collection::vec((0u8..5, 0u64..9, 1u64..20), 1..40),
    ) {
        let mut known = listed(Vec::new());
        let mut least = 0;
        for (kind, timestamp, version) in steps {
            match kind {
                0 => drop(plan(&mut known, timestamp)),
                1 => drop(answered(&mut known, object("a", version, timestamp))),
                2 => drop(known.take(Event::Apply(object("a", version, timestamp)))),
                3 => drop(known.take(Event::Init)),
                _ => {
                    known.take(Event::InitApply(object("a", version, timestamp)));
                    known.take(Event::InitDone);
                }
            }
            prop_assert!(floor(&known) >= least, "{} after {least}", floor(&known));
            least = floor(&known);
        }
    }
}
