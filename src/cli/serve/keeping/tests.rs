use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: KeepingArgs,
}

/// What these flags come to, in cluster mode or not.
fn checked(in_cluster: bool, flags: &str) -> Result<Keeping, String> {
    let line = Line::try_parse_from(std::iter::once("serve").chain(flags.split_whitespace()));
    let line = line.map_err(|error| error.to_string())?;
    let namespace = in_cluster.then_some("system");
    line.args.checked(namespace).map_err(|problems| problems.join("; "))
}

const FILES: &str = "--tls-cert c --tls-key k --identity one";
const SECRET: &str = "--tls-secret s --service countersign --identity one";

#[test]
fn flags_that_fit_each_other_are_taken() {
    let files = || PairFrom::Files { certificate: "c".into(), key: "k".into() };
    let keeping = checked(false, "--tls-cert c --tls-key k").expect("as before");
    assert_eq!(keeping, Keeping { pair: files(), cluster: None });
    let cluster = |webhooks| {
        let (namespace, lease) = ("system".to_owned(), "countersign".to_owned());
        Some(InCluster { namespace, lease, identity: "one".to_owned(), webhooks })
    };
    let webhooks = |authorities| {
        Some(Webhooks { file: "w".into(), owner: "system:owner".to_owned(), authorities })
    };
    let flags = format!("{FILES} --webhooks w --webhooks-owner system:owner --webhooks-ca a");
    let expected = Keeping { pair: files(), cluster: cluster(webhooks(Some("a".into()))) };
    assert_eq!(checked(true, &flags), Ok(expected));
    let flags = format!("{SECRET} --webhooks w --webhooks-owner system:owner");
    let (secret, service) = ("s".to_owned(), "countersign".to_owned());
    let lifetime = Duration::from_secs(90 * 24 * 60 * 60);
    let pair = PairFrom::Secret { secret, service, lifetime };
    let expected = Keeping { pair, cluster: cluster(webhooks(None)) };
    assert_eq!(checked(true, &flags), Ok(expected));
    assert!(checked(true, SECRET).is_ok(), "without webhooks");
    assert!(checked(false, &format!("{FILES} --lease other")).is_ok(), "unused");
}

#[test]
fn flags_that_do_not_fit_are_told_with_what_to_do() {
    let owned = "--webhooks w --webhooks-owner o";
    for (in_cluster, flags, told) in [
        (false, "", "--tls-cert and --tls-key, or, in a cluster, --tls-secret"),
        (true, "--tls-cert c --identity one", "both --tls-cert and --tls-key"),
        (true, &format!("{FILES} {SECRET}").replacen("--identity one", "", 1), "excludes"),
        (false, SECRET, "--tls-secret needs --kubernetes"),
        (true, "--tls-secret s --identity one", "--tls-secret needs --service"),
        (true, "--tls-secret S_ --service x --identity one", "--tls-secret: \"S_\" is not"),
        (true, "--tls-secret s --service X --identity one", "--service: \"X\" is not"),
        (true, "--tls-cert c --tls-key k", "--identity (POD_NAME)"),
        (true, &format!("{FILES} --lease -"), "--lease"),
        (false, &format!("{FILES} {owned} --webhooks-ca a"), "--webhooks needs --kubernetes"),
        (true, &format!("{FILES} {owned}"), "--webhooks needs --webhooks-ca"),
        (true, &format!("{SECRET} {owned} --webhooks-ca a"), "--webhooks-ca excludes"),
        (true, &format!("{SECRET} --webhooks w"), "--webhooks needs --webhooks-owner"),
        (true, &format!("{SECRET} --webhooks-owner o"), "--webhooks-owner needs --webhooks"),
        (true, &format!("{FILES} --webhooks-ca a"), "--webhooks-ca needs --webhooks"),
        (true, &format!("{SECRET} --certificate-lifetime 11"), "11 is not in 12..=31536000"),
    ] {
        let problem = checked(in_cluster, flags).expect_err(flags);
        assert!(problem.contains(told), "{flags}: {problem}");
    }
}

#[tokio::test]
async fn a_keeper_that_breaks_is_told() {
    let (holding, holds) = watch::channel(false);
    let origin = PairOrigin::Files { certificate: "c".into(), key: "k".into() };
    let keepers: Vec<BoxFuture<'static, ()>> =
        vec![Box::pin(std::future::pending()), Box::pin(async { unreachable!("a bug") })];
    let running = Prepared { origin, holds, lease: None, keepers }.start(std::future::pending());
    let told = tokio::time::timeout(Duration::from_secs(10), running.broke()).await;
    assert!(told.is_ok());
    running.end().await;
    drop(holding);
}
