//! Logs and metrics, from the one decision value.

mod decision;
mod freshness;
mod lines;
mod measures;
mod metrics;
mod outcomes;
mod remembered;
mod state;
mod traces;

pub use decision::{DecisionLog, DecisionRecord};
pub use lines::Lines;
pub use measures::{Cached, Measures, Server};
pub(crate) use measures::{computing, outcome};
pub use metrics::Metrics;
pub use outcomes::{CheckpointOutcome, EventOutcome, Outcome};
pub(crate) use traces::{Asker, SPANS, attribute};
pub use traces::{Traces, TracesError};

use tracing::Subscriber;
use tracing_subscriber::filter::{Directive, EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// Lines for a person to read.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter does not parse.
    #[error(
        "the log filter {filter:?} cannot be read ({reason}); write info, debug or target=level, joined by commas"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
}

/// Sends everything that is traced, and panics, through `lines` to standard error. `filter` is
/// as `info` or `countersign=debug,info`. Call once; keep `lines` to flush it before exiting.
pub fn init(format: Format, filter: &str, lines: &Lines) -> Result<(), InitError> {
    init_with(format, filter, lines, None)
}

/// The same, and sends spans where there is somewhere to send them to.
pub fn init_with(
    format: Format,
    filter: &str,
    lines: &Lines,
    traces: Option<&Traces>,
) -> Result<(), InitError> {
    let unread = |reason: &dyn std::fmt::Display| InitError::Filter {
        filter: filter.to_owned(),
        reason: reason.to_string(),
    };
    // Spans are no lines of the log, and cost nothing where nobody takes them.
    let no_spans: Directive = format!("{SPANS}=off").parse().map_err(|error| unread(&error))?;
    let directives = EnvFilter::try_new(filter).map_err(|error| unread(&error))?;
    let directives = directives.add_directive(no_spans);
    let registry = tracing_subscriber::registry();
    let done = match traces {
        None => registry.with(directives).with(to_lines(format, lines)).try_init(),
        Some(traces) => {
            let spans = filter_fn(|it| it.is_span() && it.target() == SPANS);
            registry
                .with(to_lines(format, lines).with_filter(directives))
                .with(traces.layer().with_filter(spans))
                .try_init()
        }
    };
    done.map_err(|_| InitError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, panic = message, "a bug: Countersign panicked");
    }));
    Ok(())
}

fn to_lines<S>(format: Format, lines: &Lines) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(lines.clone());
    match format {
        Format::Json => layer.json().flatten_event(true).boxed(),
        Format::Text => layer.with_ansi(false).boxed(),
    }
}
