//! What is generated and committed is what the code says.

use std::process::Command;

#[test]
fn the_custom_resource_definitions_are_current() {
    let fresh = std::env::temp_dir().join(format!("awi-crds-{}", std::process::id()));
    std::fs::create_dir(&fresh).unwrap();
    let awi = || Command::new(env!("CARGO_BIN_EXE_awi"));
    assert!(
        awi()
            .args(["crd", "--out"])
            .arg(&fresh)
            .status()
            .unwrap()
            .success()
    );

    let printed = String::from_utf8(awi().arg("crd").output().unwrap().stdout).unwrap();
    let mut all = String::new();
    for name in ["airflowworkloadidentities.yaml", "azureidentitygrants.yaml"] {
        let written = std::fs::read_to_string(fresh.join(name)).unwrap();
        let committed = std::fs::read_to_string(format!("crds/{name}")).unwrap();
        assert!(
            written == committed,
            "crds/{name} is not what the code says: make generate"
        );
        all = format!("{all}---\n{committed}");
    }
    assert_eq!(printed, all);
    assert_eq!(std::fs::read_dir("crds").unwrap().count(), 2);
    std::fs::remove_dir_all(fresh).unwrap();
}
