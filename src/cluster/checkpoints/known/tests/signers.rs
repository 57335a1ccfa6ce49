//! Floors of who signed, as TUF's are, and what a root leaves of them.

use countersign_verify::memory::{Keys, Signers};

use super::*;

/// As TUF's floors are: of who signed the version, under a root by which one may sign.
fn signed(root: u64, may: &str, version: u64, signer: &str) -> Memory {
    let mut memory = memory(root, version);
    let keys = format!("sha256:{signer}");
    memory.roles.values_mut().for_each(|floor| floor.keys.clone_from(&keys));
    let may: Vec<String> = may.chars().map(|key| format!("sha256:{key}")).collect();
    let may = Keys { keys: may.join(","), threshold: 1 };
    let signers = Signers { timestamp: may.clone(), snapshot: may };
    memory.root.as_mut().expect("a root").signers = Some(Box::new(signers));
    memory
}

/// A replica that has begun with `base` and is at the end of an update when another has written
/// `others`; what it writes then.
fn written_after(base: &Memory, others: &Memory, own: &Memory) -> Memory {
    let object = |version: u64, memory: &Memory| {
        let (name, mut read) = object("a", version, 1);
        read.spec = Ok(object::spec(&place(), memory).expect("something"));
        (name, read)
    };
    let mut known = listed(vec![object(1, base)]);
    let loaded = load(&known);
    let plan = |known: &mut Known| {
        known.plan(&object::name(&place()), &place(), &loaded, own).expect("planned")
    };
    assert!(matches!(plan(&mut known), Step::Change { .. }));
    answered(&mut known, object(2, others));
    match plan(&mut known) {
        Step::Done(memory) => memory,
        Step::Change { spec, .. } => object::memory(&spec),
        Step::Create(spec) => panic!("{spec:?}"),
    }
}

#[test]
fn t8_another_replicas_floor_does_not_fall_by_a_root_that_rotates_nothing() {
    let base = signed(1, "ab", 4, "a");
    let (high, newer) = (signed(1, "ab", 9, "b"), signed(2, "ab", 5, "a"));
    assert_eq!(written_after(&base, &high, &newer), signed(2, "ab", 9, "b"));
    assert_eq!(written_after(&base, &newer, &high), signed(2, "ab", 9, "b"));
}

#[test]
fn t8_what_could_not_be_written_does_not_fall_by_what_another_replica_wrote() {
    let mut known = listed(Vec::new());
    let (high, newer) = (signed(1, "ab", 9, "b"), signed(2, "ab", 5, "a"));
    known.plan(&object::name(&place()), &place(), &Remembered::default(), &high).expect("planned");
    let (name, mut read) = object("a", 1, 1);
    read.spec = Ok(object::spec(&place(), &newer).expect("something"));
    known.take(Event::Apply((name, read)));
    assert_eq!(load(&known).memory, signed(2, "ab", 9, "b"));
}

#[test]
fn t4_signers_that_are_rotated_away_recover_also_beside_others() {
    let (base, recovered) = (signed(1, "a", 1000, "a"), signed(2, "b", 5, "b"));
    assert_eq!(written_after(&base, &base, &recovered), recovered);
    let higher = signed(2, "b", 6, "b");
    assert_eq!(written_after(&base, &higher, &recovered), higher);
    // The root alone, and then what follows it, which only raises.
    let fallen = signed(2, "b", 0, "b");
    let root = Memory { roles: BTreeMap::new(), ..fallen.clone() };
    assert_eq!(written_after(&base, &base, &root), fallen);
    assert_eq!(written_after(&fallen, &fallen, &recovered), recovered);
    let meanwhile = signed(1, "a", 1001, "a");
    assert_eq!(written_after(&base, &meanwhile, &recovered), recovered);
    assert_eq!(written_after(&base, &recovered, &meanwhile), recovered);
    // Also where it was not known at the beginning.
    let mut known = listed(Vec::new());
    let loaded = load(&known);
    let (name, mut read) = object("a", 1, 1);
    read.spec = Ok(object::spec(&place(), &base).expect("something"));
    known.take(Event::Apply((name.clone(), read)));
    match known.plan(&name, &place(), &loaded, &recovered) {
        Ok(Step::Change { spec, .. }) => assert_eq!(object::memory(&spec), recovered),
        other => panic!("{other:?}"),
    }
}
