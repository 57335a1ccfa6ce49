#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_verify::policy::{Action, Rule};
use rcgen::KeyPair;

use super::*;
use crate::api::compile;

/// A folder of this test's own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "countersign-files-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::write(self.0.join(name), text).unwrap();
        self
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    /// What `read` complains of, without the folder's name.
    fn problems(&self) -> Vec<String> {
        let problems = read(&self.paths()).expect_err("problems");
        let folder = format!("{}/", self.0.display());
        problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }

    /// What `load` complains of, without the folder's name.
    fn load_problems(&self) -> Vec<String> {
        let problems = load(&self.paths(), now()).expect_err("problems");
        let folder = format!("{}/", self.0.display());
        problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

const POLICY: &str = "\
apiVersion: countersign.dev/v1alpha1
kind: TrustPolicy
metadata: {name: payments, annotations: {a: b}}
spec:
  match:
    images: {include: [\"registry.example.com/payments/**\"]}
  verify:
    authorities:
    - name: release-team
      sourceRef: {name: corp-notary}
      notary: {lookup: Docker}
";

fn source() -> String {
    let key = KeyPair::generate().unwrap().public_key_pem();
    let key = key.trim_end().replace('\n', "\n        ");
    format!(
        "\
apiVersion: countersign.dev/v1alpha1
kind: TrustSource
metadata: {{name: corp-notary}}
spec:
  notary:
    url: https://notary.example.com
    pins:
    - name: payments
      repositories: [\"registry.example.com/**\"]
      publicKeys:
      - |
        {key}
  connection:
    credentialsSecretRef: {{name: notary-pull}}
"
    )
}

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: notary-pull}
type: Opaque
data:
  username: dQ==
  password: cA==
stringData:
  host: notary.example.com
";

#[test]
fn reads_files_folders_documents_and_lists() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        SECRET.trim_end().replace('\n', "\n  ")
    );
    let folder = Folder::new()
        .with("a.yaml", &format!("# first\n---\n{POLICY}---\n---\n{}", source()))
        .with("b.yml", &list)
        .with("c.json", "{\n\t\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\",\n\t\"metadata\": {\"name\": \"c\"}, \"data\": {\"k\": \"v\"}, \"binaryData\": {\"b\": \"AAE=\"}\n}\n")
        .with("README.md", "not: [yaml")
        .with(".hidden.yaml", "not: [yaml");
    fs::create_dir(folder.0.join("folder.yaml")).unwrap();
    let resources = read(&folder.paths()).unwrap();
    assert_eq!(resources.policies.len(), 1);
    let place = resources.policies[0].place.as_deref().unwrap();
    assert!(place.ends_with("/a.yaml, document 1, line 3"), "{place}");
    assert_eq!(resources.secrets["notary-pull"].0["username"], b"u");
    assert_eq!(resources.secrets["notary-pull"].0["host"], b"notary.example.com");
    let data = BTreeMap::from([("k".to_owned(), b"v".to_vec()), ("b".to_owned(), vec![0, 1])]);
    assert_eq!(resources.config_maps["c"], data);
    let compiled = load(&folder.paths(), now()).unwrap();
    assert_eq!(compiled.policies[0].name, "payments");
    assert!(compiled.sources["corp-notary"].connection.credentials.len() == 1);
    let files = [folder.0.join("a.yaml"), folder.0.join("b.yml")];
    assert_eq!(load(&files, now()).unwrap().policies.len(), 1);
}

#[test]
fn follows_the_links_of_a_mounted_config_map_once() {
    let folder = Folder::new();
    let data = folder.0.join("..2026_06_01");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("policy.yaml"), POLICY).unwrap();
    symlink("..2026_06_01", folder.0.join("..data")).unwrap();
    symlink("..data/policy.yaml", folder.0.join("policy.yaml")).unwrap();
    assert_eq!(read(&folder.paths()).unwrap().policies.len(), 1);
}

#[test]
fn what_cannot_be_read_is_said_with_file_line_and_field() {
    let cases = [
        ("a: [", "a.yaml, line 1: it is not valid YAML: "),
        ("a: 1\na: 2\n", "a.yaml, line 2: it is not valid YAML: duplicate mapping key: a"),
        (
            "just text",
            "a.yaml, document 1, line 1: it is not an object with apiVersion, kind and metadata",
        ),
        (
            "kind: TrustPolicy\n",
            "a.yaml, document 1, line 1: apiVersion: it is required, as a string",
        ),
        (
            "\n\nkind: TrustPolicy\napiVersion: countersign.dev/v1\nmetadata: {name: a}\n",
            "a.yaml, document 1, line 3: TrustPolicy \"a\": apiVersion: countersign.dev/v1 is not known for TrustPolicy; write countersign.dev/v1alpha1",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata: {name: a}\n",
            "a.yaml, document 1, line 1: Pod \"a\": kind: Pod is not read here, only TrustPolicy, TrustSource, ConfigMap, Secret and List of them; remove it",
        ),
        (
            "kind: TrustPolicy\napiVersion: countersign.dev/v1alpha1\nmetadata: {}\n",
            "a.yaml, document 1, line 1: metadata.name: it is required, as a string",
        ),
        (
            "kind: TrustPolicy\napiVersion: countersign.dev/v1alpha1\nmetadata: {name: A}\n",
            "a.yaml, document 1, line 1: TrustPolicy \"A\": metadata.name: \"A\" is not a name: lower-case letters, digits, dashes and dots",
        ),
        (
            "kind: TrustPolicy\napiVersion: countersign.dev/v1alpha1\nmetadata: {name: a}\nspecs: {}\n",
            "a.yaml, document 1, line 1: TrustPolicy \"a\": field \"specs\" is not known in a TrustPolicy; remove it or correct it",
        ),
        (
            "kind: TrustPolicy\napiVersion: countersign.dev/v1alpha1\nmetadata: {name: a}\n",
            "a.yaml, document 1, line 1: TrustPolicy \"a\": spec: it is required, as an object",
        ),
        (
            "kind: Secret\napiVersion: v1\nmetadata: {name: a}\ndata: {password: hunter2!}\n",
            "a.yaml, document 1, line 1: Secret \"a\": data: key \"password\" is not base64",
        ),
        (
            "kind: Secret\napiVersion: v1\nmetadata: {name: a}\nstringData: {password: 1234}\n",
            "a.yaml, document 1, line 1: Secret \"a\": stringData: key \"password\" is no string; put it in quotes",
        ),
        (
            "kind: List\napiVersion: v1\nitems:\n- {kind: List, apiVersion: v1, items: []}\n",
            "a.yaml, document 1, line 1, items[0]: kind: a List cannot hold a List; write its items out",
        ),
    ];
    for (text, expected) in cases {
        let problems = Folder::new().with("a.yaml", text).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{}\nis not\n{expected}", problems[0]);
        assert!(!problems[0].contains("hunter2") && !problems[0].contains("1234"));
        assert!(!problems[0].contains('\n'), "one line: {}", problems[0]);
    }
}

#[test]
fn a_syntax_error_shows_no_secret() {
    let text = SECRET.replace("cA==", "hunter2: [");
    let problems = Folder::new().with("a.yaml", &text).problems();
    assert!(!problems[0].contains("hunter2"), "{}", problems[0]);
}

#[test]
fn every_problem_of_every_file_is_said() {
    let config_map = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n";
    let folder =
        Folder::new().with("a.yaml", "x").with("b.yaml", &format!("{config_map}---\n{config_map}"));
    symlink("nowhere", folder.0.join("c.yaml")).unwrap();
    let mut paths = folder.paths();
    paths.push(folder.0.join("missing"));
    let problems: Vec<String> = read(&paths).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[1].ends_with("b.yaml, document 2, line 5: ConfigMap \"a\": metadata.name: another ConfigMap has this name; remove one"), "{}", problems[1]);
    assert!(problems[2].contains("c.yaml: it cannot be read: No such file or directory"));
    assert!(problems[3].contains("missing: it cannot be read: No such file or directory"));
}

#[test]
fn k6_a_mistyped_field_denies_in_the_webhook_and_fails_the_command_line() {
    let text = POLICY.replace("  verify:", "  action: Warn\n  verfy:");
    let folder = Folder::new().with("a.yaml", &format!("{text}---\n{}---\n{SECRET}", source()));
    let expected = "a.yaml, document 1, line 1: TrustPolicy \"payments\": spec.verfy: unknown field `verfy`, expected one of `match`, `action`, `tags`, `verify`, `allowUnverified`, `exceptions`, `disclose`, `help`";
    assert_eq!(folder.load_problems(), [expected]);
    let compiled = compile(&read(&folder.paths()).unwrap(), now());
    assert!(matches!(compiled.policies[0].rule, Rule::Invalid(_)));
    assert_eq!(compiled.policies[0].action, Action::Warn);
}

#[test]
fn k5_no_policy_is_an_error_on_the_command_line() {
    let folder = Folder::new();
    assert!(read(&folder.paths()).unwrap().policies.is_empty());
    let expected = format!(
        "{}: no TrustPolicy was found here; name a file, or a folder with .yaml, .yml or .json files, that has one",
        folder.0.display()
    );
    assert_eq!(folder.load_problems(), [expected]);
}

#[test]
fn t15_bombs_and_endless_files_stop_at_a_limit() {
    let deep = format!("a: {}", "[".repeat(10_000));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    for text in [deep, bomb] {
        let begin = std::time::Instant::now();
        let problems = Folder::new().with("a.yaml", &text).problems();
        assert!(problems[0].contains("it is not valid YAML"), "{}", problems[0]);
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    }
    let long = "#".repeat(usize::try_from(FILE_BYTES).unwrap() + 1);
    let problems = Folder::new().with("a.yaml", &long).problems();
    assert_eq!(problems, ["a.yaml: it is larger than 4194304 bytes"]);
}

#[test]
fn a_file_of_too_many_documents_says_so() {
    let folder = Folder::new().with("many.yaml", &"---\na: 1\n".repeat(1_025));
    let problems = folder.problems();
    let problem = problems.first().unwrap();
    let wanted = "it is longer than 1024 documents; split it into several files";
    assert!(problem.starts_with("many.yaml") && problem.ends_with(wanted), "{problem}");
}

#[test]
fn the_examples_to_deploy_compile() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let compiled = load(std::slice::from_ref(&examples), now());
    assert!(compiled.is_ok(), "{compiled:?}");
    // Each on its own, beside the source that it names, as somebody picks one.
    for entry in fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("source.yaml") {
            continue;
        }
        let compiled = load(&[examples.join("source.yaml"), path.clone()], now());
        assert!(compiled.is_ok(), "{}: {compiled:?}", path.display());
    }
}
