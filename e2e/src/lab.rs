//! Everything that signing and pulling take, started side by side: a notary-server, a registry, a
//! signer, and a folder of policies.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::countersign::{Config, Countersign};
use crate::front::Front;
use crate::notary::{Notary, Options};
use crate::notary_client::NotaryClient;
use crate::pki::Authority;
use crate::place::Place;
use crate::policies::{Policies, Policy, Source};
use crate::registry::{Auth, Image, Registry};
use crate::{Context, Outcome};

/// The name of the TrustSource that [`Lab::trust`] writes.
pub const SOURCE: &str = "corp-notary";

/// The name of the TrustPolicy that [`Lab::trust`] writes.
pub const POLICY: &str = "payments";

/// How long to wait until Countersign reads a source anew before it answers: its sources say one
/// second.
pub fn refresh() {
    thread::sleep(Duration::from_millis(1200));
}

/// A place to sign in. Its servers end, and its folder goes, when it is dropped.
pub struct Lab {
    /// The notary-server.
    pub notary: Notary,
    /// What stands before it: Countersign and the signer reach notary through this.
    pub front: Front,
    /// The registry.
    pub registry: Registry,
    /// Someone who signs.
    pub signer: NotaryClient,
    /// The resources that Countersign reads.
    pub policies: Policies,
    /// Who issued every server's certificate.
    pub authority: Authority,
    // Last: the servers write into it until they are dropped.
    folder: TempDir,
}

impl Lab {
    /// Starts the servers; notary-server signs by itself and asks for no token.
    pub fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(&folder.path().join("pki"))?;
        Self::start_in(folder, authority, Options::default())
    }

    /// As [`Self::start`], where the node's pods reach the servers by the same names.
    pub fn start_at_node() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(&folder.path().join("pki"))?;
        Self::start_in(folder, authority, Options { place: Place::NODE, ..Options::default() })
    }

    /// Starts the servers in this folder, with this authority, at the place of the options.
    pub fn start_in(folder: TempDir, authority: Authority, options: Options<'_>) -> Outcome<Self> {
        let path = folder.path();
        let (notary, registry) = thread::scope(|scope| {
            let notary =
                scope.spawn(|| Notary::start_with(&path.join("notary"), &authority, options));
            let registry =
                Registry::start_at(options.place, &path.join("registry"), &authority, Auth::None);
            (notary.join().ok().context("starting notary-server panicked"), registry)
        });
        let (notary, registry) = (notary??, registry?);
        let front = Front::start_at(options.place, notary.url(), &authority)?;
        let signer = NotaryClient::at(&path.join("signer"), front.url(), authority.certificate())?;
        let policies = Policies::new(&path.join("policies"))?;
        Ok(Self { notary, front, registry, signer, policies, authority, folder })
    }

    /// A folder of this name inside the lab's.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `HOST/repository`.
    pub fn gun(&self, repository: &str) -> String {
        format!("{}/{repository}", self.registry.host())
    }

    /// Pushes an image and signs its tag; the repository has to be initialised.
    pub fn push_signed(&self, repository: &str, tag: &str, content: &str) -> Outcome<Image> {
        let image = self.registry.push(repository, tag, content)?;
        self.signer.sign(&image.name, tag, &image.digest, image.size)?;
        Ok(image)
    }

    /// The source [`SOURCE`] with a pin for this repository, whose root key the signer holds.
    pub fn source(&self, repository: &str) -> Outcome<Source> {
        let gun = self.gun(repository);
        let pin = self.signer.pin(&gun)?;
        let name = repository.replace('/', "-");
        Ok(Source::new(SOURCE, self.front.url(), &self.authority.pem()).pin(&name, &gun, &pin))
    }

    /// The policy [`POLICY`]: whatever is in this registry has to be signed in [`SOURCE`].
    pub fn policy(&self) -> Policy {
        Policy::new(POLICY, &format!("{}/**", self.registry.host()), SOURCE)
    }

    /// Writes [`Self::source`] and [`Self::policy`].
    pub fn trust(&self, repository: &str) -> Outcome<()> {
        self.policies.source(&self.source(repository)?)?;
        self.policies.policy(&self.policy())
    }

    /// Initialises a repository, trusts it, and pushes and signs its first image.
    pub fn trusted(&self, repository: &str, tag: &str) -> Outcome<Image> {
        self.signer.init(&self.gun(repository))?;
        self.trust(repository)?;
        self.push_signed(repository, tag, tag)
    }

    /// What Countersign is to know of this lab.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.policies.folder());
        config.registry_certs = Some(self.registry.certs().to_owned());
        config
    }

    /// Starts `countersign serve` with its state in the folder `name`.
    pub fn countersign(&self, name: &str) -> Outcome<Countersign> {
        Countersign::start(&self.folder(name), &self.authority, &self.config())
    }
}
