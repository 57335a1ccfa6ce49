// Writes a TUF repository with go-tuf: `tuf-go FOLDER OPERATIONS`, as repository.py does with
// python-tuf, whose comments say what the edits are.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("go-tuf", version())
		return
	}
	if len(os.Args) != 3 {
		log.Fatal("usage: tuf-go FOLDER OPERATIONS")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// version is that of the module that is linked in.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/theupdateframework/go-tuf/v2" {
			return module.Version
		}
	}
	return "?"
}

func run(folder, operations string) error {
	data, err := os.ReadFile(operations)
	if err != nil {
		return err
	}
	var edits []Edit
	if err := json.Unmarshal(data, &edits); err != nil {
		return err
	}
	repository, err := open(folder)
	if err != nil {
		return err
	}
	for _, edit := range edits {
		if err := repository.apply(edit); err != nil {
			return fmt.Errorf("%s: %w", edit.Op, err)
		}
	}
	return repository.publish()
}

// path is where a version of a role is published.
func (r *Repository) path(role string, version int64) string {
	name := url.PathEscape(role)
	if role == "root" || (role != "timestamp" && r.root.Signed.ConsistentSnapshot) {
		name = fmt.Sprintf("%d.%s", version, name)
	}
	return filepath.Join(r.folder, "metadata", name+".json")
}

// newKeys makes keys and stores their private parts by their ids.
func (r *Repository) newKeys(schemes []string) ([]*metadata.Key, error) {
	var keys []*metadata.Key
	for _, scheme := range schemes {
		private, err := generate(scheme)
		if err != nil {
			return nil, err
		}
		key, err := metadata.KeyFromPublicKey(private.Public())
		if err != nil {
			return nil, err
		}
		id, err := key.ID()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, err
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if err := os.WriteFile(r.keyPath(id), block, 0o600); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func generate(scheme string) (crypto.Signer, error) {
	switch scheme {
	case metadata.KeySchemeEd25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case metadata.KeySchemeECDSA_SHA2_P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case metadata.KeySchemeRSASSA_PSS_SHA256:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("go-tuf has no scheme %q", scheme)
}

func (r *Repository) keyPath(id string) string {
	return filepath.Join(r.folder, "keys", id+".pem")
}

func (r *Repository) signer(id string) (signature.Signer, error) {
	data, err := os.ReadFile(r.keyPath(id))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key, ok := private.(*rsa.PrivateKey); ok {
		return signature.LoadRSAPSSSigner(key, crypto.SHA256, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return signature.LoadSigner(private, crypto.SHA256)
}

func after(seconds int64) time.Time {
	return time.Now().UTC().Truncate(time.Second).Add(time.Duration(seconds) * time.Second)
}
