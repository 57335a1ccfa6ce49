//! Timestamp, snapshot and targets.

use crate::builder::{Repo, GUN, code, find_digest, find_tag};

#[test]
fn a_sound_repository_verifies() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let repository = repo.seal().verify(&repo.pin()).unwrap();
    let proof = find_tag(&repository, "1.4", "new").unwrap();
    assert_eq!(proof.role(), "targets/releases");
    assert_eq!(find_tag(&repository, "1.0", "old").unwrap().role(), "targets");
    assert_eq!(find_digest(&repository, "old").unwrap().name(), "1.0");
    assert_eq!(code(&find_tag(&repository, "1.0", "new")), "DigestMismatch");
}
