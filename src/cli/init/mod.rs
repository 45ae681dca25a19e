//! `awi init`: the objects for what was made by hand, with the guide's commands and Helm values.

mod describe;
mod yaml;

use anyhow::{Context, anyhow, bail};
use kube::ResourceExt;

pub use self::{
    describe::{Description, Facts, describe},
    yaml::render,
};
use super::{
    look::{Look, LookArgs, MAX_AGE, check_namespace},
    plan::{Origin, planned},
    print,
};
use crate::{
    api::{AirflowWorkloadIdentity, AzureIdentityGrant},
    grant,
    model::{IdentityId, ResourceId},
    observe::Stores,
    plan::Ids,
    problem::Problem,
};

/// Prints the objects that describe what is there already.
///
/// For who has federated an identity by hand: looks at the identity's federated credentials and at the
/// namespace's ServiceAccounts, and prints an AirflowWorkloadIdentity and, if it is missing, an
/// AzureIdentityGrant as YAML. Applied, they adopt what is there; whatever else they would change is
/// told in comments. Writes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ARM resource ID of the user-assigned managed identity: `az identity show --query id` prints
    /// it.
    #[arg(long, value_name = "RESOURCE_ID")]
    identity: ResourceId,

    /// The name of the new object. Left out: the name of its Airflow.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    look: LookArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let look = args.look.connect().await?;
    let stores = look.stores(&look.namespace).await?;
    check_namespace(&stores, &look.namespace)?;
    let facts = facts(&look, args.identity).await?;
    let description = describe(&facts, &stores, args.name.as_deref())?;
    check_is_new(&description.object, &facts.identity, &stores)?;

    let identity = IdentityId::from(facts.identity);
    let grant = grant::missing(&identity, &facts.namespace, &[]);
    let missing = (!description.is_granted).then_some(grant.as_str());
    let granted: Option<AzureIdentityGrant> = missing
        .map(serde_saphyr::from_str)
        .transpose()
        .context("cannot make a grant")?;
    let applied = stores.with_applied(Vec::new(), granted.into_iter().collect());
    let report = planned(&look, &applied, &description.object, Origin::New).await;
    print(&render(&description, missing, &report)?)
}

/// What Azure says of the identity.
async fn facts(look: &Look, identity: ResourceId) -> anyhow::Result<Facts> {
    let issuer = look
        .issuer
        .clone()
        .map_err(|problem| anyhow!("{} This command takes --issuer, too.", problem.message))?;
    let id = IdentityId::from(identity.clone());
    let view = look.identities.view(&id, MAX_AGE).await;
    let unreadable = |error| {
        let problem = Problem::azure(&format!("cannot read identity {id}"), &id, &error);
        anyhow!(
            "{} To this command the role Reader is enough.",
            problem.message
        )
    };
    let found = view.identity.map_err(unreadable)?;
    let tenant = found.tenant_id;
    let ids = Ids {
        client: found.client_id,
        tenant: tenant.with_context(|| format!("Azure does not tell the tenant of {id}"))?,
    };
    Ok(Facts {
        namespace: look.namespace.clone(),
        credentials: view.credentials.map_err(unreadable)?,
        audience: look.audience.clone(),
        identity,
        ids,
        issuer,
    })
}

/// What is described already needs no second object.
fn check_is_new(
    new: &AirflowWorkloadIdentity,
    identity: &ResourceId,
    stores: &Stores,
) -> anyhow::Result<()> {
    let namespace = new.namespace().unwrap_or_default();
    let name = new.name_any();
    for object in stores.objects.all() {
        if object.name_any() == name {
            bail!(
                "there is an AirflowWorkloadIdentity {name} in namespace {namespace} already: choose another --name, or look at it: kubectl awi plan {name} -n {namespace}"
            );
        }
        let named = object.0.as_ref().ok().and_then(|object| {
            let managed = object.spec.identity.managed_identity.as_ref()?;
            managed.resource_id.parse::<ResourceId>().ok()
        });
        if named.as_ref() == Some(identity) {
            let other = object.name_any();
            bail!(
                "AirflowWorkloadIdentity {other} uses this identity already: kubectl awi plan {other} -n {namespace}"
            );
        }
    }
    Ok(())
}
