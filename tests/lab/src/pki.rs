//! The certificates and keys of a lab: one authority signs everything, so one file is trusted everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

/// A certificate or public key, and its private key, as PEM files.
#[derive(Debug)]
pub(crate) struct KeyFiles {
    pub(crate) public: PathBuf,
    pub(crate) private: PathBuf,
}

pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

impl Authority {
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name.push(DnType::CommonName, "lab");
        let key = KeyPair::generate()?;
        let certificate = folder.join("ca.pem");
        fs::write(&certificate, params.self_signed(&key)?.pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    pub(crate) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// For a server on the loopback interface, also known as what pods call the API server.
    pub(crate) fn serving(&self, name: &str) -> Result<KeyFiles> {
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(name, params)
    }

    /// For a Kubernetes user who may do everything.
    pub(crate) fn cluster_admin(&self, name: &str, user: &str) -> Result<KeyFiles> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        self.sign(name, params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<KeyFiles> {
        // Python's strict verification wants it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(&self.folder, name, &certificate.pem(), &key.serialize_pem())
    }
}

/// The key that signs `ServiceAccount` tokens: RSA, as Entra accepts nothing else.
pub(crate) fn service_account_key(folder: &Path) -> Result<KeyFiles> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    write(
        folder,
        "service-account",
        &key.public_key_pem(),
        &key.serialize_pem(),
    )
}

fn write(folder: &Path, name: &str, public: &str, private: &str) -> Result<KeyFiles> {
    let files = KeyFiles {
        public: folder.join(format!("{name}.pem")),
        private: folder.join(format!("{name}.key.pem")),
    };
    fs::write(&files.public, public)?;
    fs::write(&files.private, private)?;
    Ok(files)
}
