//! A TUF repository, in which images are signed and revoked, and whose server goes back.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::Outcome;
use countersign_e2e::api_server::ApiServer;
use countersign_e2e::flood::ADMITTED;
use countersign_e2e::front::Front;
use countersign_e2e::install::SYSTEM_NAMESPACE;
use countersign_e2e::pki::Authority;
use countersign_e2e::registry::{Image, Registry};
use countersign_e2e::tuf::resources::{self, accepting};
use countersign_e2e::tuf::{Layout, Repository, TufServer};
use serde_json::json;

use crate::events;
use crate::tally::Tally;
use crate::world::World;

/// For how long the server has gone back: for some refreshes.
const BACK: Duration = Duration::from_secs(6);

const REFRESH_AFTER_SECONDS: u32 = 2;

/// Its repositories, as a policy matches them.
pub(crate) const REPOSITORIES: &str = "tuf/**";

pub(crate) struct Tuf {
    repository: Mutex<Repository>,
    front: Mutex<Front>,
    /// Signed as 1, and stays so.
    pub(crate) steady: Image,
    _server: TufServer,
}

impl Tuf {
    /// Signs an image, of a registry that is known as `host`.
    pub(crate) fn start(
        folder: &Path,
        authority: &Authority,
        registry: &Registry,
        host: &str,
    ) -> Outcome<Self> {
        let mut repository = Repository::create(&folder.join("tuf"), &Layout::default())?;
        let server = TufServer::start(repository.folder(), authority)?;
        let front = Front::start(server.url(), authority)?;
        let pushed = registry.push("tuf/steady", "1", "1")?;
        let steady = pushed.clone().at(host);
        repository.add(&target(&steady, "1"), &registry.manifest(&pushed)?);
        repository.publish()?;
        let (repository, front) = (Mutex::new(repository), Mutex::new(front));
        Ok(Self { repository, front, steady, _server: server })
    }

    /// Has the source, the policy and what they need trusted.
    pub(crate) fn trust(
        &self,
        api_server: &ApiServer,
        authority: &Authority,
        host: &str,
    ) -> Outcome<()> {
        let url = format!("{}/metadata/", self.front().url());
        let mut source = resources::source(&url, &resources::root_reference());
        source["spec"]["freshness"]["refreshAfterSeconds"] = REFRESH_AFTER_SECONDS.into();
        let images = format!("{host}/{REPOSITORIES}");
        let objects = [
            resources::authority(&authority.pem()),
            resources::root(&self.repository(), "1.root.json")?,
            source,
            resources::policy("tuf", &images, &json!([accepting(&["*"])])),
        ];
        for object in objects {
            let here = ["apply", "-n", SYSTEM_NAMESPACE, "-f", "-"];
            api_server.kubectl_with(&here, &object.to_string())?.success()?;
        }
        Ok(())
    }

    /// Its server.
    pub(crate) fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn repository(&self) -> MutexGuard<'_, Repository> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target that a tag of an image is.
fn target(image: &Image, tag: &str) -> String {
    format!("{}/{tag}", image.name)
}

/// What was revoked stays so while the server shows what it had before: nothing that is known to be
/// old is believed, and what is at hand is newer.
pub(crate) fn went_back(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let tag = format!("t{round}");
    let (image, manifest) = world.pushed("tuf/changing", &tag)?;
    let digest = image.by_digest();
    let mut repository = world.tuf.repository();
    repository.add(&target(&image, &tag), &manifest);
    repository.publish()?;
    events::follow(world, tally, "a TUF target is seen", &digest, ADMITTED)?;
    let old = repository.save()?;
    repository.remove("targets", &target(&image, &tag));
    repository.publish()?;
    events::follow(world, tally, "a TUF target is gone", &digest, "Unsigned")?;
    let new = repository.save()?;
    repository.put_back(&old)?;
    let begun = Instant::now();
    let mut kept = Ok(());
    while kept.is_ok() && begun.elapsed() < BACK {
        kept = events::holds(world, tally, "a TUF server that went back", &digest, &["Unsigned"]);
        thread::sleep(Duration::from_millis(50));
    }
    // Whatever there was: the next round signs on from here.
    repository.put_back(&new)?;
    kept
}
