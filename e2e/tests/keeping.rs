//! What Countersign keeps in a real API server: its lease, its certificate, its webhook
//! configurations.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use countersign_e2e::api_server::{ApiServer, Shared};
use countersign_e2e::pki::Authority;
use countersign_e2e::process::wait_until;
use countersign_e2e::replica::{Bundles, Installation, Replica};
use countersign_e2e::{Context, Failure, Outcome};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long what follows within seconds may take on two busy cores.
const SOON: Duration = Duration::from_secs(20);

/// A lease runs out in 15 s, and is looked at every two.
const TAKEN_OVER: Duration = Duration::from_secs(40);

/// A part of an API server that a test has for itself.
struct Place {
    shared: Arc<Shared>,
    folder: TempDir,
}

impl Place {
    fn new() -> Outcome<Self> {
        Ok(Self { shared: Shared::get()?, folder: tempfile::tempdir()? })
    }

    fn api_server(&self) -> &ApiServer {
        &self.shared.api_server
    }

    fn install(&self, name: &'static str) -> Outcome<Installation<'_>> {
        Installation::new(self.api_server(), name, self.folder.path())
    }
}

/// Both configurations, where they are there and have this bundle.
fn applied(installation: &Installation<'_>, bundle: &str) -> Outcome<Option<[Value; 2]>> {
    let kinds = ["validating", "mutating"].map(|kind| installation.configuration(kind));
    let [Some(validating), Some(mutating)] =
        [&kinds[0], &kinds[1]].map(|found| found.as_ref().ok().and_then(Clone::clone))
    else {
        kinds.into_iter().collect::<Outcome<Vec<_>>>()?;
        return Ok(None);
    };
    let same = |found: &Value| Ok::<_, Failure>(Installation::bundle(found)? == bundle);
    Ok((same(&validating)? && same(&mutating)?).then_some([validating, mutating]))
}

fn await_applied(installation: &Installation<'_>) -> Outcome<[Value; 2]> {
    let bundle = installation.secret("ca.crt")?;
    let mut found = None;
    wait_until("the configurations name the bundle of the Secret", SOON, || {
        found = applied(installation, &bundle)?;
        Ok(found.is_some())
    })?;
    found.context("no configurations")
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

#[test]
fn a_first_start_makes_the_authority_the_certificate_and_the_configurations() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-first-start")?;
    let replica = installation.start("one", &[])?;
    let configurations = await_applied(&installation)?;
    replica.ask(&installation.secret("ca.crt")?)?;

    let role = place.api_server().get(&["clusterrole", "countersign-first-start"])?;
    let owner = json!([{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "name": "countersign-first-start", "uid": role["metadata"]["uid"]}]);
    for (found, rendered) in configurations.iter().zip(installation.configurations()) {
        assert_eq!(found["metadata"]["ownerReferences"], owner);
        assert_eq!(found["metadata"]["labels"], rendered["metadata"]["labels"]);
        let service = &found["webhooks"][0]["clientConfig"]["service"];
        assert_eq!(service["path"], rendered["webhooks"][0]["clientConfig"]["service"]["path"]);
    }
    let expires = replica.metric("countersign_certificate_expiry_timestamp_seconds")?;
    let days = (expires - jiff::Timestamp::now().as_second() as f64) / 86_400.0;
    assert!((89.9..90.1).contains(&days), "{days}");

    // What the API server fills in is no reason to write again, and neither is a look.
    thread::sleep(Duration::from_secs(7));
    let again = await_applied(&installation)?;
    assert_eq!(again.each_ref().map(version), configurations.each_ref().map(version));

    let log = replica.log()?;
    assert!(log.contains("a new authority and certificate"), "{log}");
    for key in ["ca.key", "tls.key"] {
        for line in installation.secret(key)?.lines() {
            assert!(!log.contains(line), "{key} is in the log");
        }
    }
    Ok(())
}

#[test]
fn a_secret_that_is_not_there_is_asked_for_and_taken_up_when_it_comes() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-no-secret")?;
    let delete = ["delete", "secret", "countersign-no-secret-tls", "-n", "countersign-no-secret"];
    place.api_server().kubectl(&delete)?.success()?;
    let told = "kubectl create secret generic countersign-no-secret-tls -n countersign-no-secret";
    let replica = installation
        .start_when("one", &[], |replica| replica.held().is_ok_and(|held| held.contains(told)))?;
    assert!(installation.configuration("validating")?.is_none(), "not ready, not registered");
    assert!(replica.log()?.contains(told));
    installation.create_secret()?;
    wait_until("it is ready", SOON, || Ok(replica.held()?.is_empty()))?;
    await_applied(&installation)?;
    replica.ask(&installation.secret("ca.crt")?)
}

#[test]
fn two_replicas_at_a_first_start_make_one_authority() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-race")?;
    let start = |identity: &str| installation.start(identity, &[]);
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| start("one"));
        let two = start("two");
        (one.join().ok().context("starting panicked"), two)
    });
    let (one, two) = (one??, two?);
    let bundle = installation.secret("ca.crt")?;
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "{bundle}");
    one.ask(&bundle)?;
    two.ask(&bundle)?;
    await_applied(&installation)?;
    let logs = one.log()? + &two.log()?;
    assert_eq!(logs.matches("was written").count(), 1, "{logs}");
    assert_eq!(logs.matches("this replica holds the lease").count(), 1, "{logs}");
    Ok(())
}

#[test]
fn o4_a_lease_passes_on_when_its_holder_ends_or_is_killed() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-lease")?;
    let one = installation.start("one", &[])?;
    wait_until("one holds the lease", SOON, || Ok(installation.holder()? == "one"))?;
    await_applied(&installation)?;
    let two = installation.start("two", &[])?;
    one.end()?;
    // It was given back: nobody waits until it runs out.
    wait_until("two holds the lease", Duration::from_secs(8), || {
        Ok(installation.holder()? == "two")
    })?;
    let three = installation.start("three", &[])?;
    two.kill()?;
    wait_until("three holds the lease", TAKEN_OVER, || Ok(installation.holder()? == "three"))?;
    // And does what the holder does.
    let delete = ["delete", "validatingwebhookconfiguration", "countersign-lease"];
    place.api_server().kubectl(&delete)?.success()?;
    await_applied(&installation)?;
    three.ask(&installation.secret("ca.crt")?)
}

#[test]
fn what_someone_else_does_to_the_configurations_is_put_right() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-restored")?;
    let _replica = installation.start("one", &[])?;
    let before = await_applied(&installation)?;
    let kubectl = |arguments: &[&str]| place.api_server().kubectl(arguments)?.success().map(drop);
    let added = r#"[{"op": "add", "path": "/webhooks/0/matchConditions",
        "value": [{"name": "never", "expression": "false"}]}]"#;
    let bundle = r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle",
        "value": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="}]"#;
    let defaulted = r#"[{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 1}]"#;
    let removed = r#"[{"op": "remove", "path": "/webhooks/0"}]"#;
    let owner = r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#;
    for patch in [bundle, added, defaulted, removed, owner] {
        let kind = "validatingwebhookconfiguration";
        // Others' certificates are refused by the API server unless they are some.
        let patch = patch.replace(
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==",
            &base64_of(&Authority::new(&place.folder.path().join("other"))?.pem()),
        );
        kubectl(&["patch", kind, "countersign-restored", "--type=json", "-p", &patch])?;
        wait_until(&patch, SOON, || {
            let found = installation.configuration("validating")?.context("it is gone")?;
            let same = |field: &str| found[field] == before[0][field];
            let owners = |object: &Value| object["metadata"]["ownerReferences"].clone();
            Ok(same("webhooks") && owners(&found) == owners(&before[0]))
        })?;
    }
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        kubectl(&["delete", kind, "countersign-restored"])?;
    }
    let after = await_applied(&installation)?;
    assert_eq!(
        after.each_ref().map(|found| &found["webhooks"]),
        before.each_ref().map(|found| &found["webhooks"])
    );
    thread::sleep(Duration::from_secs(5));
    let later = await_applied(&installation)?;
    assert_eq!(later.each_ref().map(version), after.each_ref().map(version), "and left alone");
    Ok(())
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn a_file_that_changes_is_applied_and_a_broken_one_changes_nothing() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-file")?;
    let replica = installation.start("one", &[])?;
    let before = await_applied(&installation)?;
    std::fs::write(installation.webhooks(), "kind: Secret")?;
    wait_until("it is told", SOON, || Ok(replica.log()?.contains("the former ones stay")))?;
    assert_eq!(
        await_applied(&installation)?.each_ref().map(version),
        before.each_ref().map(version)
    );
    let mut changed = installation.configurations();
    changed[0]["webhooks"][0]["timeoutSeconds"] = json!(7);
    changed[1]["webhooks"] = json!([]);
    installation.write_webhooks(&changed)?;
    wait_until("it is applied", SOON, || {
        let validating = installation.configuration("validating")?.context("it is gone")?;
        let mutating = installation.configuration("mutating")?.context("it is gone")?;
        let none = mutating["webhooks"].as_array().is_none_or(Vec::is_empty);
        Ok(validating["webhooks"][0]["timeoutSeconds"] == 7 && none)
    })
}

#[test]
fn nothing_is_created_that_nobody_would_collect() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-unowned")?;
    let administrator = place.api_server().kubeconfig().display().to_string();
    let installation = installation.with_kubeconfig(administrator.into());
    let replica = installation.start("one", &[])?;
    await_applied(&installation)?;
    let kubectl = |arguments: &[&str]| place.api_server().kubectl(arguments)?.success().map(drop);
    kubectl(&["delete", "clusterrole", "countersign-unowned"])?;
    kubectl(&["delete", "validatingwebhookconfiguration", "countersign-unowned"])?;
    let told = "ClusterRole countersign-unowned, which is to own them, does not exist";
    wait_until("it is told", SOON, || Ok(replica.log()?.contains(told)))?;
    thread::sleep(Duration::from_secs(5));
    assert!(installation.configuration("validating")?.is_none());
    Ok(())
}

#[test]
fn a_pair_from_files_is_registered_with_the_given_authority() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-given")?;
    let authority = Authority::new(&place.folder.path().join("pki"))?;
    let identity = authority.server("countersign")?;
    let flags = [
        format!("--tls-cert={}", identity.certificate.display()),
        format!("--tls-key={}", identity.key.display()),
        format!("--webhooks-ca={}", authority.certificate().display()),
    ];
    let flags = flags.each_ref().map(String::as_str);
    let _replica = installation.start("one", &flags)?;
    wait_until("it is applied", SOON, || Ok(applied(&installation, &authority.pem())?.is_some()))?;
    assert_eq!(installation.secret("ca.crt")?, "", "the Secret is left alone");
    Ok(())
}

#[test]
fn o3_a_broken_secret_keeps_the_last_pair_and_is_put_right_by_the_holder() -> Outcome<()> {
    let place = Place::new()?;
    let name = "countersign-broken";
    let installation = place.install(name)?;
    // The lease is someone else's at first: this replica may fill the empty Secret, no more.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": name},
        "spec": {"holderIdentity": "nobody", "leaseDurationSeconds": 3600}});
    place.api_server().apply(&lease)?.success()?;
    let replica = installation.start("one", &[])?;
    let keys = ["ca.crt", "ca.key", "tls.crt", "tls.key"];
    let content = || keys.iter().map(|key| installation.secret(key)).collect::<Outcome<Vec<_>>>();
    let good = content()?;
    let garbage = base64_of("-----BEGIN CERTIFICATE-----\nhalf");
    let data: HashMap<&str, String> =
        keys.into_iter().zip(good.iter().map(|text| base64_of(text))).collect();
    let told = |is_good: f64| {
        wait_until("it is told", SOON, || {
            Ok(replica.metric("countersign_certificate_last_reload_successful")? == is_good)
        })
    };
    for broken in [
        json!({"data": {"tls.crt": garbage}}),
        json!({"data": {"tls.crt": null, "tls.key": null}}),
        json!({"data": {"ca.crt": garbage, "ca.key": garbage}}),
    ] {
        installation.patch_secret(&json!({"data": data}))?;
        told(1.0)?;
        installation.patch_secret(&broken)?;
        told(0.0)?;
        for _ in 0..10 {
            replica.ask(&good[0])?;
        }
    }
    assert_ne!(content()?, good, "it is not this replica's to write");
    let expired = json!({"spec": {"holderIdentity": ""}}).to_string();
    let patch = ["patch", "lease", name, "-n", name, "--type=merge", "-p", &expired];
    place.api_server().kubectl(&patch)?.success()?;
    wait_until("the Secret is put right", SOON, || {
        replica.ask(&good[0])?;
        Ok(content()? == good)
    })?;
    told(1.0)
}

#[test]
fn an_emptied_secret_is_filled_anew_for_when_a_key_has_leaked() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-emptied")?;
    let replica = installation.start("one", &[])?;
    let before = installation.secret("ca.crt")?;
    installation.patch_secret(&json!({"data": null}))?;
    wait_until("there is another authority", SOON, || {
        let now = installation.secret("ca.crt")?;
        Ok(!now.is_empty() && now != before)
    })?;
    await_applied(&installation)?;
    let bundle = installation.secret("ca.crt")?;
    assert!(!bundle.contains(&before), "the former authority is trusted no more");
    wait_until("it is served", SOON, || Ok(replica.ask(&bundle).is_ok()))
}

#[test]
fn o3_rotation_of_authority_and_certificate_fails_no_request() -> Outcome<()> {
    let place = Place::new()?;
    let installation = place.install("countersign-rotation")?;
    // Renewed after 24 s, published for 3 s before it signs.
    let flags = ["--certificate-lifetime=36"];
    let replicas = [installation.start("one", &flags)?, installation.start("two", &flags)?];
    await_applied(&installation)?;
    let bundles = Bundles::new(place.api_server(), "countersign-rotation")?;
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    // An API server reads a configuration a little later than it was written.
    let ask = |replica: &Replica, late: Duration| -> Outcome<()> {
        while !stop.load(Ordering::Relaxed) {
            let bundle = bundles.read()?;
            thread::sleep(late);
            replica.ask(&bundle).context(format!("with {bundle}"))?;
            asked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let ask = &ask;
    let (rotated, loads) = thread::scope(|scope| {
        let lateness = [20, 1000, 1500].map(Duration::from_millis);
        let loads: Vec<_> = replicas
            .iter()
            .flat_map(|replica| lateness.map(|late| scope.spawn(move || ask(replica, late))))
            .collect();
        let rotated = rotations(&installation);
        stop.store(true, Ordering::Relaxed);
        let loads: Vec<_> = loads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        (rotated, loads)
    });
    for load in loads {
        load.ok().context("a client panicked")??;
    }
    rotated?;
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    let logs = replicas[0].log()? + &replicas[1].log()?;
    assert_eq!(logs.matches("cannot be used").count(), 0, "{logs}");
    Ok(())
}

/// Waits until every authority and certificate was replaced three times.
fn rotations(installation: &Installation<'_>) -> Outcome<()> {
    let mut seen = vec![(installation.secret("ca.key")?, installation.secret("tls.crt")?)];
    wait_until("three rotations", Duration::from_secs(150), || {
        let now = (installation.secret("ca.key")?, installation.secret("tls.crt")?);
        if seen.iter().all(|(authority, certificate)| (authority, certificate) != (&now.0, &now.1))
        {
            seen.push(now);
        }
        let authorities: std::collections::BTreeSet<_> = seen.iter().map(|seen| &seen.0).collect();
        let certificates: std::collections::BTreeSet<_> = seen.iter().map(|seen| &seen.1).collect();
        thread::sleep(Duration::from_millis(400));
        Ok(authorities.len() > 3 && certificates.len() > 3)
    })
}
