//! The servers and the images.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::Config;
use countersign_e2e::front::Front;
use countersign_e2e::install::{self, SYSTEM_NAMESPACE};
use countersign_e2e::notary::Notary;
use countersign_e2e::notary_client::NotaryClient;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::process::eventually;
use countersign_e2e::registry::{Image, Registry};
use countersign_e2e::tuf::resources;
use countersign_e2e::{Context, Outcome};
use tempfile::TempDir;

use crate::burst::Slow;
use crate::many::{self, Many};
use crate::replicas::{Replica, Replicas};
use crate::trouble::Troubles;
use crate::tuf::{self, Tuf};

/// For whom a replica's certificate is.
pub(crate) const SERVICE: &str = "countersign.countersign.svc";

/// The namespace that no load is in.
pub(crate) const EDITED: &str = "edited";

const SOURCE: &str = "notary";

/// `--watch-stale-after`, in seconds: longer than the API server is away.
const STALE_AFTER: u32 = 300;

pub(crate) struct World {
    pub(crate) replicas: Replicas,
    pub(crate) troubles: Troubles,
    /// The registry, as references name it.
    pub(crate) host: String,
    notary_front: Mutex<Front>,
    registry_front: Mutex<Front>,
    pub(crate) tuf: Tuf,
    pub(crate) many: Many,
    pub(crate) slow: Slow,
    pub(crate) signer: NotaryClient,
    /// Signed as 1, and stays so.
    pub(crate) steady: Image,
    /// Beside it, as 2, and never signed.
    pub(crate) unsigned: Image,
    /// Signed as 1, in a repository whose keys are rotated.
    pub(crate) rotating: Image,
    registry: Registry,
    api_server: Mutex<ApiServer>,
    _notary: Notary,
    _folder: TempDir,
}

impl World {
    pub(crate) fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let authority = Authority::new(&path.join("pki"))?;
        let notary = Notary::start(&path.join("notary"), &authority)?;
        let registry = Registry::start(&path.join("registry"), &authority)?;
        let notary_front = Front::start(notary.url(), &authority)?;
        let registry_front = Front::start(&format!("https://{}", registry.host()), &authority)?;
        let host = registry_front.host().to_owned();
        let slow = Slow::start(&authority)?;
        for host in [registry_front.host(), slow.registry.host()] {
            let certs = registry.certs().join(host);
            fs::create_dir_all(&certs)?;
            fs::copy(authority.certificate(), certs.join("ca.crt"))?;
        }

        let signer = NotaryClient::new(&path.join("signer"), &notary)?;
        let image = |repository: &str, tag: &str| -> Outcome<Image> {
            Ok(registry.push(repository, tag, tag)?.at(&host))
        };
        let (steady, unsigned) = (image("steady/api", "1")?, image("steady/api", "2")?);
        let rotating = image("rotating/api", "1")?;
        for gun in [&steady.name, &rotating.name, &format!("{host}/changing/api")] {
            signer.init(gun)?;
        }
        for image in [&steady, &rotating] {
            signer.sign(&image.name, "1", &image.digest, image.size)?;
        }
        let tuf = Tuf::start(path, &authority, &registry, &host)?;
        let api_server = ApiServer::start(&path.join("kubernetes"), &authority)?;
        install::definitions(&api_server)?;
        let mut config = Config::new(Path::new(""));
        config.kubernetes = Some(install::rights(&api_server, STALE_AFTER)?);
        config.registry_certs = Some(registry.certs().to_owned());
        // A line for each review would fill disks.
        config.more.push("--log=warn".to_owned());
        let world = Self {
            troubles: Troubles::new(&authority, &path.join("other-authority"))?,
            host,
            notary_front: Mutex::new(notary_front),
            registry_front: Mutex::new(registry_front),
            tuf,
            many: Many::start(&authority)?,
            slow,
            signer,
            steady,
            unsigned,
            rotating,
            registry,
            api_server: Mutex::new(api_server),
            replicas: Replicas::start(path, authority, config)?,
            _notary: notary,
            _folder: folder,
        };
        world.trust()?;
        for replica in world.replicas.all() {
            world.warm_up(&replica)?;
        }
        Ok(world)
    }

    /// Writes the sources and the policies.
    fn trust(&self) -> Outcome<()> {
        let (host, authority) = (&self.host, self.replicas.authority());
        let pin = self.signer.pin(&self.steady.name)?;
        let mut source = Source::new(SOURCE, self.notary_front().url(), &authority.pem());
        for repository in ["steady/api", "rotating/api", "changing/api", "cold/**"] {
            let name = repository.split('/').next().context("a repository without a name")?;
            source = source.pin(name, &format!("{host}/{repository}"), &pin);
        }
        source.refresh_after = 2;
        let api_server = self.api_server();
        for namespace in ["payments", EDITED] {
            api_server.create_namespace(namespace)?;
        }
        let (many, slow) = (self.many.source(authority), self.slow.source(authority, &pin));
        let here = ["apply", "-n", SYSTEM_NAMESPACE, "-f", "-"];
        for source in [&source, &many, &slow] {
            api_server.kubectl_with(&here, &source.config_map())?.success()?;
        }
        self.tuf.trust(&api_server, authority, host)?;
        drop(api_server);
        let mut all = Policy::new("all", &format!("{host}/**"), SOURCE);
        all.exclude = vec![format!("{host}/{}", tuf::REPOSITORIES)];
        let policies = [all, Many::policy(), self.slow.policy()];
        [source, many, slow].iter().try_for_each(|source| self.apply(&source.yaml()))?;
        policies.iter().try_for_each(|policy| self.apply(&policy.yaml()))
    }

    /// Lets a replica have at hand what is asked of it as such.
    pub(crate) fn warm_up(&self, replica: &Replica) -> Outcome<()> {
        for image in [&self.steady, &self.rotating, &self.tuf.steady] {
            let ask = || Ok(replica.pod(&image.by_digest())?.0);
            eventually("a signed image", ask, |verdict| verdict.allowed)?;
        }
        Ok(())
    }

    /// Pushes an image and signs its tag.
    pub(crate) fn signed(&self, repository: &str, tag: &str) -> Outcome<Image> {
        let image = self.registry.push(repository, tag, tag)?.at(&self.host);
        self.signer.sign(&image.name, tag, &image.digest, image.size)?;
        Ok(image)
    }

    /// Pushes an image, and gives its manifest with it.
    pub(crate) fn pushed(&self, repository: &str, tag: &str) -> Outcome<(Image, Vec<u8>)> {
        let image = self.registry.push(repository, tag, tag)?;
        let manifest = self.registry.manifest(&image)?;
        Ok((image.at(&self.host), manifest))
    }

    /// Writes a resource as an administrator does.
    pub(crate) fn apply(&self, yaml: &str) -> Outcome<()> {
        self.api_server().kubectl_with(&["apply", "-f", "-"], yaml)?.success().map(drop)
    }

    /// The server before Notary.
    pub(crate) fn notary_front(&self) -> MutexGuard<'_, Front> {
        self.notary_front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server before the registry.
    pub(crate) fn registry_front(&self) -> MutexGuard<'_, Front> {
        self.registry_front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn api_server(&self) -> MutexGuard<'_, ApiServer> {
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repositories whose last update failed, of all sources and replicas.
    pub(crate) fn failing(&self) -> Outcome<f64> {
        let of = |source| format!("countersign_repositories_failing{{source=\"{source}\"}}");
        [SOURCE, resources::SOURCE, many::SOURCE]
            .into_iter()
            .map(|source| self.sum(&of(source)))
            .sum()
    }

    /// Says whether neither the metrics nor the logs tell of a panic.
    pub(crate) fn no_panics(&self) -> Outcome<bool> {
        let counted = self.sum("countersign_panics_total")?;
        let log = self.replicas.logs()?;
        let logged: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
        println!("{counted} panics were counted, {} are in the logs", logged.len());
        logged.iter().for_each(|line| println!("{line}"));
        Ok(counted == 0.0 && logged.is_empty())
    }

    /// Of all replicas.
    fn sum(&self, metric: &str) -> Outcome<f64> {
        self.replicas.all().iter().map(|replica| replica.metric(metric)).sum()
    }
}
