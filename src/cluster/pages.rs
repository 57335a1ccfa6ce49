//! Lists of the API server, read once and page by page.

use std::time::Duration;

use kube::Error;
use kube::api::ListParams;
use tokio::time::timeout;

/// Objects on a page.
const PAGE: u32 = 250;

/// Most pages: a million objects. A cluster is built for 150,000 pods.
const PAGES: usize = 4_000;

/// Longest wait for a page.
const WAIT: Duration = Duration::from_secs(30);

/// How often a list may become too old to go on with before it is given up: the API server keeps
/// one for minutes.
const BEGINNINGS: usize = 3;

/// Why a list is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The API server, or the way to it, says no.
    #[error("{0}")]
    Api(#[from] Error),
    /// A page is larger than is read.
    #[error("a page of the list is larger than {} MiB", .bytes >> 20)]
    Large {
        /// The limit.
        bytes: u64,
    },
    /// A page did not arrive.
    #[error("the API server did not answer within {} s", WAIT.as_secs())]
    Late,
    /// It does not end.
    #[error("the list is longer than {} objects", PAGES * PAGE as usize)]
    Endless,
    /// It grew too old each time.
    #[error("the list grew too old to go on with {BEGINNINGS} times; try again")]
    Old,
}

impl ListError {
    /// The status code of an answer that is an error.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Api(Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// Some objects, and where the list goes on.
pub(crate) type Page<T> = (Vec<T>, Option<String>);

/// Gives every object to `take`. A list that grows too old on the way (410) begins again, with
/// nothing taken.
pub(crate) async fn all<T, Taken: Default>(
    params: &ListParams,
    fetch: impl AsyncFn(&ListParams) -> Result<Page<T>, ListError>,
    take: impl Fn(&mut Taken, T),
) -> Result<Taken, ListError> {
    for _ in 0..BEGINNINGS {
        match once(params.clone().limit(PAGE), &fetch, &take).await {
            Err(error) if error.code() == Some(410) => {}
            ended => return ended,
        }
    }
    Err(ListError::Old)
}

async fn once<T, Taken: Default>(
    mut params: ListParams,
    fetch: &impl AsyncFn(&ListParams) -> Result<Page<T>, ListError>,
    take: &impl Fn(&mut Taken, T),
) -> Result<Taken, ListError> {
    let mut taken = Taken::default();
    for _ in 0..PAGES {
        let (objects, more) =
            timeout(WAIT, fetch(&params)).await.map_err(|_| ListError::Late)??;
        objects.into_iter().for_each(|object| take(&mut taken, object));
        match more.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(taken),
        }
    }
    Err(ListError::Endless)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use kube::core::Status;

    use super::*;

    fn status(code: u16) -> ListError {
        Error::Api(Box::new(Status::failure("no", "no").with_code(code))).into()
    }

    /// Lists with these answers, each a page or an error; gives what was taken and the tokens.
    async fn list(
        answers: Vec<Result<Page<u8>, ListError>>,
    ) -> (Result<Vec<u8>, ListError>, Vec<Option<String>>) {
        let answers = RefCell::new(answers.into_iter());
        let tokens = RefCell::new(Vec::new());
        let fetch = async |params: &ListParams| {
            assert_eq!(params.limit, Some(PAGE));
            tokens.borrow_mut().push(params.continue_token.clone());
            answers.borrow_mut().next().unwrap_or_else(|| Ok((vec![0], Some("again".to_owned()))))
        };
        let take = |taken: &mut Vec<u8>, object| taken.push(object);
        let taken = all(&ListParams::default(), fetch, take).await;
        (taken, tokens.into_inner())
    }

    fn page(objects: &[u8], more: &str) -> Result<Page<u8>, ListError> {
        Ok((objects.to_vec(), Some(more.to_owned())))
    }

    #[tokio::test]
    async fn pages_follow_each_other_to_the_last() {
        let (taken, tokens) = list(vec![page(&[1, 2], "a"), page(&[], "b"), page(&[3], "")]).await;
        assert_eq!(taken.expect("a list"), [1, 2, 3]);
        assert_eq!(tokens, [None, Some("a".to_owned()), Some("b".to_owned())]);
    }

    #[tokio::test]
    async fn a_list_that_grew_too_old_begins_again_and_counts_nothing_twice() {
        let (taken, tokens) =
            list(vec![page(&[1], "a"), Err(status(410)), page(&[1, 2], "")]).await;
        assert_eq!(taken.expect("a list"), [1, 2]);
        assert_eq!(tokens, [None, Some("a".to_owned()), None]);
        let always = || vec![page(&[1], "a"), Err(status(410))];
        let (taken, tokens) =
            list([always(), always(), always(), always()].into_iter().flatten().collect()).await;
        assert!(matches!(taken, Err(ListError::Old)));
        assert_eq!(tokens.len(), 2 * BEGINNINGS);
    }

    #[tokio::test]
    async fn a_list_without_end_is_given_up_and_other_errors_are_told_at_once() {
        let (taken, tokens) = list(Vec::new()).await;
        assert!(matches!(taken, Err(ListError::Endless)));
        assert_eq!(tokens.len(), PAGES);
        let (taken, tokens) = list(vec![page(&[1], "a"), Err(status(403))]).await;
        assert_eq!(taken.expect_err("forbidden").code(), Some(403));
        assert_eq!(tokens.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_does_not_come_is_not_waited_for_for_ever() {
        let never =
            async |_: &ListParams| std::future::pending::<Result<Page<u8>, ListError>>().await;
        let taken = all(&ListParams::default(), never, |_: &mut Vec<u8>, _| {}).await;
        assert!(matches!(taken, Err(ListError::Late)));
    }
}
