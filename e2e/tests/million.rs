//! A million images, no two alike.

use std::time::Instant;

use countersign_e2e::builder::{self, Repo};
use countersign_e2e::flood::{ADMITTED, Flood};
use countersign_e2e::lab::Lab;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::reviews::pod_of;
use countersign_e2e::serve::Served;
use countersign_e2e::signed::{self, Signed};
use countersign_e2e::signer::{Kind as Scheme, Signer};
use countersign_e2e::{Outcome, usage};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";

/// Where every tag is signed.
const SIGNED: &str = "payments/signed";

/// Memory is looked at after so many images, and so often.
const STEP: usize = 100_000;
const STEPS: usize = 10;

/// What the second half may add to the memory, in bytes. Of images refusals are kept, for seconds:
/// those of repositories in at most 16 MiB, at about a KiB each, and for ten seconds; and for as long
/// what tags stand for. So many may be there at the end and not at the half. What each image of a half
/// left for good would show from 34 bytes on, each admitted tag from 7 KiB on.
const GROWTH: u64 = 16 << 20;

/// Reviews at a time.
const AT_ONCE: usize = 2;

/// Images of one kind.
struct Kind {
    /// How many of a step they are, and how many a pod has.
    of_a_step: usize,
    of_a_pod: usize,
    /// What they are refused as, or that they are admitted.
    code: &'static str,
    /// The image of this number, without its registry.
    image: fn(usize) -> String,
}

const KINDS: [Kind; 4] = [
    // Known repository, unknown digest: nothing is asked for.
    Kind {
        of_a_step: 94_000 - SIGNED_TAGS,
        of_a_pod: 1_000,
        code: "Unsigned",
        image: |n| format!("{REPOSITORY}@sha256:{n:064x}"),
    },
    // Repositories that have no pin: an update each, that fails before it asks anybody.
    Kind {
        of_a_step: 5_800,
        of_a_pod: 200,
        code: "RootNotPinned",
        image: |n| format!("team-{n}/api@sha256:{n:064x}"),
    },
    // Tags that the registry does not have: two requests each.
    Kind {
        of_a_step: 200,
        of_a_pod: 50,
        code: "Unsigned",
        image: |n| format!("{REPOSITORY}:t{n}"),
    },
    // Signed tags that the registry has: one request each.
    Kind {
        of_a_step: SIGNED_TAGS,
        of_a_pod: 50,
        code: ADMITTED,
        image: |n| format!("{SIGNED}:s{n}"),
    },
];

/// How many tags of a step are signed. All are in one file of metadata.
const SIGNED_TAGS: usize = 500;

/// Pushes an image under every tag that is signed, signs them, and trusts what serves that.
fn sign_tags(lab: &Lab) -> Outcome<Served> {
    let image = lab.registry.push(SIGNED, "s0", "signed")?;
    let tags = || (0..STEPS * SIGNED_TAGS).map(|n| format!("s{n}"));
    lab.registry.tag_all(&image, tags())?;

    let root_key = Signer::x509(Scheme::P256, &signed::certificate(&image.name));
    let keys = [Scheme::P256, Scheme::P256, Scheme::Ed25519].map(Signer::new);
    let mut repo = Repo::with_keys(root_key, keys);
    let target = builder::meta(&lab.registry.manifest(&image)?);
    let targets: Value = tags().map(|tag| (tag, target.clone())).collect();
    repo.set("targets", "targets", targets);
    let tomorrow = Timestamp::now() + SignedDuration::from_hours(24);
    let tomorrow = Timestamp::from_second(tomorrow.as_second())?.to_string();
    for role in ["root", "timestamp", "snapshot", "targets"] {
        repo.set(role, "expires", json!(tomorrow));
    }
    let files = Signed::default();
    files.put(&image.name, &repo.seal());
    let served = Served::start(files.router(), &lab.authority.server("signed")?)?;

    let key = signed::public_key(&repo.root_key);
    let mut source = Source::new("signed", served.url(), &lab.authority.pem());
    source.refresh_after = 60;
    lab.policies.source(&source.pin("all", &image.name, &key))?;
    // Reviews that do not go through /mutate first would be refused for their tags.
    let policy = Policy { tags: "Float", ..Policy::new("signed", &image.name, "signed") };
    lab.policies.policy(&policy)?;
    let mut others = lab.policy();
    others.exclude.push(image.name);
    lab.policies.policy(&others)?;
    Ok(served)
}

#[test]
fn o8_a_million_images_take_no_more_memory_than_half_of_them() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let mut source = lab.source(REPOSITORY)?;
    source.refresh_after = 60;
    lab.policies.source(&source)?;
    let _signed = sign_tags(&lab)?;
    let mut countersign = lab.countersign("countersign")?;
    countersign.pod(&image.by_digest())?.0.admitted()?;
    let pid = countersign.process().pid();
    let flood = Flood::new(countersign.url(), lab.authority.certificate(), AT_ONCE)?;
    let mut memory = Vec::new();
    let begun = Instant::now();
    for step in 0..STEPS {
        for Kind { of_a_step, of_a_pod, code, image } in KINDS {
            let host = lab.registry.host().to_owned();
            let image = move |n: usize| format!("{host}/{}", image(step * of_a_step + n));
            let pods = (0..of_a_step / of_a_pod)
                .map(move |pod| pod_of("many", (0..of_a_pod).map(|n| image(pod * of_a_pod + n))));
            let answers = flood.send("/validate?timeout=10s", pods, AT_ONCE)?;
            assert!(answers.only(&[code]), "{answers}");
        }
        memory.push(usage::resident(pid)?);
        let (images, mebibytes) = ((step + 1) * STEP, memory[step] as f64 / f64::from(1 << 20));
        println!("{images} images: {mebibytes:.1} MiB after {:.0?}", begun.elapsed());
    }
    let (half, all) = (memory[STEPS / 2 - 1], memory[STEPS - 1]);
    assert!(all < half + GROWTH, "{half} bytes after the first half, {all} after the second");
    // And what was known before is.
    countersign.pod(&image.by_digest())?.0.admitted().map(drop)
}
