//! Countersign's resources, as a real API server takes them.

use countersign_e2e::Outcome;
use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::command;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8QJae0XQA6orLMm9e0+Tp0XNxp3L\nfXBNkmfzdrxLc48ksXeTMNIv4seVtxsDeHl7Lipwg4d6z8Ul55ZRlVJkcA==\n-----END PUBLIC KEY-----\n";

#[test]
fn the_api_server_takes_the_definitions_and_checks_resources_by_them() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let api_server = ApiServer::start(folder.path(), &authority)?;
    let definitions = command(&["crds"])?.success()?.stdout;
    api_server.kubectl_with(&["create", "-f", "-"], &definitions)?.success()?;
    let all = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    api_server.kubectl(&all)?.success()?;

    let apply = |yaml: &str| api_server.kubectl_with(&["apply", "-f", "-"], yaml);
    let source = Source::new("corp-notary", "https://notary.example.com", "").pin(
        "payments",
        "registry.example.com/payments/**",
        KEY,
    );
    let policy = Policy::new("payments", "registry.example.com/payments/**", "corp-notary");
    apply(&source.yaml())?.success()?;
    apply(&policy.yaml())?.success()?;
    api_server.kubectl(&["get", "tp,tsrc"])?.success()?;

    for (yaml, instead) in [
        // Exactly one of verify and allowUnverified; one of notary and tuf.
        (policy.yaml(), ("  verify:", "  allowUnverified:\n    reason: none\n  verify:")),
        (policy.yaml(), ("action: Deny", "action: Maybe")),
        (
            policy.yaml(),
            ("      include: [\"registry.example.com/payments/**\"]\n", "      include: []\n"),
        ),
        (source.yaml(), ("    url: https://notary.example.com\n", "")),
        (source.yaml(), ("refreshAfterSeconds: 1", "refreshAfterSeconds: 999999")),
        (source.yaml(), ("      publicKeys:", "      rootKeyIDs: [\"00\"]\n      publicKeys:")),
    ] {
        let broken = yaml.replace(instead.0, instead.1);
        assert_ne!(broken, yaml, "{}", instead.0);
        let finished = apply(&broken)?;
        assert_ne!(finished.code, Some(0), "taken: {broken}\n{finished}");
    }
    Ok(())
}
