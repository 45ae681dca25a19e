//! The issuer of the cluster's tokens, and the documents that Entra reads of it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use super::finding::{Finding, Level, Read};
use crate::{model::Issuer, problem::Problem};

const CHECK: &str = "issuer";

/// What is known of the issuer.
#[derive(Clone, Debug)]
pub struct Issued {
    /// What the API server says, or what this command was told.
    pub issuer: Result<Issuer, Problem>,
    /// What the operator goes by, by the status of an object.
    pub known: Option<String>,
    /// Whether the cloud is none of Microsoft's, and may stand where private addresses lead.
    pub is_private_cloud: bool,
    /// The issuer in its own discovery document, as it is read from here.
    pub document: Result<String, Fetch>,
    /// The IDs of its public keys, as they are read from here.
    pub keys: Result<BTreeSet<String>, Fetch>,
    /// The IDs of the keys by which the API server knows its tokens.
    pub own_keys: Read<BTreeSet<String>>,
}

/// Why a document could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// There was no answer; this machine may be to blame.
    NoAnswer(String),
    /// The answer is no such document.
    Refused(String),
}

/// Whether Entra can take the cluster's tokens, as far as it can be seen from here.
#[must_use]
pub fn check(issued: &Issued) -> Vec<Finding> {
    let issuer = match &issued.issuer {
        Ok(issuer) => issuer,
        Err(problem) => {
            // The operator may have been told, or be allowed to ask.
            let level = issued
                .known
                .as_ref()
                .map_or(Level::Error, |_| Level::Warning);
            let what = match &issued.known {
                Some(known) => format!("is not known here; the operator goes by {known}"),
                None => "is not known".into(),
            };
            let finding = Finding::ok(CHECK, "issuer", what).at(level);
            return vec![finding.told(&problem.message)];
        }
    };
    let found = |level, what: &str| Finding::ok(CHECK, issuer.as_str(), what).at(level);
    let mut findings = Vec::new();
    if let Some(known) = issued
        .known
        .as_ref()
        .filter(|known| *known != issuer.as_str())
    {
        findings.push(
            found(Level::Warning, "is not what the operator goes by")
                .why(format!("The status says {known}"))
                .fix("If the operator was started with --issuer, give it here, too; else it looks again within minutes"),
        );
    }
    if is_private_address(issuer) {
        findings.push(if issued.is_private_cloud {
            found(Level::Warning, "is at a private address")
                .why("This cloud may reach it; Microsoft's could not")
        } else {
            found(Level::Error, "is at a private address")
                .why("Entra reads the keys over the internet, and refuses the tokens (AADSTS50166, AADSTS90061)")
                .fix("Give the cluster a public issuer: on AKS az aks update -g <group> -n <cluster> --enable-oidc-issuer; elsewhere https://azure.github.io/azure-workload-identity/docs/installation/self-managed-clusters.html")
        });
    }
    findings.push(documents(issuer, issued));
    findings
}

fn documents(issuer: &Issuer, issued: &Issued) -> Finding {
    let found = |level, what: String| Finding::ok(CHECK, issuer.as_str(), what).at(level);
    let unread = |what: &str, error: &Fetch| {
        match error {
        Fetch::NoAnswer(why) => found(Level::Warning, format!("{what} cannot be reached from here"))
            .why(why)
            .fix("If only this machine has no way there, nothing is wrong; else publish it over https, for anybody to read"),
        Fetch::Refused(why) => found(Level::Error, format!("{what} cannot be read"))
            .why(why)
            .fix("Publish it over https, for anybody to read: Entra asks without signing in"),
    }
    };
    match &issued.document {
        Err(error) => return unread("its discovery document", error),
        Ok(other) if other != issuer.as_str() => {
            return found(Level::Error, format!("its discovery document is of issuer {other}"))
                .why("Both must be equal, byte for byte, or Entra refuses the tokens (AADSTS700211)")
                .fix("Publish the API server's own document there (kubectl get --raw /.well-known/openid-configuration), or correct --service-account-issuer or --issuer");
        }
        Ok(_) => {}
    }
    let keys = match &issued.keys {
        Err(error) => return unread("its keys (jwks_uri)", error),
        Ok(keys) => keys,
    };
    let republish =
        "Publish what kubectl get --raw /openid/v1/jwks prints at the document's jwks_uri";
    if keys.is_empty() {
        return found(Level::Error, "publishes no key".into())
            .why("Entra cannot verify any token (AADSTS7000272)")
            .fix(republish);
    }
    let own = match &issued.own_keys {
        Err(unread) => {
            return Finding::unread(CHECK, unread);
        }
        Ok(own) => own,
    };
    let missing: Vec<&str> = own.difference(keys).map(String::as_str).collect();
    if missing.is_empty() {
        return found(
            Level::Ok,
            format!(
                "its document and its keys ({}) can be read from here, which does not prove that Entra can read them",
                keys.len()
            ),
        );
    }
    let level = if missing.len() == own.len() {
        Level::Error
    } else {
        Level::Warning
    };
    found(
        level,
        format!(
            "does not publish the API server's keys {}",
            missing.join(", ")
        ),
    )
    .why("Entra refuses the tokens that they sign (AADSTS7000272)")
    .fix(republish)
}

/// Whether the issuer's host is an address, or a name, that does not lead there from the internet.
fn is_private_address(issuer: &Issuer) -> bool {
    let Ok(url) = reqwest::Url::parse(issuer.as_str()) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(IpAddr::V4(address)) => is_private_v4(address),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => {
            let endings = ["localhost", ".local", ".internal", ".lan"];
            !host.contains('.') || endings.iter().any(|ending| host.ends_with(ending))
        }
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared by carriers: <https://www.rfc-editor.org/rfc/rfc6598>
    let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0b1100_0000 == 64;
    address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
}
