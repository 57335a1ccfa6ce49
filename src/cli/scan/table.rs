//! A table that is readable at 120 columns.

use std::fmt::Write as _;

use crate::message::one_line;

/// The widest a table is made where what is in it allows.
const COLUMNS: usize = 120;

/// Between two columns.
const GAP: &str = "  ";

/// Before a line beneath a row.
const INDENT: &str = "    ";

const HEADINGS: [&str; 6] = ["NAMESPACE", "WORKLOAD", "PODS", "VERDICT", "POLICY", "IMAGE"];

/// One image of one namespace: a row for each workload, and beneath them why.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) namespace: String,
    /// `kind/name`, and how many of its pods.
    pub(super) workloads: Vec<(String, usize)>,
    pub(super) image: String,
    pub(super) verdict: String,
    pub(super) policy: String,
    pub(super) why: Vec<String>,
}

type Row = [String; HEADINGS.len()];

/// The table. Where a row would be too wide, images are beneath their rows instead of beside.
pub(super) fn table(blocks: &[Block]) -> String {
    let rows: Vec<Vec<Row>> = blocks.iter().map(rows).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in rows.iter().flatten() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let gaps = GAP.len() * (HEADINGS.len() - 1);
    let beside = widths.iter().sum::<usize>() + gaps <= COLUMNS;
    let columns = if beside { HEADINGS.len() } else { HEADINGS.len() - 1 };
    let mut text = String::new();
    line(&mut text, &HEADINGS.map(str::to_owned)[..columns], &widths);
    for (block, rows) in blocks.iter().zip(&rows) {
        rows.iter().for_each(|row| line(&mut text, &row[..columns], &widths));
        let image = (!beside).then(|| one_line(&block.image));
        for beneath in image.iter().chain(&block.why) {
            wrapped(&mut text, &one_line(beneath));
        }
    }
    text
}

fn rows(block: &Block) -> Vec<Row> {
    let row = |(workload, pods): &(String, usize)| {
        let cells = [
            &block.namespace,
            workload,
            &pods.to_string(),
            &block.verdict,
            &block.policy,
            &block.image,
        ];
        cells.map(|cell| one_line(cell))
    };
    block.workloads.iter().map(row).collect()
}

fn line(text: &mut String, cells: &[String], widths: &[usize]) {
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(GAP).trim_end());
}

/// Indented, and on as many lines as its words take.
pub(super) fn wrapped(text: &mut String, words: &str) {
    let mut used = 0;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let width = word.chars().count();
        if used == 0 {
            text.push_str(INDENT);
            used = INDENT.len();
        } else if used + 1 + width > COLUMNS {
            let _ = write!(text, "\n{INDENT}{INDENT}");
            used = 2 * INDENT.len();
        } else {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += width;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(image: &str) -> Block {
        Block {
            namespace: "payments".to_owned(),
            workloads: vec![("ReplicaSet/api-7d9f".to_owned(), 50), ("Pod/debug".to_owned(), 1)],
            image: image.to_owned(),
            verdict: "Unsigned".to_owned(),
            policy: "payments".to_owned(),
            why: vec!["payments, release-team: Unsigned: tag \"1.5\" is not signed".to_owned()],
        }
    }

    #[test]
    fn a_workload_is_a_row_and_why_is_beneath() {
        let wanted = "\
NAMESPACE  WORKLOAD             PODS  VERDICT   POLICY    IMAGE
payments   ReplicaSet/api-7d9f  50    Unsigned  payments  r.example/api:1.5
payments   Pod/debug            1     Unsigned  payments  r.example/api:1.5
    payments, release-team: Unsigned: tag \"1.5\" is not signed
";
        assert_eq!(table(&[block("r.example/api:1.5")]), wanted);
    }

    #[test]
    fn an_image_that_is_too_wide_is_beneath_and_complete() {
        let image = format!("registry.example.com/payments/api:1.5@sha256:{}", "0".repeat(64));
        let wanted = format!(
            "\
NAMESPACE  WORKLOAD             PODS  VERDICT   POLICY
payments   ReplicaSet/api-7d9f  50    Unsigned  payments
payments   Pod/debug            1     Unsigned  payments
    {image}
    payments, release-team: Unsigned: tag \"1.5\" is not signed
"
        );
        assert_eq!(table(&[block(&image)]), wanted);
    }

    #[test]
    fn long_reasons_are_wrapped_at_120_columns() {
        let mut long = block("r.example/api:1.5");
        long.why = vec!["word ".repeat(60)];
        let text = table(&[long]);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert_eq!(text.matches("word").count(), 60);
        assert_eq!(text.lines().count(), 6, "{text}");
    }

    #[test]
    fn what_authors_wrote_cannot_steer_a_terminal() {
        let mut hostile = block("r.example/a\u{1b}[2J\n:1");
        hostile.workloads = vec![("Job/x\r\u{1b}]0;title\u{7}".to_owned(), 1)];
        hostile.why = vec!["a\u{202e}b".to_owned()];
        let text = table(&[hostile]);
        let controls = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(controls), "{text:?}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
