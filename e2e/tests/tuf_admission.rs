//! Images signed with TUF tools are admitted, and what is wrong with their metadata is refused.

use std::path::Path;

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::{Config, Countersign, Kubernetes, verify};
use countersign_e2e::install::{self, SYSTEM_NAMESPACE};
use countersign_e2e::lab::{Lab, SOURCE};
use countersign_e2e::process::{Finished, eventually};
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::Verdict;
use countersign_e2e::tuf::resources::{self, accepting, object};
use countersign_e2e::tuf::{Delegation, Keys, Layout, Repository, Scheme, TufServer};
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";

fn denied(replica: &Countersign, image: &str, code: &str) -> Outcome<()> {
    let is = |verdict: &Verdict| verdict.clone().denied_as(code).is_ok();
    eventually(code, || Ok(replica.pod(image)?.0), is).map(drop)
}

fn admitted(replica: &Countersign, image: &str) -> Outcome<()> {
    eventually(image, || Ok(replica.pod(image)?.0), |verdict| verdict.allowed).map(drop)
}

/// A lab with a TUF repository that python-tuf writes.
struct Signed {
    lab: Lab,
    tuf: Repository,
    server: TufServer,
}

impl Signed {
    fn start() -> Outcome<Self> {
        let lab = Lab::start()?;
        let tuf = Repository::create(&lab.folder("tuf"), &Layout::default())?;
        let server = TufServer::start(tuf.folder(), &lab.authority)?;
        Ok(Self { lab, tuf, server })
    }

    /// Pushes an image whose manifest nobody has signed.
    fn push(&self, tag: &str) -> Outcome<(Image, Vec<u8>)> {
        let image = self.lab.registry.push(REPOSITORY, tag, tag)?;
        let manifest = self.lab.registry.manifest(&image)?;
        Ok((image, manifest))
    }

    fn target(&self, tag: &str) -> String {
        format!("{}/{tag}", self.lab.gun(REPOSITORY))
    }

    /// Pushes an image, and signs its manifest in `targets`.
    fn push_signed(&mut self, tag: &str) -> Outcome<Image> {
        let (image, manifest) = self.push(tag)?;
        self.tuf.add(&self.target(tag), &manifest);
        self.tuf.publish()?;
        Ok(image)
    }

    fn source(&self, reference: &Value) -> Value {
        resources::source(&self.server.metadata_url(), reference)
    }

    fn authority_of_server(&self) -> Value {
        resources::authority(&self.lab.authority.pem())
    }

    /// Trusts these authorities, by files; at least one has to have signed.
    fn trust(&self, authorities: &Value) -> Outcome<()> {
        let objects = [
            self.authority_of_server(),
            resources::root(&self.tuf, "1.root.json")?,
            self.source(&resources::root_reference()),
            self.policy(authorities),
        ];
        let yaml: Vec<String> = objects.iter().map(ToString::to_string).collect();
        self.lab.policies.write("tuf", &yaml.join("\n---\n"))
    }

    fn policy(&self, authorities: &Value) -> Value {
        let all = format!("{}/**", self.lab.registry.host());
        resources::policy("payments", &all, authorities)
    }
}

#[test]
fn an_image_that_python_tuf_signed_is_admitted_and_no_other() -> Outcome<()> {
    let mut signed = Signed::start()?;
    let image = signed.push_signed("1.4")?;
    let (unsigned, _) = signed.push("1.5")?;
    let (delegated, manifest) = signed.push("1.6")?;
    let paths = format!("{}/*", signed.lab.gun(REPOSITORY));
    signed.tuf.delegate("targets", &Delegation::by_paths("payments", &[&paths]));
    signed.tuf.add_to("payments", &signed.target("1.6"), &manifest);
    let (by_sha512, manifest) = signed.push("1.7")?;
    let custom = json!({"build": "4711"});
    signed.tuf.add_with(&signed.target("1.7"), &manifest, &["sha512"], &custom);
    signed.tuf.publish()?;

    signed.trust(&json!([accepting(&["*"])]))?;
    let replica = signed.lab.countersign("all")?;
    for (image, tag) in [(&image, "1.4"), (&delegated, "1.6"), (&by_sha512, "1.7")] {
        let (verdict, pinned) = replica.pod(&image.tagged(tag))?;
        verdict.admitted().context(tag)?;
        assert_eq!(pinned, format!("{}@{}", image.tagged(tag), image.digest));
        replica.pod(&image.by_digest())?.0.admitted()?;
    }
    replica.pod(&unsigned.tagged("1.5"))?.0.denied_as("Unsigned")?;
    replica.pod(&unsigned.by_digest())?.0.denied_as("Unsigned")?;
    let reads = signed.server.reads().len();
    replica.pod(&image.tagged("1.4"))?.0.admitted()?;
    assert!(signed.server.reads().len() <= reads + 2, "at most one refresh");
    replica.kill()?;

    let told = verify(&signed.lab.config(), None, &["-v", &by_sha512.tagged("1.7")])?.success()?;
    for part in ["custom {\"build\":\"4711\"}", "as {registry}/{repository}/{tag}, in any role"] {
        assert!(told.stdout.contains(part), "{}", told.stdout);
    }

    signed.trust(&json!([accepting(&["payments"])]))?;
    let replica = signed.lab.countersign("payments")?;
    replica.pod(&delegated.tagged("1.6"))?.0.admitted()?;
    replica.pod(&image.tagged("1.4"))?.0.denied_as("UntrustedSigner").map(drop)
}

#[test]
fn from_notary_to_tuf_both_are_good_for_a_time() -> Outcome<()> {
    let mut signed = Signed::start()?;
    let by_notary = signed.lab.trusted(REPOSITORY, "1.3")?;
    let by_tuf = signed.push_signed("1.4")?;
    // One name, one policy: the lab's own goes.
    std::fs::remove_file(signed.lab.policies.folder().join("policy-payments.yaml"))?;
    signed.trust(&json!([resources::by_notary(SOURCE), accepting(&["*"])]))?;
    let replica = signed.lab.countersign("both")?;
    replica.pod(&by_notary.tagged("1.3"))?.0.admitted()?;
    replica.pod(&by_tuf.tagged("1.4"))?.0.admitted()?;
    let (neither, _) = signed.push("1.5")?;
    replica.pod(&neither.tagged("1.5"))?.0.denied_as("Unsigned").map(drop)
}

/// An API server with Countersign's definitions and rights.
struct Cluster {
    signed: Signed,
    api_server: ApiServer,
    kubernetes: Kubernetes,
}

impl Cluster {
    fn start(folder: &Path) -> Outcome<Self> {
        let signed = Signed::start()?;
        let api_server = ApiServer::start(&folder.join("kubernetes"), &signed.lab.authority)?;
        install::definitions(&api_server)?;
        let kubernetes = install::rights(&api_server, 300)?;
        Ok(Self { signed, api_server, kubernetes })
    }

    fn replica(&self, name: &str) -> Outcome<Countersign> {
        let lab = &self.signed.lab;
        let kubernetes = Some(self.kubernetes.clone());
        Countersign::start(
            &lab.folder(name),
            &lab.authority,
            &Config { kubernetes, ..lab.config() },
        )
    }

    fn apply(&self, object: &Value) -> Outcome<Finished> {
        let here = ["apply", "-n", SYSTEM_NAMESPACE, "-f", "-"];
        self.api_server.kubectl_with(&here, &object.to_string())
    }

    /// Puts this in the Secret that the source takes its initial root from.
    fn set_root(&self, text: &str) -> Outcome<()> {
        let secret = object("Secret", "tuf-root", "stringData", "root.json", text);
        self.apply(&secret)?.success().map(drop)
    }

    /// Has the source, and the policy that trusts it.
    fn trust(&self) -> Outcome<()> {
        let root = json!({"secret": "tuf-root", "key": "root.json"});
        self.apply(&self.signed.source(&root))?.success()?;
        self.apply(&self.signed.policy(&json!([accepting(&["*"])])))?.success().map(drop)
    }

    /// The checkpoint of the source: there is one.
    fn checkpoint(&self) -> Outcome<Value> {
        let all = self.api_server.get(&["tcp"])?;
        let mut items = all["items"].as_array().into_iter().flatten();
        let found = items.find(|it| it["spec"]["source"] == resources::SOURCE).cloned();
        assert!(items.all(|it| it["spec"]["source"] != resources::SOURCE), "another one: {all}");
        found.context("no checkpoint")
    }
}

#[test]
fn t8_the_root_is_followed_and_rollback_refused_after_every_replica_was_killed() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path())?;
    let image = cluster.signed.push_signed("1.4")?.tagged("1.4");
    let root = String::from_utf8(cluster.signed.tuf.initial_root()?).context("the root")?;
    cluster.apply(&cluster.signed.authority_of_server())?.success()?;
    let neither = cluster.signed.source(&json!({"key": "root.json"}));
    let refused = cluster.apply(&neither)?;
    assert!(refused.stderr.contains("exactly one of configMap and secret"), "{refused}");
    cluster.trust()?;
    let (one, two) = (cluster.replica("one")?, cluster.replica("two")?);
    one.pod(&image)?.0.denied_as("InvalidPolicy")?;
    // What is no root, another repository's root, and the right one, in the same Secret.
    cluster.set_root("<html>")?;
    let ready = || cluster.api_server.get(&["tsrc", resources::SOURCE]);
    let told = |it: &Value| it["status"].to_string().contains("is not an initial root");
    eventually("the reason in the status", ready, told)?;
    let other = Repository::create(&cluster.signed.lab.folder("other"), &Layout::default())?;
    cluster.set_root(&String::from_utf8(other.initial_root()?).context("the root")?)?;
    for replica in [&one, &two] {
        denied(replica, &image, "ThresholdNotMet")?;
    }
    cluster.set_root(&root)?;
    for replica in [&one, &two] {
        admitted(replica, &image)?;
    }
    let checkpoint = cluster.checkpoint()?;
    assert_eq!(checkpoint["spec"]["repository"], "*", "{checkpoint}");

    let tuf = &mut cluster.signed.tuf;
    let before = tuf.save()?;
    tuf.rotate("root", &Keys::one(Scheme::EcdsaP256));
    tuf.remove("targets", &image.replace(":1.4", "/1.4"));
    tuf.publish()?;
    for replica in [&one, &two] {
        denied(replica, &image, "Unsigned")?;
    }
    one.kill()?;
    two.kill()?;
    cluster.signed.tuf.put_back(&before)?;
    let again = cluster.replica("again")?;
    denied(&again, &image, "Rollback")?;
    again.pod(&image)?.0.denied_as("Rollback").map(drop)
}

#[test]
fn t4_a_rotation_recovers_though_its_root_is_seen_alone_at_first() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path())?;
    let image = cluster.signed.push_signed("1.4")?.tagged("1.4");
    let root = String::from_utf8(cluster.signed.tuf.initial_root()?).context("the root")?;
    cluster.apply(&cluster.signed.authority_of_server())?.success()?;
    cluster.set_root(&root)?;
    cluster.trust()?;
    let replicas = [cluster.replica("one")?, cluster.replica("two")?];
    let all = |is: fn(&Countersign, &str) -> Outcome<()>| {
        replicas.iter().try_for_each(|replica| is(replica, &image))
    };
    all(admitted)?;

    // Someone has signed the highest versions that there are.
    let checkpoint = cluster.checkpoint()?;
    let mut spec = checkpoint["spec"].clone();
    for role in spec["roles"].as_array_mut().into_iter().flatten() {
        role["version"] = i64::MAX.into();
    }
    let name = checkpoint["metadata"]["name"].as_str().context("a name")?;
    let patch = json!({"spec": spec}).to_string();
    cluster.api_server.kubectl(&["patch", "tcp", name, "--type=merge", "-p", &patch])?.success()?;
    all(|replica, image| denied(replica, image, "Rollback"))?;

    for role in ["timestamp", "snapshot"] {
        cluster.signed.tuf.rotate(role, &Keys::one(Scheme::EcdsaP256));
    }
    cluster.signed.tuf.publish()?;
    let published = cluster.signed.tuf.save()?;
    std::fs::write(cluster.signed.tuf.metadata().join("timestamp.json"), "not there yet")?;
    all(|replica, image| denied(replica, image, "MalformedMetadata"))?;
    let fallen = cluster.checkpoint()?["spec"].clone();
    assert!(fallen["root"]["version"].as_i64() > spec["root"]["version"].as_i64(), "{fallen}");
    let roles = fallen["roles"].as_array().context("roles")?;
    assert!(roles.iter().all(|role| role["version"] == 0), "{fallen}");
    cluster.signed.tuf.put_back(&published)?;
    all(admitted)
}
