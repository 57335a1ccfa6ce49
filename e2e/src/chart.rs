//! The Helm chart, rendered and read as data.

use std::process::Command;

use serde_json::Value;

use crate::process::{Finished, run};
use crate::{Context, Outcome, tools};

/// The chart's folder.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/countersign");

/// A values file with every value in it.
pub const ALL_VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/values-all.yaml");

/// The release and the namespace that [`template`] renders.
pub const RELEASE: &str = "countersign";

/// helm with these arguments.
pub fn helm(arguments: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(tools::kubernetes("helm")?);
    command.args(arguments);
    Ok(command)
}

/// `helm template` of [`RELEASE`] with these further arguments, whatever it says.
pub fn template(arguments: &[&str]) -> Outcome<Finished> {
    template_as(RELEASE, arguments)
}

/// As [`template`], of another release in the namespace of the same name.
pub fn template_as(release: &str, arguments: &[&str]) -> Outcome<Finished> {
    let render = ["template", release, CHART, "--namespace", release, "--kube-version", "1.30"];
    run(helm(&render)?.args(arguments), "")
}

/// The documents of a YAML text, without empty ones.
pub fn documents(yaml: &str) -> Outcome<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(all.into_iter().filter(|document| !document.is_null()).collect())
}

/// What `helm template` printed, as objects.
#[derive(Debug, Clone)]
pub struct Rendered(pub Vec<Value>);

impl Rendered {
    /// Renders with these arguments, as `["--set", "unmatched=Deny"]`.
    pub fn new(arguments: &[&str]) -> Outcome<Self> {
        documents(&template(arguments)?.success()?.stdout).map(Self)
    }

    /// The same of another release, in this namespace.
    pub fn of(release: &str, namespace: &str, arguments: &[&str]) -> Outcome<Self> {
        let namespace = format!("--namespace={namespace}");
        let rendered = template_as(release, &[&[&*namespace], arguments].concat())?;
        documents(&rendered.success()?.stdout).map(Self)
    }

    /// The objects of a kind, in their order.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The only object of a kind.
    pub fn one(&self, kind: &str) -> Outcome<&Value> {
        match self.all(kind).as_slice() {
            [object] => Ok(object),
            found => Err(crate::Failure::new(format!("{} objects of kind {kind}", found.len()))),
        }
    }

    /// The arguments of Countersign's container.
    pub fn arguments(&self) -> Outcome<Vec<&str>> {
        let container = &self.one("Deployment")?["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().context("the container has no args")?;
        Ok(arguments.iter().filter_map(Value::as_str).collect())
    }

    /// The webhook configurations that Countersign is to apply: the validating one first.
    pub fn webhooks(&self) -> Outcome<[Value; 2]> {
        let mut texts = self.all("ConfigMap").into_iter().map(|it| &it["data"]["webhooks.yaml"]);
        let text = texts.find_map(Value::as_str);
        let found = documents(text.context("no ConfigMap has a webhooks.yaml")?)?;
        let count = found.len();
        found.try_into().ok().context(format!("{count} webhook configurations"))
    }

    /// The webhook of this name, of either configuration.
    pub fn webhook(&self, name: &str) -> Outcome<Value> {
        let configurations = self.webhooks()?;
        let mut webhooks =
            configurations.iter().filter_map(|one| one["webhooks"].as_array()).flatten();
        webhooks.find(|webhook| webhook["name"] == name).cloned().context(format!("no {name}"))
    }
}
