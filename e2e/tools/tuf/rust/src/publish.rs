//! Signs what was touched, and what lists it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use tuf::crypto::{Ed25519PrivateKey, HashAlgorithm, PrivateKey as _, calculate_hashes_from_slice};
use tuf::metadata::{
    Delegation, Delegations, Metadata, MetadataDescription, MetadataPath, MetadataVersion,
    RootMetadataBuilder, SignedMetadataBuilder, SnapshotMetadataBuilder, TargetPath,
    TargetsMetadata, TargetsMetadataBuilder, TimestampMetadataBuilder,
};
use tuf::pouf::Pouf1;

use crate::Outcome;
use crate::state::{Role, State, signers};

const HASHES: &[HashAlgorithm] = &[HashAlgorithm::Sha256];

pub fn publish(state: &mut State, folder: &Path) -> Outcome<()> {
    let touched = std::mem::take(&mut state.touched);
    for name in touched.iter().filter(|name| !["snapshot", "timestamp"].contains(&&***name)) {
        let Some(role) = state.roles.get_mut(name) else { continue };
        role.version += 1;
    }
    if touched.contains("root") {
        let bytes = write(state, folder, "root", &root(state)?)?;
        fs::write(folder.join("metadata/root.json"), bytes)?;
    }
    let targets: Vec<String> =
        state.roles.keys().filter(|name| is_targets(name)).cloned().collect();
    for name in targets.iter().filter(|name| touched.contains(*name)) {
        write(state, folder, name, &targets_of(state, name)?)?;
        write_targets(state, folder, &state.roles[name])?;
    }
    // A snapshot that says the same again does no harm.
    for name in ["snapshot", "timestamp"] {
        state.roles.get_mut(name).ok_or("no repository yet")?.version += 1;
    }
    let snapshot = write(state, folder, "snapshot", &snapshot(state, folder, &targets)?)?;
    let version = state.roles["snapshot"].version;
    let listed = MetadataDescription::from_slice(&snapshot, version, HASHES)?;
    let role = &state.roles["timestamp"];
    let timestamp = TimestampMetadataBuilder::from_metadata_description(listed)
        .version(role.version)
        .expires(role.expires())
        .build()?;
    write(state, folder, "timestamp", &timestamp)?;
    Ok(())
}

fn is_targets(name: &str) -> bool {
    !["root", "snapshot", "timestamp"].contains(&name)
}

fn root(state: &State) -> Outcome<tuf::metadata::RootMetadata> {
    let own = &state.roles["root"];
    let mut root = RootMetadataBuilder::new()
        .consistent_snapshot(state.consistent)
        .version(own.version)
        .expires(own.expires())
        .root_threshold(own.threshold)
        .targets_threshold(state.roles["targets"].threshold)
        .snapshot_threshold(state.roles["snapshot"].threshold)
        .timestamp_threshold(state.roles["timestamp"].threshold);
    for name in ["root", "targets", "snapshot", "timestamp"] {
        for key in state.roles[name].signers()? {
            let key = key.public().clone();
            root = match name {
                "root" => root.root_key(key),
                "targets" => root.targets_key(key),
                "snapshot" => root.snapshot_key(key),
                _ => root.timestamp_key(key),
            };
        }
    }
    Ok(root.build()?)
}

fn targets_of(state: &State, name: &str) -> Outcome<TargetsMetadata> {
    let role = &state.roles[name];
    let mut targets = TargetsMetadataBuilder::new().version(role.version).expires(role.expires());
    for (path, bytes) in &role.targets {
        targets = targets.insert_target_from_slice(TargetPath::new(path)?, bytes, HASHES)?;
    }
    let mut delegations = Delegations::builder();
    for listed in &role.delegations {
        let delegated = &state.roles[&listed.name];
        let mut ids = HashSet::new();
        for key in delegated.signers()? {
            ids.insert(key.public().key_id().clone());
            delegations = delegations.key(key.public().clone());
        }
        let name = MetadataPath::new(listed.name.clone())?;
        let paths = listed.paths.iter().map(TargetPath::new).collect::<Result<_, _>>()?;
        let threshold = delegated.threshold;
        delegations =
            delegations.role(Delegation::new(name, listed.terminating, threshold, ids, paths)?);
    }
    if !role.delegations.is_empty() {
        targets = targets.delegations(delegations.build()?);
    }
    Ok(targets.build()?)
}

fn snapshot(
    state: &State,
    folder: &Path,
    targets: &[String],
) -> Outcome<tuf::metadata::SnapshotMetadata> {
    let role = &state.roles["snapshot"];
    let mut snapshot = SnapshotMetadataBuilder::new().version(role.version).expires(role.expires());
    for name in targets {
        let version = state.roles[name].version;
        let bytes = fs::read(path(state, folder, name)?)?;
        let listed = MetadataDescription::from_slice(&bytes, version, HASHES)?;
        snapshot = snapshot.insert_metadata_description(MetadataPath::new(name.clone())?, listed);
    }
    Ok(snapshot.build()?)
}

fn path(state: &State, folder: &Path, name: &str) -> Outcome<PathBuf> {
    let versioned = name == "root" || (name != "timestamp" && state.consistent);
    let version = match versioned {
        true => MetadataVersion::Number(state.roles[name].version),
        false => MetadataVersion::None,
    };
    let parts = MetadataPath::new(name.to_owned())?.components::<Pouf1>(version);
    Ok(parts.iter().fold(folder.join("metadata"), |path, part| path.join(part)))
}

/// Signs a role with all its keys, and writes its file.
fn write<M: Metadata>(state: &State, folder: &Path, name: &str, role: &M) -> Outcome<Vec<u8>> {
    let mut keys: Vec<Ed25519PrivateKey> = state.roles[name].signers()?;
    if name == "root" {
        keys.extend(signers(&state.former)?);
    }
    let mut signed = SignedMetadataBuilder::<Pouf1, M>::from_metadata(role)?;
    for key in &keys {
        signed = signed.sign(key)?;
    }
    let bytes = signed.build().to_raw()?.as_bytes().to_vec();
    let path = path(state, folder, name)?;
    fs::create_dir_all(path.parent().ok_or("a file without a folder")?)?;
    fs::write(path, &bytes)?;
    Ok(bytes)
}

fn write_targets(state: &State, folder: &Path, role: &Role) -> Outcome<()> {
    for (name, bytes) in &role.targets {
        let name = TargetPath::new(name)?;
        let mut names = vec![name.clone()];
        if state.consistent {
            names.clear();
            for (_, hash) in calculate_hashes_from_slice(bytes, HASHES)? {
                names.push(name.with_hash_prefix(&hash)?);
            }
        }
        for name in names {
            let path =
                name.components().iter().fold(folder.join("targets"), |path, part| path.join(part));
            fs::create_dir_all(path.parent().ok_or("a file without a folder")?)?;
            fs::write(path, bytes)?;
        }
    }
    Ok(())
}
