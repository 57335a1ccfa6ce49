//! A real registry (distribution's) over TLS, with tiny images made on the spot.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::image::Packed;
use crate::pki::Authority;
use crate::place::Place;
use crate::process::Server;
use crate::token::TokenServer;
use crate::{Context, Failure, Outcome, http};

const START: Duration = Duration::from_secs(20);
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The end of a tar archive, which is an archive with nothing in it.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// The user of a registry with [`Auth::Basic`].
pub const USER: &str = "puller";

/// The user's password.
pub const PASSWORD: &str = "password";

/// bcrypt of [`PASSWORD`], at the lowest cost there is: the registry reads no other scheme.
const PASSWORD_HASH: &str = "$2y$05$CountersignTestsOnlyuuw.nHEoadaYrFAQ5IlX4r64YO1pGYuuS";

/// How a registry knows its users.
#[derive(Clone, Copy, Default)]
pub enum Auth<'a> {
    /// Everyone may do everything.
    #[default]
    None,
    /// HTTP basic authentication, with [`USER`] and [`PASSWORD`].
    Basic,
    /// Bearer tokens of this server.
    Token(&'a TokenServer),
}

/// A running registry.
pub struct Registry {
    server: Server,
    host: String,
    client: Client,
    certs: PathBuf,
    storage: PathBuf,
    credentials: Option<Credentials>,
}

/// What a push authenticates with.
enum Credentials {
    Basic,
    Token,
}

/// A pushed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `HOST/REPOSITORY`: the name in references, and Notary's GUN.
    pub name: String,
    /// `sha256:...`
    pub digest: String,
    /// The manifest's size in bytes, which Notary signs along with its digest.
    pub size: u64,
    media_type: &'static str,
}

impl Image {
    /// The same, as another host serves it.
    #[must_use]
    pub fn at(mut self, host: &str) -> Self {
        let repository = self.name.split_once('/').map_or("", |(_, repository)| repository);
        self.name = format!("{host}/{repository}");
        self
    }

    /// The reference by tag.
    pub fn tagged(&self, tag: &str) -> String {
        format!("{}:{tag}", self.name)
    }

    /// The reference by digest.
    pub fn by_digest(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }
}

impl Registry {
    /// Starts a registry that lets everyone in.
    pub fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        Self::start_with(folder, authority, Auth::None)
    }

    /// Starts a registry whose files go to `folder`.
    pub fn start_with(folder: &Path, authority: &Authority, auth: Auth<'_>) -> Outcome<Self> {
        Self::start_at(Place::LOOPBACK, folder, authority, auth)
    }

    /// As [`Self::start_with`], at this place.
    pub fn start_at(
        place: Place,
        folder: &Path,
        authority: &Authority,
        auth: Auth<'_>,
    ) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let storage = folder.join("storage");
        let identity = authority.server_as("registry", &[place.name()])?;
        let port = place.free_port()?;
        let host = format!("{}:{port}", place.name());
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": false}},
            // Its storage in memory takes minutes for an image of some size.
            "storage": {
                "filesystem": {"rootdirectory": &storage},
                "delete": {"enabled": true},
            },
            "http": {
                "addr": format!("{}:{port}", place.address()),
                "tls": {"certificate": identity.certificate, "key": identity.key},
            },
        });
        let credentials = match auth {
            Auth::None => None,
            Auth::Basic => {
                let users = folder.join("htpasswd");
                fs::write(&users, format!("{USER}:{PASSWORD_HASH}\n"))?;
                config["auth"] = json!({"htpasswd": {"realm": "test", "path": users}});
                Some(Credentials::Basic)
            }
            Auth::Token(tokens) => {
                config["auth"] = json!({"token": tokens.options()});
                Some(Credentials::Token)
            }
        };
        // JSON is YAML.
        let file = folder.join("registry.yml");
        fs::write(&file, config.to_string())?;
        let certs = certs_folder(folder, &host, authority)?;
        let client = http::client(authority.certificate())?;
        let ping = format!("https://{host}/v2/");
        let mut command = place.command("docker-registry");
        command.arg("serve").arg(&file).current_dir(folder);
        let server = Server::start("docker-registry", &mut command, folder, START, || {
            client.get(&ping).send().is_ok()
        })?;
        Ok(Self { server, host, client, certs, storage, credentials })
    }

    /// `localhost:PORT`, or the place's name and the port, as references name it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A folder that holds, for this registry, the authority to trust: `FOLDER/HOST:PORT/ca.crt`.
    pub fn certs(&self) -> &Path {
        &self.certs
    }

    /// Pushes a tiny image to `HOST/repository:tag`. Images with other `content` have another
    /// digest.
    pub fn push(&self, repository: &str, tag: &str, content: &str) -> Outcome<Image> {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&EMPTY_TAR)]},
        });
        let empty = Packed { config, layer: EMPTY_TAR.to_vec() };
        self.push_packed(repository, tag, &empty.labelled(content))
    }

    /// Pushes an image that can run.
    pub fn push_packed(&self, repository: &str, tag: &str, packed: &Packed) -> Outcome<Image> {
        let config = packed.config.to_string();
        self.push_blob(repository, config.as_bytes())?;
        self.push_blob(repository, &packed.layer)?;
        let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": describe(CONFIG, config.as_bytes()),
            "layers": [describe(LAYER, &packed.layer)],
        });
        self.push_manifest(repository, tag, MANIFEST, &manifest)
    }

    /// Pushes an index of these images, which have to be in the same repository.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[&Image]) -> Outcome<Image> {
        let manifests: Vec<Value> = ["amd64", "arm64", "s390x"]
            .iter()
            .zip(images)
            .map(|(architecture, image)| {
                json!({
                    "mediaType": MANIFEST, "digest": image.digest, "size": image.size,
                    "platform": {"os": "linux", "architecture": architecture},
                })
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.push_manifest(repository, tag, INDEX, &index)
    }

    /// Makes a tag point at this image: what a push of another image under the tag does.
    pub fn tag(&self, image: &Image, tag: &str) -> Outcome<()> {
        let repository = image.name.split_once('/').context("an image without a registry")?.1;
        let manifest = self.manifest(image)?;
        let path = format!("{repository}/manifests/{tag}");
        let put = self.request(Method::PUT, &path).header(CONTENT_TYPE, image.media_type);
        self.send(repository, put.body(manifest)).map(drop)
    }

    /// Makes each of these tags point at this image: written into the registry's store, since
    /// thousands of requests take long.
    pub fn tag_all(&self, image: &Image, tags: impl IntoIterator<Item = String>) -> Outcome<()> {
        let repository = image.name.split_once('/').context("an image without a registry")?.1;
        let repositories = self.storage.join("docker/registry/v2/repositories");
        let all = repositories.join(repository).join("_manifests/tags");
        for tag in tags {
            let current = all.join(tag).join("current");
            fs::create_dir_all(&current)?;
            fs::write(current.join("link"), &image.digest)?;
        }
        Ok(())
    }

    /// The bytes of this image's manifest: what a TUF target lists.
    pub fn manifest(&self, image: &Image) -> Outcome<Vec<u8>> {
        let repository = image.name.split_once('/').context("an image without a registry")?.1;
        let path = format!("{repository}/manifests/{}", image.digest);
        let get = self.request(Method::GET, &path).header(ACCEPT, image.media_type);
        Ok(self.send(repository, get)?.bytes()?.to_vec())
    }

    /// Every request answered so far, as `GET /v2/...`, in order.
    pub fn requests(&self) -> Outcome<Vec<String>> {
        let log = self.server.log()?;
        // The access log is in Apache's combined format: ... "GET /v2/ HTTP/1.1" 200 ...
        let quoted = |line: &str| Some(line.split('"').nth(1)?.rsplit_once(" HTTP/")?.0.to_owned());
        Ok(log.lines().filter_map(quoted).filter(|request| request.contains(" /v2/")).collect())
    }

    /// Lets it run on, even after this program.
    pub fn leave(self) {
        self.server.leave();
    }

    /// Ends it.
    pub fn stop(&mut self) -> Outcome<()> {
        self.server.terminate()?;
        self.server.wait(START).map(drop)
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Outcome<()> {
        let start = self.request(Method::POST, &format!("{repository}/blobs/uploads/"));
        let answer = self.send(repository, start)?;
        let upload = answer.headers().get(LOCATION).context("an upload without a location")?;
        let upload = format!("{}&digest={}", upload.to_str()?, sha256(bytes));
        self.send(repository, self.client.put(upload).body(bytes.to_vec())).map(drop)
    }

    fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &'static str,
        manifest: &Value,
    ) -> Outcome<Image> {
        let manifest = manifest.to_string();
        let put = self.request(Method::PUT, &format!("{repository}/manifests/{tag}"));
        let image = Image {
            name: format!("{}/{repository}", self.host),
            digest: sha256(manifest.as_bytes()),
            size: manifest.len() as u64,
            media_type,
        };
        self.send(repository, put.header(CONTENT_TYPE, media_type).body(manifest))?;
        Ok(image)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("https://{}/v2/{path}", self.host))
    }

    fn send(&self, repository: &str, request: RequestBuilder) -> Outcome<Response> {
        let request = match self.credentials {
            None => request,
            Some(Credentials::Basic) => request.basic_auth(USER, Some(PASSWORD)),
            Some(Credentials::Token) => request.bearer_auth(self.token(repository)?),
        };
        let answer = request.send()?;
        let (status, url) = (answer.status(), answer.url().clone());
        if status.is_success() {
            return Ok(answer);
        }
        Err(Failure::new(format!("{url}: {status}: {}", answer.text()?)))
    }

    /// Follows the registry's challenge to its token server.
    fn token(&self, repository: &str) -> Outcome<String> {
        let answer = self.client.get(format!("https://{}/v2/", self.host)).send()?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Err(Failure::new("the registry did not ask for a token"));
        }
        let challenge = answer.headers().get("www-authenticate").context("no challenge")?;
        let challenge = challenge.to_str()?.to_owned();
        let field = |name: &str| {
            let rest = challenge.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let (realm, service) = field("realm").zip(field("service")).context("a bad challenge")?;
        let scope = format!("repository:{repository}:pull,push");
        let realm =
            reqwest::Url::parse_with_params(&realm, [("service", service), ("scope", scope)])?;
        let request =
            self.client.get(realm).basic_auth(crate::token::USER, Some(crate::token::PASSWORD));
        let answer: Value = serde_json::from_slice(&request.send()?.bytes()?)?;
        Ok(answer["token"].as_str().context("no token")?.to_owned())
    }
}

/// `sha256:` and the hex digits of the hash of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn certs_folder(folder: &Path, host: &str, authority: &Authority) -> Outcome<PathBuf> {
    let certs = folder.join("certs.d");
    fs::create_dir_all(certs.join(host))?;
    fs::copy(authority.certificate(), certs.join(host).join("ca.crt"))?;
    Ok(certs)
}
