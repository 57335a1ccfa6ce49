//! `countersign tuf`: the client for admins, whose verification is the webhook's own.

mod client;
mod download;
mod folder;
mod show;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use countersign_verify::tuf::{Repository, unknown_keys};
use jiff::Timestamp;
use url::Url;

use self::client::Client;
use self::download::Downloads;
use self::folder::Folder;
use super::{Exit, print};

/// Keys that are named in one message.
const KEYS_TOLD: usize = 3;

#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    /// The folder with what is trusted of the repository: root.json, timestamp.json,
    /// snapshot.json, targets.json and delegated roles, as they were received
    #[arg(long, global = true, value_name = "DIR")]
    metadata_dir: Option<PathBuf>,
    /// Where the repository's metadata is: http, https, or file for a mounted mirror
    #[arg(long, global = true, value_name = "URL")]
    metadata_url: Option<Url>,
    /// A target to download; may repeat
    #[arg(long, global = true, value_name = "PATH")]
    target_name: Vec<String>,
    /// Where the repository's target files are: http, https or file
    #[arg(long, global = true, value_name = "URL")]
    target_base_url: Option<Url>,
    /// The folder that targets are stored in, with everything in their names escaped that could
    /// lead elsewhere. What is there with the right hash is not fetched again
    #[arg(long, global = true, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begins with a root that you have from the repository's owner. Nothing is fetched.
    /// Wants --metadata-dir
    Init {
        /// The root, signed by its own keys
        #[arg(value_name = "ROOT.json")]
        root: PathBuf,
    },
    /// Updates the trusted metadata. Wants --metadata-dir and --metadata-url
    Refresh,
    /// Updates the trusted metadata, then fetches, verifies and stores targets in their order, up
    /// to the first that fails. Wants every option
    Download,
    /// Prints the trusted metadata: roles, versions, expiries, keys, delegations. Nothing is
    /// fetched. Wants --metadata-dir
    Show,
}

pub(super) async fn run(args: Args) -> Exit {
    match execute(&args).await {
        Ok(()) => Exit::Done,
        Err(problem) => {
            eprintln!("countersign: {problem}");
            Exit::Failed
        }
    }
}

async fn execute(args: &Args) -> Result<(), String> {
    let folder = Folder::at(needed(args.metadata_dir.as_ref(), "--metadata-dir DIR")?);
    match &args.command {
        Command::Init { root } => {
            let root = folder.init(root)?;
            print(&format!(
                "{} begins with root {}, sha256 {}",
                folder.path().display(),
                root.version(),
                root.anchor()
            ));
            Ok(())
        }
        Command::Show => {
            print(&show::text(&folder, Timestamp::now())?);
            Ok(())
        }
        Command::Refresh => {
            let url = needed(args.metadata_url.as_ref(), "--metadata-url URL")?;
            let repository = Client::new(&folder, url)?.refresh().await?;
            print(&summary(&repository));
            Ok(())
        }
        Command::Download => download(args, &folder).await,
    }
}

/// Whether both are one folder, whatever leads there.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

async fn download(args: &Args, folder: &Folder) -> Result<(), String> {
    let url = needed(args.metadata_url.as_ref(), "--metadata-url URL")?;
    let targets_url = needed(args.target_base_url.as_ref(), "--target-base-url URL")?;
    let targets = needed(args.target_dir.as_ref(), "--target-dir DIR")?;
    needed(args.target_name.first(), "--target-name PATH")?;
    if is_same(folder.path(), targets) {
        return Err(format!(
            "--target-dir: {} is --metadata-dir as well, where a target could take the place of \
             what is trusted; name another folder",
            targets.display()
        ));
    }
    let downloads = Downloads::new(targets_url, targets)?;
    let client = Client::new(folder, url)?;
    let mut repository = client.refresh().await?;
    for name in &args.target_name {
        let (with_roles, target) = client.target(repository, name).await?;
        repository = with_roles;
        let target = target.ok_or_else(|| format!("{url}: no role on its path signs {name:?}"))?;
        let stored = downloads.store(name, &target, repository.is_consistent()).await?;
        let before = if stored.before { ", and was there already" } else { "" };
        print(&format!(
            "{} is {name:?}: {} bytes, signed by {}{before}",
            stored.path.display(),
            target.length,
            target.role
        ));
    }
    Ok(())
}

fn needed<'a, T>(option: Option<&'a T>, name: &str) -> Result<&'a T, String> {
    option.ok_or_else(|| format!("{name} is needed for this; see countersign tuf --help"))
}

fn summary(repository: &Repository) -> String {
    let versions = repository.roles().filter_map(|role| {
        let detail = role.state.ok()?;
        Some(format!("{} {}", role.name, detail.version))
    });
    let versions: Vec<String> = versions.collect();
    format!("{}; current until {}", versions.join(", "), repository.expires())
}

/// The keys in these files that count nothing, as the end of a message; empty where there are none.
fn unknown_keys_of(files: &[&[u8]]) -> String {
    let mut keys: Vec<String> = files.iter().flat_map(|file| unknown_keys(file)).collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return String::new();
    }
    let more = if keys.len() > KEYS_TOLD { " and others" } else { "" };
    keys.truncate(KEYS_TOLD);
    format!(
        " (a key that is not of a type, scheme and value known here counts nothing: {}{more}; \
         known are ed25519, ecdsa on P-256 and P-384, and rsa by rsassa-pss)",
        keys.join(", ")
    )
}
