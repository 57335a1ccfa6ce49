//! Countersign installed in a cluster from its chart, as an admin does, in an image of the built
//! program.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::admin::Admin;
use crate::chart::{CHART, RELEASE};
use crate::image::Packed;
use crate::process::wait_until;
use crate::registry::Registry;
use crate::{Outcome, tools};

/// The file of the values, in the folder that [`commands`] is given.
pub const VALUES: &str = "values.yaml";

/// The image's tag.
const TAG: &str = "built";

/// How long the API server may take to call a webhook that is registered.
const CALLED: Duration = Duration::from_secs(60);

/// Pushes the image, writes [`VALUES`], and gives the commands that make the namespace, install
/// and try, in this order. They are run in `folder`, which has the registry's authority in `pki/`.
pub fn commands(admin: &Admin, registry: &Registry, folder: &Path) -> Outcome<Vec<Command>> {
    let image = Packed::program(&tools::countersign()?)?;
    registry.push_packed("countersign", TAG, &image)?;
    fs::write(folder.join(VALUES), values(registry.host()))?;
    let authority = ["create", "configmap", "registry-ca", "--from-file=pki/ca.crt"];
    let mut commands = vec![
        admin.command(&["create", "namespace", RELEASE]),
        admin.command(&[&authority[..], &["-n", RELEASE]].concat()),
        install(admin)?,
        admin.helm(&["test", RELEASE, "-n", RELEASE, "--hide-notes"])?,
    ];
    for command in &mut commands {
        command.current_dir(folder);
    }
    Ok(commands)
}

/// The command that installs the release and waits until it is ready, run where [`VALUES`] is.
pub fn install(admin: &Admin) -> Outcome<Command> {
    let chart = fs::canonicalize(CHART)?.display().to_string();
    let install = ["install", RELEASE, &chart, "-n", RELEASE, "-f", VALUES];
    admin.helm(&[&install[..], &["--wait", "--timeout=5m"]].concat())
}

/// Waits until the API server asks Countersign about pods of this image, which must be refused.
pub fn await_refusals(admin: &Admin, namespace: &str, image: &str) -> Outcome<()> {
    let image = format!("--image={image}");
    let probe = ["run", "probe", "-n", namespace, "--dry-run=server", &image];
    wait_until("a refusal by Countersign", CALLED, || {
        Ok(admin.kubectl(&probe)?.stderr.contains("countersign.dev"))
    })
}

/// What Countersign has logged and the cluster has noted, for when something is not as expected.
pub fn logs(admin: &Admin) -> String {
    let pods = ["get", "pods", "-n", RELEASE, "-o", "wide"];
    let logs = ["logs", "-n", RELEASE, "deployment/countersign", "--all-pods", "--tail=60"];
    let events = ["get", "events", "-A", "--sort-by=.lastTimestamp"];
    let said = [&pods[..], &logs, &events].map(|words| admin.kubectl(words));
    said.into_iter().flatten().map(|finished| finished.stdout).collect()
}

fn values(host: &str) -> String {
    format!(
        "# What no policy matches is let in, and logged.
unmatched: Audit
image:
  repository: {host}/countersign
  tag: {TAG}
registries:
  certificateAuthorities:
  - {{host: \"{host}\", configMap: registry-ca, key: ca.crt}}
"
    )
}
