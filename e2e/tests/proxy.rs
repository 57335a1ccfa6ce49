//! Behind the environment's proxy.

use std::collections::BTreeMap;
use std::fs;

use countersign_e2e::Outcome;
use countersign_e2e::countersign::verify_behind;
use countersign_e2e::lab::{Lab, SOURCE};
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::proxy::Proxy;

const REPOSITORY: &str = "payments/api";
const REGISTRY: &str = "registry.example.com";
const NOTARY: &str = "notary-server.example.com";

#[test]
fn public_names_are_reached_through_the_proxy_and_it_learns_no_credentials() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.registry.push(REPOSITORY, "1.4", "release 1.4")?;
    let name = format!("{REGISTRY}/{REPOSITORY}");
    lab.signer.init(&name)?;
    lab.signer.sign(&name, "1.4", &image.digest, image.size)?;

    let policies = Policies::new(&lab.folder("public"))?;
    let pin = lab.signer.pin(&name)?;
    let mut source = Source::new(SOURCE, &format!("https://{NOTARY}"), &lab.authority.pem());
    source.credentials = Some(("someone".to_owned(), "secret".to_owned()));
    policies.source(&source.pin("payments", &name, &pin))?;
    policies.policy(&Policy::new("payments", &format!("{REGISTRY}/**"), SOURCE))?;
    let certs = lab.folder("certs");
    fs::create_dir_all(certs.join(REGISTRY))?;
    fs::copy(lab.authority.certificate(), certs.join(REGISTRY).join("ca.crt"))?;
    let mut config = lab.config();
    config.policies = policies.folder().to_owned();
    config.registry_certs = Some(certs);

    let server = |url: &str| url.trim_start_matches("https://").to_owned();
    for host in ["127.0.0.1", "localhost"] {
        let proxy = Proxy::start(BTreeMap::from([
            (format!("{REGISTRY}:443"), lab.registry.host().to_owned()),
            (format!("{NOTARY}:443"), server(lab.notary.url())),
        ]))?;
        verify_behind(&proxy.url(host), &config, &[&format!("{name}:1.4")])?.success()?;
        let heads = proxy.heads();
        for name in [REGISTRY, NOTARY] {
            let asked = format!("CONNECT {name}:443 ");
            assert!(heads.iter().any(|head| head.starts_with(&asked)), "{heads:?}");
        }
        let told = heads.iter().any(|head| head.to_lowercase().contains("authorization:"));
        assert!(!told, "{heads:?}");
    }
    Ok(())
}

#[test]
fn loopback_servers_are_never_reached_through_a_proxy() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let proxy = Proxy::start(BTreeMap::new())?;
    verify_behind(&proxy.url("127.0.0.1"), &lab.config(), &[&image.tagged("1.4")])?.success()?;
    assert_eq!(proxy.heads(), Vec::<String>::new());
    Ok(())
}
