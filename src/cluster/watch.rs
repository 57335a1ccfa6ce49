//! Following one kind of object for ever.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task;
use std::time::Duration;

use axum::http::{Request, Response};
use futures_util::StreamExt as _;
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::freshness::Heard;

/// Longest wait for the next part of a list.
const LIST: Duration = Duration::from_secs(30);

/// Longest wait for the answer to a watch request, before its first event.
const ANSWER: Duration = Duration::from_secs(10);

/// The first pause before a new attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause. An API server that is back sends reviews at once, and they are denied for
/// as long as nothing was heard of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a kind is followed.
#[derive(Clone)]
pub(super) struct Follow {
    /// The API server, asked through [`noting`].
    pub(super) client: Client,
    /// Which objects; its timeout is how often the watch is begun anew, which is what tells that
    /// a watch without events is alive.
    pub(super) config: watcher::Config,
    /// Where it is noted.
    pub(super) heard: Arc<Heard>,
    /// After a silence longer than this only a new list counts: a watch that goes on may still
    /// have to tell what was changed meanwhile.
    bound: Duration,
}

impl Follow {
    /// A watch that is begun anew three times within `bound`, and every minute at least.
    pub(super) fn new(client: &Client, heard: Arc<Heard>, bound: Duration) -> Self {
        let again = (bound.as_secs() / 3).clamp(1, 60);
        let config = watcher::Config::default().timeout(u32::try_from(again).unwrap_or(60));
        Self { client: noting(client, &heard, bound), config, heard, bound }
    }

    /// Gives every event to `take`, for ever. After any error it begins again with a list: what
    /// the error hid is in there.
    pub(super) async fn run<K>(self, api: Api<K>, mut take: impl FnMut(Event<K>)) -> Infallible
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let error = self.until_error(api.clone(), &mut take).await;
            self.heard.failed(&error);
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(what = self.heard.what(), %error, "a watch broke; listing again");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn until_error<K>(&self, api: Api<K>, take: &mut impl FnMut(Event<K>)) -> String
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(watcher::watcher(api, self.config.clone()));
        let mut listing = true;
        loop {
            let next = match listing {
                true => timeout(LIST, events.next()).await,
                false => Ok(events.next().await),
            };
            let event = match next {
                Err(_) => return format!("the list did not arrive within {} s", LIST.as_secs()),
                Ok(None) => return "the watch ended".to_owned(),
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(Some(Ok(event))) => event,
            };
            if !listing && self.heard.is_stale(self.bound) {
                return Silence(self.bound).to_string();
            }
            listing = match event {
                Event::Init | Event::InitApply(_) => true,
                Event::InitDone | Event::Apply(_) | Event::Delete(_) => false,
            };
            let done = matches!(event, Event::InitDone);
            take(event);
            if done {
                self.heard.listed();
            } else if !listing {
                self.heard.goes_on();
            }
        }
    }
}

/// A client of the same API server that notes the answers to watch requests: the watcher keeps
/// them and their bookmarks to itself.
fn noting(client: &Client, heard: &Arc<Heard>, bound: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Noting { client: client.clone(), heard: Arc::clone(heard), bound }, namespace)
}

struct Noting {
    client: Client,
    heard: Arc<Heard>,
    bound: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", ANSWER.as_secs())]
struct NoAnswer;

#[derive(Debug, thiserror::Error)]
#[error("nothing was heard for more than {} s", .0.as_secs())]
struct Silence(Duration);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Request<Body>> for Noting {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), BoxError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, heard, bound) = (self.client.clone(), Arc::clone(&self.heard), self.bound);
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.split('&').any(|pair| pair == "watch=true");
        Box::pin(async move {
            let answer = client.send(request);
            if !is_watch {
                return Ok(answer.await?);
            }
            let answer = timeout(ANSWER, answer).await.map_err(|_| NoAnswer)??;
            if heard.is_stale(bound) {
                return Err(Silence(bound).into());
            }
            if answer.status().is_success() {
                heard.goes_on();
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::body::{Body as AnyBody, Bytes};
    use futures_util::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Freshness;
    use crate::cluster::testing::api_server;

    const BOUND: Duration = Duration::from_secs(30);

    fn config_map(name: &str) -> Value {
        let metadata = json!({"name": name, "namespace": "system", "resourceVersion": "2"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    }

    fn list(names: &[&str], more: &str) -> Option<(u16, String)> {
        let items: Vec<Value> = names.iter().map(|name| config_map(name)).collect();
        let metadata = json!({"resourceVersion": "1", "continue": more});
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
        Some((200, list.to_string()))
    }

    fn event(kind: &str, object: &Value) -> Option<(u16, String)> {
        Some((200, format!("{}\n", json!({"type": kind, "object": object}))))
    }

    fn status(code: u16) -> Option<(u16, String)> {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no"});
        Some((code, status.to_string()))
    }

    /// Follows ConfigMaps for a while; gives what became of the events, and how fresh it is.
    async fn follow(
        answer: impl Fn(&str) -> Option<(u16, String)> + Clone + Send + 'static,
        time: Duration,
    ) -> (Vec<String>, Result<(), String>) {
        let (client, _) = api_server(answer);
        let heard = Heard::new("ConfigMaps");
        let follow = Follow::new(&client, heard.clone(), BOUND);
        let freshness = Freshness::new(vec![heard], BOUND);
        freshness.put_in_place(true);
        let api: Api<ConfigMap> = Api::namespaced(follow.client.clone(), "system");
        let told = Mutex::new(Vec::new());
        let take = |event: Event<ConfigMap>| {
            let text = match &event {
                Event::Init => "list".to_owned(),
                Event::InitDone => "listed".to_owned(),
                Event::InitApply(object) => format!("listing {}", object.name_any()),
                Event::Apply(object) => format!("changed {}", object.name_any()),
                Event::Delete(object) => format!("deleted {}", object.name_any()),
            };
            told.lock().expect("no panic").push(text);
        };
        let ended = timeout(time, follow.run(api, take)).await;
        assert!(ended.is_err(), "it runs for ever");
        (told.into_inner().expect("no panic"), freshness.check())
    }

    fn is_watch(uri: &str) -> bool {
        uri.contains("watch=true")
    }

    #[tokio::test(start_paused = true)]
    async fn k11_a_watch_without_events_is_fresh_as_long_as_it_can_be_begun_anew() {
        let alive = |uri: &str| match is_watch(uri) {
            true => Some((200, String::new())),
            false => list(&["a"], ""),
        };
        let (told, fresh) = follow(alive, BOUND * 5).await;
        assert_eq!(told, ["list", "listing a", "listed"]);
        assert_eq!(fresh, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn k11_watches_that_are_never_answered_grow_stale() {
        let silent = |uri: &str| if is_watch(uri) { None } else { status(500) };
        let listed_once = {
            let lists = Arc::new(Mutex::new(0));
            move |uri: &str| {
                if is_watch(uri) {
                    return silent(uri);
                }
                let mut lists = lists.lock().expect("no panic");
                *lists += 1;
                if *lists == 1 { list(&["a"], "") } else { silent(uri) }
            }
        };
        let (_, fresh) = follow(listed_once.clone(), BOUND / 2).await;
        assert_eq!(fresh, Ok(()));
        let (_, fresh) = follow(silent, BOUND * 2).await;
        assert!(
            fresh.expect_err("never listed").starts_with("ConfigMaps have not been listed yet")
        );
        let listed_again = {
            let first = Arc::new(Mutex::new(true));
            move |uri: &str| {
                let is_list = !is_watch(uri);
                if is_list && std::mem::take(&mut *first.lock().expect("no panic")) {
                    return list(&["a"], "");
                }
                silent(uri)
            }
        };
        let (_, fresh) = follow(listed_again, BOUND * 2).await;
        assert!(fresh.expect_err("stale").starts_with("nothing was heard of ConfigMaps"));
    }

    #[tokio::test(start_paused = true)]
    async fn k11_lists_that_never_end_are_not_heard_of() {
        for complete in [0, 1] {
            let lists = Arc::new(Mutex::new(0));
            let endless = move |uri: &str| {
                if is_watch(uri) || uri.contains("continue=") {
                    return status(500);
                }
                let mut lists = lists.lock().expect("no panic");
                *lists += 1;
                list(&["a"], if *lists <= complete { "" } else { "more" })
            };
            let (told, fresh) = follow(endless, BOUND * 2).await;
            let listed = told.iter().filter(|told| *told == "listed").count();
            assert_eq!(listed, complete);
            assert!(told.iter().filter(|told| *told == "listing a").count() > 5);
            let wanted = ["ConfigMaps have not been listed yet", "nothing was heard of ConfigMaps"];
            let said = fresh.expect_err("outdated");
            assert!(said.starts_with(wanted[complete]), "{said}");
        }
    }

    /// A bound that is shorter than what a silent watch is waited for.
    #[tokio::test(start_paused = true)]
    async fn k11_after_a_silence_beyond_the_bound_only_a_new_list_counts() {
        let bound = Duration::from_secs(3);
        for late in [false, true] {
            // Either the watch tells something at last, or it is begun anew and is well again.
            let service = tower::service_fn(move |request: Request<Body>| {
                let uri = request.uri().to_string();
                let body = match is_watch(&uri) {
                    false => AnyBody::from(list(&["a"], "").expect("a list").1),
                    true if late => {
                        let event = event("MODIFIED", &config_map("b")).expect("an event").1;
                        let told = stream::once(sleep(bound * 3 / 2))
                            .map(move |()| Ok::<_, Infallible>(Bytes::from(event.clone())));
                        AnyBody::from_stream(told.chain(stream::pending()))
                    }
                    true => AnyBody::from_stream(stream::pending::<Result<Bytes, Infallible>>()),
                };
                let answer = Response::builder().status(200).body(body).expect("an answer");
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let heard = Heard::new("ConfigMaps");
            let follow = Follow::new(&Client::new(service, "default"), heard.clone(), bound);
            let api: Api<ConfigMap> = Api::namespaced(follow.client.clone(), "system");
            let mut told = Vec::new();
            let mut silent = false;
            let take = |event: Event<ConfigMap>| {
                silent |= heard.is_stale(bound);
                told.push((heard.is_stale(bound), matches!(event, Event::Apply(_))));
            };
            assert!(timeout(bound * 4, follow.run(api, take)).await.is_err(), "it runs for ever");
            assert!(silent, "the test's own");
            let lists = told.iter().filter(|(_, applied)| !applied).count() / 3;
            assert!(lists >= 2 && told.len() == lists * 3, "listed anew, late: {late}: {told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn o4_after_a_410_and_any_other_error_everything_is_listed_again() {
        let gone = json!({"apiVersion": "v1", "kind": "Status", "code": 410, "message": "too old", "reason": "Expired", "status": "Failure"});
        for broken in [
            event("ERROR", &gone),
            status(410),
            status(403),
            event("ADDED", &json!({"metadata": 1})),
        ] {
            let watches = Arc::new(Mutex::new(0));
            let answer = move |uri: &str| {
                if !is_watch(uri) {
                    let again = *watches.lock().expect("no panic") > 0;
                    return list(if again { &["b"] } else { &["a"] }, "");
                }
                let mut watches = watches.lock().expect("no panic");
                *watches += 1;
                match *watches {
                    1 => broken.clone(),
                    2 => event("MODIFIED", &config_map("c")),
                    _ => None,
                }
            };
            let (told, fresh) = follow(answer, Duration::from_secs(3)).await;
            let wanted =
                ["list", "listing a", "listed", "list", "listing b", "listed", "changed c"];
            assert_eq!(told, wanted);
            assert_eq!(fresh, Ok(()));
        }
    }
}
