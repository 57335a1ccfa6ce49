//! Countersign answers who shows the API server's client certificate, and no one else: with what
//! docs/install.md says, word for word.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::Countersign;
use countersign_e2e::lab::Lab;
use countersign_e2e::pki::{Authority, Identity};
use countersign_e2e::process::{Finished, wait_until};
use countersign_e2e::proxy::Proxy;
use countersign_e2e::reviews::{self, pod};
use countersign_e2e::webhooks::Webhooks;
use countersign_e2e::{Context, Outcome, http};
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/install.md");

/// Where the guide keeps the API server's files.
const FOLDER: &str = "/etc/kubernetes/countersign";

/// The address of the Service before Countersign.
const SERVICE: &str = "10.0.0.7";

/// The log is written beside the answers.
const LOGGED: Duration = Duration::from_secs(10);

/// The guide's YAML that names this, with its files in `folder`.
fn guided(marker: &str, folder: &Path) -> Outcome<String> {
    let guide = fs::read_to_string(GUIDE)?;
    let mut blocks = guide.split("```yaml").filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains(marker)).context(format!("no {marker}"))?;
    // The guide's lists indent what belongs to them.
    let lines = block.lines().map(|line| line.strip_prefix("   ").unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    Ok(text.replace(FOLDER, &folder.display().to_string()))
}

/// What the API server is given: the guide's files, and the way to a Service without a network.
fn files(folder: &Path, client: &Identity, proxy: &Proxy) -> Outcome<Vec<String>> {
    fs::copy(&client.certificate, folder.join("client.crt"))?;
    fs::copy(&client.key, folder.join("client.key"))?;
    fs::write(folder.join("kubeconfig"), guided("kind: Config\n", folder)?)?;
    let written = |name: &str, text: &str| -> Outcome<PathBuf> {
        let file = folder.join(name);
        fs::write(&file, text)?;
        Ok(file)
    };
    let admission = guided("kind: AdmissionConfiguration", folder)?;
    let admission = written("admission.yaml", &admission)?;
    let socket = folder.join("proxy");
    proxy.listen_at(&socket)?;
    let transport = json!({"uds": {"udsName": socket}});
    let connection = json!({"proxyProtocol": "HTTPConnect", "transport": transport});
    let egress = json!({
        "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    });
    let egress = written("egress.yaml", &egress.to_string())?;
    Ok(vec![
        format!("--admission-control-config-file={}", admission.display()),
        format!("--egress-selector-config-file={}", egress.display()),
    ])
}

fn service() -> Value {
    let spec = json!({"clusterIP": SERVICE, "ports": [{"name": "https", "port": 443}]});
    let metadata = json!({"name": "countersign", "namespace": "countersign"});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

fn create(api_server: &ApiServer, namespace: &str, object: &Value) -> Outcome<Finished> {
    api_server.kubectl_with(&["create", "-n", namespace, "-f", "-"], &object.to_string())
}

/// A review that nobody asked for, as this client sends it.
fn forge(
    countersign: &Countersign,
    client: &reqwest::blocking::Client,
    image: &str,
) -> Result<u16, reqwest::Error> {
    let review = reviews::create("payments", &pod("forged", image)).to_string();
    let url = format!("{}/validate", countersign.url());
    let request = client.post(url).header("content-type", "application/json").body(review);
    request.send().map(|answer| answer.status().as_u16())
}

#[test]
fn k7_only_who_shows_the_api_server_s_certificate_is_answered() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?;
    let clients = Authority::new(&lab.folder("clients"))?;
    let mut config = lab.config();
    config.more = vec![format!("--client-ca={}", clients.certificate().display())];
    let countersign = Countersign::start(&lab.folder("countersign"), &lab.authority, &config)?;
    let listener = countersign.url().trim_start_matches("https://").to_owned();
    let proxy = Proxy::start(BTreeMap::from([(format!("{SERVICE}:443"), listener)]))?;

    // Not in the API server's own folder, where the administrator's kubeconfig is.
    let folder = lab.folder("shown");
    fs::create_dir_all(&folder)?;
    let shown = clients.client("api-server")?;
    let more = files(&folder, &shown, &proxy)?;
    let api_server = ApiServer::start_with(&lab.folder("api-server"), &lab.authority, &more)?;
    for namespace in ["countersign", "payments", "elsewhere"] {
        api_server.create_namespace(namespace)?;
    }
    api_server.apply(&service())?.success()?;
    let register = |name: &str, url: &str, namespace: &str| {
        let namespaces = &[namespace];
        let authority = lab.authority.certificate();
        Webhooks { name, url, authority, namespaces }.register(&api_server)
    };

    // The API server is answered: images are admitted and refused as they should be.
    register("guided", "https://countersign.countersign.svc", "payments")?;
    let tagged = pod("tagged", &signed.tagged("1.4"));
    create(&api_server, "payments", &tagged)?.success()?;
    let stored = api_server.get(&["pod", "tagged", "-n", "payments"])?;
    let pinned = format!("{}@{}", signed.tagged("1.4"), signed.digest);
    assert_eq!(stored["spec"]["containers"][0]["image"], pinned.as_str());
    let refused = create(&api_server, "payments", &pod("bad", &unsigned.tagged("1.5")))?;
    assert!(refused.stderr.contains("Unsigned"), "{refused}");
    assert!(!proxy.heads().is_empty(), "the Service's address was not asked for");

    // It shows the certificate to that name only. Nothing is let in where it shows none.
    register("other-name", countersign.url(), "elsewhere")?;
    // Its request may meet the closed connection before it has read the alert that says why.
    wait_until("the reason", LOGGED, || {
        let refused = create(&api_server, "elsewhere", &tagged)?;
        assert!(refused.stderr.contains("failed calling webhook"), "{refused}");
        Ok(refused.stderr.contains("certificate required"))
    })?;

    // Nobody else is answered, whatever is asked.
    let authority = lab.authority.certificate();
    let image = signed.tagged("1.4");
    let strangers = Authority::new(&lab.folder("strangers"))?;
    let stranger = strangers.client("api-server")?;
    let server = clients.server("pod")?;
    for (who, client) in [
        ("no certificate", http::client(authority)?),
        ("another authority's", http::client_as(authority, &stranger)?),
        ("a server's", http::client_as(authority, &server)?),
    ] {
        let answered = forge(&countersign, &client, &image);
        assert!(answered.is_err(), "{who}: {answered:?}");
    }
    assert_eq!(forge(&countersign, &http::client_as(authority, &shown)?, &image)?, 200);
    let forged = || -> Outcome<usize> { Ok(countersign.log()?.matches("\"forged\"").count()) };
    wait_until("the log of what was answered", LOGGED, || Ok(forged()? > 0))?;
    assert_eq!(forged()?, 1, "{}", countersign.log()?);
    Ok(())
}
