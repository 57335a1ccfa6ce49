//! What registries answered, for a short time, and each question asked once at a time.

use std::sync::Arc;
use std::time::Duration;

use countersign_verify::image::Reference;
use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use super::unavailable;
use crate::expiry::After;
use crate::gate::Gate;
use crate::http::Basic;
use crate::singleflight::InTurn;
use crate::telemetry::Asker;

/// The least time to wait for a turn, and for the answer then, also where who asked first has less:
/// others may have joined, and the answer is remembered.
const LEAST_TIME: Duration = Duration::from_secs(10);

/// What an answer and its place in the memory take beside their texts, in bytes.
const ENTRY_BYTES: usize = 512;

/// What is asked, and as whom: an answer is for those with the same credentials only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) image: Reference,
    pub(super) credentials: Option<Basic>,
}

impl Question {
    /// The length of its texts.
    fn bytes(&self) -> usize {
        let credentials = self.credentials.as_ref();
        self.image.to_string().len()
            + credentials.map_or(0, |basic| basic.username.len() + basic.password.len())
    }
}

/// The length of a refusal's texts, or more.
fn refusal_bytes(refusal: &Unavailable) -> usize {
    refusal.to_string().len() + refusal.cause().map_or(0, str::len)
}

/// Answers of one kind.
pub(super) struct Answers<T> {
    known: Cache<Question, Result<T, Unavailable>>,
    gate: Arc<Gate>,
    /// One namespace that asks for much holds up no answer that another needs as well.
    flights: InTurn<Question, Result<T, Unavailable>>,
    span: fn(&Reference) -> Span,
}

impl<T: Clone + Send + Sync + 'static> Answers<T> {
    /// Remembers as much as `capacity` bytes hold, of answers with so many bytes in `length`, of
    /// refusals, and of the questions to both. `span` is that of asking, for which `gate` gives
    /// turns.
    pub(super) fn new(
        expiry: AnswerExpiry,
        gate: &Arc<Gate>,
        capacity: u64,
        length: fn(&T) -> usize,
        span: fn(&Reference) -> Span,
    ) -> Self {
        let known = Cache::builder()
            .max_capacity(capacity)
            .weigher(move |question: &Question, answer: &Result<T, Unavailable>| {
                let answer = answer.as_ref().map_or_else(refusal_bytes, length);
                u32::try_from(ENTRY_BYTES + question.bytes() + answer).unwrap_or(u32::MAX)
            })
            .expire_after(After(move |answer: &Result<T, Unavailable>| expiry.of(answer)))
            .build();
        Self { known, gate: Arc::clone(gate), flights: InTurn::default(), span }
    }

    pub(super) fn known(&self, question: &Question) -> Option<Result<T, Unavailable>> {
        self.known.get(question)
    }

    /// The answer that is known, or that of `ask` once it is this namespace's turn. It is asked once
    /// for all who wait, until the deadline that `ask` is given.
    pub(super) async fn answer<F, Fut>(
        self: &Arc<Self>,
        question: Question,
        namespace: &str,
        deadline: Instant,
        ask: F,
    ) -> Result<T, Unavailable>
    where
        F: FnOnce(Question, Instant) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        if let Some(answer) = self.known(&question) {
            return answer;
        }
        let registry = question.image.registry().to_owned();
        let (gate, host, holder) = (Arc::clone(&self.gate), registry.clone(), namespace.to_owned());
        let turn = async move {
            let turn = timeout_at(least(deadline), gate.enter(&host, &holder)).await;
            turn.unwrap_or(Err(Unavailable::Overloaded)).map_err(Err)
        };
        let (answers, asked, asker) = (Arc::clone(self), question.clone(), Asker::current());
        let asking = move || async move {
            // It may have been answered between the last look and now.
            if let Some(answer) = answers.known(&asked) {
                return answer;
            }
            let span = asker.asks((answers.span)(&asked.image));
            let answer = ask(asked.clone(), least(deadline)).instrument(span.clone()).await;
            span.record("code", answer.as_ref().err().map_or("", Unavailable::code));
            answers.known.insert(asked, answer.clone());
            answer
        };
        let answer = self.flights.run(question, namespace, turn, asking).await;
        answer.unwrap_or_else(|aborted| Err(unavailable(&registry, &aborted)))
    }
}

fn least(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + LEAST_TIME)
}

/// Lets refusals expire sooner than answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerExpiry {
    pub(super) good: Duration,
    pub(super) refused: Duration,
}

impl AnswerExpiry {
    fn of<T>(&self, answer: &Result<T, Unavailable>) -> Duration {
        if answer.is_ok() { self.good } else { self.refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Bounds;

    const CAPACITY: u64 = 64 << 10;

    /// How many of 1,000 answers are remembered that differ in `question`.
    async fn remembered(
        question: impl Fn(usize) -> Question,
        answer: Result<usize, Unavailable>,
    ) -> usize {
        let minute = Duration::from_secs(60);
        let expiry = AnswerExpiry { good: minute, refused: minute };
        let gate = Arc::new(Gate::new(Bounds { running: 4, entered: 4 }));
        let length = |length: &usize| *length;
        let answers = Answers::new(expiry, &gate, CAPACITY, length, |_| Span::none());
        let answers = Arc::new(answers);
        for number in 0..1000 {
            let answer = answer.clone();
            let (question, now) = (question(number), Instant::now());
            let asked = answers.answer(question, "payments", now, |_, _| async { answer });
            drop(asked.await);
        }
        answers.known.run_pending_tasks();
        (0..1000).filter(|number| answers.known(&question(*number)).is_some()).count()
    }

    fn anonymous(number: usize) -> Question {
        let image = format!("registry.example.com/team/app:{number}");
        Question { image: Reference::parse(&image).expect("reference"), credentials: None }
    }

    fn with_password(number: usize) -> Question {
        let (username, password) = ("ann".to_owned(), "p".repeat(8 << 10));
        Question { credentials: Some(Basic { username, password }), ..anonymous(number) }
    }

    #[tokio::test]
    async fn o8_what_is_remembered_is_bounded_in_bytes() {
        let refusal = |cause| unavailable("registry.example.com", &cause);
        for (kept, most) in [
            (remembered(anonymous, Ok(0)).await, 128),
            (remembered(anonymous, Ok(8 << 10)).await, 8),
            (remembered(anonymous, Err(refusal("c".repeat(8 << 10)))).await, 8),
            (remembered(with_password, Ok(0)).await, 8),
        ] {
            assert!(0 < kept && kept <= most, "{kept} of {most}");
        }
    }
}
