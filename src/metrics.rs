//! What is measured by looking, when somebody asks: who leads, the objects, how full the
//! identities are. What is counted as it happens stands where it happens.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use kube::ResourceExt;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge, info::Info},
    registry::Registry,
};

use crate::{
    api::{AirflowWorkloadIdentity, ConditionType, Reason},
    azure::Identities,
    mandate::Mandate,
    observe::{Guarded, Stores},
};

/// Where it is looked.
#[derive(Clone)]
pub struct Sources {
    /// Whether this replica works.
    pub mandate: Arc<Mandate>,
    /// The objects; a replica that does not work has none.
    pub stores: Vec<Stores>,
    /// The identities.
    pub identities: Arc<Identities>,
    /// An identity that was not listed for so long is of no object any longer, and left out.
    pub max_age: Duration,
}

impl Sources {
    /// Makes them part of what is measured.
    pub fn register(self, registry: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The operator's version", build);
        registry.register_collector(Box::new(Leader(self.mandate)));
        registry.register_collector(Box::new(Objects(self.stores)));
        registry.register_collector(Box::new(Quota {
            identities: self.identities,
            max_age: self.max_age,
        }));
    }
}

#[derive(Debug)]
struct Leader(Arc<Mandate>);

impl Collector for Leader {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let gauge = encoder.encode_descriptor(
            "leader",
            "Whether this replica is the one that works",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(i64::from(self.0.is_valid())).encode(gauge)
    }
}

struct Objects(Vec<Stores>);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

/// What an object's `Ready` condition says: its status and reason.
fn readiness(object: &Guarded<AirflowWorkloadIdentity>) -> (&str, String) {
    let Ok(object) = &object.0 else {
        return ("False", Reason::InvalidSpec.to_string());
    };
    let ready = ConditionType::Ready.to_string();
    let mut conditions = object.status.iter().flat_map(|status| &status.conditions);
    match conditions.find(|condition| condition.type_ == ready) {
        Some(condition) => (condition.status.as_str(), condition.reason.clone()),
        None => ("Unknown", Reason::Waiting.to_string()),
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut count = BTreeMap::from([("False", 0i64), ("True", 0), ("Unknown", 0)]);
        let mut not_ready = Vec::new();
        for stores in &self.0 {
            let (ready, others) = stores.objects.by_readiness();
            *count.entry("True").or_default() += i64::try_from(ready).unwrap_or(i64::MAX);
            not_ready.extend(others);
        }
        for object in &not_ready {
            *count.entry(readiness(object).0).or_default() += 1;
        }
        let mut gauge = encoder.encode_descriptor(
            "objects",
            "AirflowWorkloadIdentity objects, by the status of their Ready condition",
            None,
            MetricType::Gauge,
        )?;
        for (ready, count) in count {
            ConstGauge::new(count).encode(gauge.encode_family(&[("ready", ready)])?)?;
        }

        let mut gauge = encoder.encode_descriptor(
            "object_not_ready",
            "An object that is not ready, and the reason",
            None,
            MetricType::Gauge,
        )?;
        for object in &not_ready {
            let labels = [
                ("namespace", object.namespace().unwrap_or_default()),
                ("name", object.name_any()),
                ("reason", readiness(object).1),
            ];
            ConstGauge::new(1i64).encode(gauge.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// How full each identity is.
#[derive(Debug)]
struct Quota {
    identities: Arc<Identities>,
    max_age: Duration,
}

impl Collector for Quota {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut gauge = encoder.encode_descriptor(
            "identity_federated_credentials",
            "Federated credentials on the identity, whoever wrote them, as listed last; Azure allows 20",
            None,
            MetricType::Gauge,
        )?;
        for (identity, count) in self.identities.counts(self.max_age) {
            let labels = [("identity", identity.to_string())];
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(gauge.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
