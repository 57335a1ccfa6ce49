//! What a restored backup of etcd does to a TrustCheckpoint.

use serde_json::{Value, json};

use crate::Outcome;
use crate::api_server::ApiServer;
use crate::countersign::command;
use crate::process::{Finished, eventually};

const DEFINITION: &str = "trustcheckpoints.countersign.dev";

/// Tries to give a TrustCheckpoint what it said in `backup`: the API server's rules refuse it.
pub fn patch(api_server: &ApiServer, backup: &Value) -> Outcome<Finished> {
    let name = backup["metadata"]["name"].as_str().unwrap_or_default();
    let patch = json!({"spec": backup["spec"]}).to_string();
    api_server.kubectl(&["patch", "tcp", name, "--type=merge", "-p", &patch])
}

/// Gives it that all the same: the rules go for that moment, as a backup does not ask them.
pub fn restore(api_server: &ApiServer, backup: &Value) -> Outcome<()> {
    let definitions = command(&["crds"])?.success()?.stdout;
    let mut loose = api_server.get(&["crd", DEFINITION])?;
    without_rules(&mut loose);
    api_server.kubectl_with(&["replace", "-f", "-"], &loose.to_string())?.success()?;
    // It takes the API server a moment to go by the new definition.
    let restored =
        eventually("a backup", || patch(api_server, backup), |it| it.code == Some(0)).map(drop);
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    api_server.kubectl_with(&apply, &definitions)?.success()?;
    restored
}

fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}
