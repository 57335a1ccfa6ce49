//! The namespaces' labels.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::is_namespace;
use crate::singleflight::SingleFlight;

/// A namespace's labels.
pub type Labels = BTreeMap<String, String>;

/// Longest time to look one namespace up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Most namespaces looked up at one time: whoever can send reviews can name any.
const LOOK_UPS: usize = 8;

/// The labels of every namespace, as the API server's watch tells them.
#[derive(Debug)]
pub struct Namespaces {
    known: RwLock<HashMap<String, Arc<Labels>>>,
    api: Api<PartialObjectMeta<Namespace>>,
    look_ups: SingleFlight<String, Option<Arc<Labels>>>,
    places: Arc<Semaphore>,
}

impl Namespaces {
    /// None known yet.
    pub fn new(client: Client) -> Self {
        Self::knowing(client, HashMap::new())
    }

    /// These known.
    pub(super) fn knowing(client: Client, known: HashMap<String, Arc<Labels>>) -> Self {
        Self {
            known: RwLock::new(known),
            api: Api::all(client),
            look_ups: SingleFlight::default(),
            places: Arc::new(Semaphore::new(LOOK_UPS)),
        }
    }

    /// A namespace's labels, where the watch has told them.
    pub fn known(&self, name: &str) -> Option<Arc<Labels>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Asks the API server for the labels of a namespace that the watch has not told yet; `None`
    /// where it does not tell them in time. Nothing is kept: the watch will tell.
    pub async fn look_up(&self, name: &str, deadline: Instant) -> Option<Arc<Labels>> {
        // It becomes a part of a URL.
        if !is_namespace(name) {
            return None;
        }
        let (api, places, wanted) = (self.api.clone(), Arc::clone(&self.places), name.to_owned());
        let asked = self.look_ups.run(name.to_owned(), move || async move {
            let asking = async {
                let _place = places.acquire().await.ok()?;
                match api.get(&wanted).await {
                    Ok(namespace) => Some(labels(namespace)),
                    Err(error) => {
                        tracing::info!(namespace = wanted, %error, "its labels are not known");
                        None
                    }
                }
            };
            timeout(LOOK_UP, asking).await.ok().flatten()
        });
        timeout_at(deadline, asked).await.ok()?.ok()?
    }

    /// Takes what the watch tells; `listing` is what a list that is not complete has told.
    pub(super) fn take(
        &self,
        listing: &mut HashMap<String, Arc<Labels>>,
        event: Event<PartialObjectMeta<Namespace>>,
    ) {
        let known = || self.known.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listing.clear(),
            Event::InitApply(namespace) => {
                listing.insert(namespace.name_any(), labels(namespace));
            }
            Event::InitDone => *known() = std::mem::take(listing),
            Event::Apply(namespace) => {
                known().insert(namespace.name_any(), labels(namespace));
            }
            Event::Delete(namespace) => {
                known().remove(&namespace.name_any());
            }
        }
    }
}

pub(super) fn labels(namespace: PartialObjectMeta<Namespace>) -> Arc<Labels> {
    Arc::new(namespace.metadata.labels.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectMeta, PartialObjectMetaExt as _};

    use super::*;
    use crate::cluster::testing::api_server;

    fn namespace(name: &str, env: &str) -> PartialObjectMeta<Namespace> {
        let labels = Labels::from([("env".to_owned(), env.to_owned())]);
        let meta = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        meta.into_request_partial()
    }

    fn env(labels: Option<Arc<Labels>>) -> Option<String> {
        labels?.get("env").cloned()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(8)
    }

    #[tokio::test]
    async fn what_the_watch_tells_is_known_until_it_tells_otherwise() {
        let (client, asked) = api_server(|_| None);
        let namespaces = Namespaces::new(client);
        let mut listing = HashMap::new();
        let mut take = |event| namespaces.take(&mut listing, event);
        take(Event::Init);
        take(Event::InitApply(namespace("a", "dev")));
        assert_eq!(env(namespaces.known("a")), None, "the list is not complete");
        take(Event::InitDone);
        take(Event::Apply(namespace("b", "dev")));
        take(Event::Apply(namespace("a", "prod")));
        assert_eq!(env(namespaces.known("a")).as_deref(), Some("prod"));
        take(Event::Delete(namespace("b", "dev")));
        assert_eq!(env(namespaces.known("b")), None);
        take(Event::Init);
        take(Event::InitDone);
        assert_eq!(env(namespaces.known("a")), None, "gone from the list");
        assert!(asked.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn k14_one_that_is_not_known_yet_is_asked_for_once_by_all_who_wait() {
        let (client, asked) = api_server(|_| {
            let found = serde_json::to_string(&namespace("new", "dev")).ok()?;
            Some((200, found))
        });
        let namespaces = Namespaces::new(client);
        let asking = (0..100).map(|_| namespaces.look_up("new", soon()));
        for found in futures_util::future::join_all(asking).await {
            assert_eq!(env(found).as_deref(), Some("dev"));
        }
        assert_eq!(*asked.lock().expect("no panic"), ["/api/v1/namespaces/new"]);
    }

    #[tokio::test]
    async fn k14_what_is_no_namespace_s_name_is_asked_of_nobody() {
        let (client, asked) = api_server(|_| Some((200, "{}".to_owned())));
        let namespaces = Namespaces::new(client);
        for name in ["../secrets/x", "kube-system/secrets", "a?b", "", "A", &"a".repeat(64)] {
            assert!(namespaces.look_up(name, soon()).await.is_none(), "{name}");
        }
        assert!(asked.lock().expect("no panic").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn k14_a_look_up_ends_in_time_and_few_run_at_once() {
        let (client, asked) = api_server(|_| None);
        let namespaces = Namespaces::new(client);
        let began = Instant::now();
        let asking = (0..100).map(|number| {
            let name = format!("n{number}");
            let namespaces = &namespaces;
            async move { namespaces.look_up(&name, soon()).await }
        });
        let found = futures_util::future::join_all(asking).await;
        assert!(found.iter().all(Option::is_none));
        assert_eq!(began.elapsed().as_secs(), LOOK_UP.as_secs());
        assert!(asked.lock().expect("no panic").len() <= LOOK_UPS);
        // A review that has less time left waits no longer than that.
        let deadline = Instant::now() + Duration::from_millis(100);
        assert!(namespaces.look_up("late", deadline).await.is_none());
        assert_eq!(Instant::now(), deadline);
    }
}
