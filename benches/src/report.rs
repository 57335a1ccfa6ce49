//! The table for a person, and the same as JSON for comparing runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_e2e::Outcome;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::machine;

/// What a row's ratio has to keep, or its value where it stands alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// It explains other rows.
    None,
}

/// One row.
#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    measured: f64,
    /// What it is compared with, and their ratio: the median of the rounds' ratios, which need not
    /// be the ratio of the medians.
    reference: Option<(f64, f64)>,
    limit: Limit,
}

impl Row {
    fn kept(&self) -> bool {
        let judged = self.reference.map_or(self.measured, |(_, ratio)| ratio);
        match self.limit {
            Limit::AtLeast(least) => judged >= least,
            Limit::AtMost(most) => judged <= most,
            Limit::None => true,
        }
    }

    fn limit(&self) -> String {
        match self.limit {
            Limit::AtLeast(least) => format!(">= {least}"),
            Limit::AtMost(most) => format!("<= {most}"),
            Limit::None => String::new(),
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.limit, self.kept()) {
            (Limit::None, _) => "",
            (_, true) => "ok",
            (_, false) => "MISSED",
        }
    }

    fn json(&self) -> Value {
        let limit = match self.limit {
            Limit::AtLeast(least) => json!({"atLeast": least}),
            Limit::AtMost(most) => json!({"atMost": most}),
            Limit::None => Value::Null,
        };
        json!({
            "name": self.name, "unit": self.unit, "measured": self.measured,
            "reference": self.reference.map(|(reference, _)| reference),
            "ratio": self.reference.map(|(_, ratio)| ratio),
            "limit": limit, "kept": self.kept(),
        })
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a value that is judged by itself.
    pub(crate) fn value(&mut self, name: &str, unit: &'static str, measured: f64, limit: Limit) {
        self.rows.push(Row { name: name.to_owned(), unit, measured, reference: None, limit });
    }

    /// Adds rounds of `(measured, reference)`, judged by the median of their ratios.
    pub(crate) fn ratio(
        &mut self,
        name: &str,
        unit: &'static str,
        rounds: &[(f64, f64)],
        limit: Limit,
    ) {
        let median_of = |part: fn(&(f64, f64)) -> f64| median(rounds.iter().map(part).collect());
        let measured = median_of(|round| round.0);
        let reference = Some((median_of(|round| round.1), median_of(|round| round.0 / round.1)));
        self.rows.push(Row { name: name.to_owned(), unit, measured, reference, limit });
    }

    /// Whether every limit is kept.
    pub(crate) fn kept(&self) -> bool {
        self.rows.iter().all(Row::kept)
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        println!(
            "{:width$}  {:>10}  {:>10}  {:>6}  {:>8}",
            "", "measured", "beside", "ratio", "limit"
        );
        for row in &self.rows {
            let (beside, ratio) = match row.reference {
                Some((reference, ratio)) => (number(reference), format!("{ratio:.2}")),
                None => Default::default(),
            };
            println!(
                "{:width$}  {:>10}  {beside:>10}  {ratio:>6}  {:>8}  {:6}  {}",
                row.name,
                number(row.measured),
                row.limit(),
                row.verdict(),
                row.unit
            );
        }
    }

    /// Writes the rows, of which parts of the bench they are, when they were begun, the machine and the
    /// commit as JSON, and says where.
    pub(crate) fn write(
        &self,
        parts: &[&str],
        begun: Timestamp,
        took: Duration,
    ) -> Outcome<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&folder)?;
        let file = folder.join("latest.local.json");
        let report = json!({
            "commit": machine::commit(),
            "machine": {
                "cores": std::thread::available_parallelism()?.get(), "model": machine::model(),
                "memoryBytes": machine::memory(), "kernel": machine::kernel(),
            },
            "parts": parts,
            "begun": begun.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "seconds": took.as_secs(),
            "kept": self.kept(),
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        fs::write(&file, format!("{report:#}\n"))?;
        Ok(file)
    }
}

fn number(value: f64) -> String {
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}")
}

/// The middle value, or the mean of the two; NaN, which keeps no limit, where there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}
