//! `awi plan`: says what the operator would do, and does nothing.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    person::{Person, Printed},
    world::{World, awi, run},
};

/// A file with these objects, as a user has them.
fn manifest(world: &World<'_>, objects: &[Value]) -> PathBuf {
    let file = world.lab.scratch().join(format!("{}.yaml", world.ns));
    let documents: Vec<String> = objects.iter().map(ToString::to_string).collect();
    std::fs::write(&file, documents.join("\n---\n")).unwrap();
    file
}

fn grant(world: &World<'_>) -> Value {
    json!({
        "apiVersion": "airflow-workload-identity.io/v1alpha1",
        "kind": "AzureIdentityGrant",
        "metadata": { "name": world.ns },
        "spec": { "identities": [{ "resourceId": world.identity }], "namespaces": { "names": [world.ns] } },
    })
}

fn lines(printed: &Printed, sign: char) -> Vec<&str> {
    let sign = format!("  {sign} ");
    printed
        .out
        .lines()
        .filter(|line| line.starts_with(&sign))
        .collect()
}

#[test]
fn a_manifest_that_is_not_applied_is_planned_for_and_nothing_is_written() {
    run(async {
        let world = World::bare("plan-new").await;
        world.release(&["scheduler", "worker"]).await;
        let person = Person::new(&world).await;
        let object = world.object("prod", json!({}));
        let file = manifest(&world, std::slice::from_ref(&object));
        let plan = format!("plan -n plan-new -f {}", file.display());
        let journal = world.lab.emulator().counts().await.unwrap().total;

        // Nobody has granted it: the message holds the grant.
        let printed = person.awi(&plan);
        assert_eq!(printed.code, 3, "{printed:?}");
        assert_eq!(lines(&printed, '!').len(), 1, "{printed:?}");
        for words in [
            "(not applied yet)",
            "! Granted NotGranted",
            "kind: AzureIdentityGrant",
        ] {
            assert!(printed.out.contains(words), "{words}: {printed:?}");
        }

        // A grant in the manifest counts; whoever may not apply it is told so.
        manifest(&world, &[grant(&world), object]);
        let printed = person.awi(&plan);
        assert_eq!(printed.code, 1, "{printed:?}");
        assert!(
            printed
                .err
                .contains("cannot patch resource \"azureidentitygrants\""),
            "{printed:?}"
        );
        person.may_grant(&world).await;
        let printed = world
            .eventually("the right has got around", async || {
                Some(person.awi(&plan)).filter(|printed| printed.code != 1)
            })
            .await;
        assert_eq!(printed.code, 2, "{printed:?}");
        let account = |name: &str| {
            format!("for system:serviceaccount:plan-new:airflow-{name} to identity plan-new")
        };
        let created = lines(&printed, '+').join("\n");
        for words in [
            "add finalizer airflow-workload-identity.io/cleanup",
            &account("scheduler"),
            &account("worker"),
            "write Secret prod-airflow-connections with AIRFLOW_CONN_AZURE_DEFAULT",
        ] {
            assert!(created.contains(words), "{words}: {printed:?}");
        }
        let annotated = lines(&printed, '~').join("\n");
        let after = format!(
            "(after FederatedCredential {})",
            world.credential_name("airflow-worker")
        );
        assert!(annotated.contains(&after), "{printed:?}");
        assert!(
            printed.out.ends_with("nothing stands in the way.\n"),
            "{printed:?}"
        );

        let json = person.awi(&format!("{plan} -o json"));
        assert_eq!(json.code, 2);
        assert_eq!(json.json()["objects"][0]["name"], "prod");
        assert_eq!(json.json()["objects"][0]["changes"][0]["action"], "create");

        assert_eq!(person.writes(&world), []);
        let requests = world.lab.emulator().requests(journal).await.unwrap();
        let ours = requests
            .iter()
            .filter(|r| r.path.contains("/plan-new") && r.is_operators());
        let methods: Vec<&str> = ours.map(|request| request.method.as_str()).collect();
        assert!(
            methods.len() > 1 && methods.iter().all(|m| *m == "GET"),
            "{methods:?}"
        );
        assert!(world.get("prod").await.is_none());
    });
}

#[test]
fn an_object_is_as_it_should_be_or_the_plan_says_what_the_operator_will_do() {
    run(async {
        let world = World::new("plan-done").await;
        let person = Person::new(&world).await;
        world.ready(json!({})).await;
        for arguments in ["plan -n plan-done", "plan prod -n plan-done"] {
            let printed = person.awi(arguments);
            let first = printed.out.lines().next();
            assert_eq!(
                first,
                Some("No changes: prod is as it should be."),
                "{printed:?}"
            );
            assert_eq!(printed.code, 0, "{printed:?}");
        }

        // What the manifest changes, and what it leaves out.
        let fewer = world.object("prod", json!({ "airflow": { "components": ["worker"] } }));
        let file = manifest(&world, &[fewer]);
        let printed = person.awi(&format!("plan -n plan-done -f {}", file.display()));
        assert_eq!(printed.code, 2, "{printed:?}");
        assert!(
            printed.out.contains("(as the manifest changes it)"),
            "{printed:?}"
        );
        assert_eq!(lines(&printed, '-').len(), 2, "{printed:?}");
        let back = lines(&printed, '~');
        assert_eq!(back.len(), 2, "{printed:?}");
        assert!(
            back[0].contains("take the annotations of ServiceAccount airflow-"),
            "{printed:?}"
        );
        assert_eq!(person.writes(&world), []);

        // Whoever takes the cluster for another one is told what is not known.
        let printed = person.awi("plan -n plan-done --issuer https://elsewhere.example/");
        assert_eq!(printed.code, 2, "{printed:?}");
        let note = format!(
            "note: The operator wrote credentials for issuer {}",
            world.lab.issuer()
        );
        assert!(printed.out.contains(&note), "{printed:?}");

        let missing = person.awi("plan late -n plan-done");
        assert_eq!(missing.code, 1);
        assert!(
            missing
                .err
                .contains("no AirflowWorkloadIdentity late in namespace plan-done"),
            "{missing:?}"
        );
    });
}

#[test]
fn what_the_api_server_or_the_command_line_does_not_take_is_no_plan() {
    run(async {
        let world = World::new("plan-wrong").await;
        let person = Person::new(&world).await;
        let refused = [
            (
                json!({ "airflow": { "workloadSelector": { "matchLabels": { "a": "b" } } } }),
                "set at most one of helmRelease",
            ),
            (
                json!({ "airflow": { "serviceAcounts": ["x"] } }),
                "spec.airflow.serviceAcounts: field not declared in schema",
            ),
        ];
        for (spec, words) in refused {
            let file = manifest(&world, &[world.object("prod", spec)]);
            let printed = person.awi(&format!("plan -n plan-wrong -f {}", file.display()));
            assert_eq!((printed.code, printed.out.as_str()), (1, ""), "{printed:?}");
            assert!(printed.err.contains(words), "{printed:?}");
        }
        let table = [
            ("plan --nonsense", "unexpected argument"),
            ("plan -n kube-system", "cannot list resource"),
            ("plan --context=elsewhere", "elsewhere"),
        ];
        for (arguments, words) in table {
            let printed = person.awi(arguments);
            assert_eq!(printed.code, 1, "{printed:?}");
            assert!(printed.err.contains(words), "{printed:?}");
        }
        let help = person.awi("plan --help");
        assert_eq!(help.code, 0);
        for words in [
            "[default: azure-cli]",
            "create and patch",
            "3 something stands in the way",
        ] {
            assert!(help.out.contains(words), "{words}: {}", help.out);
        }
    });
}

#[test]
fn kubectl_finds_it_as_a_plugin() {
    run(async {
        let world = World::bare("plan-plugin").await;
        let bin = world.lab.scratch().join("plugins");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(awi(), bin.join("kubectl-awi")).unwrap();
        let output = Command::new(world.lab.binaries().join("kubectl"))
            .args(["awi", "plan", "--namespace", "plan-plugin"])
            .env("PATH", bin)
            .env("KUBECONFIG", world.lab.kubeconfig())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text,
            "No AirflowWorkloadIdentity in namespace plan-plugin.\n"
        );
    });
}
