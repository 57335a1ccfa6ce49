//! Tags of a private registry, looked up with the pull secrets of the pods that name them, by an
//! account with the chart's rights and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::chart::{RELEASE, Rendered};
use countersign_e2e::countersign::Countersign;
use countersign_e2e::lab::Lab;
use countersign_e2e::process::{Finished, wait_until};
use countersign_e2e::registry::{Auth, Image, PASSWORD, Registry, USER};
use countersign_e2e::reviews::{deployment, pod};
use countersign_e2e::webhooks::Webhooks;
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";

/// Countersign's account in the release.
const ACCOUNT: &str = "system:serviceaccount:countersign:countersign";

/// Named by the flags, with the chart's right; named, with the right taken away; not named.
const GRANTED: &str = "granted";
const UNGRANTED: &str = "ungranted";
const OTHER: &str = "other";
const NAMESPACES: [&str; 3] = [GRANTED, UNGRANTED, OTHER];

/// The log is written beside the answers.
const LOGGED: Duration = Duration::from_secs(10);

struct Cluster {
    api_server: ApiServer,
    countersign: Countersign,
    audit: PathBuf,
    lab: Lab,
    signed: Image,
}

impl Cluster {
    fn start() -> Outcome<Self> {
        let mut lab = Lab::start()?;
        lab.registry = Registry::start_with(&lab.folder("private"), &lab.authority, Auth::Basic)?;
        let signed = lab.trusted(REPOSITORY, "1.4")?;
        let folder = lab.folder("api-server");
        fs::create_dir_all(&folder)?;
        let (policy, audit) = (folder.join("audit.yaml"), folder.join("audit.log"));
        let rules = json!([{"level": "Metadata", "users": [ACCOUNT]}, {"level": "None"}]);
        let rules = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules,
            "omitStages": ["RequestReceived"],
        });
        fs::write(&policy, rules.to_string())?;
        let more = [
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", audit.display()),
        ];
        let api_server = ApiServer::start_with(&folder, &lab.authority, &more)?;
        for namespace in NAMESPACES.into_iter().chain([RELEASE]) {
            api_server.create_namespace(namespace)?;
        }
        rights(&api_server)?;
        let mut config = lab.config();
        config.kubeconfig = Some(api_server.account(RELEASE, RELEASE)?);
        config.more = [GRANTED, UNGRANTED]
            .map(|namespace| format!("--pull-secrets-namespace={namespace}"))
            .to_vec();
        let countersign = Countersign::start(&lab.folder("countersign"), &lab.authority, &config)?;
        Webhooks {
            name: "pulls",
            url: countersign.url(),
            authority: lab.authority.certificate(),
            namespaces: &NAMESPACES,
        }
        .register(&api_server)?;
        Ok(Self { api_server, countersign, audit, lab, signed })
    }

    /// Makes the secret `pull` with the registry's credentials.
    fn pull_secret(&self, namespace: &str) -> Outcome<()> {
        let (user, password) =
            (format!("--docker-username={USER}"), format!("--docker-password={PASSWORD}"));
        let server = format!("--docker-server={}", self.lab.registry.host());
        let create = ["create", "secret", "docker-registry", "pull", "-n", namespace];
        self.api_server
            .kubectl(&[&create[..], &[&server, &user, &password]].concat())?
            .success()?;
        Ok(())
    }

    fn service_account(&self, namespace: &str, name: &str, secret: &str) -> Outcome<()> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": secret}],
            "metadata": {"name": name, "namespace": namespace},
        });
        self.api_server.apply(&account)?.success().map(drop)
    }

    /// Creates an object, and stores nothing.
    fn ask(&self, namespace: &str, object: &Value) -> Outcome<Finished> {
        let create = ["create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-"];
        self.api_server.kubectl_with(&create, &object.to_string())
    }

    /// Who may read the tag gets the digest that was signed.
    fn admitted(&self, namespace: &str, object: &Value) -> Outcome<()> {
        let stored: Value = serde_json::from_str(&self.ask(namespace, object)?.success()?.stdout)?;
        let image = stored["spec"]["containers"][0]["image"].as_str().context("no image")?;
        assert_eq!(image, format!("{}@{}", self.signed.tagged("1.4"), self.signed.digest));
        Ok(())
    }

    fn refused(&self, namespace: &str, object: &Value, code: &str) -> Outcome<String> {
        let finished = self.ask(namespace, object)?;
        assert_ne!(finished.code, Some(0), "{finished}");
        assert!(finished.stderr.contains(code), "{code}: {finished}");
        Ok(finished.stderr)
    }

    /// A pod of the signed image that names these pull secrets and this ServiceAccount.
    fn pod(&self, secrets: &[&str], account: &str) -> Value {
        puller(&self.signed.tagged("1.4"), secrets, account)
    }
}

fn puller(image: &str, secrets: &[&str], account: &str) -> Value {
    let mut pod = pod("app", image);
    let names: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    pod["spec"]["imagePullSecrets"] = names.into();
    if !account.is_empty() {
        pod["spec"]["serviceAccountName"] = account.into();
    }
    pod
}

/// What the chart grants for pull secrets, and no more; in [`UNGRANTED`] it is taken away.
fn rights(api_server: &ApiServer) -> Outcome<()> {
    let namespaces = format!("--set=pullSecrets.namespaces={{{GRANTED},{UNGRANTED}}}");
    let values = ["--set=unmatched=Deny", "--set=clientCA.configMap=clients", &namespaces];
    let rendered = Rendered::new(&values)?;
    let account = rendered.one("ServiceAccount")?;
    let of_pulls = |object: &&Value| {
        object["metadata"]["name"] == "countersign-pull-secrets"
            && object["metadata"]["namespace"] == GRANTED
    };
    let kinds = ["Role", "RoleBinding"];
    let granted: Vec<&Value> =
        kinds.iter().flat_map(|kind| rendered.all(kind)).filter(of_pulls).collect();
    assert_eq!(granted.len(), kinds.len());
    for object in granted.into_iter().chain([account]) {
        api_server.apply(object)?.success()?;
    }
    Ok(())
}

#[test]
fn tags_are_looked_up_with_the_pull_secrets_of_who_names_them() -> Outcome<()> {
    let cluster = Cluster::start()?;
    for namespace in NAMESPACES {
        cluster.pull_secret(namespace)?;
    }
    the_pod_s_and_its_service_account_s_are_used(&cluster)?;
    k14_secrets_that_may_not_be_read_deny(&cluster)?;
    k7_k8_who_has_none_learns_nothing(&cluster)?;
    a_digest_needs_none(&cluster)?;
    nothing_was_listed(&cluster)
}

fn the_pod_s_and_its_service_account_s_are_used(cluster: &Cluster) -> Outcome<()> {
    let nobody = cluster.pod(&[], "");
    cluster.refused(GRANTED, &nobody, "RegistryUnavailable")?;
    cluster.refused(GRANTED, &cluster.pod(&["missing"], ""), "RegistryUnavailable")?;
    cluster.admitted(GRANTED, &cluster.pod(&["pull"], ""))?;
    cluster.admitted(GRANTED, &cluster.pod(&["missing", "pull"], "absent"))?;
    cluster.service_account(GRANTED, "builder", "pull")?;
    cluster.admitted(GRANTED, &cluster.pod(&[], "builder"))?;
    cluster.admitted(GRANTED, &cluster.pod(&["missing"], "builder"))?;
    // Templates are pulled as their pods will be.
    let image = cluster.signed.tagged("1.4");
    let mut template = deployment("app", &image);
    template["spec"]["template"]["spec"]["serviceAccountName"] = "builder".into();
    let taken = cluster.ask(GRANTED, &template)?.success()?;
    assert!(!taken.stderr.contains("Warning"), "{taken}");
    let warned = cluster.ask(GRANTED, &deployment("app", &image))?.success()?;
    assert!(warned.stderr.contains("RegistryUnavailable"), "{warned}");
    Ok(())
}

fn k14_secrets_that_may_not_be_read_deny(cluster: &Cluster) -> Outcome<()> {
    for pod in [cluster.pod(&["pull"], ""), cluster.pod(&[], "")] {
        let told = cluster.refused(UNGRANTED, &pod, "CredentialsUnavailable")?;
        assert!(told.contains("Countersign's log says why"), "{told}");
    }
    for tried in ["Secret pull", "ServiceAccount default"] {
        let tried = format!("namespace {UNGRANTED}: {tried}: Countersign may not read it");
        wait_until(&tried, LOGGED, || Ok(cluster.countersign.log()?.contains(&tried)))?;
    }
    Ok(())
}

/// Neither from the secret of the same name in its own namespace, which is not one of those that
/// are named, nor from what another namespace's pods made known just before.
fn k7_k8_who_has_none_learns_nothing(cluster: &Cluster) -> Outcome<()> {
    let Cluster { lab, signed, .. } = cluster;
    lab.registry.push(REPOSITORY, "there", "not signed")?;
    // Signed, and never pushed.
    lab.signer.sign(&signed.name, "1.9", &signed.digest, signed.size)?;
    countersign_e2e::lab::refresh();
    cluster.admitted(GRANTED, &cluster.pod(&["pull"], ""))?;
    for (namespace, secrets) in [(OTHER, vec!["pull"]), (OTHER, vec![]), (GRANTED, vec!["none"])] {
        for (there, absent, code) in
            [("1.4", "1.9", "RegistryUnavailable"), ("there", "absent", "Unsigned")]
        {
            let told = |tag: &str| {
                let pod = puller(&signed.tagged(tag), &secrets, "");
                Ok::<_, countersign_e2e::Failure>(
                    cluster.refused(namespace, &pod, code)?.replace(tag, "TAG"),
                )
            };
            assert_eq!(told(there)?, told(absent)?, "{namespace} {secrets:?}");
        }
    }
    // Who has the secret is told the same of a tag that is not there.
    cluster.refused(
        GRANTED,
        &puller(&signed.tagged("1.9"), &["pull"], ""),
        "RegistryUnavailable",
    )?;
    Ok(())
}

fn a_digest_needs_none(cluster: &Cluster) -> Outcome<()> {
    let requests = cluster.lab.registry.requests()?.len();
    let audited = fs::read_to_string(&cluster.audit)?.len();
    for namespace in NAMESPACES {
        let pod = puller(&cluster.signed.by_digest(), &["unheard-of"], "nobody");
        cluster.ask(namespace, &pod)?.success()?;
    }
    assert_eq!(cluster.lab.registry.requests()?.len(), requests);
    assert_eq!(fs::read_to_string(&cluster.audit)?.len(), audited, "the API server was asked");
    Ok(())
}

/// By what the API server has written of Countersign's account, and by what it lets it do.
fn nothing_was_listed(cluster: &Cluster) -> Outcome<()> {
    let mut asked = BTreeSet::new();
    for line in fs::read_to_string(&cluster.audit)?.lines() {
        let event: Value = serde_json::from_str(line)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        asked.insert((
            text(&event["verb"]),
            text(&object["resource"]),
            text(&object["namespace"]),
            event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        ));
    }
    let expected = [
        ("secrets", GRANTED, 200),
        ("secrets", GRANTED, 404),
        ("secrets", UNGRANTED, 403),
        ("serviceaccounts", GRANTED, 200),
        ("serviceaccounts", GRANTED, 404),
        ("serviceaccounts", UNGRANTED, 403),
    ];
    let get = |(resource, namespace, code): (&str, &str, u64)| {
        ("get".to_owned(), resource.to_owned(), namespace.to_owned(), code)
    };
    assert_eq!(asked, expected.map(get).into());

    let account = format!("--as={ACCOUNT}");
    for (verb, namespace, wanted) in [
        ("get", GRANTED, "yes"),
        ("list", GRANTED, "no"),
        ("watch", GRANTED, "no"),
        ("get", UNGRANTED, "no"),
        ("get", OTHER, "no"),
    ] {
        let can = ["auth", "can-i", verb, "secrets", "-n", namespace, &account];
        let answer = cluster.api_server.kubectl(&can)?;
        assert_eq!(answer.stdout.trim(), wanted, "{verb} in {namespace}");
    }
    Ok(())
}
