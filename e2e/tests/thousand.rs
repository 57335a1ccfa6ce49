//! Countersign with a thousand policies in the API server.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::Policy;
use countersign_e2e::{Context, Outcome, install};

const POLICIES: usize = 1000;

/// Two seconds is what the program as it is shipped may take; this may be a debug build, on a
/// machine that is busy with other tests.
const START: Duration = Duration::from_secs(10);

/// How long a thousand statuses may take to be written.
const WRITTEN: Duration = Duration::from_secs(180);

#[test]
fn a_thousand_policies_are_in_place_soon_and_each_gets_its_status_once() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let api_server = ApiServer::start(&folder.path().join("kubernetes"), &authority)?;
    install::definitions(&api_server)?;
    let kubernetes = install::rights(&api_server, 300)?;
    let policy = |number: usize| {
        Policy::new(&format!("p{number}"), &format!("r.example/team-{number}/**"), "none").yaml()
    };
    let file = folder.path().join("policies.yaml");
    fs::write(&file, (0..POLICIES).map(policy).collect::<Vec<_>>().join("---\n"))?;
    let file = file.to_str().context("a path")?;
    api_server.kubectl(&["create", "-f", file])?.success()?;

    let config = Config { kubernetes: Some(kubernetes), ..Config::new(Path::new("")) };
    let began = Instant::now();
    let countersign = Countersign::start(&folder.path().join("countersign"), &authority, &config)?;
    let took = began.elapsed();
    println!("ready after {took:?}");
    assert!(took < START, "{took:?}");

    // A status each; then nothing is written any more.
    let deadline = Instant::now() + WRITTEN;
    let versions = || -> Outcome<Vec<String>> {
        let template = "-o=jsonpath={range .items[?(@.status.observedGeneration==1)]}{.metadata.resourceVersion}{\"\\n\"}{end}";
        let found = api_server.kubectl(&["get", "tp", template])?.success()?.stdout;
        Ok(found.lines().map(str::to_owned).collect())
    };
    while versions()?.len() < POLICIES {
        assert!(Instant::now() < deadline, "{} statuses", versions()?.len());
        thread::sleep(Duration::from_millis(200));
    }
    let before = versions()?;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert_eq!(versions()?, before);
    }
    let log = countersign.log()?;
    let compiled = log.lines().filter(|line| line.contains("policies changed")).count();
    assert_eq!(compiled, 1, "statuses are nothing to compile");
    Ok(())
}
