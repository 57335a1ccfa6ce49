//! Logs and metrics, from the one decision value.

mod decision;
mod freshness;
mod lines;
mod measures;
mod metrics;
mod outcome;
mod state;

pub use decision::{DecisionLog, DecisionRecord};
pub use lines::Lines;
pub(crate) use measures::computing;
pub use measures::{Cached, Measures, Server};
pub use metrics::Metrics;
pub use outcome::{CheckpointOutcome, EventOutcome, Outcome};

use tracing_subscriber::EnvFilter;

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
    let directives = EnvFilter::try_new(filter).map_err(|error| InitError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(directives).with_writer(lines.clone());
    let done = match format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => builder.with_ansi(false).try_init(),
    };
    done.map_err(|_| InitError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, panic = message, "a bug: Countersign panicked");
    }));
    Ok(())
}
