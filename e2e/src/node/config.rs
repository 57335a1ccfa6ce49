//! The configuration files of containerd, its network, kubelet and kube-proxy.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::network::{BRIDGE, FIRST_POD, PODS};
use super::preflight::PLUGIN_FOLDER;
use super::{ADDRESS_NAME, FOLDER, NAME, path};
use crate::Outcome;
use crate::pki::{Authority, Identity};

/// The name of the network, and so the start of the names of its files.
pub(super) const NETWORK: &str = "countersign-node";

/// The image of the container that holds a pod's network.
pub(super) const SANDBOX: &str = "localhost/sandbox:1";

/// The name of kubelet's file.
pub(super) const KUBELET: &str = "kubelet.json";

/// Where kubelet says that it is well.
pub(super) const KUBELET_HEALTH_PORT: u16 = 10248;

/// The port of the cluster's DNS; resolvers know no other.
pub(super) const DNS_PORT: u16 = 53;

/// containerd's own configuration.
pub(super) fn containerd_file() -> PathBuf {
    path("containerd.toml")
}

/// containerd's socket.
pub(super) fn socket() -> PathBuf {
    path("containerd/containerd.sock")
}

/// Where containerd finds whom to trust as a registry: `HOST:PORT/ca.crt`.
pub(super) fn certificates() -> PathBuf {
    path("certs.d")
}

/// Writes what containerd reads, and makes its folders.
pub(super) fn containerd() -> Outcome<()> {
    fs::create_dir_all(certificates())?;
    let networks = path("networks");
    fs::create_dir_all(&networks)?;
    fs::write(networks.join("10-bridge.conflist"), network().to_string())?;
    let socket = socket();
    let text = format!(
        r#"version = 2
root = "{FOLDER}/containerd/root"
state = "{FOLDER}/containerd/state"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{FOLDER}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX}"
  netns_mounts_under_state_dir = true
  # Without CAP_SYS_RESOURCE no process may lower its score, and no sandbox would start.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGIN_FOLDER}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{certificates}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{FOLDER}/containerd/runc"
"#,
        socket = socket.display(),
        networks = networks.display(),
        certificates = certificates().display(),
    );
    Ok(fs::write(containerd_file(), text)?)
}

fn network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": path("addresses"),
                "ranges": [[{"subnet": PODS, "rangeStart": FIRST_POD}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// Writes what kubelet reads.
pub(super) fn kubelet(authority: &Authority, identity: &Identity) -> Outcome<PathBuf> {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS_NAME,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority.certificate()},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [ADDRESS_NAME],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", socket().display()),
        // As much room as the machine has: it need not be a machine with room.
        "evictionHard": {
            "imagefs.available": "1%", "imagefs.inodesFree": "1%",
            "memory.available": "100Mi",
            "nodefs.available": "1%", "nodefs.inodesFree": "1%",
        },
        "failCgroupV1": false,
        "failSwapOn": false,
        "healthzBindAddress": ADDRESS_NAME,
        "healthzPort": KUBELET_HEALTH_PORT,
        // What was imported could not be pulled again, so it must neither be collected nor, once
        // the same content was also pulled, asked for credentials.
        "imageGCHighThresholdPercent": 100,
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "makeIPTablesUtilChains": false,
        // As for containerd: a score cannot be lowered everywhere.
        "oomScoreAdj": 0,
        "podLogsDir": path("pods"),
        // Pods ask the cluster's DNS and nobody else.
        "resolvConf": "",
        "tlsCertFile": identity.certificate,
        "tlsPrivateKeyFile": identity.key,
        "volumePluginDir": path("kubelet/volumeplugins"),
    });
    write(KUBELET, &config.to_string())
}

/// Writes what kube-proxy reads.
pub(super) fn proxy(kubeconfig: &Path) -> Outcome<PathBuf> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": ADDRESS_NAME,
        "clientConnection": {"kubeconfig": kubeconfig},
        // The machine's settings of connection tracking stay as they are.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": BRIDGE},
        "detectLocalMode": "BridgeInterface",
        "healthzBindAddress": format!("{ADDRESS_NAME}:10256"),
        "hostnameOverride": NAME,
        "metricsBindAddress": format!("{ADDRESS_NAME}:10249"),
        "mode": "nftables",
        // One pod answers another across the bridge, where nothing would translate back what was
        // sent to a Service; so all of it seems to come from the bridge itself.
        "nftables": {"masqueradeAll": true},
        "oomScoreAdj": 0,
    });
    write("kube-proxy.json", &config.to_string())
}

/// Writes what CoreDNS reads: it knows Services, and nothing outside of the cluster.
pub(super) fn names(kubeconfig: &Path) -> Outcome<PathBuf> {
    let kubeconfig = kubeconfig.display();
    let text = format!(
        "cluster.local:{DNS_PORT} {{
  bind {ADDRESS_NAME}
  errors
  kubernetes {{
    kubeconfig {kubeconfig}
  }}
}}
"
    );
    write("Corefile", &text)
}

fn write(name: &str, text: &str) -> Outcome<PathBuf> {
    let file = path(name);
    fs::write(&file, text)?;
    Ok(file)
}
