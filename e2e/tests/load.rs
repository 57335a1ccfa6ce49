//! Many reviews at once, and the end of a replica in the middle of them.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_e2e::lab::Lab;
use countersign_e2e::reviews::{self, Verdict};
use countersign_e2e::{Failure, Outcome, http};
use tokio::task::JoinSet;

const REPOSITORY: &str = "payments/api";

#[test]
fn o6_a_thousand_reviews_of_a_cold_image_read_each_file_once() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    // So that nothing is refreshed in between.
    let mut source = lab.source(REPOSITORY)?;
    source.refresh_after = 60;
    lab.policies.source(&source)?;
    let countersign = lab.countersign("countersign")?;
    let (before, resolved) = (lab.notary.requests()?.len(), lab.registry.requests()?.len());
    let review = reviews::create("payments", &reviews::deployment("app", &image.tagged("1.4")));
    let verdicts = at_once(&lab, countersign.url(), &review.to_string(), 1000)?;
    for verdict in verdicts {
        verdict?.admitted()?;
    }

    let mut reads = BTreeMap::new();
    for request in lab.notary.requests()?.split_off(before) {
        *reads.entry(request.path).or_insert(0) += 1;
    }
    // Whether the snapshot is asked for by name or by hash, and so on, is for the client to say.
    for role in ["timestamp", "snapshot", "targets", "root"] {
        let of_role = |path: &&String| path.contains(&format!("/tuf/{role}."));
        assert_eq!(reads.keys().filter(of_role).count(), 1, "{role}: {reads:?}");
    }
    assert!(reads.values().all(|count| *count == 1), "{reads:?}");
    let resolved = lab.registry.requests()?.split_off(resolved);
    let manifests = resolved.iter().filter(|request| request.contains("/manifests/"));
    assert_eq!(manifests.count(), 1, "{resolved:?}");
    Ok(())
}

#[test]
fn o5_a_replica_that_is_told_to_end_answers_what_it_was_asked() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let mut countersign = lab.countersign("countersign")?;
    let review = reviews::create("payments", &reviews::pod("app", &image.by_digest())).to_string();
    let url = countersign.url().to_owned();
    let verdicts = std::thread::scope(|scope| {
        let asking = scope.spawn(|| at_once(&lab, &url, &review, 200));
        std::thread::sleep(Duration::from_millis(100));
        countersign.process().terminate()?;
        asking.join().map_err(|_| Failure::new("asking panicked"))?
    })?;
    let status = countersign.process().wait(Duration::from_secs(30))?;
    assert!(status.success(), "{status}");
    for verdict in verdicts {
        match verdict {
            Ok(verdict) => drop(verdict.admitted()?),
            // A connection that was not made before the end is refused, which the API server
            // answers by asking another replica; one that was made is answered.
            Err(failure) => {
                assert!(failure.to_string().contains("Connection refused"), "{failure}")
            }
        }
    }
    Ok(())
}

/// Sends so many reviews at the same time.
fn at_once(lab: &Lab, url: &str, review: &str, count: usize) -> Outcome<Vec<Outcome<Verdict>>> {
    let client = http::async_client(lab.authority.certificate())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut asking = JoinSet::new();
        for _ in 0..count {
            let request = client
                .post(format!("{url}/validate?timeout=30s"))
                .header("content-type", "application/json")
                .body(review.to_owned());
            asking.spawn(async move {
                let answer = request.send().await?.error_for_status()?;
                reviews::verdict(&answer.text().await?)
            });
        }
        let mut verdicts = Vec::with_capacity(count);
        while let Some(verdict) = asking.join_next().await {
            verdicts.push(verdict?);
        }
        Ok(verdicts)
    })
}
