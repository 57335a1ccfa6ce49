//! An independent verifier, sigstore-tuf's set of trusted metadata, as a witness: what is accepted
//! here it accepts as well. Succinct bins it does not know.

use countersign_verify::memory::Memory;
use proptest::prelude::*;
use sigstore_tuf::TrustedMetadataSet;

use crate::builder::{Files, Repo, now};
use crate::random::versions;
use crate::shell::tags;

/// Whether the witness accepts every file, down a chain of delegations.
fn accepts(files: &Files, chain: &[String]) -> Result<(), sigstore_tuf::Error> {
    let now = jiff_0_2::Timestamp::from_second(now().as_second()).unwrap();
    let mut set = TrustedMetadataSet::from_root(&files.roots[&1])?;
    for root in files.roots.values().skip(1) {
        set.update_root(root)?;
    }
    set.check_root_expired(now)?;
    set.update_timestamp(&files.roles["timestamp"], now)?;
    set.update_snapshot(&files.roles["snapshot"], now)?;
    set.update_targets(&files.roles["targets"], now)?;
    let mut parent = "targets";
    for role in chain {
        set.update_delegated_targets(&files.roles[role], role, parent, now)?;
        parent = role;
    }
    Ok(())
}

fn chain(depth: usize) -> Vec<String> {
    (0..depth).map(|number| format!("r{number}")).collect()
}

fn is_accepted(files: &Files) -> bool {
    let initial = countersign_verify::tuf::InitialRoot::read(&files.roots[&1]);
    initial.is_ok() && files.run(tags("1.4"), &Memory::default()).find("new").is_ok()
}

#[test]
fn what_is_sound_is_sound_to_both() {
    for kind in crate::signer::KINDS {
        let mut repo = Repo::signing(&[("1.4", "new")]);
        repo.targets_key = crate::signer::Signer::new(kind);
        repo.rotate();
        let files = repo.seal();
        accepts(&files, &[]).unwrap();
        assert!(is_accepted(&files));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_accepted_here_the_witness_accepts(
        depth in 0usize..4,
        hashes: bool,
        which: prop::sample::Index,
        edit in prop_oneof![
            (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some),
            Just(None),
        ],
        old: bool,
    ) {
        let (older, newer) = versions(depth, hashes);
        let mut files = newer.seal();
        let names: Vec<String> = files.roles.keys().cloned().collect();
        let name = which.get(&names);
        if old {
            files.roles.insert(name.clone(), older.seal().roles[name].clone());
        }
        if let Some((at, byte)) = edit {
            let bytes = files.roles.get_mut(name).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_accepted(&files) {
            prop_assert!(accepts(&files, &chain(depth)).is_ok());
        } else {
            // It refuses too, but for what only our parser and lookup refuse.
            prop_assert!(old || edit.is_some());
        }
    }
}
