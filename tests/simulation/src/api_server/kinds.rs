//! The kinds that are served.

use std::sync::LazyLock;

use serde_json::Value;

use super::{
    crd,
    schema::{Schema, any, atomic, keyed, map, metadata, object},
};

/// A kind in one version.
#[expect(clippy::struct_excessive_bools, reason = "a table")]
#[expect(clippy::struct_field_names, reason = "as Kubernetes calls them")]
#[derive(Debug)]
pub(super) struct Kind {
    /// Where its objects are kept: its position in [`KINDS`], or another's that is another view of the same objects.
    pub store: usize,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
    pub has_status: bool,
    /// Whether it comes from a CRD.
    pub custom: bool,
    /// Whether a deletion answers with the object.
    pub returns_deleted: bool,
    /// Whether it counts its generations.
    pub counts: bool,
    /// An object of which nothing is set yet: these fields are always there.
    zero: &'static str,
}

const BUILT_IN: Kind = Kind {
    store: 0,
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    namespaced: true,
    has_status: false,
    custom: false,
    returns_deleted: false,
    counts: false,
    zero: "{}",
};

const OURS: Kind = Kind {
    group: "airflow-workload-identity.io",
    version: "v1alpha1",
    custom: true,
    counts: true,
    ..BUILT_IN
};

const RBAC: &str = "rbac.authorization.k8s.io";

const TEMPLATE: &str = r#"{"metadata":{},"spec":{"containers":null}}"#;

pub(super) const NAMESPACES: usize = 2;
pub(super) const SERVICE_ACCOUNTS: usize = 3;
pub(super) const SECRETS: usize = 4;
pub(super) const PODS: usize = 6;
pub(super) const DEPLOYMENTS: usize = 7;
pub(super) const STATEFUL_SETS: usize = 8;
pub(super) const DAEMON_SETS: usize = 9;
pub(super) const ROLE_BINDINGS: usize = 11;
pub(super) const LEASES: usize = 12;
pub(super) const EVENTS: usize = 13;
const CORE_EVENTS: usize = 14;

#[rustfmt::skip]
pub(super) static KINDS: [Kind; 15] = [
    Kind { store: 0, kind: "AirflowWorkloadIdentity", plural: "airflowworkloadidentities", has_status: true, ..OURS },
    Kind { store: 1, kind: "AzureIdentityGrant", plural: "azureidentitygrants", namespaced: false, ..OURS },
    Kind { store: NAMESPACES, kind: "Namespace", plural: "namespaces", namespaced: false, has_status: true, returns_deleted: true, zero: r#"{"metadata":{},"spec":{},"status":{}}"#, ..BUILT_IN },
    Kind { store: SERVICE_ACCOUNTS, kind: "ServiceAccount", plural: "serviceaccounts", returns_deleted: true, zero: r#"{"metadata":{}}"#, ..BUILT_IN },
    Kind { store: SECRETS, kind: "Secret", plural: "secrets", zero: r#"{"metadata":{}}"#, ..BUILT_IN },
    Kind { store: 5, kind: "ConfigMap", plural: "configmaps", zero: r#"{"metadata":{}}"#, ..BUILT_IN },
    Kind { store: PODS, kind: "Pod", plural: "pods", has_status: true, returns_deleted: true, counts: true, zero: r#"{"metadata":{},"spec":{"containers":null},"status":{}}"#, ..BUILT_IN },
    Kind { store: DEPLOYMENTS, group: "apps", kind: "Deployment", plural: "deployments", has_status: true, counts: true, zero: r#"{"metadata":{},"spec":{"selector":null,"strategy":{},"template":{"metadata":{},"spec":{"containers":null}}},"status":{}}"#, ..BUILT_IN },
    Kind { store: STATEFUL_SETS, group: "apps", kind: "StatefulSet", plural: "statefulsets", has_status: true, counts: true, zero: r#"{"metadata":{},"spec":{"selector":null,"serviceName":"","template":{"metadata":{},"spec":{"containers":null}},"updateStrategy":{}},"status":{"availableReplicas":0,"replicas":0}}"#, ..BUILT_IN },
    Kind { store: DAEMON_SETS, group: "apps", kind: "DaemonSet", plural: "daemonsets", has_status: true, counts: true, zero: r#"{"metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"updateStrategy":{}},"status":{"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberMisscheduled":0,"numberReady":0}}"#, ..BUILT_IN },
    Kind { store: 10, group: RBAC, kind: "Role", plural: "roles", zero: r#"{"metadata":{},"rules":null}"#, ..BUILT_IN },
    Kind { store: ROLE_BINDINGS, group: RBAC, kind: "RoleBinding", plural: "rolebindings", zero: r#"{"metadata":{},"roleRef":{"apiGroup":"","kind":"","name":""}}"#, ..BUILT_IN },
    Kind { store: LEASES, group: "coordination.k8s.io", kind: "Lease", plural: "leases", zero: r#"{"metadata":{},"spec":{}}"#, ..BUILT_IN },
    Kind { store: EVENTS, group: "events.k8s.io", kind: "Event", plural: "events", zero: r#"{"metadata":{},"eventTime":null,"regarding":{},"deprecatedSource":{},"deprecatedFirstTimestamp":null,"deprecatedLastTimestamp":null}"#, ..BUILT_IN },
    Kind { store: EVENTS, kind: "Event", plural: "events", zero: r#"{"metadata":{},"involvedObject":{},"source":{},"firstTimestamp":null,"lastTimestamp":null,"eventTime":null,"reportingComponent":"","reportingInstance":""}"#, ..BUILT_IN },
];

/// The kind of a path's parts.
pub(super) fn kind_of(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
}

/// The kind that objects are stored as, by its plural; events are those of `events.k8s.io`.
pub(super) fn stored_kind(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

impl Kind {
    /// As messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether it is a view of objects that are kept in another kind's shape.
    pub fn is_view(&self) -> bool {
        self.store == EVENTS && self.group.is_empty()
    }

    pub fn schema(&self) -> &'static Schema {
        let at = if self.is_view() {
            CORE_EVENTS
        } else {
            self.store
        };
        &SCHEMAS[at]
    }

    pub fn zero(&self) -> &'static Value {
        let at = if self.is_view() {
            CORE_EVENTS
        } else {
            self.store
        };
        &ZEROS[at]
    }
}

static ZEROS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let zero = |kind: &Kind| serde_json::from_str(kind.zero).expect("JSON");
    KINDS.iter().map(zero).collect()
});

/// The fields that a pod template always has.
pub(super) static ZERO_TEMPLATE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(TEMPLATE).expect("JSON"));

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let schema = |kind: &Kind| match kind.store {
        0 => crd::schema(include_str!(
            "../../../../crds/airflowworkloadidentities.yaml"
        )),
        1 => crd::schema(include_str!("../../../../crds/azureidentitygrants.yaml")),
        PODS => object([
            ("metadata", metadata()),
            ("spec", pod_spec()),
            ("status", object([("conditions", keyed(["type"], any()))])),
        ]),
        DEPLOYMENTS | STATEFUL_SETS | DAEMON_SETS => object([
            ("metadata", metadata()),
            (
                "spec",
                object([("selector", atomic()), ("template", template())]),
            ),
            ("status", object([("conditions", keyed(["type"], any()))])),
        ]),
        SERVICE_ACCOUNTS => object([
            ("metadata", metadata()),
            ("secrets", keyed(["name"], atomic())),
            ("imagePullSecrets", keyed(["name"], atomic())),
        ]),
        NAMESPACES => object([
            ("metadata", metadata()),
            ("status", object([("conditions", keyed(["type"], any()))])),
        ]),
        ROLE_BINDINGS => object([("metadata", metadata()), ("roleRef", atomic())]),
        EVENTS => object([
            ("metadata", metadata()),
            ("regarding", atomic()),
            ("related", atomic()),
            ("involvedObject", atomic()),
        ]),
        _ => object([
            ("metadata", metadata()),
            ("data", map()),
            ("binaryData", map()),
            ("spec", object([])),
        ]),
    };
    KINDS.iter().map(schema).collect()
});

fn template() -> Schema {
    object([("metadata", metadata()), ("spec", pod_spec())])
}

fn pod_spec() -> Schema {
    object([
        ("containers", keyed(["name"], container())),
        ("initContainers", keyed(["name"], container())),
        ("volumes", keyed(["name"], any())),
        ("imagePullSecrets", keyed(["name"], atomic())),
        ("nodeSelector", atomic()),
        ("securityContext", object([])),
    ])
}

fn container() -> Schema {
    let reference = || object([("configMapKeyRef", atomic()), ("secretKeyRef", atomic())]);
    object([
        ("env", keyed(["name"], object([("valueFrom", reference())]))),
        ("ports", keyed(["containerPort", "protocol"], object([]))),
        ("volumeMounts", keyed(["mountPath"], object([]))),
        ("resources", object([])),
    ])
}
