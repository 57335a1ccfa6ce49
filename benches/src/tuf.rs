//! What TUF repositories that python-tuf has written cost: no I/O but for the warm reviews.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use countersign_e2e::tuf::resources::{self, accepting};
use countersign_e2e::tuf::{Bins, Layout, Repository, TufServer};
use countersign_e2e::{Context, Outcome};
use countersign_verify::image::{Digest, Reference};
use countersign_verify::memory::Memory;
use countersign_verify::outcome::Refusal;
use countersign_verify::tuf::{self, Accept, Answer, Image, InitialRoot, Lookup, Template, Update};
use jiff::Timestamp;
use serde_json::json;

use crate::report::{Limit, Report, median};
use crate::verification::{refused, thread_nanos};
use crate::warm::{self, Contender};
use crate::world::{TAG, World};

const ROUNDS: usize = 200;

/// Of a verification that reads thousands of delegations.
const BINS_ROUNDS: usize = 5;

const TARGETS: usize = 1_000;

/// The logarithm of the bins' number: as many as a public repository of packages has.
const BITS: u32 = 14;

const BINS_TARGETS: usize = 100_000;

/// Of roles: longer than the bench.
const EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);

/// The default: how much of a warm review is refreshing is not to depend on the test.
const REFRESH_AFTER_SECONDS: u32 = 60;

/// Adds one verification's processor time and requests, and warm reviews.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    plain(world, report)?;
    bins(world, report)?;
    warm_reviews(world, report)
}

/// A repository in a folder, and an image that it signs.
struct Signed {
    initial: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    lookup: Arc<Lookup>,
    reference: Reference,
    digest: Digest,
}

impl Signed {
    /// Reads what was published; one image is looked up.
    fn read(tuf: &Repository, number: usize) -> Outcome<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(tuf.metadata())? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("a file's name")?;
            files.insert(name, fs::read(entry.path())?);
        }
        let lookup = Lookup {
            target: Template::for_tags("{registry}/{repository}/{tag}")?,
            digest_target: None,
            accept: Accept::Any(vec!["*".to_owned()]),
        };
        Ok(Self {
            initial: tuf.initial_root()?,
            files,
            lookup: Arc::new(lookup),
            reference: Reference::parse(&format!("{}:{TAG}", name(number)))?,
            digest: Digest::sha256(&manifest(number)),
        })
    }

    /// Gives whatever is wanted until the image can be looked up; tells what was asked for.
    fn load(&self, mut update: Update) -> Result<(tuf::Repository, Vec<String>), Refusal> {
        update.want(&self.lookup, &self.reference, Some(&self.digest));
        let mut asked = Vec::new();
        loop {
            let wanted = update.wanted();
            if wanted.is_empty() {
                return Ok((update.finish()?, asked));
            }
            for file in wanted {
                let found = self.files.get(&file.path);
                update.take(&file.role, found.map_or(Answer::Absent, |it| Answer::Bytes(it)))?;
                asked.push(file.path);
            }
        }
    }

    /// From nothing but the initial root to the image's proof.
    fn cold(&self) -> Result<(tuf::Repository, Vec<String>), Refusal> {
        let now = Timestamp::now();
        let initial = InitialRoot::read(&self.initial)?;
        let (repository, asked) = self.load(Update::new(&initial, Memory::default(), now))?;
        let (reference, digest) = (&self.reference, &self.digest);
        let image = Image { reference, digest, size: None, manifest: None };
        repository.find(&self.lookup, image, now)?;
        Ok((repository, asked))
    }
}

/// The image of this number, as references name it.
fn name(number: usize) -> String {
    format!("registry.example.com/team/app-{number}")
}

fn target(number: usize) -> String {
    format!("{}/{TAG}", name(number))
}

fn manifest(number: usize) -> Vec<u8> {
    format!("bench {number}").into_bytes()
}

/// The median processor time of so many, in milliseconds.
fn processor(rounds: usize, work: impl Fn() -> Outcome<()>) -> Outcome<f64> {
    let mut taken = Vec::new();
    for _ in 0..rounds {
        let begun = thread_nanos();
        work()?;
        taken.push((thread_nanos() - begun) as f64 / 1e6);
    }
    Ok(median(taken))
}

fn layout() -> Layout {
    Layout { expires: EXPIRES, ..Layout::default() }
}

fn plain(world: &World, report: &mut Report) -> Outcome<()> {
    let mut tuf = Repository::create(&world.folder.join("tuf-plain"), &layout())?;
    for number in 0..TARGETS {
        tuf.add(&target(number), &manifest(number));
    }
    tuf.publish()?;
    let signed = Signed::read(&tuf, TARGETS / 2)?;
    let cold = processor(ROUNDS, || signed.cold().map(drop).map_err(refused))?;
    let name = "cold TUF verification, 1,000 targets, CPU";
    report.value(name, "ms", cold, Limit::AtMost(5.0));

    let (earlier, _) = signed.cold().map_err(refused)?;
    let initial = InitialRoot::read(&signed.initial)?;
    let requests = OnceCell::new();
    let refresh = processor(ROUNDS, || {
        let update = Update::new(&initial, earlier.memory().clone(), Timestamp::now());
        let (_, asked) = signed.load(update.after(&earlier)).map_err(refused)?;
        requests.get_or_init(|| asked.len());
        Ok(())
    })?;
    let requests = *requests.get().context("no round")? as f64;
    report.value("TUF refresh, unchanged: requests", "", requests, Limit::AtMost(2.0));
    report.value("TUF refresh, unchanged: CPU", "ms", refresh, Limit::AtMost(1.0));
    Ok(())
}

fn bins(world: &World, report: &mut Report) -> Outcome<()> {
    let mut tuf = Repository::create(&world.folder.join("tuf-bins"), &layout())?;
    tuf.delegate_bins("targets", &Bins::hashed("bin-", BITS));
    for number in 0..BINS_TARGETS {
        tuf.add_to_bin("targets", &target(number), &manifest(number));
    }
    tuf.publish()?;
    let signed = Signed::read(&tuf, BINS_TARGETS / 2)?;
    let (_, asked) = signed.cold().map_err(refused)?;
    let fetched = asked.iter().filter(|path| path.contains("bin-")).count() as f64;
    let name = |what: &str| format!("16,384 TUF bins, {BINS_TARGETS} targets: {what}");
    report.value(&name("bins fetched for one review"), "", fetched, Limit::AtMost(1.0));
    let cold = processor(BINS_ROUNDS, || signed.cold().map(drop).map_err(refused))?;
    report.value(&name("cold CPU"), "ms", cold, Limit::None);
    Ok(())
}

/// Reviews of an image whose evidence is at hand, beside an echo of the same bytes.
fn warm_reviews(world: &World, report: &mut Report) -> Outcome<()> {
    let (mut tuf, near) =
        (Repository::create(&world.folder.join("tuf-warm"), &layout())?, &world.near);
    tuf.add(&format!("{}/{TAG}", near.name), &world.manifest);
    tuf.publish()?;
    let server = TufServer::start(tuf.folder(), &world.authority)?;
    let mut countersign = world.countersign_with("tuf", |policies| {
        let mut source = resources::source(&server.metadata_url(), &resources::root_reference());
        source["spec"]["freshness"]["refreshAfterSeconds"] = REFRESH_AFTER_SECONDS.into();
        let objects = [
            resources::authority(&world.authority.pem()),
            resources::root(&tuf, "1.root.json")?,
            source,
            resources::policy("all", &near.name, &json!([accepting(&["*"])])),
        ];
        policies.write("tuf", &objects.map(|object| object.to_string()).join("\n---\n"))
    })?;
    let by_digest = world.reviews(&countersign, "/validate", &near.by_digest())?;
    let by_tag = world.reviews(&countersign, "/mutate", &near.by_tag())?;
    let (echo, echoed) = warm::echo(world)?;
    let pid = countersign.process().pid();
    let mut contenders = [
        Contender::new("echo", echoed, echo.server.pid()),
        Contender::new("TUF by digest", by_digest, pid),
        Contender::new("TUF by cached tag", by_tag, pid),
    ];
    for _ in 0..warm::ROUNDS {
        warm::round(&mut contenders)?;
    }
    warm::tell(report, "HTTP/2", &contenders);
    Ok(())
}
