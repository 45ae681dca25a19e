//! Kubeconfig files. JSON is YAML.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::pki::KeyFiles;

pub(crate) fn certificate_user(files: &KeyFiles) -> Value {
    json!({"client-certificate": files.public, "client-key": files.private})
}

pub(crate) fn token_user(token: &str) -> Value {
    json!({"token": token})
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
