//! TrustCheckpoints: rollback is refused by every replica and after every restart.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use countersign_e2e::api_server::{ApiServer, SERVICE_ACCOUNT};
use countersign_e2e::countersign::{Config, Countersign, Kubernetes, verify_behind};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::install::{self, SYSTEM_NAMESPACE};
use countersign_e2e::lab::{Lab, SOURCE, refresh};
use countersign_e2e::notary_client::Keeper;
use countersign_e2e::policies::Source;
use countersign_e2e::process::{Finished, eventually};
use countersign_e2e::proxy::Proxy;
use countersign_e2e::reviews::Verdict;
use countersign_e2e::{Context, Outcome, backup};
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";
const OTHER: &str = "payments/other";

/// A public name that every front's certificate has: what is on loopback no proxy is asked for.
const FRONT: &str = "front-localhost.example.com";

/// How long a front that is late lets each request wait. An update takes some of them, so it ends after
/// one elsewhere that begins a second later.
const LATE: Duration = Duration::from_millis(600);

fn denied(replica: &Countersign, image: &str, code: &str) -> Outcome<()> {
    let is = |verdict: &Verdict| verdict.clone().denied_as(code).is_ok();
    eventually(code, || Ok(replica.pod(image)?.0), is).map(drop)
}

fn admitted(replica: &Countersign, image: &str) -> Outcome<()> {
    eventually(image, || Ok(replica.pod(image)?.0), |verdict| verdict.allowed).map(drop)
}

/// An API server with Countersign's definitions and rights, and a lab whose source and policy are
/// in it.
struct Cluster {
    lab: Lab,
    api_server: ApiServer,
    kubernetes: Kubernetes,
}

impl Cluster {
    fn start(folder: &Path) -> Outcome<Self> {
        let lab = Lab::start()?;
        let api_server = ApiServer::start(&folder.join("kubernetes"), &lab.authority)?;
        install::definitions(&api_server)?;
        let kubernetes = install::rights(&api_server, 300)?;
        Ok(Self { lab, api_server, kubernetes })
    }

    fn replica(&self, name: &str) -> Outcome<Countersign> {
        let kubernetes = Some(self.kubernetes.clone());
        let config = Config { kubernetes, ..self.lab.config() };
        Countersign::start(&self.lab.folder(name), &self.lab.authority, &config)
    }

    /// Trusts the signer's roots of both repositories.
    fn trust(&self) -> Outcome<()> {
        let other = self.lab.gun(OTHER);
        let source =
            self.lab.source(REPOSITORY)?.pin("other", &other, &self.lab.signer.pin(&other)?);
        self.apply_source(&source)
    }

    /// Makes the source, with what it names, and the policy.
    fn apply_source(&self, source: &Source) -> Outcome<()> {
        let here = ["apply", "-n", SYSTEM_NAMESPACE, "-f", "-"];
        self.api_server.kubectl_with(&here, &source.config_map())?.success()?;
        for yaml in [source.yaml(), self.lab.policy().yaml()] {
            self.apply(&yaml)?.success()?;
        }
        Ok(())
    }

    fn replica_behind(&self, name: &str, proxy: &Proxy) -> Outcome<Countersign> {
        // The client of the API server would take one for https, too.
        let env = vec![("ALL_PROXY", proxy.url("127.0.0.1")), ("NO_PROXY", String::new())];
        let kubernetes = Some(self.kubernetes.clone());
        let config = Config { kubernetes, env, ..self.lab.config() };
        Countersign::start(&self.lab.folder(name), &self.lab.authority, &config)
    }

    fn apply(&self, yaml: &str) -> Outcome<Finished> {
        self.api_server.kubectl_with(&["apply", "-f", "-"], yaml)
    }

    /// The checkpoints of the repository.
    fn checkpoints(&self, repository: &str) -> Outcome<Vec<Value>> {
        let (all, gun) = (self.api_server.get(&["tcp"])?, self.lab.gun(repository));
        let items = all["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().filter(|item| item["spec"]["repository"] == gun).collect())
    }

    /// The only one.
    fn checkpoint(&self) -> Outcome<Value> {
        let mut all = self.checkpoints(REPOSITORY)?;
        assert!(all.len() < 2, "{all:?}");
        all.pop().context("no checkpoint")
    }

    /// Lets the front answer with these files.
    fn replay(&self, files: &[(String, Bytes)]) {
        for (path, bytes) in files {
            self.lab.front.answer_with(path, bytes.clone());
        }
    }

    /// May Countersign write checkpoints?
    fn may_write(&self, may: bool) -> Outcome<()> {
        let role = self.api_server.get(&["clusterrole", "countersign"])?;
        let rules = role["rules"].as_array().context("no rules")?;
        let of_checkpoints = |rule: &Value| rule["resources"] == json!(["trustcheckpoints"]);
        let index = rules.iter().position(of_checkpoints).context("no rule")?;
        let mut verbs = vec!["get", "list", "watch"];
        verbs.extend(if may { &["create", "patch"][..] } else { &[] });
        let patch =
            json!([{"op": "replace", "path": format!("/rules/{index}/verbs"), "value": verbs}]);
        let patch = patch.to_string();
        let arguments = ["patch", "clusterrole", "countersign", "--type=json", "-p", &patch];
        self.api_server.kubectl(&arguments)?.success().map(drop)
    }
}

/// What connects [`FRONT`] to this front.
fn proxy(front: &Front) -> Outcome<Proxy> {
    Proxy::start([(format!("{FRONT}:443"), front.host().to_owned())].into())
}

fn version(checkpoint: &Value, role: &str) -> u64 {
    let roles = checkpoint["spec"]["roles"].as_array().into_iter().flatten();
    let found = roles.filter(|it| it["name"] == role).find_map(|it| it["version"].as_u64());
    found.unwrap_or_default()
}

fn name(checkpoint: &Value) -> &str {
    checkpoint["metadata"]["name"].as_str().unwrap_or_default()
}

#[test]
fn t8_t21_what_one_replica_has_seen_every_replica_refuses_to_go_back_behind() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path())?;
    let lab = &cluster.lab;
    for repository in [REPOSITORY, OTHER] {
        lab.signer.init(&lab.gun(repository))?;
    }
    cluster.trust()?;
    let image = lab.push_signed(REPOSITORY, "1.4", "first")?;
    let image_name = image.by_digest();
    let (one, two) = (cluster.replica("one")?, cluster.replica("two")?);
    for replica in [&one, &two] {
        admitted(replica, &image_name)?;
    }
    let first = cluster.checkpoint()?;
    assert!(name(&first).starts_with(&format!("{SOURCE}-")), "{first}");
    nothing_is_written_while_nothing_changes(&cluster, &[&one, &two], &image_name)?;

    let old = lab.front.recorded(&image.name);
    lab.signer.revoke(&image.name, "1.4")?;
    denied(&one, &image_name, "Unsigned")?;
    denied(&two, &image_name, "Unsigned")?;
    cluster.replay(&old);
    // Who has never been shown the revocation refuses to begin behind it; the others go on with
    // the newest that they have verified.
    let newcomer = cluster.replica("newcomer")?;
    denied(&newcomer, &image_name, "Rollback")?;
    for replica in [&one, &two] {
        refresh();
        replica.pod(&image_name)?.0.denied_as("Unsigned")?;
    }
    newcomer.kill()?;
    // SIGKILL to all of them, and the source goes and comes again.
    one.kill()?;
    two.kill()?;
    cluster.api_server.kubectl(&["delete", "tsrc", "--all"])?.success()?;
    cluster.trust()?;
    let replicas = [cluster.replica("three")?, cluster.replica("four")?];
    for replica in &replicas {
        denied(replica, &image_name, "Rollback")?;
    }
    an_old_backup_is_written_anew(&cluster, &replicas, &image_name, &first)?;
    a_deletion_is_honoured_by_all(&cluster, &replicas, &image_name)?;
    lab.front.answer_as_before();
    for replica in &replicas {
        denied(replica, &image_name, "Unsigned")?;
    }
    writes_at_the_same_time_all_succeed(&cluster, &replicas)?;
    a_write_that_is_refused(&cluster, &replicas[0])?;
    t4_a_rotation_recovers(&cluster, &replicas)
}

/// Each replica has a front of its own: one shows something new, and the other, at the same time, what
/// is older than that and newer than what was written. That is written last.
#[test]
fn of_two_floors_in_a_race_the_higher_one_stays() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path())?;
    let lab = &cluster.lab;
    lab.signer.init(&lab.gun(REPOSITORY))?;
    let first = lab.push_signed(REPOSITORY, "1.4", "first")?.by_digest();
    let mut source = lab.source(REPOSITORY)?;
    source.url = format!("https://{FRONT}");
    lab.policies.source(&source)?;
    lab.policies.policy(&lab.policy())?;
    cluster.apply_source(&source)?;

    let front = |upstream: &str| Front::start(upstream, &lab.authority);
    let (ahead, mirror) = (front(lab.notary.url())?, front(lab.notary.url())?);
    let behind = front(mirror.url())?;
    let one = cluster.replica_behind("one", &proxy(&ahead)?)?;
    let two = cluster.replica_behind("two", &proxy(&behind)?)?;
    let look = proxy(&mirror)?.url("127.0.0.1");
    let mut newest = first;
    for round in 0..2 {
        for front in [&mirror, &behind] {
            front.set(Mode::Forward);
        }
        admitted(&one, &newest)?;
        admitted(&two, &newest)?;
        for front in [&ahead, &behind] {
            front.set(Mode::Frozen);
        }
        let tag = format!("older-{round}");
        let older = lab.push_signed(REPOSITORY, &tag, &tag)?.by_digest();
        verify_behind(&look, &lab.config(), &[&older])?.success()?;
        mirror.set(Mode::Frozen);
        let tag = format!("newer-{round}");
        newest = lab.push_signed(REPOSITORY, &tag, &tag)?.by_digest();
        let before = version(&cluster.checkpoint()?, "snapshot");

        let reads = behind.reads().len();
        behind.set(Mode::Late(LATE.as_millis().try_into()?));
        let asks = || two.pod(&older).map(|_| behind.reads().len());
        eventually("it asks behind", asks, |now| *now > reads)?;
        ahead.set(Mode::Forward);
        admitted(&one, &newest)?;
        let served = lab.notary.metadata(&lab.gun(REPOSITORY), "snapshot")?;
        let served = served["signed"]["version"].as_u64().context("no version")?;
        assert_eq!(served, before + 2);
        let until = Instant::now() + 8 * LATE;
        while Instant::now() < until {
            assert_eq!(version(&cluster.checkpoint()?, "snapshot"), served);
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn nothing_is_written_while_nothing_changes(
    cluster: &Cluster,
    replicas: &[&Countersign],
    image: &str,
) -> Outcome<()> {
    let before = cluster.checkpoint()?;
    let reads = cluster.lab.front.reads().len();
    for _ in 0..5 {
        refresh();
        for replica in replicas {
            replica.pod(image)?.0.admitted()?;
        }
    }
    assert!(cluster.lab.front.reads().len() > reads + 10, "nothing was refreshed");
    assert_eq!(cluster.checkpoint()?["metadata"], before["metadata"]);
    Ok(())
}

/// An etcd that was set back: the same object, with what it said long ago.
fn an_old_backup_is_written_anew(
    cluster: &Cluster,
    replicas: &[Countersign],
    image: &str,
    old: &Value,
) -> Outcome<()> {
    let newest = cluster.checkpoint()?;
    assert!(version(&newest, "timestamp") > version(old, "timestamp"), "{newest} {old}");
    let refused = backup::patch(&cluster.api_server, old)?;
    assert!(refused.stderr.contains("a version falls only"), "{refused}");
    backup::restore(&cluster.api_server, old)?;
    assert_eq!(cluster.checkpoint()?["metadata"]["uid"], newest["metadata"]["uid"]);
    let ask = || {
        for replica in replicas {
            denied(replica, image, "Rollback")?;
        }
        cluster.checkpoint()
    };
    eventually("the floors", ask, |it| it["spec"] == newest["spec"]).map(drop)
}

/// The older metadata is trusted again, since it is unexpired; and remembered from then on.
fn a_deletion_is_honoured_by_all(
    cluster: &Cluster,
    replicas: &[Countersign],
    image: &str,
) -> Outcome<()> {
    let newest = cluster.checkpoint()?;
    cluster.api_server.kubectl(&["delete", "tcp", name(&newest)])?.success()?;
    for replica in replicas {
        admitted(replica, image)?;
        let told = |log: &String| log.contains("TrustCheckpoints were deleted");
        eventually("the deletion in the log", || replica.log(), told)?;
        let metrics = replica.probe("/metrics")?;
        let counted = "countersign_checkpoints_total{outcome=\"deleted\"} 1";
        assert!(metrics.contains(counted), "{metrics}");
    }
    let anew = cluster.checkpoint()?;
    assert_eq!(name(&anew), name(&newest));
    assert!(version(&anew, "timestamp") < version(&newest, "timestamp"), "{anew} {newest}");
    Ok(())
}

/// Both replicas are shown something new at the same time, and write it.
fn writes_at_the_same_time_all_succeed(cluster: &Cluster, replicas: &[Countersign]) -> Outcome<()> {
    for round in 0..5 {
        let tag = format!("race-{round}");
        let image = cluster.lab.push_signed(REPOSITORY, &tag, &tag)?.by_digest();
        refresh();
        thread::scope(|scope| {
            let asked = replicas.iter().map(|replica| scope.spawn(|| replica.pod(&image)));
            let asked: Vec<_> = asked.collect();
            for replica in asked {
                replica.join().ok().context("a panic")??.0.admitted()?;
            }
            Outcome::Ok(())
        })?;
    }
    Ok(())
}

fn a_write_that_is_refused(cluster: &Cluster, replica: &Countersign) -> Outcome<()> {
    let known = cluster.lab.push_signed(REPOSITORY, "1.5", "second")?.by_digest();
    admitted(replica, &known)?;
    let cold = cluster.lab.push_signed(OTHER, "1.0", "third")?.by_digest();
    cluster.may_write(false)?;
    // The API server's authorizer takes a moment.
    let probe = ["auth", "can-i", "create", "tcp", "--as", SERVICE_ACCOUNT];
    eventually("no right", || cluster.api_server.kubectl(&probe), |it| it.code != Some(0))?;
    denied(replica, &cold, "SourceUnavailable")?;
    let told = |log: &String| {
        log.contains("cannot be written: the API server says") && log.contains("forbidden")
    };
    eventually("the cause in the log", || replica.log(), told)?;
    assert_eq!(cluster.checkpoints(OTHER)?, Vec::<Value>::new());
    // What needs no write goes on, refresh after refresh; what does, by what was verified before.
    let newer = cluster.lab.push_signed(REPOSITORY, "1.5.1", "newer")?.by_digest();
    for _ in 0..3 {
        refresh();
        replica.pod(&known)?.0.admitted()?;
        replica.pod(&newer)?.0.denied_as("Unsigned")?;
    }
    cluster.may_write(true)?;
    admitted(replica, &cold)?;
    admitted(replica, &newer)?;
    assert_eq!(cluster.checkpoints(OTHER)?.len(), 1);
    Ok(())
}

/// Someone has signed the highest version that there is; a root with another key for the role
/// makes it good.
fn t4_a_rotation_recovers(cluster: &Cluster, replicas: &[Countersign]) -> Outcome<()> {
    let gun = cluster.lab.gun(REPOSITORY);
    let image = cluster.lab.push_signed(REPOSITORY, "1.6", "fourth")?.by_digest();
    for replica in replicas {
        admitted(replica, &image)?;
    }
    let mut checkpoint = cluster.checkpoint()?;
    for role in checkpoint["spec"]["roles"].as_array_mut().into_iter().flatten() {
        if role["name"] == "snapshot" {
            role["version"] = i64::MAX.into();
        }
    }
    let patch = json!({"spec": checkpoint["spec"]}).to_string();
    let raise = ["patch", "tcp", name(&checkpoint), "--type=merge", "-p", &patch];
    cluster.api_server.kubectl(&raise)?.success()?;
    for replica in replicas {
        denied(replica, &image, "Rollback")?;
    }
    cluster.lab.signer.rotate(&gun, "snapshot", Keeper::Server)?;
    for replica in replicas {
        admitted(replica, &image)?;
    }
    let recovered = cluster.checkpoint()?;
    assert!(version(&recovered, "snapshot") < 100, "{recovered}");
    assert_eq!(recovered["metadata"]["uid"], checkpoint["metadata"]["uid"]);
    Ok(())
}
