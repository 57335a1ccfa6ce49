//! What the next update of a TUF repository loads: whoever asks while one runs is in the next.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use countersign_verify::outcome::Unavailable;

use super::live::{Key, Want};

/// Images whose roles one update loads at most.
pub(super) const AT_ONCE: usize = 64;

/// Images that wait for the next updates of one repository at most; more are refused at once.
const WAITING: usize = 1024;

/// Most updates that one who waits may have to wait for: the one under way, and those of all who
/// came before.
pub(super) const TURNS: usize = WAITING / AT_ONCE + 2;

#[derive(Debug, Default)]
pub(super) struct Wants(Mutex<HashMap<Key, Vec<Want>>>);

impl Wants {
    /// Notes what the next updates are to load.
    pub(super) fn add(&self, key: &Key, wants: &[Want]) -> Result<(), Unavailable> {
        if wants.is_empty() {
            return Ok(());
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.entry(key.clone()).or_default();
        for want in wants {
            if !waiting.contains(want) {
                if waiting.len() >= WAITING {
                    return Err(Unavailable::Overloaded);
                }
                waiting.push(want.clone());
            }
        }
        Ok(())
    }

    /// What the update that begins now loads: those that have waited longest.
    pub(super) fn take(&self, key: &Key, is_met: impl Fn(&Want) -> bool) -> Vec<Want> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = all.get_mut(key) else { return Vec::new() };
        waiting.retain(|want| !is_met(want));
        let taken = waiting.drain(..waiting.len().min(AT_ONCE)).collect();
        if waiting.is_empty() {
            all.remove(key);
        }
        taken
    }
}
