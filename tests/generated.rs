//! What is generated and committed is what the code and the chart say.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A folder of this test, removed when it ends.
struct Fresh(PathBuf);

impl Fresh {
    fn new(name: &str) -> Self {
        let folder = format!("awi-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Nothing but `diff` says as well where two folders differ.
fn assert_same(committed: &str, fresh: &Path) {
    let output = Command::new("diff")
        .args(["--recursive", "--unified=1", committed])
        .arg(fresh)
        .output()
        .unwrap();
    let difference = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{committed} is not current: make generate\n{difference}"
    );
}

#[test]
fn the_custom_resource_definitions_are_what_the_types_say() {
    let awi = || Command::new(env!("CARGO_BIN_EXE_awi"));
    let fresh = Fresh::new("crds");
    let kustomization = "kustomization.yaml";
    std::fs::copy(
        Path::new("crds").join(kustomization),
        fresh.0.join(kustomization),
    )
    .unwrap();
    let written = awi().args(["crd", "--out"]).arg(&fresh.0).status();
    assert!(written.unwrap().success());
    assert_same("crds", &fresh.0);

    let printed = String::from_utf8(awi().arg("crd").output().unwrap().stdout).unwrap();
    let mut all = String::new();
    for name in ["airflowworkloadidentities.yaml", "azureidentitygrants.yaml"] {
        let committed = std::fs::read_to_string(format!("crds/{name}")).unwrap();
        all = format!("{all}---\n{committed}");
    }
    assert_eq!(printed, all);
}

#[test]
fn the_chart_and_the_manifests_are_what_it_is_made_from() {
    let fresh = Fresh::new("chart");
    let generated = Command::new("charts/generate").arg(&fresh.0).output();
    let generated = generated.unwrap();
    let errors = String::from_utf8_lossy(&generated.stderr);
    assert!(generated.status.success(), "{errors}");
    for folder in ["charts", "deploy", "tests/chart"] {
        assert_same(folder, &fresh.0.join(folder));
    }
}
