//! What registries answered, for a short time, and each question asked once at a time.

use std::sync::Arc;
use std::time::Duration;

use countersign_verify::image::Reference;
use countersign_verify::outcome::Unavailable;
use moka::Expiry;
use moka::sync::Cache;

use super::unavailable;
use crate::http::Basic;
use crate::singleflight::SingleFlight;

/// What is asked, and as whom: an answer is for those with the same credentials only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) image: Reference,
    pub(super) credentials: Option<Basic>,
}

/// Answers of one kind.
pub(super) struct Answers<T> {
    known: Cache<Question, Result<T, Unavailable>>,
    flights: SingleFlight<Question, Result<T, Unavailable>>,
}

impl<T: Clone + Send + Sync + 'static> Answers<T> {
    /// Remembers as much as `weights` sum up to; a refusal weighs 1.
    pub(super) fn new(expiry: AnswerExpiry, capacity: u64, weight: fn(&T) -> u32) -> Self {
        let known = Cache::builder()
            .max_capacity(capacity)
            .weigher(move |_, answer: &Result<T, Unavailable>| answer.as_ref().map_or(1, weight))
            .expire_after(expiry)
            .build();
        Self { known, flights: SingleFlight::default() }
    }

    pub(super) fn known(&self, question: &Question) -> Option<Result<T, Unavailable>> {
        self.known.get(question)
    }

    /// The answer that is known, or that of `ask`, which is asked once for all who wait.
    pub(super) async fn answer<F, Fut>(
        self: &Arc<Self>,
        question: Question,
        ask: F,
    ) -> Result<T, Unavailable>
    where
        F: FnOnce(Question) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        if let Some(answer) = self.known(&question) {
            return answer;
        }
        let (answers, asked) = (Arc::clone(self), question.clone());
        let registry = question.image.registry().to_owned();
        let answer = self.flights.run(question, move || async move {
            // It may have been answered between the look above and now.
            if let Some(answer) = answers.known(&asked) {
                return answer;
            }
            let answer = ask(asked.clone()).await;
            answers.known.insert(asked, answer.clone());
            answer
        });
        answer.await.unwrap_or_else(|aborted| Err(unavailable(&registry, &aborted)))
    }
}

/// Lets refusals expire sooner than answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerExpiry {
    pub(super) good: Duration,
    pub(super) refused: Duration,
}

impl AnswerExpiry {
    fn of<T>(&self, answer: &Result<T, Unavailable>) -> Option<Duration> {
        Some(if answer.is_ok() { self.good } else { self.refused })
    }
}

impl<T> Expiry<Question, Result<T, Unavailable>> for AnswerExpiry {
    fn expire_after_create(
        &self,
        _: &Question,
        answer: &Result<T, Unavailable>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        self.of(answer)
    }

    fn expire_after_update(
        &self,
        _: &Question,
        answer: &Result<T, Unavailable>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.of(answer)
    }
}
