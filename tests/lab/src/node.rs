//! A node on which pods seem to run: kube-scheduler places them, and kwok plays the kubelet. No container starts.

use anyhow::Result;
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::binaries::{module_of_tool, tool};
use crate::control_plane::{START_LIMIT, flag};
use crate::kubeconfig;
use crate::lab::Lab;
use crate::process::Process;

const NAME: &str = "lab";

/// Below `kustomize/stage` of kwok's module. A pod is ready at once and runs until it is deleted, but for those of
/// Jobs, which succeed at once.
const STAGES: [&str; 5] = [
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
    "node/fast/node-initialize.yaml",
    "node/heartbeat/node-heartbeat.yaml",
];

/// A node with room for 1000 pods. After it is dropped, new pods stay pending, and deleted ones stay for ever.
pub struct Node {
    _scheduler: Process,
    _kwok: Process,
}

impl Lab {
    /// Starts a node, one in a lab, and returns when it is ready.
    pub async fn start_node(&self) -> Result<Node> {
        let kubeconfig = |name: &str| {
            let (server, user) = (self.api_server(), format!("system:{name}"));
            kubeconfig::cluster_admin(self.scratch(), name, &server, &self.authority, &user)
        };

        let name = "kube-scheduler";
        let mut command = self.reaper.command(tool(name)?)?;
        command
            .arg(flag("kubeconfig", kubeconfig(name)?.display()))
            .args(["--leader-elect=false", "--secure-port=0"]);
        let scheduler = Process::start(&self.reaper, name, command)?;

        let name = "kwok";
        let stages = module_of_tool(name, "sigs.k8s.io/kwok")?.join("kustomize/stage");
        let mut command = self.reaper.command(tool(name)?)?;
        command
            .arg(flag("kubeconfig", kubeconfig(name)?.display()))
            .args(STAGES.map(|stage| flag("config", stages.join(stage).display())))
            .args(["--manage-all-nodes", "--cidr=10.244.0.0/16"])
            // It would read a configuration there, too.
            .env("HOME", self.scratch());
        let mut kwok = Process::start(&self.reaper, name, command)?;

        let nodes: Api<KubeNode> = Api::all(self.client().await?);
        create(&nodes).await?;
        kwok.wait_for(START_LIMIT, || async {
            let node = nodes.get(NAME).await.ok()?;
            is_ready(&node).then_some(())
        })
        .await?;
        Ok(Node {
            _scheduler: scheduler,
            _kwok: kwok,
        })
    }
}

async fn create(nodes: &Api<KubeNode>) -> Result<()> {
    let room =
        json!({"cpu": "1000", "memory": "1000Gi", "ephemeral-storage": "1000Gi", "pods": "1000"});
    let node = json!({
        "metadata": {
            "name": NAME,
            "labels": {"kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "status": {"capacity": room, "allocatable": room},
    });
    let node = serde_json::from_value(node)?;
    nodes.create(&PostParams::default(), &node).await?;
    // Admission adds the taint not-ready, and the controller that would take it off does not run here.
    let untainted = Patch::Merge(json!({"spec": {"taints": null}}));
    nodes
        .patch(NAME, &PatchParams::default(), &untainted)
        .await?;
    Ok(())
}

fn is_ready(node: &KubeNode) -> bool {
    node.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
