//! Two replicas. The first lives as long as the soak does; the second is killed, over and over.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::pki::Authority;
use countersign_e2e::{Context, Outcome};

/// A running replica, or one that was killed while somebody was asking it.
pub(crate) struct Replica {
    countersign: Countersign,
    pid: u32,
    killed: AtomicBool,
}

impl Replica {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it was killed.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }
}

impl Deref for Replica {
    type Target = Countersign;

    fn deref(&self) -> &Countersign {
        &self.countersign
    }
}

pub(crate) struct Replicas {
    first: Arc<Replica>,
    second: Mutex<Option<Arc<Replica>>>,
    authority: Authority,
    config: Config,
    folder: PathBuf,
}

impl Replicas {
    /// Starts both, with their files in folders below this one.
    pub(crate) fn start(folder: &Path, authority: Authority, config: Config) -> Outcome<Self> {
        let replicas = Self {
            first: start(&folder.join("first"), &authority, &config)?,
            second: Mutex::default(),
            authority,
            config,
            folder: folder.to_owned(),
        };
        replicas.admit(replicas.start_second()?);
        Ok(replicas)
    }

    /// Whose certificates they show.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The one that lives.
    pub(crate) fn first(&self) -> &Arc<Replica> {
        &self.first
    }

    /// The one that is killed, while it is asked.
    pub(crate) fn second_if_running(&self) -> Option<Arc<Replica>> {
        self.second().clone()
    }

    /// Those that are asked.
    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        [Some(Arc::clone(&self.first)), self.second_if_running()].into_iter().flatten().collect()
    }

    /// The one whose turn it is: they are asked in turn.
    pub(crate) fn turn(&self, number: usize) -> Arc<Replica> {
        let all = self.all();
        Arc::clone(&all[number % all.len()])
    }

    /// Kills the second one, in the middle of what it is doing.
    pub(crate) fn kill(&self) -> Outcome<()> {
        let second = self.second().take().context("the second replica is not running")?;
        second.killed.store(true, Ordering::SeqCst);
        second.countersign.crash()
    }

    /// Starts the second one. Nobody asks it yet.
    pub(crate) fn start_second(&self) -> Outcome<Arc<Replica>> {
        start(&self.folder.join("second"), &self.authority, &self.config)
    }

    /// It is asked from now on.
    pub(crate) fn admit(&self, second: Arc<Replica>) {
        *self.second() = Some(second);
    }

    /// What both have logged so far, those that were killed, too.
    pub(crate) fn logs(&self) -> Outcome<String> {
        self.all().iter().map(|replica| replica.log()).collect()
    }

    fn second(&self) -> MutexGuard<'_, Option<Arc<Replica>>> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(folder: &Path, authority: &Authority, config: &Config) -> Outcome<Arc<Replica>> {
    let mut countersign = Countersign::start(folder, authority, config)?;
    let (pid, killed) = (countersign.process().pid(), AtomicBool::new(false));
    Ok(Arc::new(Replica { countersign, pid, killed }))
}
