//! Root certificates: names, validity, algorithms, authorities.

use countersign_verify::image::Pattern;
use countersign_verify::notary::{Memory, Pin, PinnedKeys};
use countersign_verify::outcome::Denial;

use crate::builder::{Files, GUN, Repo, code, denial, now, pin, pin_of, time};
use crate::signer::{Cert, Kind, Signer};

const OTHER: &str = "registry.example.com/payments/web";

/// A repository whose root is signed by a key with this certificate, which is pinned.
fn certified(cert: &Cert) -> Result<(), Denial> {
    let key = Signer::x509(Kind::P256, cert);
    let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
    match repo.seal().verify(&repo.pin()) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(denial::<()>(Err(refusal))),
    }
}

fn malformed(result: Result<(), Denial>, reason: &str) {
    let denial = result.unwrap_err();
    assert_eq!(denial.code(), "MalformedMetadata");
    assert!(denial.to_string().contains(reason), "{denial}");
}

#[test]
fn t11_t18_a_root_of_another_repository_is_refused_under_every_kind_of_pin() {
    let authority = Signer::new(Kind::P256);
    let ca = Cert { ca: true, ..Cert::named("corp root") };
    let leaf = Signer::new(Kind::P256);
    let key = leaf.bundled(&[leaf.issued(&Cert::named(OTHER), &authority, &ca)]);
    let repo = Repo::with_keys(key.clone(), [Kind::P256; 3].map(Signer::new));
    let ids = PinnedKeys::RootKeyIds { ids: vec![key.id()], threshold: 1 };
    let authorities = PinnedKeys::CertificateAuthorities(vec![authority.authority(&ca)]);
    let keys = PinnedKeys::PublicKeys { keys: vec![key.spki()], threshold: 1 };
    let files = repo.seal();
    for keys in [ids, authorities, keys] {
        let pin = pin_of(keys);
        files.update(&pin, OTHER, &Memory::default(), now()).repository.unwrap();
        let denial = denial(files.verify(&pin));
        assert_eq!(denial.code(), "MalformedMetadata");
        assert!(denial.to_string().contains(OTHER) && denial.to_string().contains(GUN), "{denial}");
    }
}

#[test]
fn t18_two_repositories_of_one_root_key_swapped_on_the_server() {
    let key = Signer::new(Kind::P256);
    let others = [Kind::P256; 3].map(Signer::new);
    let one = Repo::with_keys(key.certified(&Cert::named(GUN)), others.clone());
    let two = Repo::with_keys(key.certified(&Cert::named(OTHER)), others);
    let pin = pin(&[&key], 1);
    let (one, two) = (one.seal(), two.seal());
    one.verify(&pin).unwrap();
    assert_eq!(code(&two.verify(&pin)), "MalformedMetadata");
    assert_eq!(
        code(&one.update(&pin, OTHER, &Memory::default(), now()).repository),
        "MalformedMetadata"
    );
    // One's own root, and the rest of the other: its snapshot lists another root.
    let mixed = Files { roots: one.roots.clone(), ..two };
    assert_eq!(mixed.verify(&pin).unwrap_err(), crate::builder::root_changed());
}

#[test]
fn a_certificate_for_a_prefix_needs_that_prefix_in_the_pin() {
    let name = "registry.example.com/payments/*";
    assert_eq!(certified(&Cert::named(name)), Ok(()));
    for name in [
        "registry.example.com/*",
        "registry.example.com/payments*",
        "registry.example.com/payments/a*",
        "registry.example.com/payments/**",
        "*",
        "/*",
        "",
        "registry.example.com/payments/api/*",
        "registry.example.com/payments/apix",
        "registry.example.com/payments/ap",
    ] {
        malformed(certified(&Cert::named(name)), "is for");
    }
    // A literal pin does not allow it.
    let key = Signer::x509(Kind::P256, &Cert::named(name));
    let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
    let literal = Pin { repositories: vec![Pattern::parse(GUN).unwrap()], ..repo.pin() };
    assert_eq!(code(&repo.seal().verify(&literal)), "MalformedMetadata");
}

#[test]
fn a_certificate_has_exactly_one_name() {
    let two = Cert { names: vec![GUN.to_owned(), OTHER.to_owned()], ..Cert::named(GUN) };
    malformed(certified(&two), "exactly one CN");
    malformed(certified(&Cert { names: Vec::new(), ..two }), "exactly one CN");
}

#[test]
fn an_authority_s_certificate_is_no_leaf() {
    malformed(certified(&Cert { ca: true, ..Cert::named(GUN) }), "not a leaf");
}

#[test]
fn a_bundle_has_one_leaf_and_it_comes_first() {
    let key = Signer::new(Kind::P256);
    let pem = |cert: &Cert| String::from_utf8(key.certified(cert).public).unwrap();
    let (leaf, ca) = (pem(&Cert::named(GUN)), pem(&Cert { ca: true, ..Cert::named("ca") }));
    for (bundle, sound) in [
        (vec![leaf.clone()], true),
        (vec![leaf.clone(), ca.clone()], true),
        (vec![leaf.clone(), leaf.clone()], false),
        (vec![ca, leaf], false),
    ] {
        let repo = Repo::with_keys(key.bundled(&bundle), [Kind::P256; 3].map(Signer::new));
        assert_eq!(repo.seal().verify(&repo.pin()).is_ok(), sound);
    }
    for bundle in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let key = key.bundled(&[bundle.to_owned()]);
        let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
        assert_eq!(code(&repo.seal().verify(&repo.pin())), "ThresholdNotMet");
    }
}

#[test]
fn a_root_key_without_a_certificate_does_not_count() {
    let repo = Repo::with_keys(Signer::new(Kind::P256), [Kind::P256; 3].map(Signer::new));
    let denial = denial(repo.seal().verify(&repo.pin()));
    assert!(denial.to_string().contains("no certificate"), "{denial}");
}

#[test]
fn a_certificate_may_begin_a_day_ahead_and_no_more() {
    let from = |day| Cert { from: (2030, 1, day), ..Cert::named(GUN) };
    assert_eq!(certified(&from(2)), Ok(()));
    malformed(certified(&from(3)), "not valid before");
}

#[test]
fn a_certificate_holds_to_the_second() {
    let at = |cert: &Cert, now: &str| {
        let key = Signer::x509(Kind::P256, cert);
        let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
        let files = repo.seal();
        code(&files.update(&repo.pin(), GUN, &Memory::default(), time(now)).repository)
    };
    let ahead = Cert { from: (2030, 1, 2), ..Cert::named(GUN) };
    assert_eq!(at(&ahead, "2030-01-01T00:00:00Z"), "ok");
    assert_eq!(at(&ahead, "2029-12-31T23:59:59Z"), "MalformedMetadata");
    let ending = Cert { until: (2030, 1, 1), ..Cert::named(GUN) };
    assert_eq!(at(&ending, "2030-01-01T00:00:00Z"), "ok");
    assert_eq!(at(&ending, "2030-01-01T00:00:01Z"), "Expired");
}

#[test]
fn a_certificate_of_an_older_root_ends_no_earlier_than_it_begins() {
    let chain = |until| {
        let old = Signer::x509(Kind::P256, &Cert { from: (2029, 2, 2), until, ..Cert::named(GUN) });
        let mut repo = Repo::with_keys(old.clone(), [Kind::P256; 3].map(Signer::new));
        let mut second = repo.root(2, &[Signer::x509(Kind::P256, &Cert::named(GUN))], 1);
        second.signers.push(old);
        repo.roots.insert(2, second);
        repo.seal().verify(&repo.pin())
    };
    chain((2029, 2, 2)).unwrap();
    let denial = denial(chain((2029, 2, 1)));
    assert!(denial.to_string().contains("NotBefore is after its NotAfter"), "{denial}");
}

#[test]
fn t5_an_expired_root_certificate_and_t17_the_message_names_the_clock() {
    let expired = certified(&Cert { until: (2030, 1, 1), ..Cert::named(GUN) }).unwrap_err();
    let at = time("2030-01-01T00:00:00Z");
    let role = "root certificate".to_owned();
    assert_eq!(expired, Denial::Expired { role, expired: at, now: now() });
    assert!(expired.to_string().contains("clock says 2030-01-01T12:00:00Z"), "{expired}");
}

#[test]
fn a_certificate_by_sha1_or_md5_is_refused() {
    const SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    let with = |last: u8| [&SHA256[..8], &[last]].concat();
    let key = Signer::new(Kind::RsaPss);
    // SHA-256 as it is, SHA-512, SHA-1, MD5, and PSS, whose hash is SHA-1 unless it says so.
    for (last, everywhere, sound) in [
        (11, true, true),
        (13, true, true),
        (13, false, false),
        (5, true, false),
        (5, false, false),
        (4, true, false),
        (10, true, false),
    ] {
        let key = key.certified_by(&Cert::named(GUN), SHA256, &with(last), everywhere);
        let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
        let result = repo.seal().verify(&repo.pin());
        assert_eq!(result.is_ok(), sound, "{last}");
        if !sound {
            assert!(denial(result).to_string().contains("too weak"), "{last}");
        }
    }
}

/// A key that an authority's intermediate has certified, and the authority's certificate.
fn issued(intermediate: &Cert, leaf: &Cert, ca: &Cert) -> (Signer, Vec<u8>) {
    let [root, middle, key] = [Kind::P384, Kind::P256, Kind::P256].map(Signer::new);
    let middle_pem = middle.issued(intermediate, &root, ca);
    let leaf_pem = key.issued(leaf, &middle, intermediate);
    (key.bundled(&[leaf_pem, middle_pem]), root.authority(ca))
}

fn by_authority(intermediate: &Cert, leaf: &Cert, ca: &Cert) -> &'static str {
    let (key, authority) = issued(intermediate, leaf, ca);
    let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
    let pin = pin_of(PinnedKeys::CertificateAuthorities(vec![authority]));
    code(&repo.seal().verify(&pin))
}

#[test]
fn certificates_by_a_pinned_authority() {
    let ca = Cert { ca: true, ..Cert::named("corp root") };
    let middle = Cert { ca: true, ..Cert::named("corp issuing") };
    let leaf = Cert::named(GUN);
    assert_eq!(by_authority(&middle, &leaf, &ca), "ok");
    let until = (2029, 12, 31);
    assert_eq!(by_authority(&Cert { until, ..middle.clone() }, &leaf, &ca), "RootNotPinned");
    assert_eq!(by_authority(&middle, &leaf, &Cert { until, ..ca.clone() }), "RootNotPinned");
    assert_eq!(by_authority(&middle, &Cert { until, ..leaf.clone() }, &ca), "Expired");
    let not_ca = Cert { ca: false, ..middle };
    assert_eq!(by_authority(&not_ca, &leaf, &ca), "MalformedMetadata");
}

#[test]
fn t1_a_certificate_by_an_authority_of_the_same_name_is_not_pinned() {
    let ca = Cert { ca: true, ..Cert::named("corp root") };
    let middle = Cert { ca: true, ..Cert::named("corp issuing") };
    let (key, _) = issued(&middle, &Cert::named(GUN), &ca);
    let (_, authority) = issued(&middle, &Cert::named(GUN), &ca);
    let repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
    let pin = pin_of(PinnedKeys::CertificateAuthorities(vec![authority]));
    assert_eq!(code(&repo.seal().verify(&pin)), "RootNotPinned");
    let none = pin_of(PinnedKeys::CertificateAuthorities(Vec::new()));
    assert_eq!(code(&repo.seal().verify(&none)), "RootNotPinned");
}

#[test]
fn a_chain_from_an_authority_through_an_expired_root() {
    let ca = Cert { ca: true, ..Cert::named("corp root") };
    let middle = Cert { ca: true, ..Cert::named("corp issuing") };
    let (old, authority) = issued(&middle, &Cert { until: (2029, 2, 1), ..Cert::named(GUN) }, &ca);
    let new = Signer::x509(Kind::P256, &Cert::named(GUN));
    let mut repo = Repo::with_keys(old.clone(), [Kind::P256; 3].map(Signer::new));
    let mut second = repo.root(2, &[new], 1);
    second.signers.push(old);
    repo.roots.insert(2, second);
    let pin = pin_of(PinnedKeys::CertificateAuthorities(vec![authority]));
    repo.seal().verify(&pin).unwrap();
}
