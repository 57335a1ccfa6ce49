package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Keys of one role.
type Keys struct {
	Keys      []string
	Threshold int
}

// Edit is one of all operations: what it does not need is empty.
type Edit struct {
	Op string
	Keys
	Consistent   bool
	Roles        map[string]Keys
	Expires      int64
	Role         any // a name, or {"bin_of": name}
	Name, Parent string
	Bytes        []byte
	Hashes       []string
	Terminating  bool
	Paths        []string
	Prefixes     []string
	Prefix       string
	Bits         int
}

// Repository is one in a folder, with the roles that were read so far.
type Repository struct {
	folder    string
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   map[string]*metadata.Metadata[metadata.TargetsType]
	touched   map[string]bool
	former    []string // root keys that have to sign a new root as well
}

func open(folder string) (*Repository, error) {
	r := &Repository{folder: folder, targets: map[string]*metadata.Metadata[metadata.TargetsType]{}, touched: map[string]bool{}}
	for _, name := range []string{"metadata", "targets", "keys"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			return nil, err
		}
	}
	root := filepath.Join(folder, "metadata", "root.json")
	if _, err := os.Stat(root); err != nil {
		return r, nil
	}
	var err error
	if r.root, err = metadata.Root().FromFile(root); err != nil {
		return nil, err
	}
	if r.timestamp, err = metadata.Timestamp().FromFile(r.path("timestamp", 0)); err != nil {
		return nil, err
	}
	listed := r.timestamp.Signed.Meta["snapshot.json"].Version
	if r.snapshot, err = metadata.Snapshot().FromFile(r.path("snapshot", listed)); err != nil {
		return nil, err
	}
	for name, listed := range r.snapshot.Signed.Meta {
		name = name[:len(name)-len(".json")]
		if r.targets[name], err = metadata.Targets().FromFile(r.path(name, listed.Version)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Repository) apply(edit Edit) error {
	switch edit.Op {
	case "init":
		return r.init(edit)
	case "add":
		return r.add(edit)
	case "remove":
		role := r.nameOf(edit)
		delete(r.targets[role].Signed.Targets, edit.Name)
		r.touched[role] = true
	case "delegate":
		role := metadata.DelegatedRole{Name: edit.Name, Paths: edit.Paths, PathHashPrefixes: edit.Prefixes, Terminating: edit.Terminating}
		return r.delegate(edit, []metadata.DelegatedRole{role})
	case "hashed_bins":
		return r.delegate(edit, hashedBins(edit.Prefix, edit.Bits))
	case "succinct_bins":
		return r.succinct(edit)
	case "undelegate":
		delegations := r.targets[edit.Parent].Signed.Delegations
		delegations.Roles = slices.DeleteFunc(delegations.Roles, func(role metadata.DelegatedRole) bool { return role.Name == edit.Name })
		delete(r.snapshot.Signed.Meta, edit.Name+".json")
		delete(r.targets, edit.Name)
		r.touched[edit.Parent] = true
	case "rotate":
		return r.rotate(edit)
	case "expires":
		role := edit.Role.(string)
		switch role {
		case "root":
			r.root.Signed.Expires = after(edit.Expires)
		case "timestamp":
			r.timestamp.Signed.Expires = after(edit.Expires)
		case "snapshot":
			r.snapshot.Signed.Expires = after(edit.Expires)
		default:
			r.targets[role].Signed.Expires = after(edit.Expires)
		}
		r.touched[role] = true
	case "bump":
		r.touched[edit.Role.(string)] = true
	default:
		return fmt.Errorf("unknown")
	}
	return nil
}

func (r *Repository) init(edit Edit) error {
	expires := after(edit.Expires)
	r.root, r.timestamp, r.snapshot = metadata.Root(expires), metadata.Timestamp(expires), metadata.Snapshot(expires)
	r.targets["targets"] = metadata.Targets(expires)
	r.root.Signed.ConsistentSnapshot = edit.Consistent
	// The first signing makes them 1.
	r.root.Signed.Version, r.timestamp.Signed.Version, r.snapshot.Signed.Version, r.targets["targets"].Signed.Version = 0, 0, 0, 0
	for name, wanted := range edit.Roles {
		keys, err := r.newKeys(wanted.Keys)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := r.root.Signed.AddKey(key, name); err != nil {
				return err
			}
		}
		r.root.Signed.Roles[name].Threshold = wanted.Threshold
		r.touched[name] = true
	}
	return nil
}

// nameOf is the role that an edit of a target is about.
func (r *Repository) nameOf(edit Edit) string {
	if name, ok := edit.Role.(string); ok {
		return name
	}
	parent := edit.Role.(map[string]any)["bin_of"].(string)
	delegations := r.targets[parent].Signed.Delegations
	if delegations.SuccinctRoles != nil {
		return delegations.GetRolesForTarget(edit.Name)[0].Name
	}
	// go-tuf looks for the prefixes in base64 (up to 2.4.2 at least); the specification says the
	// hex digest.
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(edit.Name)))
	covers := func(prefix string) bool { return strings.HasPrefix(hash, prefix) }
	bin := slices.IndexFunc(delegations.Roles, func(role metadata.DelegatedRole) bool {
		return slices.ContainsFunc(role.PathHashPrefixes, covers)
	})
	return delegations.Roles[bin].Name
}

func (r *Repository) add(edit Edit) error {
	role := r.nameOf(edit)
	file, err := metadata.TargetFile().FromBytes(edit.Name, edit.Bytes, edit.Hashes...)
	if err != nil {
		return err
	}
	r.targets[role].Signed.Targets[edit.Name] = file
	r.touched[role] = true
	prefixes := []string{""}
	if r.root.Signed.ConsistentSnapshot {
		prefixes = nil
		for _, hash := range file.Hashes {
			prefixes = append(prefixes, fmt.Sprintf("%x.", []byte(hash)))
		}
	}
	folder, last := path.Split(edit.Name)
	folder = filepath.Join(r.folder, "targets", folder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, prefix := range prefixes {
		if err := os.WriteFile(filepath.Join(folder, prefix+last), edit.Bytes, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func hashedBins(prefix string, bits int) (bins []metadata.DelegatedRole) {
	digits := (bits + 3) / 4
	count := 1 << (4 * digits)
	share := count >> bits
	for first := 0; first < count; first += share {
		var prefixes []string
		for n := first; n < first+share; n++ {
			prefixes = append(prefixes, fmt.Sprintf("%0*x", digits, n))
		}
		name := fmt.Sprintf("%s%s-%s", prefix, prefixes[0], prefixes[share-1])
		bins = append(bins, metadata.DelegatedRole{Name: name, PathHashPrefixes: prefixes})
	}
	return bins
}

func (r *Repository) delegate(edit Edit, roles []metadata.DelegatedRole) error {
	keys, err := r.newKeys(edit.Keys.Keys)
	if err != nil {
		return err
	}
	parent := &r.targets[edit.Parent].Signed
	if parent.Delegations == nil {
		parent.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	for _, role := range roles {
		role.Threshold, role.KeyIDs = edit.Threshold, []string{}
		parent.Delegations.Roles = append(parent.Delegations.Roles, role)
		for _, key := range keys {
			if err := parent.AddKey(key, role.Name); err != nil {
				return err
			}
		}
		r.newTargets(role.Name, edit.Expires)
	}
	r.touched[edit.Parent] = true
	return nil
}

func (r *Repository) succinct(edit Edit) error {
	keys, err := r.newKeys(edit.Keys.Keys)
	if err != nil {
		return err
	}
	roles := &metadata.SuccinctRoles{Threshold: edit.Threshold, BitLength: edit.Bits, NamePrefix: edit.Prefix}
	parent := &r.targets[edit.Parent].Signed
	parent.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, SuccinctRoles: roles}
	for _, key := range keys {
		if err := parent.AddKey(key, ""); err != nil {
			return err
		}
	}
	for _, name := range roles.GetRoles() {
		r.newTargets(name, edit.Expires)
	}
	r.touched[edit.Parent] = true
	return nil
}

func (r *Repository) newTargets(name string, expires int64) {
	r.targets[name] = metadata.Targets(after(expires))
	r.targets[name].Signed.Version = 0
	r.touched[name] = true
}

func (r *Repository) rotate(edit Edit) error {
	role := edit.Role.(string)
	keys, err := r.newKeys(edit.Keys.Keys)
	if err != nil {
		return err
	}
	r.touched[role] = true
	if edit.Parent != "" {
		return r.rotateDelegated(edit, role, keys)
	}
	root := &r.root.Signed
	old := slices.Clone(root.Roles[role].KeyIDs)
	if role == "root" {
		r.former = old
	}
	for _, id := range old {
		if err := root.RevokeKey(id, role); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := root.AddKey(key, role); err != nil {
			return err
		}
	}
	root.Roles[role].Threshold = edit.Threshold
	r.touched["root"] = true
	return nil
}

func (r *Repository) rotateDelegated(edit Edit, role string, keys []*metadata.Key) error {
	parent := &r.targets[edit.Parent].Signed
	for at := range parent.Delegations.Roles {
		listed := &parent.Delegations.Roles[at]
		if listed.Name != role {
			continue
		}
		for _, id := range slices.Clone(listed.KeyIDs) {
			if err := parent.RevokeKey(id, role); err != nil {
				return err
			}
		}
		listed.Threshold = edit.Threshold
	}
	for _, key := range keys {
		if err := parent.AddKey(key, role); err != nil {
			return err
		}
	}
	r.touched[edit.Parent] = true
	return nil
}
