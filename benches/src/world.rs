//! The servers and the signed images that everything is measured on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::notary::{Notary, Options};
use countersign_e2e::notary_client::NotaryClient;
use countersign_e2e::pki::{Authority, self_signed};
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::registry::{Image, Registry};
use countersign_e2e::token::TokenServer;
use countersign_e2e::{Context, Outcome};

use crate::delay::Delay;
use crate::load::Target;
use crate::review;

/// What every request to a distant server costs.
pub(crate) const DISTANCE: Duration = Duration::from_millis(50);

/// The tag under which every image is signed.
pub(crate) const TAG: &str = "1.0";

/// The metadata files of a repository that has been signed with `docker trust`.
pub(crate) const FILES: [&str; 5] =
    ["root", "timestamp", "snapshot", "targets", "targets/releases"];

/// Policies in one file: less than the 1,024 documents that one may have.
const FILE_POLICIES: usize = 500;

const REPOSITORY: &str = "payments/api";

/// An image, and where its signatures and its tag are found.
pub(crate) struct Signed {
    /// `HOST/REPOSITORY`, its GUN.
    pub(crate) name: String,
    /// Its digest, as the registry has it.
    pub(crate) digest: String,
    /// Its Notary server, `https://localhost:PORT`.
    pub(crate) notary: String,
    /// What a pin names: the root's public key, as PEM.
    pub(crate) pin: String,
    /// Where a challenge of its Notary server sends us.
    token_host: Option<String>,
}

impl Signed {
    /// The reference by tag.
    pub(crate) fn by_tag(&self) -> String {
        format!("{}:{TAG}", self.name)
    }

    /// The reference by digest.
    pub(crate) fn by_digest(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }

    /// Whether its Notary server asks for a token.
    pub(crate) fn needs_token(&self) -> bool {
        self.token_host.is_some()
    }
}

/// Everything that runs for the whole bench.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) authority: Authority,
    pub(crate) notary: Notary,
    pub(crate) registry: Registry,
    /// Its servers are beside us.
    pub(crate) near: Signed,
    /// The manifest of every image here, which are the same.
    pub(crate) manifest: Vec<u8>,
    /// Its servers are [`DISTANCE`] away.
    pub(crate) far: Signed,
    /// As `far`, on a Notary server that asks for tokens of a server as far away.
    pub(crate) guarded: Signed,
    _guarded_notary: Notary,
    _tokens: TokenServer,
    _proxies: Vec<Delay>,
}

impl World {
    /// Starts the servers, with their files in `folder`, and signs the images.
    pub(crate) fn new(folder: &Path) -> Outcome<Self> {
        let authority = Authority::new(&folder.join("pki"))?;
        let notary = Notary::start(&folder.join("notary"), &authority)?;
        let registry = Registry::start(&folder.join("registry"), &authority)?;
        let tokens = TokenServer::start(&folder.join("tokens"), &authority, true)?;
        let options = Options { tokens: Some(&tokens), ..Options::default() };
        let guarded_notary = Notary::start_with(&folder.join("guarded"), &authority, options)?;

        let far = |upstream: &str, realm| Delay::start(&authority, upstream, DISTANCE, realm);
        let far_registry = far(&format!("https://{}", registry.host()), None)?;
        let far_notary = far(notary.url(), None)?;
        let token_url = token_url(&tokens)?;
        let far_tokens = far(&token_url, None)?;
        let realm = (token_url, far_tokens.url());
        let far_guarded = far(guarded_notary.url(), Some(realm))?;

        let image = registry.push(REPOSITORY, TAG, "bench")?;
        let signer = Signer { folder, image: &image };
        let (near_host, far_host) = (registry.host(), far_registry.host());
        let near = signer.sign("near", &notary, near_host, notary.url())?;
        let far = signer.sign("far", &notary, far_host, &far_notary.url())?;
        let mut guarded = signer.sign("guarded", &guarded_notary, far_host, &far_guarded.url())?;
        guarded.token_host = Some(far_tokens.host().to_owned());
        add_certificates(&registry, far_host, &authority)?;
        Ok(Self {
            folder: folder.to_owned(),
            near,
            manifest: registry.manifest(&image)?,
            far,
            guarded,
            notary,
            registry,
            authority,
            _guarded_notary: guarded_notary,
            _tokens: tokens,
            _proxies: vec![far_registry, far_notary, far_tokens, far_guarded],
        })
    }

    /// Starts Countersign afresh, remembering nothing, with `count` policies of which one speaks
    /// for `image`.
    pub(crate) fn countersign(
        &self,
        name: &str,
        image: &Signed,
        count: usize,
    ) -> Outcome<Countersign> {
        self.countersign_with(name, |policies| self.write_policies(policies, image, count))
    }

    /// Starts Countersign afresh, remembering nothing, with what `write` writes.
    pub(crate) fn countersign_with(
        &self,
        name: &str,
        write: impl FnOnce(&Policies) -> Outcome<()>,
    ) -> Outcome<Countersign> {
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(&self.folder)?.keep();
        let policies = Policies::new(&folder.join("policies"))?;
        write(&policies)?;
        let config = Config {
            registry_certs: Some(self.registry.certs().to_owned()),
            ..Config::new(policies.folder())
        };
        Countersign::start(&folder, &self.authority, &config)
    }

    fn write_policies(&self, policies: &Policies, image: &Signed, count: usize) -> Outcome<()> {
        let authority = self.authority.pem();
        let mut source =
            Source::new("notary", &image.notary, &authority).pin("bench", &image.name, &image.pin);
        // The default: how much of a warm review is refreshing is not to depend on the test.
        source.refresh_after = 60;
        source.token_hosts.extend(image.token_host.clone());
        policies.source(&source)?;
        let host = image.name.split_once('/').context("an image without a registry")?.0;
        let others = (1..count).map(|team| format!("{host}/team-{team}/**"));
        let all = others.chain([image.name.clone()]).enumerate();
        let yaml: Vec<String> = all
            .map(|(number, include)| {
                Policy::new(&format!("policy-{number}"), &include, "notary").yaml()
            })
            .collect();
        for (number, documents) in yaml.chunks(FILE_POLICIES).enumerate() {
            policies.write(&format!("policies-{number}"), &documents.join("---\n"))?;
        }
        Ok(())
    }

    /// Reviews of a pod with `image`, sent to `path` of this Countersign; each has to be allowed.
    pub(crate) fn reviews(
        &self,
        countersign: &Countersign,
        path: &str,
        image: &str,
    ) -> Outcome<Target> {
        let port = countersign.url().rsplit_once(':').context("a URL without a port")?.1;
        let wanted = r#""allowed":true"#;
        let review = review::of(image);
        let at = (port.parse()?, path);
        Target::new(at, &review, wanted, self.authority.certificate(), &self.folder)
    }
}

/// The address of a token server, without its path.
fn token_url(tokens: &TokenServer) -> Outcome<String> {
    let options = tokens.options();
    let realm = options["realm"].as_str().context("no realm")?;
    Ok(realm.strip_suffix("/token").context("another path")?.to_owned())
}

/// Lets Countersign trust the registry under another name too.
pub(crate) fn add_certificates(
    registry: &Registry,
    host: &str,
    authority: &Authority,
) -> Outcome<()> {
    let folder = registry.certs().join(host);
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(authority.certificate(), folder.join("ca.crt"))?;
    Ok(())
}

struct Signer<'a> {
    folder: &'a Path,
    image: &'a Image,
}

impl Signer<'_> {
    /// Signs the image as `docker trust` does, in `targets/releases`, under its name on `host`.
    fn sign(&self, name: &str, notary: &Notary, host: &str, reach: &str) -> Outcome<Signed> {
        let folder = self.folder.join(format!("signer-{name}"));
        let gun = format!("{host}/{REPOSITORY}");
        let client = NotaryClient::new(&folder, notary)?;
        client.init(&gun)?;
        let releases = self_signed(&folder.join("releases"), name)?;
        client.delegate(&gun, "targets/releases", &[&releases])?;
        client.publish(&gun)?;
        client.import(&gun, "targets/releases", &releases)?;
        let Image { digest, size, .. } = self.image;
        client.sign_in(&gun, TAG, digest, *size, &["targets/releases"])?;
        Ok(Signed {
            pin: client.pin(&gun)?,
            name: gun,
            digest: digest.clone(),
            notary: reach.to_owned(),
            token_host: None,
        })
    }
}
