//! `make demo`: signed and unsigned images meet a real API server. Every command shown is run as
//! it is shown, and its output is printed as it is; the demo fails where one does not end as told.

use std::fs;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::Countersign;
use countersign_e2e::lab::{Lab, refresh};
use countersign_e2e::policies::Policy;
use countersign_e2e::process::{Finished, run};
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::{deployment, pod};
use countersign_e2e::webhooks::Webhooks;
use countersign_e2e::{Context, Failure, Outcome, tools};
use serde_json::Value;

const REPOSITORY: &str = "payments/api";
const NAMESPACE: &str = "payments";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nThe demo failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Outcome<()> {
    let stage = Stage::start()?;
    let first = stage.sign()?;
    let _countersign = stage.protect()?;
    stage.admit_signed(&first)?;
    stage.refuse_unsigned()?;
    stage.refuse_moved()?;
    stage.admit_after_rotation()?;
    stage.refuse_revoked(&first)?;
    stage.verify_outside(&first)?;
    heading("That was all");
    say("Everything started here is ended, and its files are removed.");
    Ok(())
}

struct Stage {
    api_server: ApiServer,
    lab: Lab,
    work: PathBuf,
    gun: String,
}

impl Stage {
    fn start() -> Outcome<Self> {
        heading("Starting a Notary server, an image registry and a Kubernetes API server");
        let lab = Lab::start()?;
        let work = lab.folder("");
        let api_server = ApiServer::start(&lab.folder("kubernetes"), &lab.authority)?;
        api_server.create_namespace(NAMESPACE)?;
        say(&format!(
            "notary-server {}, docker-registry https://{}, kube-apiserver {}",
            lab.front.url(),
            lab.registry.host(),
            api_server.url()
        ));
        let gun = lab.gun(REPOSITORY);
        Ok(Self { api_server, lab, work, gun })
    }

    /// A release engineer's part.
    fn sign(&self) -> Outcome<Image> {
        heading("The release team signs an image");
        let image = self.lab.registry.push(REPOSITORY, "1.4", "release 1.4")?;
        say(&format!("Pushed {}, {} bytes of manifest.", image.tagged("1.4"), image.size));
        self.notary(&["init", "-p", &self.gun])?;
        self.addhash(&image, "1.4")?;
        Ok(image)
    }

    /// The platform team's part.
    fn protect(&self) -> Outcome<Countersign> {
        heading("The platform team says whose signatures count, and starts Countersign");
        let source = self.lab.source(REPOSITORY)?;
        let policy =
            Policy { help: "https://wiki.example.com/signing".to_owned(), ..self.lab.policy() };
        self.lab.policies.source(&source)?;
        self.lab.policies.policy(&policy)?;
        show("TrustSource", &source.yaml());
        show("TrustPolicy", &policy.yaml());
        let countersign = self.lab.countersign("countersign")?;
        Webhooks {
            name: "countersign",
            url: countersign.url(),
            authority: self.lab.authority.certificate(),
            namespaces: &[NAMESPACE],
        }
        .register(&self.api_server)?;
        say(&format!(
            "countersign serve answers the API server's reviews at {}",
            countersign.url()
        ));
        Ok(countersign)
    }

    fn admit_signed(&self, image: &Image) -> Outcome<()> {
        heading("A signed image gets in, pinned to what was signed");
        self.apply("deployment", &deployment("api", &image.tagged("1.4")))?.admitted()?;
        self.apply("pod", &pod("api", &image.tagged("1.4")))?.admitted()?;
        let path = "jsonpath={.spec.containers[0].image}{\"\\n\"}";
        let shown = self.kubectl(&["get", "pod", "api", "-o", path])?.admitted()?;
        let wanted = format!("{}@{}", image.tagged("1.4"), image.digest);
        expect(shown.stdout.trim() == wanted, "the pod to be pinned to the signed digest")
    }

    fn refuse_unsigned(&self) -> Outcome<()> {
        heading("An image that nobody signed does not");
        let image = self.lab.registry.push(REPOSITORY, "1.5-test", "built on a laptop")?;
        let file = deployment("laptop", &image.tagged("1.5-test"));
        self.apply("unsigned", &file)?.refused_as("Unsigned")
    }

    fn refuse_moved(&self) -> Outcome<()> {
        heading("A signed tag that someone moved to another image does not");
        let signed = self.lab.registry.push(REPOSITORY, "1.5", "release 1.5")?;
        self.addhash(&signed, "1.5")?;
        let other = self.lab.registry.push(REPOSITORY, "1.5", "something else")?;
        say(&format!("Then someone pushed {} as {}.", other.digest, other.tagged("1.5")));
        refresh();
        let file = deployment("moved", &other.tagged("1.5"));
        self.apply("moved", &file)?.refused_as("DigestMismatch")
    }

    fn admit_after_rotation(&self) -> Outcome<()> {
        heading("The signing key is replaced: nothing to change in the cluster");
        self.notary(&["key", "rotate", &self.gun, "targets"])?;
        let image = self.lab.registry.push(REPOSITORY, "1.6", "release 1.6")?;
        self.addhash(&image, "1.6")?;
        refresh();
        self.apply("rotated", &pod("rotated", &image.tagged("1.6")))?.admitted().map(drop)
    }

    fn refuse_revoked(&self, image: &Image) -> Outcome<()> {
        heading("A signature that was taken back no longer counts");
        self.notary(&["remove", "-p", &self.gun, "1.4"])?;
        refresh();
        let file = deployment("revoked", &image.tagged("1.4"));
        self.apply("revoked", &file)?.refused_as("Unsigned")
    }

    fn verify_outside(&self, image: &Image) -> Outcome<()> {
        heading("The command line gives the same verdicts, without a cluster");
        self.countersign(&self.gun_tag("1.6"))?.code(0)?;
        self.countersign(&image.tagged("1.4"))?.code(1)
    }

    fn gun_tag(&self, tag: &str) -> String {
        format!("{}:{tag}", self.gun)
    }

    fn addhash(&self, image: &Image, tag: &str) -> Outcome<()> {
        let hex = image.digest.trim_start_matches("sha256:");
        let size = image.size.to_string();
        self.notary(&["addhash", "-p", &self.gun, tag, &size, "--sha256", hex])
    }

    fn notary(&self, arguments: &[&str]) -> Outcome<()> {
        self.shown(self.lab.signer.command(arguments))?.admitted().map(drop)
    }

    fn kubectl(&self, arguments: &[&str]) -> Outcome<Shown> {
        let mut command = self.api_server.command(arguments);
        command.args(["-n", NAMESPACE]);
        self.shown(command)
    }

    /// Writes an object to `NAME.json` and applies that.
    fn apply(&self, name: &str, object: &Value) -> Outcome<Shown> {
        let file = format!("{name}.json");
        fs::write(self.work.join(&file), object.to_string())?;
        self.kubectl(&["apply", "-f", &file])
    }

    fn countersign(&self, image: &str) -> Outcome<Shown> {
        let mut command = Command::new(tools::countersign()?);
        command.args(["verify", "--policies", "policies"]);
        command.args(["--registry-certs-dir", "registry/certs.d", image]);
        self.shown(command)
    }

    /// Shows a command, runs it, shows its output.
    fn shown(&self, mut command: Command) -> Outcome<Shown> {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().context("a command without a name")?.display().to_string();
        let words = command.get_args().map(|word| word.to_string_lossy());
        let line = words.fold(name, |line, word| format!("{line} {}", quoted(&word)));
        println!("  $ {}", bold(&line));
        let finished = run(command.current_dir(&self.work), "")?;
        for text in [&finished.stdout, &finished.stderr] {
            text.lines().filter(|text| !text.is_empty()).for_each(|text| println!("    {text}"));
        }
        Ok(Shown(finished))
    }
}

/// What a command that was shown said, to be compared with what the demo tells.
struct Shown(Finished);

impl Shown {
    fn admitted(self) -> Outcome<Finished> {
        self.0.success()
    }

    fn refused_as(self, code: &str) -> Outcome<()> {
        let refused = self.0.code != Some(0) && self.0.stderr.contains(code);
        expect(refused, &format!("a refusal as {code} of: {}", self.0))
    }

    fn code(self, code: i32) -> Outcome<()> {
        expect(self.0.code == Some(code), &format!("exit status {code} of: {}", self.0))
    }
}

fn expect(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Failure::new(format!("expected {what}"))) }
}

fn heading(text: &str) {
    println!("\n{}", bold(&format!("== {text}")));
}

fn say(text: &str) {
    println!("  {text}");
}

fn show(name: &str, yaml: &str) {
    say(&format!("{name}:"));
    let spec = yaml.lines().skip_while(|line| *line != "spec:");
    spec.for_each(|line| println!("    {line}"));
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// As a shell wants it, so that the line can be copied.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}
