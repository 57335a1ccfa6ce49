//! The certificate follows its files; a bad pair never replaces a good one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign::server::{self, CERTIFICATE, PairOrigin};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::watch;

use crate::harness::{Pair, Running, builder, client, start, until};

async fn serves(server: &Running, pair: &Pair) -> bool {
    client(&[pair]).post(server.url("/fast")).body("x").send().await.is_ok()
}

/// Whether what was found last can be used, by the metrics.
async fn is_good(server: &Running) -> bool {
    let (_, metrics) = server.probe("/metrics").await;
    metrics.contains("countersign_certificate_last_reload_successful 1\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o3_rotation_under_load_fails_no_request() {
    let pairs: Vec<Pair> = (0..3).map(|_| Pair::new()).collect();
    let server = Arc::new(start(&pairs[0], |_, _| {}));
    let trusted: Vec<&Pair> = pairs.iter().collect();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // Half of the clients keep their connection, half make a new one each time.
    let clients = [client(&trusted), builder(&trusted).build().unwrap()];
    let load: Vec<_> = (0..8)
        .map(|n| {
            let (client, server) = (clients[n % 2].clone(), Arc::clone(&server));
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(server.post(&client, "/fast", "body").await, "body");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for pair in &pairs[1..] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // As slowly and brokenly as a file can be replaced: half of it, then without its key.
        server.folder.write("tls.crt", &pair.certificate[..pair.certificate.len() / 2]);
        tokio::time::sleep(Duration::from_millis(60)).await;
        server.folder.write("tls.crt", &pair.certificate);
        tokio::time::sleep(Duration::from_millis(60)).await;
        server.folder.write("tls.key", &pair.key);
        until("the new certificate is served", || serves(&server, pair)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 20);
}

#[tokio::test]
async fn o3_a_bad_pair_leaves_the_last_good_one() {
    let (good, other) = (Pair::new(), Pair::new());
    let expired = Pair::with(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let server = start(&good, |_, _| {});
    assert!(is_good(&server).await);
    let garbage = Pair { certificate: "garbage".to_owned(), key: "garbage".to_owned() };
    let mismatch = Pair { certificate: other.certificate.clone(), key: good.key.clone() };
    for bad in [garbage, mismatch, expired] {
        server.folder.write_pair(&bad);
        until("it is told", async || !is_good(&server).await).await;
        assert!(serves(&server, &good).await, "the last good one is served");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!is_good(&server).await, "for as long as it is there");
        server.folder.write_pair(&good);
        until("it is good again", || is_good(&server)).await;
    }
    std::fs::remove_file(server.folder.0.join("tls.crt")).unwrap();
    until("it is told", async || !is_good(&server).await).await;
    assert!(serves(&server, &good).await);
    server.folder.write_pair(&good);
    until("it is good again, and the same", || is_good(&server)).await;
    server.folder.write_pair(&other);
    until("a good pair is taken up again", || serves(&server, &other)).await;
}

#[tokio::test]
async fn a_swapped_symlink_is_noticed_as_kubelet_swaps_it() {
    let (first, second) = (Pair::new(), Pair::new());
    let server = start(&first, |config, folder| {
        for (name, pair) in [("one", &first), ("two", &second)] {
            std::fs::create_dir(folder.0.join(name)).unwrap();
            folder.write(&format!("{name}/tls.crt"), &pair.certificate);
            folder.write(&format!("{name}/tls.key"), &pair.key);
        }
        std::os::unix::fs::symlink("one", folder.0.join("..data")).unwrap();
        config.pair = PairOrigin::Files {
            certificate: folder.0.join("..data/tls.crt"),
            key: folder.0.join("..data/tls.key"),
        };
    });
    assert!(serves(&server, &first).await);
    std::os::unix::fs::symlink("two", server.folder.0.join("..tmp")).unwrap();
    std::fs::rename(server.folder.0.join("..tmp"), server.folder.0.join("..data")).unwrap();
    until("the new certificate is served", || serves(&server, &second)).await;
}

#[tokio::test]
async fn the_expiry_is_in_the_metrics() {
    let pair = Pair::with(|params| params.not_after = rcgen::date_time_ymd(2035, 1, 1));
    let server = start(&pair, |_, _| {});
    let (_, metrics) = server.probe("/metrics").await;
    let line = "countersign_certificate_expiry_timestamp_seconds 2051222400";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn k7_only_clients_of_the_given_authority_are_answered() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, &key);
    let client_key = KeyPair::generate().unwrap();
    let client_params = CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap();
    let certificate = client_params.signed_by(&client_key, &issuer).unwrap().pem();

    let pair = Pair::new();
    let server = start(&pair, |config, folder| {
        config.client_ca = Some(folder.write("ca.crt", &authority));
    });
    assert!(!serves(&server, &pair).await, "no certificate, no answer");
    let known = certificate + &client_key.serialize_pem();
    let stranger = pair.certificate.clone() + &pair.key;
    for (pem, answered) in [(known, true), (stranger, false)] {
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
        let client = builder(&[&pair]).identity(identity).build().unwrap();
        let response = client.post(server.url("/fast")).body("x").send().await;
        assert_eq!(response.is_ok(), answered);
    }
}

fn kept(pair: &Pair) -> Option<Arc<server::Pair>> {
    Some(Arc::new(server::Pair {
        certificate: pair.certificate.clone().into_bytes(),
        key: pair.key.clone().into_bytes(),
        certificate_place: "Secret system/tls, tls.crt".to_owned(),
        key_place: "Secret system/tls, tls.key".to_owned(),
    }))
}

#[tokio::test]
async fn o3_a_kept_pair_may_come_later_and_is_checked_as_files_are() {
    let (first, second) = (Pair::new(), Pair::new());
    let (keeper, pair) = watch::channel(None);
    let server = start(&first, |config, _| config.pair = PairOrigin::Kept(pair));
    server.readiness.hold(CERTIFICATE, "there is none yet");
    assert!(!serves(&server, &first).await, "nothing to serve with");
    keeper.send_replace(kept(&first));
    until("the pair is served", || serves(&server, &first)).await;
    assert_eq!(server.probe("/readyz").await.0, 200);

    keeper.send_replace(kept(&Pair { key: second.key.clone(), ..first.clone() }));
    until("it is told", async || !is_good(&server).await).await;
    assert!(serves(&server, &first).await, "the last good one is served");
    keeper.send_replace(kept(&second));
    until("the next good pair is served", || serves(&server, &second)).await;
}

#[test]
fn a_pair_is_shown_without_its_key() {
    let pair = Pair::new();
    let shown = format!("{:?}", kept(&pair));
    assert!(shown.contains("Secret system/tls, tls.key"), "{shown}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("45, 45, 45"), "{shown}");
}
