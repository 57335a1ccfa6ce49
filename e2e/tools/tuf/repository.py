"""Writes a TUF repository with python-tuf: `repository.py FOLDER OPERATIONS`.

FOLDER/metadata and FOLDER/targets are what a server publishes; FOLDER/keys has the private keys.
OPERATIONS is a file with a JSON list of edits, as countersign_e2e::tuf writes it. They are applied
in order, and every role they touch is signed anew, once.
"""

import base64
import hashlib
import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import tuf
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

GENERATE = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "ecdsa-sha2-nistp384": lambda: CryptoSigner.generate_ecdsa(scheme="ecdsa-sha2-nistp384"),
    "rsassa-pss-sha256": lambda: CryptoSigner.generate_rsa(size=2048),
}


class Repository:
    def __init__(self, folder):
        self.metadata, self.targets, self.keys = (folder / n for n in ("metadata", "targets", "keys"))
        for each in (self.metadata, self.targets, self.keys):
            each.mkdir(parents=True, exist_ok=True)
        self.roles = {}  # by name; delegated ones are read when they are needed
        self.touched = set()
        self.listing = None  # the roles that delegate, once signing begins
        self.former_root_keys = {}  # those that also have to sign a new root
        self.bins = {}  # by parent: which bin a hash prefix belongs to
        if (self.metadata / "root.json").exists():
            self.roles["root"] = Metadata.from_file(self.metadata / "root.json")
            self.roles["timestamp"] = Metadata.from_file(self.metadata / "timestamp.json")
            version = self.roles["timestamp"].signed.snapshot_meta.version
            self.roles["snapshot"] = Metadata.from_file(self.path("snapshot", version))

    def path(self, role, version):
        versioned = role == "root" or (role != "timestamp" and self.root.consistent_snapshot)
        name = f"{version}.{quote(role, '')}.json" if versioned else f"{quote(role, '')}.json"
        return self.metadata / name

    @property
    def root(self):
        return self.roles["root"].signed

    def role(self, name):
        """A targets role to be read."""
        if name not in self.roles:
            listed = self.roles["snapshot"].signed.meta[f"{name}.json"]
            self.roles[name] = Metadata.from_file(self.path(name, listed.version))
        return self.roles[name].signed

    def touch(self, name):
        """A role to be changed."""
        if name not in ("root", "timestamp", "snapshot"):
            self.role(name)
        self.touched.add(name)
        return self.roles[name].signed

    def new_keys(self, schemes):
        keys = []
        for scheme in schemes:
            signer = GENERATE[scheme]()
            keys.append(signer.public_key)
            (self.keys / f"{signer.public_key.keyid}.pem").write_bytes(signer.private_bytes)
        return keys

    # The edits, each named as its operation.

    def init(self, consistent, roles, expires):
        root = Root(consistent_snapshot=consistent)
        self.roles = {
            "root": Metadata(root),
            "timestamp": Metadata(Timestamp()),
            "snapshot": Metadata(Snapshot()),
            "targets": Metadata(Targets()),
        }
        for name, metadata in self.roles.items():
            metadata.signed.version = 0  # the first signing makes it 1
            metadata.signed.expires = after(expires)
            for key in self.new_keys(roles[name]["keys"]):
                root.add_key(key, name)
            root.roles[name].threshold = roles[name]["threshold"]
            self.touched.add(name)

    def add(self, role, name, bytes, hashes=None, custom=None):
        data = base64.b64decode(bytes)
        role = self.bin_of(role["bin_of"], name) if isinstance(role, dict) else role
        file = TargetFile.from_data(name, data, hashes)
        if custom is not None:
            file.unrecognized_fields["custom"] = custom
        self.touch(role).targets[name] = file
        folder, _, last = name.rpartition("/")
        prefixes = [f"{hash}." for hash in file.hashes.values()]
        for prefix in prefixes if self.root.consistent_snapshot else [""]:
            path = self.targets / folder / f"{prefix}{last}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def bin_of(self, parent, name):
        """The first role that this one delegates the name to."""
        if parent in self.bins:  # python-tuf tries one bin after the other
            by_prefix, digits = self.bins[parent]
            return by_prefix[hashlib.sha256(name.encode()).hexdigest()[:digits]]
        return next(self.role(parent).delegations.get_roles_for_target(name))[0]

    def remove(self, role, name):
        role = self.bin_of(role["bin_of"], name) if isinstance(role, dict) else role
        del self.touch(role).targets[name]

    def delegate(self, parent, name, keys, threshold, terminating, expires, paths=None, prefixes=None):
        self.delegate_all(parent, [(name, paths, prefixes)], keys, threshold, terminating, expires)

    def hashed_bins(self, parent, prefix, bits, keys, threshold, expires):
        """As Rugged has them: each bin lists the hash prefixes that are its own."""
        digits = (bits + 3) // 4
        share = 16**digits >> bits
        bins = []
        for first in range(0, 16**digits, share):
            prefixes = [f"{n:0{digits}x}" for n in range(first, first + share)]
            bins.append((f"{prefix}{prefixes[0]}-{prefixes[-1]}", None, prefixes))
        if self.role(parent).delegations is None:  # nothing comes before the bins
            by_prefix = {each: name for name, _, prefixes in bins for each in prefixes}
            self.bins[parent] = (by_prefix, digits)
        self.delegate_all(parent, bins, keys, threshold, False, expires)

    def delegate_all(self, parent, delegations, schemes, threshold, terminating, expires):
        keys = self.new_keys(schemes)
        signed = self.touch(parent)
        if signed.delegations is None:
            signed.delegations = Delegations({}, {})
        for name, paths, prefixes in delegations:
            role = DelegatedRole(name, [], threshold, terminating, paths, prefixes)
            signed.delegations.roles[name] = role
            self.new_targets(name, expires)
        for key in keys:
            for name, _, _ in delegations:
                signed.add_key(key, name)

    def succinct_bins(self, parent, prefix, bits, keys, threshold, expires):
        keys = self.new_keys(keys)
        roles = SuccinctRoles([key.keyid for key in keys], threshold, bits, prefix)
        by_id = {key.keyid: key for key in keys}
        self.touch(parent).delegations = Delegations(by_id, succinct_roles=roles)
        for name in roles.get_roles():
            self.new_targets(name, expires)

    def new_targets(self, name, expires):
        self.roles[name] = Metadata(Targets(version=1, expires=after(expires)))
        self.roles[name].signed.version = 0
        self.touched.add(name)

    def undelegate(self, parent, name):
        del self.touch(parent).delegations.roles[name]
        del self.touch("snapshot").meta[f"{name}.json"]
        self.roles.pop(name, None)
        self.touched.discard(name)

    def rotate(self, role, keys, threshold, parent=None):
        """New keys for a top-level role, or for one that `parent` delegates to."""
        lister = self.touch(parent or "root")
        listed = (lister.delegations if parent else lister).roles[role]
        if role == "root":
            self.former_root_keys = self.keys_of("root")
        for keyid in list(listed.keyids):
            lister.revoke_key(keyid, role)
        for key in self.new_keys(keys):
            lister.add_key(key, role)
        listed.threshold = threshold
        self.touch(role)

    def expires(self, role, expires):
        self.touch(role).expires = after(expires)

    def bump(self, role):
        self.touch(role)

    # Signing.

    def keys_of(self, role):
        if role in self.root.roles:
            return {keyid: self.root.keys[keyid] for keyid in self.root.roles[role].keyids}
        found = {}
        for parent in self.parents():
            delegations = self.roles[parent].signed.delegations
            succinct = delegations.succinct_roles
            listed = (delegations.roles or {}).get(role)
            if succinct and succinct.is_delegated_role(role):
                listed = succinct
            if listed:
                found.update({keyid: delegations.keys[keyid] for keyid in listed.keyids})
        return found

    def parents(self):
        """The roles that list others, looked for once a run: there may be thousands of bins."""
        if self.listing is None:
            for name in self.roles["snapshot"].signed.meta:
                self.role(name.removesuffix(".json"))
            targets = [name for name, role in self.roles.items() if isinstance(role.signed, Targets)]
            self.listing = [name for name in targets if self.roles[name].signed.delegations]
        return self.listing

    def publish(self):
        if not self.touched:
            return
        if self.touched != {"timestamp"}:
            self.touched |= {"timestamp"}
        if self.touched - {"root", "timestamp"}:
            self.touched |= {"snapshot"}
        order = {"snapshot": 1, "timestamp": 2}
        for name in sorted(self.touched, key=lambda name: (order.get(name, 0), name)):
            self.sign(name)

    def sign(self, name):
        metadata = self.roles[name]
        metadata.signed.version += 1
        keys = self.keys_of(name)
        if name == "root":
            keys.update(self.former_root_keys)
        metadata.signatures.clear()
        for keyid, key in keys.items():
            path = self.keys / f"{keyid}.pem"
            metadata.sign(Signer.from_priv_key_uri(f"file2:{path}", key), append=True)
        data = metadata.to_bytes()
        self.path(name, metadata.signed.version).write_bytes(data)
        if name == "root":
            (self.metadata / "root.json").write_bytes(data)
            return
        listed = MetaFile(metadata.signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
        if name == "snapshot":
            self.roles["timestamp"].signed.snapshot_meta = listed
        elif name != "timestamp":
            self.roles["snapshot"].signed.meta[f"{name}.json"] = listed


def after(seconds):
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=seconds)


def main():
    if sys.argv[1:] == ["--version"]:
        print(f"python-tuf {tuf.__version__}")
        return
    folder, operations = sys.argv[1:]
    repository = Repository(Path(folder))
    for operation in json.loads(Path(operations).read_text()):
        getattr(repository, operation.pop("op"))(**operation)
    repository.publish()


main()
