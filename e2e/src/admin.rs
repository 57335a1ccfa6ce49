//! A Kubernetes cluster as its administrator works with it: by kubectl and helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Finished, run};
use crate::{Outcome, chart, tools};

/// The administrator of a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
}

impl Admin {
    /// Whoever this kubeconfig is for.
    pub fn new(kubeconfig: &Path) -> Outcome<Self> {
        Ok(Self { kubectl: tools::kubernetes("kubectl")?, kubeconfig: kubeconfig.to_owned() })
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig, beside this one, for a ServiceAccount: with a token of an hour.
    pub fn account(&self, namespace: &str, name: &str) -> Outcome<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=1h"])?;
        let mut config: Value = serde_json::from_slice(&fs::read(&self.kubeconfig)?)?;
        config["users"][0]["user"] = json!({"token": token.success()?.stdout.trim()});
        let file = self.kubeconfig.with_file_name(format!("{namespace}-{name}.kubeconfig"));
        fs::write(&file, config.to_string())?;
        Ok(file)
    }

    /// Runs kubectl, whatever it says.
    pub fn kubectl(&self, arguments: &[&str]) -> Outcome<Finished> {
        self.kubectl_with(arguments, "")
    }

    /// As [`Self::kubectl`], with `input` (at most 64 KiB) on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Outcome<Finished> {
        run(&mut self.command(arguments), input)
    }

    /// kubectl with these arguments: its environment makes it the administrator's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.kubeconfig.with_file_name("kubectl-cache"));
        command
    }

    /// helm with these arguments, in the same way. Its own files are beside the kubeconfig.
    pub fn helm(&self, arguments: &[&str]) -> Outcome<Command> {
        let mut command = chart::helm(arguments)?;
        command.env("KUBECONFIG", &self.kubeconfig);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.kubeconfig.with_file_name("helm"));
        }
        Ok(command)
    }

    /// `kubectl apply -f -` of this object, whatever it says.
    pub fn apply(&self, object: &Value) -> Outcome<Finished> {
        self.kubectl_with(&["apply", "-f", "-"], &object.to_string())
    }

    /// Reads an object, as `["pod", "name", "-n", "namespace"]`.
    pub fn get(&self, what: &[&str]) -> Outcome<Value> {
        let mut arguments = vec!["get", "-o", "json"];
        arguments.extend(what);
        Ok(serde_json::from_str(&self.kubectl(&arguments)?.success()?.stdout)?)
    }

    /// Makes a namespace.
    pub fn create_namespace(&self, name: &str) -> Outcome<()> {
        self.kubectl(&["create", "namespace", name])?.success().map(drop)
    }
}
