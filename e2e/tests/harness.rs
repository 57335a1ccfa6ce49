//! The servers that the other tests rely on come up and do what those tests take for granted.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use countersign_e2e::api_server::{ApiServer, Shared};
use countersign_e2e::front::{Front, Mode, path};
use countersign_e2e::notary::{Notary, Options};
use countersign_e2e::notary_client::{Keeper, NotaryClient, public_key_of_root};
use countersign_e2e::pki::{Authority, self_signed};
use countersign_e2e::process::{Server, free_port};
use countersign_e2e::registry::{Auth, Registry};
use countersign_e2e::token::TokenServer;
use countersign_e2e::tuf::{Bins, Layout, Repository, TufServer};
use countersign_e2e::webhooks::Webhooks;
use countersign_e2e::{Outcome, http, reviews};
use serde_json::Value;
use tempfile::TempDir;

const GUN: &str = "registry.example.com/payments/api";
const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn place() -> Outcome<(TempDir, Authority)> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    Ok((folder, authority))
}

#[test]
fn notary_signs_and_its_metadata_is_readable() -> Outcome<()> {
    let (folder, authority) = place()?;
    let notary = Notary::start(&folder.path().join("notary"), &authority)?;
    let client = NotaryClient::new(&folder.path().join("signer"), &notary)?;
    client.init(GUN)?;
    client.sign(GUN, "1.4", DIGEST, 5)?;
    let targets = notary.metadata(GUN, "targets")?;
    assert_eq!(targets["signed"]["targets"]["1.4"]["length"], 5);
    let pin = client.pin(GUN)?;
    assert!(pin.starts_with("-----BEGIN PUBLIC KEY-----"), "{pin}");
    assert_eq!(pin, public_key_of_root(&notary.metadata(GUN, "root")?)?);
    client.revoke(GUN, "1.4")?;
    assert!(notary.metadata(GUN, "targets")?["signed"]["targets"]["1.4"].is_null());
    Ok(())
}

#[test]
fn notary_counts_one_request_for_each_file_read() -> Outcome<()> {
    let (folder, authority) = place()?;
    let notary = Notary::start(&folder.path().join("notary"), &authority)?;
    let client = NotaryClient::new(&folder.path().join("signer"), &notary)?;
    client.init(GUN)?;
    let before = notary.requests()?.len();
    notary.metadata(GUN, "timestamp")?;
    let read = notary.requests()?.split_off(before);
    let path = format!("/v2/{GUN}/_trust/tuf/timestamp.json");
    assert_eq!(read.len(), 1, "{read:?}");
    assert_eq!((read[0].method.as_str(), &read[0].path, read[0].status), ("GET", &path, 200));
    Ok(())
}

#[test]
fn notary_with_signer_and_tokens_rotates_and_delegates() -> Outcome<()> {
    let (folder, authority) = place()?;
    let tokens = TokenServer::start(&folder.path().join("tokens"), &authority, true)?;
    let options = Options { signer: true, tokens: Some(&tokens), ..Options::default() };
    let notary = Notary::start_with(&folder.path().join("notary"), &authority, options)?;
    assert!(notary.metadata(GUN, "root").is_err(), "read without a token");
    let client = NotaryClient::new(&folder.path().join("signer"), &notary)?;
    client.init(GUN)?;
    let first = client.pin(GUN)?;
    client.rotate(GUN, "targets", Keeper::Client)?;
    client.rotate(GUN, "snapshot", Keeper::Server)?;
    client.rotate(GUN, "timestamp", Keeper::Server)?;
    client.rotate(GUN, "root", Keeper::Client)?;
    assert_ne!(first, client.pin(GUN)?);
    let qa = self_signed(&folder.path().join("qa"), "qa")?;
    client.delegate(GUN, "targets/releases", &[&qa])?;
    client.import(GUN, "targets/releases", &qa)?;
    client.sign_in(GUN, "1.4", DIGEST, 5, &["targets/releases"])?;
    client.witness(GUN, "targets/releases")?;
    client.revoke_in(GUN, "1.4", "targets/releases")?;
    client.undelegate(GUN, "targets/releases")?;
    let pulled = format!("repository:{GUN}:");
    assert!(tokens.scopes().iter().any(|scope| scope.starts_with(&pulled)));
    Ok(())
}

#[test]
fn a_front_forwards_freezes_and_lies() -> Outcome<()> {
    let (folder, authority) = place()?;
    let notary = Notary::start(&folder.path().join("notary"), &authority)?;
    let front = Front::start(notary.url(), &authority)?;
    let signer = folder.path().join("signer");
    let client = NotaryClient::at(&signer, front.url(), authority.certificate())?;
    client.init(GUN)?;
    client.sign(GUN, "1.4", DIGEST, 5)?;
    let http = http::client(authority.certificate())?;
    let url = format!("{}/v2/{GUN}/_trust/tuf/targets.json", front.url());
    let read = || -> Outcome<String> { Ok(http.get(&url).send()?.error_for_status()?.text()?) };
    let signed = read()?;
    assert!(signed.contains("\"1.4\""), "{signed}");
    client.revoke(GUN, "1.4")?;
    assert!(!read()?.contains("\"1.4\""));
    front.answer_with(&path(GUN, "targets"), signed.into());
    assert!(read()?.contains("\"1.4\""));
    front.set(Mode::Down);
    assert!(http.get(front.url()).send()?.status().is_server_error());
    Ok(())
}

#[test]
fn registry_takes_images_and_moves_tags() -> Outcome<()> {
    let (folder, authority) = place()?;
    let tokens = TokenServer::start(&folder.path().join("tokens"), &authority, false)?;
    for (name, auth) in
        [("open", Auth::None), ("basic", Auth::Basic), ("token", Auth::Token(&tokens))]
    {
        let registry = Registry::start_with(&folder.path().join(name), &authority, auth)?;
        let first = registry.push("payments/api", "1.4", "first")?;
        let second = registry.push("payments/api", "1.5", "second")?;
        assert_ne!(first.digest, second.digest);
        registry.tag(&second, "1.4")?;
        registry.push_index("payments/api", "all", &[&first, &second])?;
        let puts = registry.requests()?.iter().filter(|line| line.starts_with("PUT")).count();
        // Two blobs and a manifest for each image, a tag, an index.
        assert_eq!(puts, 8, "{name}");
    }
    Ok(())
}

#[test]
fn api_server_stores_pods_without_controllers() -> Outcome<()> {
    let (folder, authority) = place()?;
    let api_server = ApiServer::start(&folder.path().join("kubernetes"), &authority)?;
    api_server.kubectl(&["get", "namespace", "default"])?.success()?;
    api_server.create_namespace("payments")?;
    let mut pod = reviews::pod("api", "registry.example.com/payments/api:1.4");
    pod["metadata"]["namespace"] = "payments".into();
    api_server.apply(&pod)?.success()?;
    let stored = api_server.get(&["pod", "api", "-n", "payments"])?;
    assert_eq!(stored["spec"]["containers"][0]["image"], "registry.example.com/payments/api:1.4");
    Ok(())
}

#[test]
fn the_api_server_asks_the_webhooks_for_their_namespaces() -> Outcome<()> {
    let (_folder, authority) = place()?;
    let shared = Shared::get()?;
    let api_server = &shared.api_server;
    api_server.create_namespace("reviewed")?;
    let url = format!("https://127.0.0.1:{}", free_port()?);
    let ca = authority.certificate();
    Webhooks { name: "nobody", url: &url, authority: ca, namespaces: &["reviewed"] }
        .register(api_server)?;
    let apply = |namespace: &str, object: &Value| {
        let arguments = ["apply", "-n", namespace, "-f", "-"];
        api_server.kubectl_with(&arguments, &object.to_string())
    };
    let object = reviews::pod("api", "registry.example.com/payments/api:1.4");
    let refused = apply("reviewed", &object)?;
    assert!(refused.stderr.contains("failed calling webhook"), "{refused}");
    apply("default", &object)?.success()?;
    Webhooks::unregister(api_server, "nobody")
}

#[test]
fn a_server_that_cannot_start_says_why_and_one_that_is_dropped_is_gone() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut broken = Command::new("sh");
    broken.args(["-c", "echo no such flag >&2; exit 3"]);
    let within = Duration::from_secs(5);
    let failure = Server::start("broken", &mut broken, folder.path(), within, || false);
    let failure = failure.map(drop).map_err(|failure| failure.to_string());
    assert!(failure.is_err_and(|text| text.contains("no such flag") && text.contains("exit")));

    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let server = Server::start("sleep", &mut sleep, folder.path(), within, || true)?;
    let process = format!("/proc/{}", server.pid());
    assert!(Path::new(&process).exists());
    drop(server);
    assert!(!Path::new(&process).exists());
    Ok(())
}

#[test]
fn a_tuf_repository_is_published_over_https_and_http() -> Outcome<()> {
    let (folder, authority) = place()?;
    let mut tuf = Repository::create(&folder.path().join("tuf"), &Layout::default())?;
    tuf.delegate_bins("targets", &Bins::hashed("bins/", 1));
    tuf.add_to_bin("targets", &format!("{GUN}/1.4"), b"{}");
    tuf.publish()?;
    let secure = TufServer::start(tuf.folder(), &authority)?;
    let plain = TufServer::plain(tuf.folder())?;
    let client = http::client(authority.certificate())?;
    let root = client.get(format!("{}1.root.json", secure.metadata_url())).send()?;
    assert_eq!(root.bytes()?, tuf.initial_root()?);
    let bin = client.get(format!("{}1.bins%2F0-7.json", secure.metadata_url())).send()?;
    assert_eq!(bin.bytes()?, tuf.file("1.bins%2F0-7.json")?);
    assert_eq!(secure.reads(), ["/metadata/1.root.json", "/metadata/1.bins%2F0-7.json"]);
    // What the harness trusts does not matter without TLS.
    let target = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let target = format!("{}{GUN}/{target}.1.4", plain.targets_url());
    assert_eq!(client.get(target).send()?.bytes()?, "{}");
    for key in std::fs::read_dir(tuf.folder().join("keys"))? {
        let key = key?.file_name();
        let url = format!("{}/keys/{}", plain.url(), key.display());
        assert_eq!(client.get(url).send()?.status(), 404);
    }
    Ok(())
}
