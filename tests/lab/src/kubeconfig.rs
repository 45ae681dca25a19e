//! Kubeconfig files. JSON is YAML.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::pki::{Authority, KeyFiles};

/// Of a Kubernetes user who may do everything.
pub(crate) fn cluster_admin(
    folder: &Path,
    name: &str,
    server: &str,
    authority: &Authority,
    user: &str,
) -> Result<PathBuf> {
    let KeyFiles { public, private } = authority.cluster_admin(name, user)?;
    let user = json!({"client-certificate": public, "client-key": private});
    let path = folder.join(format!("{name}.kubeconfig"));
    write(path, server, authority.certificate(), &user)
}

pub(crate) fn token_user(token: &str) -> Value {
    json!({"token": token})
}

pub(crate) fn token_file_user(token: &Path) -> Value {
    json!({"tokenFile": token})
}

pub(crate) fn write(path: PathBuf, server: &str, ca: &Path, user: &Value) -> Result<PathBuf> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    });
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(path)
}
