//! Grants, by the namespaces that they name: each pass asks for those of its own many times, and where each team has
//! one, there are as many as teams.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{guard::Guarded, watched::Watched};
use crate::{
    api::{AzureIdentityGrant, AzureIdentityGrantSpec},
    grant::{self, Namespace},
    model::IdentityId,
};

/// A grant; one that does not parse grants nothing.
type Grant = Guarded<AzureIdentityGrant>;

/// All of them.
#[derive(Clone, Default)]
pub struct Grants {
    kept: Watched<Grant>,
    sorted: Arc<Mutex<Sorted>>,
}

/// Those that parse, as they were at one revision of what is kept.
#[derive(Default)]
struct Sorted {
    revision: u64,
    /// By each namespace that they name.
    naming: HashMap<String, Vec<Arc<Grant>>>,
    /// Those that select namespaces by label, whatever they name.
    selecting: Vec<Arc<Grant>>,
}

impl From<Watched<Grant>> for Grants {
    fn from(kept: Watched<Grant>) -> Self {
        Self {
            kept,
            sorted: Arc::default(),
        }
    }
}

impl Grants {
    /// These are all there are.
    #[must_use]
    pub fn listed(grants: &[Grant]) -> Self {
        Watched::listed(grants, Clone::clone).into()
    }

    /// Waits until all were listed once.
    pub async fn filled(&self) {
        self.kept.filled().await;
    }

    /// All there are, also those that do not parse.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Grant>> {
        self.kept.all()
    }

    /// Those that let the namespace use the identity.
    #[must_use]
    pub fn covering(
        &self,
        identity: &IdentityId,
        namespace: &Namespace,
    ) -> Vec<AzureIdentityGrantSpec> {
        let mut sorted = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        sorted.keep_up_with(&self.kept);
        let naming = sorted.naming.get(&namespace.name).into_iter().flatten();
        let readable = naming
            .chain(&sorted.selecting)
            .filter_map(|grant| grant.0.as_ref().ok());
        readable
            .map(|grant| &grant.spec)
            .filter(|spec| grant::covers(spec, identity, namespace))
            .cloned()
            .collect()
    }
}

impl Sorted {
    fn keep_up_with(&mut self, kept: &Watched<Grant>) {
        // Before they are read: what changes in between is seen the next time.
        let revision = kept.revision();
        if self.revision == revision {
            return;
        }
        *self = Self {
            revision,
            ..Self::default()
        };
        for grant in kept.all() {
            let Ok(readable) = &grant.0 else { continue };
            let namespaces = &readable.spec.namespaces;
            if namespaces.selector.is_some() {
                self.selecting.push(grant);
                continue;
            }
            for name in &namespaces.names {
                let naming = self.naming.entry(name.clone()).or_default();
                naming.push(grant.clone());
            }
        }
    }
}
