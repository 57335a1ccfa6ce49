//! `make demo`: signed and unsigned images meet a real cluster, in which Countersign is installed as
//! anyone would. The demo fails where a command does not end as told.

mod show;
mod stage;

use std::process::ExitCode;

use countersign_e2e::Outcome;
use countersign_e2e::lab::refresh;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::{deployment, pod};

use crate::show::{Shown, expect, heading, say, show};
use crate::stage::{NAMESPACE, Stage};

const REPOSITORY: &str = "payments/api";
const SOURCE: &str = "corp-notary";
const POLICY: &str = "payments";

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
    let play = Play { gun: format!("{}/{REPOSITORY}", stage.registry.host()), stage };
    if let Err(failure) = play.play() {
        eprintln!("{}", play.stage.logs());
        play.stage.clear()?;
        return Err(failure);
    }
    play.stage.end()
}

struct Play {
    stage: Stage,
    gun: String,
}

impl Play {
    fn play(&self) -> Outcome<()> {
        self.stage.see_it_pull()?;
        self.stage.install()?;
        let first = self.sign()?;
        self.trust()?;
        self.admit_signed(&first)?;
        self.refuse_unsigned()?;
        self.refuse_moved()?;
        self.admit_after_rotation()?;
        self.refuse_revoked(&first)?;
        self.verify_outside(&first)
    }

    /// A release engineer's part.
    fn sign(&self) -> Outcome<Image> {
        heading("The release team signs an image");
        let image = self.stage.push(REPOSITORY, "1.4", "release 1.4")?;
        say(&format!("Pushed {}, {} bytes of manifest.", image.tagged("1.4"), image.size));
        self.stage.notary(&["init", "-p", &self.gun])?;
        self.addhash(&image, "1.4")?;
        Ok(image)
    }

    /// The platform team's part.
    fn trust(&self) -> Outcome<()> {
        heading("The platform team says whose signatures count");
        let stage = &self.stage;
        let pin = stage.signer.pin(&self.gun)?;
        let source = Source::new(SOURCE, stage.notary.url(), &stage.authority.pem()).pin(
            "payments-api",
            &self.gun,
            &pin,
        );
        let policy = Policy {
            help: "https://wiki.example.com/signing".to_owned(),
            ..Policy::new(POLICY, &format!("{}/payments/**", stage.registry.host()), SOURCE)
        };
        stage.policies.source(&source)?;
        stage.policies.policy(&policy)?;
        show("TrustSource", &source.yaml());
        show("TrustPolicy", &policy.yaml());
        let source = format!("policies/source-{SOURCE}.yaml");
        let policy = format!("policies/policy-{POLICY}.yaml");
        let apply = ["apply", "-n", "countersign", "-f", &source, "-f", &policy];
        stage.kubectl(&apply)?.admitted()?;
        let (source, policy) = (format!("trustsource/{SOURCE}"), format!("trustpolicy/{POLICY}"));
        let wait = ["wait", "--for=condition=Ready", &source, &policy, "--timeout=60s"];
        stage.kubectl(&wait)?.admitted()?;
        stage.kubectl(&["get", "trustsources,trustpolicies"])?.admitted()?;
        stage.await_refusals(&self.tagged("none"))
    }

    fn admit_signed(&self, image: &Image) -> Outcome<()> {
        heading("A signed image gets in and runs, pinned to what was signed");
        let mut object = deployment("api", &image.tagged("1.4"));
        object["spec"]["replicas"] = 2.into();
        self.stage.apply("deployment", &object)?.admitted()?;
        let wait = ["wait", "--for=condition=Available", "deployment/api", "--timeout=120s"];
        self.payments(&wait)?.admitted()?;
        self.payments(&["get", "deployment", "api"])?.admitted()?;
        let images = "jsonpath={range .items[*]}{.spec.containers[0].image}{\"\\n\"}{end}";
        let shown = self.payments(&["get", "pods", "-l", "app=api", "-o", images])?.admitted()?;
        let wanted = format!("{}@{}\n", image.tagged("1.4"), image.digest);
        expect(shown.stdout == wanted.repeat(2), "both pods to be pinned to the signed digest")
    }

    fn refuse_unsigned(&self) -> Outcome<()> {
        heading("An image that nobody signed does not");
        let image = self.stage.push(REPOSITORY, "1.5-test", "built on a laptop")?;
        let file = deployment("laptop", &image.tagged("1.5-test"));
        self.stage.apply("unsigned", &file)?.refused_as("Unsigned")
    }

    fn refuse_moved(&self) -> Outcome<()> {
        heading("A signed tag that someone moved to another image does not");
        let signed = self.stage.push(REPOSITORY, "1.5", "release 1.5")?;
        self.addhash(&signed, "1.5")?;
        let other = self.stage.push(REPOSITORY, "1.5", "something else")?;
        say(&format!("Then someone pushed {} as {}.", other.digest, other.tagged("1.5")));
        refresh();
        let file = deployment("moved", &other.tagged("1.5"));
        self.stage.apply("moved", &file)?.refused_as("DigestMismatch")
    }

    fn admit_after_rotation(&self) -> Outcome<()> {
        heading("The signing key is replaced: nothing to change in the cluster");
        self.stage.notary(&["key", "rotate", &self.gun, "targets"])?;
        let image = self.stage.push(REPOSITORY, "1.6", "release 1.6")?;
        self.addhash(&image, "1.6")?;
        refresh();
        self.stage.apply("rotated", &pod("rotated", &image.tagged("1.6")))?.admitted()?;
        let wait = ["wait", "--for=condition=Ready", "pod/rotated", "--timeout=120s"];
        self.payments(&wait)?.admitted().map(drop)
    }

    fn refuse_revoked(&self, image: &Image) -> Outcome<()> {
        heading("A signature that was taken back no longer counts");
        self.stage.notary(&["remove", "-p", &self.gun, "1.4"])?;
        refresh();
        let file = deployment("revoked", &image.tagged("1.4"));
        self.stage.apply("revoked", &file)?.refused_as("Unsigned")
    }

    fn verify_outside(&self, image: &Image) -> Outcome<()> {
        heading("The command line gives the same verdicts, without a cluster");
        self.stage.verify(&self.tagged("1.6"))?.code(0)?;
        self.stage.verify(&image.tagged("1.4"))?.code(1)
    }

    fn tagged(&self, tag: &str) -> String {
        format!("{}:{tag}", self.gun)
    }

    fn addhash(&self, image: &Image, tag: &str) -> Outcome<()> {
        let hex = image.digest.trim_start_matches("sha256:");
        let size = image.size.to_string();
        self.stage.notary(&["addhash", "-p", &self.gun, tag, &size, "--sha256", hex])
    }

    /// kubectl in the workloads' namespace.
    fn payments(&self, arguments: &[&str]) -> Outcome<Shown> {
        self.stage.kubectl(&[arguments, &["-n", NAMESPACE]].concat())
    }
}
