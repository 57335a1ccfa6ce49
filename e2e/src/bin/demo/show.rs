//! What the demo prints. Every command shown is run as it is shown, and its output is printed as it
//! is.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_e2e::process::{Finished, run};
use countersign_e2e::{Context, Failure, Outcome};

/// What a command that was shown said, to be compared with what the demo tells.
pub(crate) struct Shown(Finished);

impl Shown {
    pub(crate) fn admitted(self) -> Outcome<Finished> {
        self.0.success()
    }

    pub(crate) fn refused_as(self, code: &str) -> Outcome<()> {
        let refused = self.0.code != Some(0) && self.0.stderr.contains(code);
        expect(refused, &format!("a refusal as {code} of: {}", self.0))
    }

    pub(crate) fn code(self, code: i32) -> Outcome<()> {
        expect(self.0.code == Some(code), &format!("exit status {code} of: {}", self.0))
    }
}

/// Shows a command, runs it in this folder, shows its output.
pub(crate) fn shown(mut command: Command, folder: &Path) -> Outcome<Shown> {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().context("a command without a name")?.display().to_string();
    let words = command.get_args().map(|word| word.to_string_lossy());
    let line = words.fold(name, |line, word| format!("{line} {}", quoted(&word)));
    println!("  $ {}", bold(&line));
    let finished = run(command.current_dir(folder), "")?;
    for text in [&finished.stdout, &finished.stderr] {
        text.lines().filter(|text| !text.is_empty()).for_each(|text| println!("    {text}"));
    }
    Ok(Shown(finished))
}

pub(crate) fn expect(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Failure::new(format!("expected {what}"))) }
}

pub(crate) fn heading(text: &str) {
    println!("\n{}", bold(&format!("== {text}")));
}

pub(crate) fn say(text: &str) {
    println!("  {text}");
}

/// Shows a file: of a resource, what is below `spec`.
pub(crate) fn show(name: &str, yaml: &str) {
    say(&format!("{name}:"));
    let text = yaml.find("\nspec:\n").map_or(yaml, |start| &yaml[start + 1..]);
    text.lines().for_each(|line| println!("    {line}"));
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// As a shell wants it, so that the line can be copied.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}
