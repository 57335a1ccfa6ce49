//! What goes wrong again and again is told once; waiting for news.

use kube::Error;
use tokio::sync::watch;

/// What stands in the way at present, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Told(Option<String>);

impl Told {
    /// Logs `problem` unless it is what was told last.
    pub(super) fn tell(&mut self, what: &'static str, problem: &str) {
        if self.0.as_deref() != Some(problem) {
            tracing::error!(%problem, "{what}; it is tried again");
            self.0 = Some(problem.to_owned());
        }
    }

    /// Nothing stands in the way any more.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

/// What an error of the API server or on the way to it says, in one line.
pub(crate) fn because(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("the API server says: {}", status.message),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                // Most of kube's errors show their source themselves.
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    }
}

/// Whether someone else wrote, or created, first.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409)
}

/// Ready when there is news; never where there will be none.
pub(super) async fn changed<T>(receiver: Option<&mut watch::Receiver<T>>) {
    let news = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !news {
        std::future::pending().await
    }
}
