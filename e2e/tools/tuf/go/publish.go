package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// publish signs what was touched, and what lists it.
func (r *Repository) publish() error {
	if len(r.touched) == 0 {
		return nil
	}
	if r.touched["root"] {
		r.root.Signed.Version++
		ids := append(slices.Clone(r.root.Signed.Roles["root"].KeyIDs), r.former...)
		data, err := write(r, "root", r.root, r.root.Signed.Version, ids)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.folder, "metadata", "root.json"), data, 0o644); err != nil {
			return err
		}
	}
	for name, role := range r.targets {
		if !r.touched[name] {
			continue
		}
		role.Signed.Version++
		data, err := write(r, name, role, role.Signed.Version, r.keysOf(name))
		if err != nil {
			return err
		}
		r.snapshot.Signed.Meta[name+".json"] = listed(role.Signed.Version, data)
		r.touched["snapshot"] = true
	}
	if r.touched["snapshot"] {
		r.snapshot.Signed.Version++
		data, err := write(r, "snapshot", r.snapshot, r.snapshot.Signed.Version, r.keysOf("snapshot"))
		if err != nil {
			return err
		}
		r.timestamp.Signed.Meta["snapshot.json"] = listed(r.snapshot.Signed.Version, data)
	}
	r.timestamp.Signed.Version++
	_, err := write(r, "timestamp", r.timestamp, r.timestamp.Signed.Version, r.keysOf("timestamp"))
	return err
}

func listed(version int64, data []byte) *metadata.MetaFiles {
	file, hash := metadata.MetaFile(version), sha256.Sum256(data)
	file.Length = int64(len(data))
	file.Hashes = metadata.Hashes{"sha256": hash[:]}
	return file
}

// keysOf lists the ids of a role's keys.
func (r *Repository) keysOf(role string) (ids []string) {
	if top := r.root.Signed.Roles[role]; top != nil {
		return slices.Clone(top.KeyIDs)
	}
	for _, parent := range r.targets {
		delegations := parent.Signed.Delegations
		if delegations == nil {
			continue
		}
		if bins := delegations.SuccinctRoles; bins != nil && bins.IsDelegatedRole(role) {
			ids = append(ids, bins.KeyIDs...)
		}
		for _, listed := range delegations.Roles {
			if listed.Name == role {
				ids = append(ids, listed.KeyIDs...)
			}
		}
	}
	return ids
}

func write[T metadata.Roles](r *Repository, name string, role *metadata.Metadata[T], version int64, ids []string) ([]byte, error) {
	role.ClearSignatures()
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		signer, err := r.signer(id)
		if err != nil {
			return nil, err
		}
		if _, err := role.Sign(signer); err != nil {
			return nil, err
		}
	}
	data, err := role.ToBytes(false)
	if err != nil {
		return nil, err
	}
	return data, os.WriteFile(r.path(name, version), data, 0o644)
}
