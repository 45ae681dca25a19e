//! What `awi doctor` finds in what was read.

use std::collections::{BTreeMap, BTreeSet};

use airflow_workload_identity::{
    api::Reason,
    azure::AzureErrorKind,
    cli::{
        Found,
        doctor::{
            Binding, Cluster, ConnectionTold, Diagnosis, Entry, Environment, Fetch, Finding,
            Issued, Lease, Level, Operator, Own, Policies, PolicyWanted, Program, Reading, Seen,
            Source, Told, Unread, Webhook, WebhookWanted, Written, check_cluster,
            check_connections, check_issuer, check_object, check_operator, check_permission,
            check_pods, check_policies, check_webhook,
        },
    },
    observe::{Pod, PodContainer, PodOwner, SecretState, Snapshot},
    plan::plan,
    problem::Problem,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use crate::given::*;

const VARIABLE: &str = "AIRFLOW_CONN_AZURE_DEFAULT";
const SECRET: &str = "prod-airflow-connections";

/// A change of what was read.
type Edit<'a, T> = &'a dyn Fn(&mut T);
/// A change, and what is said of it.
type Case<'a, T> = (Edit<'a, T>, Level, &'a [&'a str]);

/// Level and check of each finding that is not as it should be, and all that it says.
fn wrong(findings: impl IntoIterator<Item = Finding>) -> Vec<(Level, &'static str, String)> {
    let findings = findings.into_iter().filter(|f| f.level != Level::Ok);
    findings
        .map(|finding| {
            let why = finding.why.unwrap_or_default();
            let fix = finding.fix.unwrap_or_default();
            let text = format!("{}: {}. {why}. {fix}", finding.object, finding.what);
            (finding.level, finding.check, text)
        })
        .collect()
}

/// There is one finding, and it says these words.
fn one(findings: impl IntoIterator<Item = Finding>, level: Level, words: &[&str]) {
    let findings = wrong(findings);
    let [(found, _, text)] = findings.as_slice() else {
        panic!("{findings:#?}")
    };
    assert_eq!(*found, level, "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

fn unread() -> Unread {
    Unread {
        object: "something".into(),
        error: "403 forbidden".into(),
        right: Some("list somethings".into()),
    }
}

fn labels(value: &str) -> BTreeMap<String, String> {
    [("kubernetes.io/metadata.name".to_owned(), value.to_owned())].into()
}

fn only(namespace: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels(namespace)),
        ..LabelSelector::default()
    }
}

fn program(arguments: &[&str]) -> Program {
    Program {
        namespace: "elsewhere".into(),
        name: "program".into(),
        version: Some("1.6.0".into()),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        ready: 2,
    }
}

#[test]
fn both_kinds_must_be_served() {
    let cluster = |kinds: &[&str]| Cluster {
        version: Ok("v1.36.0".into()),
        kinds: Ok(kinds.iter().map(ToString::to_string).collect()),
    };
    let both = cluster(&["airflowworkloadidentities", "azureidentitygrants"]);
    assert_eq!(wrong(check_cluster(&both)), []);
    one(
        check_cluster(&cluster(&["airflowworkloadidentities"])),
        Level::Error,
        &[
            "azureidentitygrants of group",
            "kubectl apply --server-side -k crds/",
        ],
    );
    let unseen = Cluster {
        kinds: Err(unread()),
        ..both
    };
    one(
        check_cluster(&unseen),
        Level::Warning,
        &["403 forbidden", "the right to list somethings"],
    );
}

#[test]
fn the_operator_must_run_and_lead_and_see_what_the_command_sees() {
    let told = Told {
        version: "1.6.0",
        namespace: "airflow".into(),
        issuer: Some(issuer().to_string()),
        audience: AUDIENCE.into(),
    };
    let leading = |is_renewed| Lease {
        holder: Some("pod-1_x".into()),
        is_renewed,
    };
    let well = Operator {
        namespace: "elsewhere".into(),
        programs: Ok(vec![program(&["run", "--watch-namespace=airflow"])]),
        lease: Ok(Some(leading(true))),
    };
    let with = |edit: &dyn Fn(&mut Operator)| {
        let mut operator = well.clone();
        edit(&mut operator);
        check_operator(&operator, &told)
    };
    let started = |arguments: &'static [&str]| {
        move |operator: &mut Operator| operator.programs = Ok(vec![program(arguments)])
    };
    assert_eq!(wrong(with(&|_| {})), []);
    let stopped = |operator: &mut Operator| operator.programs.as_mut().unwrap()[0].ready = 0;
    let older = |operator: &mut Operator| {
        operator.programs.as_mut().unwrap()[0].version = Some("1.5.0".into());
    };
    let table: [Case<Operator>; 10] = [
        (
            &stopped,
            Level::Error,
            &["no pod of it is ready", "--replicas=2"],
        ),
        (
            &older,
            Level::Warning,
            &["version 1.5.0, while this command is 1.6.0"],
        ),
        (
            &|o| o.lease = Ok(Some(leading(false))),
            Level::Error,
            &["is not renewed", "pod-1_x"],
        ),
        (
            &|o| {
                o.lease = Ok(Some(Lease {
                    holder: None,
                    is_renewed: false,
                }));
            },
            Level::Error,
            &["nobody holds it"],
        ),
        (&|o| o.lease = Ok(None), Level::Warning, &["there is none"]),
        (
            &|o| o.programs = Ok(vec![]),
            Level::Warning,
            &["--operator-namespace"],
        ),
        (
            &|o| o.programs = Err(unread()),
            Level::Warning,
            &["list somethings"],
        ),
        (
            &started(&["run", "--watch-namespace", "other"]),
            Level::Error,
            &["does not look after namespace airflow", "watchNamespaces"],
        ),
        (
            &started(&["run", "AWI_ISSUER=https://other"]),
            Level::Warning,
            &["Run it again with --issuer=https://other"],
        ),
        (
            &started(&["run", "--federation-audience=api://x"]),
            Level::Warning,
            &["--federation-audience=api://x"],
        ),
    ];
    for (edit, level, words) in table {
        one(with(edit), level, words);
    }
}

fn keys(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// What is said of an issuer that is as it should be, but for this.
fn issued(edit: Edit<Issued>) -> Vec<Finding> {
    let mut issued = Issued {
        issuer: Ok(issuer()),
        known: Some(issuer().to_string()),
        is_private_cloud: false,
        document: Ok(issuer().to_string()),
        keys: Ok(keys(&["a", "b"])),
        own_keys: Ok(keys(&["a"])),
    };
    edit(&mut issued);
    check_issuer(&issued)
}

#[test]
fn the_issuer_must_say_of_itself_what_the_tokens_say() {
    assert_eq!(wrong(issued(&|_| {})), []);
    let unknown = || {
        Err(Problem::on_change(
            Reason::IssuerUnknown,
            "It is not told. Tell it.",
        ))
    };
    let table: [Case<Issued>; 11] = [
        (
            &|i| i.document = Ok("https://oidc.example/cluster".into()),
            Level::Error,
            &["byte for byte", "AADSTS700211"],
        ),
        (
            &|i| i.document = Err(Fetch::NoAnswer("timed out".into())),
            Level::Warning,
            &["cannot be reached from here", "timed out"],
        ),
        (
            &|i| i.document = Err(Fetch::Refused("401".into())),
            Level::Error,
            &["cannot be read", "for anybody to read"],
        ),
        (
            &|i| i.keys = Err(Fetch::Refused("404".into())),
            Level::Error,
            &["its keys"],
        ),
        (
            &|i| i.keys = Ok(keys(&[])),
            Level::Error,
            &["publishes no key", "/openid/v1/jwks"],
        ),
        (
            &|i| i.keys = Ok(keys(&["b"])),
            Level::Error,
            &["keys a", "AADSTS7000272"],
        ),
        (
            &|i| i.own_keys = Ok(keys(&["a", "c"])),
            Level::Warning,
            &["keys c"],
        ),
        (
            &|i| i.own_keys = Err(unread()),
            Level::Warning,
            &["list somethings"],
        ),
        (
            &|i| i.known = Some("https://other/".into()),
            Level::Warning,
            &["The status says https://other/"],
        ),
        (
            &|i| i.issuer = unknown(),
            Level::Warning,
            &["the operator goes by https://oidc.example/cluster/"],
        ),
        (
            &|i| {
                i.issuer = unknown();
                i.known = None;
            },
            Level::Error,
            &["It is not told", "Tell it."],
        ),
    ];
    for (edit, level, words) in table {
        one(issued(edit), level, words);
    }
}

#[test]
fn the_issuer_must_be_public() {
    for address in [
        "https://10.0.0.1/",
        "https://127.0.0.1:6443",
        "https://100.64.0.1/",
        "https://[fd00::1]/",
        "https://localhost/",
        "https://oidc.corp.internal/a",
    ] {
        let at = |is_private_cloud| {
            issued(&|issued| {
                issued.is_private_cloud = is_private_cloud;
                issued.issuer = Ok(address.parse().unwrap());
                issued.known = None;
                issued.document = Ok(address.into());
            })
        };
        one(
            at(false),
            Level::Error,
            &[address, "private address", "AADSTS50166"],
        );
        one(at(true), Level::Warning, &[address, "private address"]);
    }
}

#[test]
fn the_webhook_must_be_there_for_the_namespace_and_ask_for_the_right_audience() {
    let wanted = WebhookWanted {
        namespace: "airflow".into(),
        labels: Some(labels("airflow")),
        audience: AUDIENCE.into(),
    };
    let entry = Entry {
        configuration: "azure-wi".into(),
        namespaces: Some(only("airflow")),
        ..Entry::default()
    };
    let well = Webhook {
        entries: Ok(vec![entry.clone()]),
        programs: Ok(vec![program(&["--audience", AUDIENCE])]),
    };
    let with = |edit: &dyn Fn(&mut Webhook)| {
        let mut webhook = well.clone();
        edit(&mut webhook);
        check_webhook(&webhook, &wanted)
    };
    assert_eq!(wrong(with(&|_| {})), []);
    assert_eq!(wrong(with(&|w| w.programs = Ok(vec![program(&[])]))), []);
    let elsewhere = Entry {
        namespaces: Some(only("other")),
        ..entry.clone()
    };
    let lenient = Entry {
        is_ignored_on_failure: true,
        ..entry
    };
    let old = Program {
        version: Some("0.15.0".into()),
        ..program(&[])
    };
    let down = Program {
        ready: 0,
        ..program(&[])
    };
    let table: [Case<Webhook>; 8] = [
        (
            &|w| w.entries = Ok(vec![]),
            Level::Error,
            &["is not installed", "--enable-workload-identity"],
        ),
        (
            &|w| w.entries = Ok(vec![elsewhere.clone()]),
            Level::Error,
            &["leaves out namespace airflow", "--show-labels"],
        ),
        (
            &|w| w.entries = Ok(vec![lenient.clone()]),
            Level::Warning,
            &["failurePolicy Ignore"],
        ),
        (
            &|w| w.programs = Ok(vec![old.clone()]),
            Level::Error,
            &["version 0.15.0", "1.0 or newer"],
        ),
        (
            &|w| w.programs = Ok(vec![down.clone()]),
            Level::Error,
            &["no pod of it is ready"],
        ),
        (
            &|w| w.programs = Ok(vec![]),
            Level::Warning,
            &["was not found"],
        ),
        (
            &|w| w.programs = Err(unread()),
            Level::Warning,
            &["list somethings"],
        ),
        (
            &|w| w.programs = Ok(vec![program(&["--audience=api://x"])]),
            Level::Error,
            &[
                "api://x",
                "AADSTS700212",
                "azure.federationAudience=api://x",
            ],
        ),
    ];
    for (edit, level, words) in table {
        one(with(edit), level, words);
    }
}

#[test]
fn the_policy_must_be_bound_to_the_namespace_unless_the_pods_get_all_by_hand() {
    let binding = |namespaces| Binding {
        name: "awi-pods".into(),
        policy: "awi-pods".into(),
        namespaces,
    };
    let well = Policies {
        served: Ok(Some("v1")),
        policies: Ok(vec!["awi-pods".into()]),
        bindings: Ok(vec![binding(None), Binding::default()]),
    };
    let world = with_pod(|_| {});
    let made_by_policy = &world.pods["airflow-scheduler"][0];
    let by_hand = Pod {
        connections: None,
        ..made_by_policy.clone()
    };
    let check = |pod: &Pod, edit: &dyn Fn(&mut Policies)| {
        let mut policies = well.clone();
        edit(&mut policies);
        let wanted = PolicyWanted {
            namespace: "airflow".into(),
            labels: Some(labels("airflow")),
            pods: vec![pod],
            secret: Some(SECRET.into()),
        };
        [check_policies(&policies, &wanted)]
    };
    assert_eq!(wrong(check(made_by_policy, &|_| {})), []);
    assert_eq!(
        wrong(check(made_by_policy, &|p| p.bindings =
            Ok(vec![binding(Some(only("airflow")))]))),
        []
    );
    // An operator of other namespaces has a policy of its own.
    assert_eq!(
        wrong(check(made_by_policy, &|p| {
            p.policies = Ok(vec!["aaa".into(), "awi-pods".into()]);
            let of_others = Binding {
                policy: "aaa".into(),
                ..binding(Some(only("other")))
            };
            p.bindings = Ok(vec![of_others, binding(Some(only("airflow")))]);
        })),
        []
    );
    let table: [(Edit<Policies>, &[&str]); 4] = [
        (
            &|p| p.served = Ok(None),
            &[
                "is not served",
                "1.36",
                "secretRef: {name: prod-airflow-connections",
            ],
        ),
        (&|p| p.policies = Ok(vec![]), &["podPolicy.enabled=true"]),
        (&|p| p.bindings = Ok(vec![]), &["nothing binds it"]),
        (
            &|p| p.bindings = Ok(vec![binding(Some(only("other")))]),
            &["leaves out namespace airflow", "watchNamespaces"],
        ),
    ];
    for (edit, words) in table {
        one(check(made_by_policy, edit), Level::Error, words);
        one(check(&by_hand, edit), Level::Warning, words);
    }
    one(
        check(made_by_policy, &|p| p.policies = Err(unread())),
        Level::Warning,
        &["list somethings"],
    );
}

/// A converged world with a pod of the scheduler's that has everything, and what differs.
fn with_pod(edit: impl FnOnce(&mut Pod)) -> Snapshot {
    let mut world = converged();
    let status = world.object.status.clone().unwrap();
    let injection = status.service_accounts[0].injection.clone().unwrap();
    let mut pod = Pod {
        name: "airflow-scheduler-0".into(),
        created: hours(12),
        label: Some("true".into()),
        connections: Some(injection.checksum),
        container: PodContainer {
            name: "scheduler".into(),
            audience: Some(AUDIENCE.into()),
            client_id: Some(CLIENT.into()),
            secrets: injection.secrets.into_iter().collect(),
        },
        is_skipped: false,
        owner: Some(PodOwner::Deployment("airflow-scheduler".into())),
        owner_uid: None,
    };
    edit(&mut pod);
    world.pods = [("airflow-scheduler".to_owned(), vec![pod])].into();
    world
}

fn connection() -> ConnectionTold {
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect();
    ConnectionTold {
        conn_type: "azure".into(),
        fields: keys(&["conn_type", "extra"]),
        extras: keys(&["managed_identity_client_id", "workload_identity_tenant_id"]),
        client_id: Some(CLIENT.into()),
        tenant_id: Some(TENANT.into()),
    }
}

/// What is read when everything is as it should be.
fn reading() -> Reading {
    let written = Written {
        connections: [(VARIABLE.to_owned(), Ok(connection()))].into(),
    };
    Reading {
        secrets: [(SECRET.to_owned(), Ok(written))].into(),
        environments: Ok(vec![environment()]),
        sources: BTreeMap::new(),
    }
}

fn environment() -> Environment {
    Environment {
        pod: "airflow-scheduler-0".into(),
        from: vec![(Source::Secret(SECRET.into()), String::new())],
        ..Environment::default()
    }
}

/// All that is said of the object.
fn diagnosis(world: &Snapshot) -> Diagnosis {
    let plan = plan(world);
    let seen = Seen::new(world, &plan);
    let mut findings = check_object(&seen);
    findings.extend(check_pods(&seen));
    findings.extend(check_connections(&seen, &reading()));
    Diagnosis::new(findings)
}

#[test]
fn a_healthy_object_says_what_was_looked_at() {
    let world = with_pod(|_| {});
    let found = diagnosis(&world);
    let [scheduler, worker] = ["airflow-scheduler", "airflow-worker"].map(derived);
    let expected = format!(
        "\
ok    identity     awi/prod: Client ID {CLIENT}, tenant ID {TENANT}; the cluster's issuer is https://oidc.example/cluster/.
ok    grant        awi/prod: An AzureIdentityGrant covers the identity and the accounts.
ok    quota        identity/airflow: 2 of 20 credentials.
ok    account      serviceaccount/airflow-scheduler: runs scheduler; annotated, and trusted by credential {scheduler} as system:serviceaccount:airflow:airflow-scheduler.
ok    account      serviceaccount/airflow-worker: runs worker; annotated, and trusted by credential {worker} as system:serviceaccount:airflow:airflow-worker.
ok    pods         serviceaccount/airflow-scheduler: 1 running pod has what it should.
ok    connection   azure_default: variable {VARIABLE} of Secret {SECRET}: type azure, extra managed_identity_client_id, workload_identity_tenant_id, with the identity's present IDs.

7 ok, 0 to know, 0 wrong
"
    );
    assert_eq!(found.to_string(), expected);
    assert_eq!(found.found(), Found::Nothing);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(
        json["summary"],
        json!({ "ok": 7, "warnings": 0, "errors": 0 })
    );
    assert_eq!(json["findings"][0]["level"], "ok");
    assert_eq!(json["findings"][0]["fix"], json!(null));
}

#[test]
fn without_a_grant_the_fix_is_the_grant() {
    let mut world = converged();
    world.grants.clear();
    let found = diagnosis(&world);
    assert_eq!(found.found(), Found::Problems);
    let text = found.to_string();
    for words in [
        "FAIL  grant        awi/prod: NotGranted. No AzureIdentityGrant lets namespace airflow use identity",
        "A cluster administrator can apply:\n        apiVersion: airflow-workload-identity.io/v1alpha1\n        kind: AzureIdentityGrant\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn what_is_lost_is_said_and_who_puts_it_back() {
    let mut world = converged();
    azure(&mut world, "airflow", |list| {
        list.retain(|c| c.name != derived("airflow-worker"));
    });
    secret(&mut world, SecretState::Absent);
    let findings = wrong(diagnosis(&world).findings);
    let [credential, secret] = findings.as_slice() else {
        panic!("{findings:#?}")
    };
    assert_eq!((credential.0, credential.1), (Level::Error, "account"));
    assert_eq!((secret.0, secret.1), (Level::Error, "connection"));
    for (finding, words) in [
        (
            credential,
            "serviceaccount/airflow-worker: its credential is not on the identity",
        ),
        (credential, "The operator would write federated credential"),
        (
            credential,
            "kubectl annotate awi/prod -n airflow --overwrite look-again=",
        ),
        (
            secret,
            "secret/prod-airflow-connections: does not hold what it should",
        ),
    ] {
        assert!(finding.2.contains(words), "{words}: {finding:?}");
    }
}

#[test]
fn an_identity_that_is_nearly_full_is_said_with_who_uses_it() {
    let mut world = converged();
    azure(&mut world, "airflow", |list| {
        list.extend((0..16).map(|n| credential(&format!("other-{n}"), &format!("other-{n}"))));
    });
    one(
        diagnosis(&world).findings,
        Level::Warning,
        &[
            "18 of 20 credentials",
            "namespace airflow of this cluster (18)",
            "az identity federated-credential list",
        ],
    );
}

#[test]
fn a_pod_says_what_it_lacks_and_how_to_make_a_new_one() {
    let world = with_pod(|pod| {
        pod.created = hours(-1);
        pod.label = None;
    });
    one(
        diagnosis(&world).findings,
        Level::Error,
        &[
            "pod/airflow-scheduler-0: Without the label azure.workload.identity/use",
            "PodsOutdated",
            "kubectl rollout restart -n airflow deployment/airflow-scheduler",
        ],
    );
}

#[test]
fn what_is_refused_to_whoever_looks_is_wrong_only_if_the_operator_says_so_too() {
    let mut world = converged();
    let view = world.azure.get_mut(&id("airflow")).unwrap();
    view.identity = Err(azure_error(AzureErrorKind::Forbidden));
    view.credentials = Err(azure_error(AzureErrorKind::Forbidden));
    let found = diagnosis(&world);
    assert_eq!(found.found(), Found::Nothing, "{found}");
    assert!(found.to_string().contains("refused to you"), "{found}");

    let status = world.object.status.as_mut().unwrap();
    for condition in &mut status.conditions {
        condition.status = "False".into();
        condition.reason = "AzureForbidden".into();
        condition.message = "The operator lacks it. Give it.".into();
    }
    assert_eq!(diagnosis(&world).found(), Found::Problems);
}

#[test]
fn what_the_operator_says_counts_although_from_here_nothing_is_wrong() {
    let mut world = converged();
    let status = world.object.status.as_mut().unwrap();
    let mut conditions = status.conditions.iter_mut();
    let federated = conditions
        .find(|c| c.type_ == "CredentialsFederated")
        .unwrap();
    federated.status = "False".into();
    federated.reason = "AzureForbidden".into();
    federated.message = "It lacks the role. Give it: az role assignment create".into();
    one(
        diagnosis(&world).findings,
        Level::Error,
        &[
            "the operator says CredentialsFederated AzureForbidden",
            "It lacks the role",
            "az role",
        ],
    );

    let mut world = converged();
    world.object.metadata.generation = Some(2);
    one(
        diagnosis(&world).findings,
        Level::Error,
        &["has not looked at its present spec"],
    );
    world.object.spec.suspend = true;
    world.object.metadata.generation = Some(1);
    one(diagnosis(&world).findings, Level::Warning, &["Suspended"]);
}

#[test]
fn a_permission_is_said_to_be_that_of_whoever_asks() {
    let world = converged();
    let plan = plan(&world);
    let seen = Seen::new(&world, &plan);
    for may_write in [Ok(true), Ok(false)] {
        let found = check_permission(&seen, &may_write).unwrap();
        assert_eq!(found.level, Level::Ok);
        assert!(
            found.what.starts_with("whoever runs this command may"),
            "{found}"
        );
    }
    let refused = Err(azure_error(AzureErrorKind::Forbidden));
    one(
        check_permission(&seen, &refused),
        Level::Warning,
        &["Microsoft.Authorization/permissions/read"],
    );
}

/// What is said of the connections when something differs from what should be read.
fn connections(world: &Snapshot, edit: &dyn Fn(&mut Reading)) -> Vec<Finding> {
    let plan = plan(world);
    let mut reading = reading();
    edit(&mut reading);
    check_connections(&Seen::new(world, &plan), &reading)
}

fn told(reading: &mut Reading) -> &mut ConnectionTold {
    let written = reading.secrets.get_mut(SECRET).unwrap().as_mut().unwrap();
    written
        .connections
        .get_mut(VARIABLE)
        .unwrap()
        .as_mut()
        .unwrap()
}

fn container(reading: &mut Reading) -> &mut Environment {
    &mut reading.environments.as_mut().unwrap()[0]
}

#[test]
fn a_connection_that_airflow_reads_otherwise_is_wrong() {
    let world = converged();
    assert_eq!(wrong(connections(&world, &|_| {})), []);
    let other = || Source::Secret("legacy".into());
    let holds = |reading: &mut Reading, variable: &str| {
        let held = [(variable.to_owned(), None)].into();
        reading.sources.insert(other(), Ok(held));
    };
    let key = || (other(), String::new());
    let table: [Case<Reading>; 12] = [
        (
            &|r| {
                told(r).fields.insert("password".into());
            },
            Level::Error,
            &["holds password", "signs in by a secret"],
        ),
        (
            &|r| {
                told(r).extras.insert("tenantId".into());
            },
            Level::Error,
            &["holds tenantId"],
        ),
        (
            &|r| {
                told(r).fields.insert("conn_id".into());
            },
            Level::Error,
            &["a field conn_id", "drops a connection"],
        ),
        (
            &|r| told(r).client_id = Some("other".into()),
            Level::Error,
            &["client ID other instead of"],
        ),
        (
            &|r| told(r).tenant_id = None,
            Level::Error,
            &["tenant ID none instead of"],
        ),
        (
            &|r| {
                container(r).own.insert(VARIABLE.into(), Own::Value(None));
            },
            Level::Error,
            &["comes from its own env in pods airflow-scheduler-0"],
        ),
        (
            &|r| {
                container(r)
                    .own
                    .insert(VARIABLE.into(), Own::Key(other(), "key".into()));
            },
            Level::Error,
            &["comes from its own env"],
        ),
        (
            &|r| {
                container(r).from.push(key());
                holds(r, VARIABLE);
            },
            Level::Error,
            &["comes from Secret legacy"],
        ),
        (
            &|r| {
                container(r).from.push((other(), "AIRFLOW_CONN_".into()));
                holds(r, "AZURE_DEFAULT");
            },
            Level::Error,
            &["comes from Secret legacy"],
        ),
        (
            &|r| {
                container(r).own.insert(
                    "AIRFLOW__SECRETS__BACKEND".into(),
                    Own::Value(Some("a.Vault".into())),
                );
            },
            Level::Warning,
            &["Airflow asks a.Vault first"],
        ),
        (
            &|r| {
                container(r).from.push(key());
                r.sources.insert(other(), Err(unread()));
            },
            Level::Warning,
            &["take variables from Secret legacy"],
        ),
        (
            &|r| {
                r.secrets.insert(SECRET.into(), Err(unread()));
            },
            Level::Warning,
            &["list somethings"],
        ),
    ];
    for (edit, level, words) in table {
        one(connections(&world, edit), level, words);
    }
}

#[test]
fn a_variable_that_loses_against_ours_hides_nothing() {
    let world = converged();
    let other = Source::Secret("legacy".into());
    // The last one wins.
    let before = connections(&world, &|reading| {
        let held = [(VARIABLE.to_owned(), None)].into();
        container(reading)
            .from
            .insert(0, (other.clone(), String::new()));
        reading.sources.insert(other.clone(), Ok(held));
    });
    assert_eq!(wrong(before), []);
    let ours = Own::Key(Source::Secret(SECRET.into()), VARIABLE.into());
    let same = connections(&world, &|reading| {
        container(reading).own.insert(VARIABLE.into(), ours.clone());
    });
    assert_eq!(wrong(same), []);
}

#[test]
fn a_format_that_takes_a_secrets_backend_asks_for_it() {
    let mut world = fresh();
    world.object = object(json!({ "connectionSecret": { "format": "File" } }));
    settle(&mut world);
    let class = "airflow.secrets.local_filesystem.LocalFilesystemBackend";
    let without = |reading: &mut Reading| {
        let written = reading.secrets.get_mut(SECRET).unwrap().as_mut().unwrap();
        written.connections = [("azure_default".to_owned(), Ok(connection()))].into();
    };
    one(
        connections(&world, &without),
        Level::Warning,
        &[
            "is not airflow.secrets.local_filesystem",
            "airflow.cfg",
            "AIRFLOW__SECRETS__BACKEND, value: airflow.secrets",
        ],
    );
    let with = connections(&world, &|reading| {
        without(reading);
        let value = Own::Value(Some(class.into()));
        container(reading)
            .own
            .insert("AIRFLOW__SECRETS__BACKEND".into(), value);
    });
    assert_eq!(wrong(with), []);
}
