//! A certificate authority for the servers of one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::Outcome;

/// A certificate and its private key, each in a PEM file.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The private key's file (PKCS #8).
    pub key: PathBuf,
}

/// An authority that issues certificates into a folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    certificate: PathBuf,
}

impl Authority {
    /// Makes a new authority whose files go to `folder`, which is made where it is missing.
    pub fn new(folder: &Path) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Countersign test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let certificate = folder.join("ca.crt");
        fs::write(&certificate, issuer.pem())?;
        Ok(Self { issuer, folder: folder.to_owned(), certificate })
    }

    /// The authority's own certificate, a PEM file.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The authority's own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for servers on `localhost`, `127.0.0.1` and `::1`, and, behind a proxy, for
    /// `NAME.example.com`.
    pub fn server(&self, name: &str) -> Outcome<Identity> {
        self.server_as(name, &[])
    }

    /// As [`Self::server`], for these names as well.
    pub fn server_as(&self, name: &str, names: &[&str]) -> Outcome<Identity> {
        let public = format!("{name}.example.com");
        let own = ["localhost", "127.0.0.1", "::1", &public];
        let names: Vec<String> = own.iter().chain(names).map(ToString::to_string).collect();
        self.issue(name, CertificateParams::new(names)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// As [`Self::server_as`], for these names alone.
    pub fn server_only(&self, name: &str, names: &[&str]) -> Outcome<Identity> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.issue(name, CertificateParams::new(names)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// As [`Self::server_only`], of last century.
    pub fn expired_server(&self, name: &str, names: &[&str]) -> Outcome<Identity> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        params.not_before = date_time_ymd(1999, 1, 1);
        params.not_after = date_time_ymd(1999, 12, 31);
        self.issue(name, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client with this common name.
    pub fn client(&self, name: &str) -> Outcome<Identity> {
        self.issue(name, CertificateParams::default(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// As [`Self::client`], in this group as Kubernetes reads certificates.
    pub fn client_in(&self, name: &str, group: &str) -> Outcome<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, group);
        self.issue(name, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Outcome<Identity> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_identity(&self.folder, name, &certificate.pem(), &key)
    }
}

/// A certificate that vouches for its own key, as signers of Notary delegations have them.
pub fn self_signed(folder: &Path, name: &str) -> Outcome<Identity> {
    fs::create_dir_all(folder)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_identity(folder, name, &certificate.pem(), &key)
}

fn write_identity(
    folder: &Path,
    name: &str,
    certificate: &str,
    key: &KeyPair,
) -> Outcome<Identity> {
    let identity = Identity {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&identity.certificate, certificate)?;
    fs::write(&identity.key, key.serialize_pem())?;
    Ok(identity)
}
