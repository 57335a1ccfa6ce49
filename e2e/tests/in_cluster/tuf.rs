//! Images that were signed with python-tuf, alone and beside such as were signed with Notary.

use countersign_e2e::chart::RELEASE;
use countersign_e2e::image::Packed;
use countersign_e2e::place::Place;
use countersign_e2e::policies::Source;
use countersign_e2e::process::{Finished, wait_until};
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::{deployment, pod};
use countersign_e2e::tuf::resources::{self, accepting, by_notary};
use countersign_e2e::tuf::{Keys, Layout, Repository, Scheme, TufServer};
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

use crate::cluster::{Namespace, SOON, alone, refused_by};
use crate::policies::{HOLDS, holds};
use crate::restart::{available, new_replicas};

/// The policy.
const POLICY: &str = "tuf";

/// The image repository that it is about.
const REPOSITORY: &str = "tuf/app";

/// The TrustSource of what was signed with Notary.
const NOTARY: &str = "tuf-notary";

/// A namespace whose images are signed in a TUF repository.
struct Signed<'a> {
    namespace: &'a Namespace<'a>,
    tuf: Repository,
    server: TufServer,
}

impl<'a> Signed<'a> {
    fn start(namespace: &'a Namespace<'a>) -> Outcome<Self> {
        let lab = &namespace.lab;
        let tuf = Repository::create(&lab.folder("tuf"), &Layout::default())?;
        let server = TufServer::start_at(Place::NODE, tuf.folder(), &lab.authority)?;
        let signed = Self { namespace, tuf, server };
        signed.apply(&resources::authority(&lab.authority.pem()))?;
        signed.root("1.root.json")?;
        let source = resources::source(&signed.server.metadata_url(), &resources::root_reference());
        signed.apply(&source)?;
        signed.trust(&json!([accepting(&["*"])]))?;
        let resources = [format!("tp/{POLICY}"), format!("tsrc/{}", resources::SOURCE)];
        let ready = ["wait", "--for=condition=Ready", "--timeout=60s"];
        let resources = resources.iter().map(String::as_str);
        namespace.kubectl(&ready.into_iter().chain(resources).collect::<Vec<_>>())?.success()?;
        Ok(signed)
    }

    fn apply(&self, object: &Value) -> Outcome<Finished> {
        self.namespace.apply_own(&object.to_string())?.success()
    }

    /// Lets the source start at this file.
    fn root(&self, file: &str) -> Outcome<()> {
        self.apply(&resources::root(&self.tuf, file)?).map(drop)
    }

    fn trust(&self, authorities: &Value) -> Outcome<()> {
        let all = self.namespace.lab.gun("tuf/**");
        self.apply(&resources::policy(POLICY, &all, authorities)).map(drop)
    }

    fn push(&self, tag: &str) -> Outcome<Image> {
        let packed = Packed::workload()?.labelled(&format!("tuf {tag}"));
        self.namespace.lab.registry.push_packed(REPOSITORY, tag, &packed)
    }

    fn target(&self, tag: &str) -> String {
        format!("{}/{tag}", self.namespace.lab.gun(REPOSITORY))
    }

    fn push_signed(&mut self, tag: &str) -> Outcome<Image> {
        let image = self.push(tag)?;
        let manifest = self.namespace.lab.registry.manifest(&image)?;
        self.tuf.add(&self.target(tag), &manifest);
        self.tuf.publish()?;
        Ok(image)
    }

    /// The versions of the root in what Countersign remembers of the source: there is one.
    fn roots_remembered(&self) -> Outcome<Vec<Value>> {
        let all = self.namespace.node.get(&["tcp"])?;
        let ours = all["items"].as_array().into_iter().flatten();
        let ours = ours.filter(|it| it["spec"]["source"] == resources::SOURCE);
        Ok(ours.map(|it| it["spec"]["root"]["version"].clone()).collect())
    }
}

/// The image runs, pinned, and what nobody signed is refused where its author looks.
fn admitted_and_refused(
    namespace: &Namespace<'_>,
    signed: &Image,
    unsigned: &Image,
) -> Outcome<()> {
    namespace.apply(&deployment("app", &signed.tagged("1.0")))?.success()?;
    available(namespace.cluster, namespace.name, "app")?;
    let pods = namespace.pods()?;
    let running = pods.first().context("no pod")?;
    let pinned = format!("{}@{}", signed.tagged("1.0"), signed.digest);
    assert_eq!(running["spec"]["containers"][0]["image"], pinned);
    assert_eq!(running["status"]["containerStatuses"][0]["imageID"], signed.by_digest());
    let bad = unsigned.tagged("1.1");
    let template = format!("spec.template.spec.containers[name=app] {bad}");
    let refused = namespace.apply(&deployment("bad", &bad))?;
    refused_by(POLICY, &refused, "Unsigned", &[&template]);
    let refused = namespace.apply(&pod("bad", &bad))?;
    let place = format!("spec.containers[name=app] {bad}");
    refused_by(POLICY, &refused, "Unsigned", &[&place]);
    Ok(())
}

/// One authority of two is enough until the other is all there is.
fn beside_notary(signed: &Signed<'_>, by_tuf: &Image) -> Outcome<()> {
    let (namespace, lab) = (signed.namespace, &signed.namespace.lab);
    let image = signed.push("0.9")?;
    lab.signer.init(&image.name)?;
    lab.signer.sign(&image.name, "0.9", &image.digest, image.size)?;
    let pin = lab.signer.pin(&image.name)?;
    let source = Source::new(NOTARY, lab.front.url(), &lab.authority.pem());
    let source = source.pin("app", &image.name, &pin);
    for yaml in [source.config_map(), source.yaml()] {
        namespace.apply_own(&yaml)?.success()?;
    }
    let (by_tuf, by_notary_only) = (by_tuf.tagged("1.0"), image.tagged("0.9"));
    holds(namespace, &by_notary_only, "Unsigned", HOLDS)?;
    signed.trust(&json!([by_notary(NOTARY), accepting(&["*"])]))?;
    holds(namespace, &by_notary_only, "", SOON)?;
    holds(namespace, &by_tuf, "", HOLDS)?;
    signed.trust(&json!([accepting(&["*"])]))?;
    holds(namespace, &by_notary_only, "Unsigned", HOLDS)?;
    let refused = namespace.apply(&pod("late", &by_notary_only))?;
    refused_by(POLICY, &refused, "Unsigned", &[&by_notary_only]);
    holds(namespace, &by_tuf, "", HOLDS)
}

/// What was published once is not gone back behind, by replicas that have never seen it either.
fn t8_rollback(signed: &mut Signed<'_>, image: &Image) -> Outcome<()> {
    let namespace = signed.namespace;
    let image = image.tagged("1.0");
    let old = signed.tuf.save()?;
    let next = signed.push_signed("2.0")?.tagged("2.0");
    holds(namespace, &next, "", SOON)?;
    new_replicas(namespace.cluster)?;
    let new = signed.tuf.save()?;
    signed.tuf.put_back(&old)?;
    // The first, by which nothing is known yet but what the cluster remembers.
    let refused = namespace.apply(&pod("old", &image))?;
    refused_by(POLICY, &refused, "Rollback", &[&image]);
    holds(namespace, &image, "Rollback", SOON)?;
    // A controller's pods are refused, too, and their owner tells why.
    namespace.line("delete pods --all --wait=false")?.success()?;
    wait_until("the event of the refusal", SOON, || {
        let ours = ["events", "--field-selector=reportingComponent=countersign"];
        let events = namespace.node.get(&[&ours[..], &["-n", namespace.name]].concat())?;
        let told = |event: &Value| {
            event["reason"] == "Rollback" && event["involvedObject"]["kind"] == "ReplicaSet"
        };
        Ok(events["items"].as_array().into_iter().flatten().any(told))
    })?;
    signed.tuf.put_back(&new)?;
    holds(namespace, &next, "", SOON)
}

/// New keys are followed from the root that the source started with, and from a newer one, by which
/// nothing is forgotten.
fn roots(signed: &mut Signed<'_>, image: &Image) -> Outcome<()> {
    let (namespace, image) = (signed.namespace, image.tagged("1.0"));
    signed.tuf.rotate("root", &Keys::one(Scheme::EcdsaP256));
    let old = signed.tuf.save()?;
    signed.tuf.rotate("targets", &Keys::one(Scheme::EcdsaP256));
    let next = signed.push_signed("3.0")?.tagged("3.0");
    holds(namespace, &next, "", SOON)?;
    let newest = signed.roots_remembered()?;
    assert_eq!(newest.len(), 1, "{newest:?}");
    signed.root("2.root.json")?;
    holds(namespace, &image, "", HOLDS)?;
    holds(namespace, &next, "", HOLDS)?;
    assert_eq!(signed.roots_remembered()?, newest);
    let new = signed.tuf.save()?;
    signed.tuf.put_back(&old)?;
    new_replicas(namespace.cluster)?;
    holds(namespace, &image, "Rollback", SOON)?;
    signed.tuf.put_back(&new)?;
    holds(namespace, &next, "", SOON)
}

#[test]
fn images_of_a_tuf_repository_are_admitted_and_no_others() -> Outcome<()> {
    alone("tuf", |namespace| {
        let mut signed = Signed::start(namespace)?;
        let image = signed.push_signed("1.0")?;
        let unsigned = signed.push("1.1")?;
        holds(namespace, &image.tagged("1.0"), "", SOON)?;
        admitted_and_refused(namespace, &image, &unsigned)?;
        beside_notary(&signed, &image)?;
        t8_rollback(&mut signed, &image)?;
        roots(&mut signed, &image)?;
        let delete = ["delete", "-n", RELEASE, "tp/tuf", "tsrc/corp-tuf", "tsrc/tuf-notary"];
        namespace.node.kubectl(&delete)?.success().map(drop)
    })
}
