//! What the repository is to say: kept in a file of its own, for the crate reads nothing back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tuf::crypto::Ed25519PrivateKey;

use crate::Outcome;

const TOP_LEVEL: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    pub consistent: bool,
    /// Of every role, delegated ones too.
    pub roles: BTreeMap<String, Role>,
    /// Root keys that have to sign the next root as well.
    #[serde(skip)]
    pub former: Vec<Vec<u8>>,
    #[serde(skip)]
    pub touched: BTreeSet<String>,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Role {
    pub version: u32,
    /// Seconds since 1970.
    pub expires: i64,
    /// PKCS #8.
    pub keys: Vec<Vec<u8>>,
    pub threshold: u32,
    pub targets: BTreeMap<String, Vec<u8>>,
    pub delegations: Vec<Delegation>,
}

#[derive(Serialize, Deserialize)]
pub struct Delegation {
    pub name: String,
    pub paths: Vec<String>,
    pub terminating: bool,
}

#[derive(Deserialize)]
pub struct Keys {
    keys: Vec<String>,
    threshold: u32,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Edit {
    Init {
        consistent: bool,
        expires: i64,
        roles: BTreeMap<String, Keys>,
    },
    Add {
        role: String,
        name: String,
        bytes: String,
    },
    Remove {
        role: String,
        name: String,
    },
    Delegate {
        parent: String,
        name: String,
        paths: Vec<String>,
        terminating: bool,
        expires: i64,
        #[serde(flatten)]
        keys: Keys,
    },
    Undelegate {
        parent: String,
        name: String,
    },
    Rotate {
        role: String,
        parent: Option<String>,
        #[serde(flatten)]
        keys: Keys,
    },
    Expires {
        role: String,
        expires: i64,
    },
    Bump {
        role: String,
    },
}

impl Role {
    pub fn expires(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.expires, 0).unwrap_or_default()
    }

    /// Its private keys.
    pub fn signers(&self) -> Outcome<Vec<Ed25519PrivateKey>> {
        signers(&self.keys)
    }
}

pub fn signers(keys: &[Vec<u8>]) -> Outcome<Vec<Ed25519PrivateKey>> {
    Ok(keys.iter().map(|key| Ed25519PrivateKey::from_pkcs8(key)).collect::<Result<_, _>>()?)
}

impl Keys {
    fn make(&self) -> Outcome<Vec<Vec<u8>>> {
        let make = |scheme: &String| match scheme.as_str() {
            "ed25519" => Ok(Ed25519PrivateKey::pkcs8()?),
            other => Err(format!("the tuf crate has no scheme {other:?}").into()),
        };
        self.keys.iter().map(make).collect()
    }
}

fn after(seconds: i64) -> i64 {
    (Utc::now() + TimeDelta::seconds(seconds)).timestamp()
}

impl State {
    pub fn read(folder: &Path) -> Outcome<Self> {
        let file = folder.join("state.json");
        if !file.exists() {
            return Ok(Self::default());
        }
        Ok(serde_json::from_slice(&std::fs::read(file)?)?)
    }

    pub fn write(&self, folder: &Path) -> Outcome<()> {
        Ok(std::fs::write(folder.join("state.json"), serde_json::to_vec(self)?)?)
    }

    /// A role that an edit changes.
    fn touch(&mut self, role: &str) -> Outcome<&mut Role> {
        self.touched.insert(role.to_owned());
        self.roles.get_mut(role).ok_or_else(|| format!("there is no role {role:?}").into())
    }

    pub fn apply(&mut self, edit: Edit) -> Outcome<()> {
        match edit {
            Edit::Init { consistent, expires, roles } => {
                self.consistent = consistent;
                for name in TOP_LEVEL {
                    let wanted = roles.get(name).ok_or("a top-level role is missing")?;
                    self.new_role(name, expires, wanted)?;
                }
            }
            Edit::Add { role, name, bytes } => {
                self.touch(&role)?.targets.insert(name, STANDARD.decode(bytes)?);
            }
            Edit::Remove { role, name } => drop(self.touch(&role)?.targets.remove(&name)),
            Edit::Delegate { parent, name, paths, terminating, expires, keys } => {
                self.new_role(&name, expires, &keys)?;
                self.touch(&parent)?.delegations.push(Delegation { name, paths, terminating });
            }
            Edit::Undelegate { parent, name } => {
                self.touch(&parent)?.delegations.retain(|delegation| delegation.name != name);
                self.roles.remove(&name);
            }
            Edit::Rotate { role, parent, keys } => {
                self.touch(parent.as_deref().unwrap_or("root"))?;
                let new = keys.make()?;
                let rotated = self.touch(&role)?;
                let former = std::mem::replace(&mut rotated.keys, new);
                rotated.threshold = keys.threshold;
                if role == "root" {
                    self.former = former;
                }
            }
            Edit::Expires { role, expires } => self.touch(&role)?.expires = after(expires),
            Edit::Bump { role } => drop(self.touch(&role)?),
        }
        Ok(())
    }

    fn new_role(&mut self, name: &str, expires: i64, wanted: &Keys) -> Outcome<()> {
        let (keys, threshold) = (wanted.make()?, wanted.threshold);
        let role = Role { expires: after(expires), keys, threshold, ..Role::default() };
        self.roles.insert(name.to_owned(), role);
        self.touched.insert(name.to_owned());
        Ok(())
    }
}
