//! The servers, the images, and which of the servers fails at the moment.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::notary::Notary;
use countersign_e2e::notary_client::NotaryClient;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::registry::{Image, Registry};
use countersign_e2e::{Context, Outcome};
use tempfile::TempDir;

/// How long after a fault its consequences may be seen: what was asked meanwhile takes ten seconds
/// at most, and its refusal is remembered for two.
const CONSEQUENCES: Duration = Duration::from_secs(15);

/// How the certificate's files are named in the authority's folder, and for whom it is.
pub(crate) const SERVICE: &str = "countersign.countersign.svc";

pub(crate) struct World {
    pub(crate) notary_front: Front,
    pub(crate) registry_front: Front,
    pub(crate) registry: Registry,
    pub(crate) signer: NotaryClient,
    pub(crate) policies: Policies,
    pub(crate) authority: Authority,
    pub(crate) countersign: Countersign,
    /// Signed as 1, and stays so.
    pub(crate) steady: Image,
    /// Beside it, as 2, and never signed.
    pub(crate) unsigned: Image,
    /// Signed as 1, in a repository whose keys are rotated.
    pub(crate) rotating: Image,
    faulty: Mutex<Faulty>,
    pid: u32,
    _notary: Notary,
    _folder: TempDir,
}

/// Since when a server fails, and until when one did last.
#[derive(Default)]
struct Faulty {
    now: bool,
    until: Option<Instant>,
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
        let certs = registry.certs().join(&host);
        fs::create_dir_all(&certs)?;
        fs::copy(authority.certificate(), certs.join("ca.crt"))?;

        let signer = NotaryClient::new(&path.join("signer"), &notary)?;
        let image = |repository: &str, tag: &str, content: &str| -> Outcome<Image> {
            Ok(registry.push(repository, tag, content)?.at(&host))
        };
        let (steady, unsigned) = (image("steady/api", "1", "1")?, image("steady/api", "2", "2")?);
        let rotating = image("rotating/api", "1", "1")?;
        let changing = format!("{host}/changing/api");
        for gun in [&steady.name, &rotating.name, &changing] {
            signer.init(gun)?;
        }
        for image in [&steady, &rotating] {
            signer.sign(&image.name, "1", &image.digest, image.size)?;
        }
        let pin = signer.pin(&steady.name)?;
        let policies = Policies::new(&path.join("policies"))?;
        let mut source = Source::new("notary", notary_front.url(), &authority.pem());
        for repository in ["steady/api", "rotating/api", "changing/api", "cold/**"] {
            let name = repository.split('/').next().context("a repository without a name")?;
            source = source.pin(name, &format!("{host}/{repository}"), &pin);
        }
        source.refresh_after = 2;
        policies.source(&source)?;
        policies.policy(&Policy::new("all", &format!("{host}/**"), "notary"))?;
        let mut config = Config::new(policies.folder());
        config.registry_certs = Some(registry.certs().to_owned());
        // A line for each review would fill disks.
        config.more.push("--log=warn".to_owned());
        let mut countersign = Countersign::start(&path.join("countersign"), &authority, &config)?;
        for image in [&steady, &rotating] {
            countersign.pod(&image.by_digest())?.0.admitted()?;
        }
        let (pid, faulty) = (countersign.process().pid(), Mutex::default());
        Ok(Self {
            notary_front,
            registry_front,
            registry,
            signer,
            policies,
            authority,
            countersign,
            steady,
            unsigned,
            rotating,
            faulty,
            pid,
            _notary: notary,
            _folder: folder,
        })
    }

    /// Countersign's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets one of the fronts fail for a while.
    pub(crate) fn fail(&self, front: &Front, mode: Mode, time: Duration) {
        self.faulty().now = true;
        front.set(mode);
        std::thread::sleep(time);
        front.set(Mode::Forward);
        *self.faulty() = Faulty { now: false, until: Some(Instant::now()) };
    }

    /// Whether what was asked then may have met a fault or its consequences.
    pub(crate) fn is_excused(&self, asked: Instant) -> bool {
        let faulty = self.faulty();
        faulty.now || faulty.until.is_some_and(|until| asked < until + CONSEQUENCES)
    }

    /// The value of a metric of Countersign's.
    pub(crate) fn metric(&self, name: &str) -> Outcome<u64> {
        let metrics = self.countersign.probe("/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.context(format!("no metric {name}"))?.parse()?)
    }

    /// Says whether neither the metrics nor the log tell of a panic.
    pub(crate) fn no_panics(&self) -> Outcome<bool> {
        let counted = self.metric("countersign_panics_total")?;
        let log = self.countersign.log()?;
        let logged: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
        println!("{counted} panics were counted, {} are in the log", logged.len());
        logged.iter().for_each(|line| println!("{line}"));
        Ok(counted == 0 && logged.is_empty())
    }

    fn faulty(&self) -> std::sync::MutexGuard<'_, Faulty> {
        self.faulty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
