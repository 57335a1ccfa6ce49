//! Policies as platform teams change them, and when the API server's answers follow.

use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::lab::SOURCE;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::pod;
use countersign_e2e::{Context, Failure, Outcome};
use serde_json::{Value, json};

use crate::cluster::{Namespace, SOON, beside_others};

/// How long after kubectl has returned a change may not hold yet.
pub(crate) const HOLDS: Duration = Duration::from_secs(3);

/// How many reviews in a row have to obey, once one does.
const OBEY: usize = 20;

/// Why a pod of this image would be refused; empty where it is let in.
fn reason(namespace: &Namespace<'_>, image: &str) -> Outcome<String> {
    let (status, answer) = namespace.dry(&pod("tried", image))?;
    if status == 201 {
        return Ok(String::new());
    }
    Ok(answer["message"].as_str().context(answer.to_string())?.to_owned())
}

/// Waits until pods are let in (an empty `code`) or refused with this code, and stay so.
pub(crate) fn holds(
    namespace: &Namespace<'_>,
    image: &str,
    code: &str,
    within: Duration,
) -> Outcome<()> {
    let is = |reason: &str| {
        let first = reason.lines().next().unwrap_or_default();
        if code.is_empty() { first.is_empty() } else { first.ends_with(&format!(": {code}")) }
    };
    let began = Instant::now();
    let mut last = reason(namespace, image)?;
    while !is(&last) {
        if began.elapsed() > within {
            return Err(Failure::new(format!("{image}: not {code:?} within {within:?}: {last:?}")));
        }
        last = reason(namespace, image)?;
    }
    eprintln!("{}: {code:?} after {:?}", namespace.name, began.elapsed());
    for _ in 0..OBEY {
        let next = reason(namespace, image)?;
        assert!(is(&next), "{code:?} held for a while only: {next:?}");
    }
    Ok(())
}

/// A policy for one namespace alone.
fn local(namespace: &Namespace<'_>, include: &str) -> Policy {
    Policy {
        namespaces: format!("kubernetes.io/metadata.name: {}", namespace.name),
        ..Policy::new(namespace.name, include, SOURCE)
    }
}

fn patch(namespace: &Namespace<'_>, spec: &Value) -> Outcome<()> {
    let patch = json!({"spec": spec}).to_string();
    let arguments = ["patch", "tp", namespace.name, "--type=merge", "-p", &patch];
    namespace.kubectl(&arguments)?.success().map(drop)
}

#[test]
fn an_edited_policy_holds_at_once() -> Outcome<()> {
    beside_others("edits", |namespace| {
        // As it is pinned, so that the next policy has nothing more to say of it.
        let image = namespace.pinned();
        holds(namespace, &image, "", HOLDS)?;
        let stricter = Policy {
            require_roles: vec!["targets/qa".to_owned()],
            ..local(namespace, &namespace.lab.gun("payments/**"))
        };
        namespace.apply_own(&stricter.yaml())?.success()?;
        holds(namespace, &image, "NotDelegated", HOLDS)?;
        patch(namespace, &json!({"action": "Audit"}))?;
        holds(namespace, &image, "", HOLDS)?;
        patch(namespace, &json!({"action": "Deny"}))?;
        holds(namespace, &image, "NotDelegated", HOLDS)?;
        namespace.line("delete tp edits")?.success()?;
        holds(namespace, &image, "", HOLDS)
    })
}

#[test]
fn a_policy_may_come_before_its_source() -> Outcome<()> {
    beside_others("early", |namespace| {
        let lab = &namespace.lab;
        let image = lab.registry.push("early/api", "1", "signed")?;
        lab.signer.init(&image.name)?;
        lab.signer.sign(&image.name, "1", &image.digest, image.size)?;
        let policy = Policy::new("early", &lab.gun("early/**"), "early-source");
        let applied = namespace.apply_own(&policy.yaml())?.success()?;
        assert!(applied.stderr.contains("early-source"), "no warning: {applied}");
        holds(namespace, &image.tagged("1"), "SourceNotFound", HOLDS)?;
        let refused = namespace.apply(&pod("early", &image.tagged("1")))?;
        let first = "1 of 1 images denied by TrustPolicy \"early\": SourceNotFound";
        assert!(refused.stderr.contains(first), "{refused}");
        let ready = "wait --for=jsonpath={.status.conditions[0].reason}=SourceNotFound tp/early";
        namespace.line(ready)?.success()?;

        let pin = lab.signer.pin(&image.name)?;
        let source = Source::new("early-source", lab.front.url(), &lab.authority.pem());
        let source = source.pin("early", &image.name, &pin);
        // The source first, and what it names after it: it heals either way.
        namespace.apply_own(&source.yaml())?.success()?;
        namespace.apply_own(&source.config_map())?.success()?;
        holds(namespace, &image.tagged("1"), "", SOON)?;
        let ready = "wait --for=condition=Ready tp/early tsrc/early-source --timeout=20s";
        namespace.line(ready)?.success()?;
        namespace.line("delete tp/early tsrc/early-source")?.success().map(drop)
    })
}

#[test]
fn a_namespace_comes_under_a_policy_by_its_labels() -> Outcome<()> {
    beside_others("labels", |namespace| {
        let image = namespace.lab.registry.push("labels/api", "1", "not signed")?.tagged("1");
        let policy = Policy {
            namespaces: "signing: required".to_owned(),
            ..Policy::new("labels", &namespace.lab.gun("labels/**"), SOURCE)
        };
        namespace.apply_own(&policy.yaml())?.success()?;
        let ready = "wait --for=condition=Ready tp/labels --timeout=20s";
        namespace.line(ready)?.success()?;
        for (label, code) in [("signing=required", "RootNotPinned"), ("signing-", "")] {
            namespace.line(&format!("label namespace labels {label}"))?.success()?;
            holds(namespace, &image, code, HOLDS)?;
        }
        namespace.line("label namespace labels signing=required")?.success()?;
        holds(namespace, &image, "RootNotPinned", HOLDS)?;
        namespace.line("delete tp labels")?.success().map(drop)
    })
}

#[test]
fn an_exception_ends_when_it_says() -> Outcome<()> {
    beside_others("exceptions", |namespace| {
        let image = namespace.lab.registry.push("exceptions/api", "1", "not signed")?.tagged("1");
        let policy = local(namespace, &namespace.lab.gun("exceptions/**"));
        namespace.apply_own(&policy.yaml())?.success()?;
        holds(namespace, &image, "RootNotPinned", HOLDS)?;
        // The API takes whole seconds.
        let expires = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 12)?;
        let exception = json!([{
            "name": "inc-123", "images": [image], "namespaces": [namespace.name],
            "expiresAt": expires.to_string(), "reason": "an incident",
        }]);
        patch(namespace, &json!({"exceptions": exception}))?;
        holds(namespace, &image, "", HOLDS)?;
        let taken = namespace.apply(&pod("excepted", &image))?.success()?;
        let warning = format!("let in by exception \"inc-123\" until {expires}");
        assert!(taken.stderr.contains(&warning), "{taken}");

        wait_until("the end of the exception", Duration::from_secs(30), || {
            let refused = !reason(namespace, &image)?.is_empty();
            let over = jiff::Timestamp::now() >= expires;
            assert!(over || !refused, "refused before the exception's end");
            thread::sleep(Duration::from_millis(50));
            Ok(refused)
        })?;
        let late = jiff::Timestamp::now().duration_since(expires).unsigned_abs();
        assert!(late < HOLDS, "let in for {late:?} after the exception's end");
        let refused = namespace.apply(&pod("late", &image))?;
        let first = "1 of 1 images denied by TrustPolicy \"exceptions\": ExceptionExpired";
        assert!(refused.code != Some(0) && refused.stderr.contains(first), "{refused}");
        namespace.line("delete tp exceptions")?.success().map(drop)
    })
}

#[test]
fn an_invalid_policy_is_refused_where_it_is_applied() -> Outcome<()> {
    beside_others("invalid", |namespace| {
        let policy = Policy::new("invalid", "registry.example.com/a**b", SOURCE).yaml();
        let dry = ["--dry-run=server"];
        let server_side = ["--server-side"];
        for more in [&[][..], &dry, &server_side] {
            let apply = [&["apply", "-f", "-"], more].concat();
            let refused = namespace.node.kubectl_with(&apply, &policy)?;
            assert_ne!(refused.code, Some(0), "{refused}");
            let first = "admission webhook \"resources.countersign.dev\" denied the request: \
                         TrustPolicy \"invalid\": spec.match.images.include[0]: ";
            assert!(refused.stderr.contains(first), "{refused}");
        }
        let gone = namespace.line("get tp invalid")?;
        assert!(gone.stderr.contains("NotFound"), "{gone}");
        Ok(())
    })
}
