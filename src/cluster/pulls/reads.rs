//! Objects read by name, remembered for seconds.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use moka::sync::Cache;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::expiry::After;
use crate::fair::Places;
use crate::singleflight::SingleFlight;

/// Longest time to read one object.
const READ: Duration = Duration::from_secs(3);

/// How long what was read is remembered: long enough for a burst of pods, short enough that a
/// changed Secret, or a right that was taken away, is noticed.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The same for what is not there or could not be read, so that "create, then retry" works.
const REFUSED: Duration = Duration::from_secs(2);

/// Most bytes of one kind remembered.
const BYTES: u64 = 16 << 20;

/// What an entry takes beside its object.
const ENTRY_BYTES: usize = 512;

/// What an object says: `None` where there is none of this name, or why it is not known.
pub(super) type Told<T> = Result<Option<Arc<T>>, Arc<str>>;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    namespace: String,
    name: String,
}

impl Key {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// What is remembered, and the bytes that it takes.
type Kept<T> = (Told<T>, u32);

/// One kind's objects.
pub(super) struct Reads<T> {
    kind: &'static str,
    /// Shared by the namespaces.
    places: Arc<Places<String>>,
    kept: Cache<Key, Kept<T>>,
    flights: SingleFlight<Key, Told<T>>,
}

impl<T: Send + Sync + 'static> Reads<T> {
    /// Nothing is known; `places` is shared by all that read.
    pub(super) fn new(kind: &'static str, places: Arc<Places<String>>) -> Self {
        let kept = Cache::builder()
            .max_capacity(BYTES)
            .weigher(|_, (_, bytes): &Kept<T>| *bytes)
            .expire_after(After(|(told, _): &Kept<T>| lasts(told)))
            .build();
        Self { kind, places, kept, flights: SingleFlight::default() }
    }

    /// What is remembered of an object.
    pub(super) fn kept(&self, key: &Key) -> Option<Told<T>> {
        self.kept.get(key).map(|(told, _)| told)
    }

    /// What an object says, remembered or read once for all who ask. `read` gives what matters of
    /// it, and how many bytes that takes.
    pub(super) async fn read<K>(
        &self,
        key: Key,
        api: Api<K>,
        read: fn(K) -> Result<(T, usize), String>,
    ) -> Told<T>
    where
        K: Clone + Debug + DeserializeOwned + Send + 'static,
    {
        if let Some(told) = self.kept(&key) {
            return told;
        }
        let (kept, places, kind) = (self.kept.clone(), Arc::clone(&self.places), self.kind);
        let asked = key.clone();
        let told = self.flights.run(key, move || async move {
            // It may have been read between the look above and now.
            if let Some((told, _)) = kept.get(&asked) {
                return told;
            }
            let got = get(&asked, &api, &places).await;
            let (told, bytes) = match got.and_then(|object| object.map(read).transpose()) {
                Ok(None) => (Ok(None), 0),
                Ok(Some((object, bytes))) => (Ok(Some(Arc::new(object))), bytes),
                Err(why) => {
                    let Key { namespace, name } = &asked;
                    tracing::warn!(namespace, kind, name, why, "credentials unavailable");
                    (Err(format!("{kind} {name}: {why}").into()), 0)
                }
            };
            let bytes = u32::try_from(bytes + ENTRY_BYTES).unwrap_or(u32::MAX);
            kept.insert(asked, (told.clone(), bytes));
            told
        });
        told.await.unwrap_or_else(|aborted| Err(aborted.to_string().into()))
    }
}

/// `None` where there is no such object.
async fn get<K>(key: &Key, api: &Api<K>, places: &Arc<Places<String>>) -> Result<Option<K>, String>
where
    K: Clone + Debug + DeserializeOwned,
{
    let asking = async {
        let _place = places.take(key.namespace.clone()).await;
        match api.get(&key.name).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(why(&error)),
        }
    };
    let late = format!("the API server did not answer within {} s", READ.as_secs());
    timeout(READ, asking).await.unwrap_or(Err(late))
}

/// Without the answer's own text, which could quote a Secret.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "Countersign may not read it; see to it that a RoleBinding grants get".to_owned()
        }
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        kube::Error::SerdeError(_) => "the API server's answer cannot be read".to_owned(),
        error => {
            tracing::warn!(%error, "the API server could not be asked");
            "the API server could not be asked; Countersign's log says why".to_owned()
        }
    }
}

/// What is not there, or could not be read, is forgotten sooner.
fn lasts<T>(told: &Told<T>) -> Duration {
    if matches!(told, Ok(Some(_))) { REMEMBERED } else { REFUSED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_what_is_remembered_of_a_kind_is_bounded_in_bytes() {
        const OBJECT: u32 = 256 << 10;
        let reads = Reads::new("Secret", Places::new(1));
        for number in 0..100 {
            let key = Key::new("payments", &number.to_string());
            reads.kept.insert(key, (Ok(Some(Arc::new(()))), OBJECT));
        }
        reads.kept.run_pending_tasks();
        let kept = reads.kept.entry_count();
        assert!(0 < kept && kept <= BYTES / u64::from(OBJECT), "{kept}");
    }
}
