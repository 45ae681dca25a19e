//! An object of ours as it is kept: there are many, and each is read rarely.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Guarded, objects::Object, records};
use crate::{
    api::{AirflowWorkloadIdentity, ConditionType},
    model::IdentityId,
    secrets::wanted_secrets,
};

/// One of our objects, in a quarter of the room that it takes to be read.
pub(super) struct Packed {
    form: Form,
    is_ready: bool,
    marks: Marks,
}

enum Form {
    /// JSON, compressed.
    Small(Box<[u8]>),
    /// What cannot be read, or would be another once it was written down.
    Plain(Box<Object>),
}

/// What an object may be found by.
#[derive(Hash)]
pub enum Mark<'a> {
    /// Its uid.
    Uid(&'a str),
    /// A Secret that it asks for, by name.
    Secret(&'a str),
    /// A ServiceAccount that it names, or has in its status, by name.
    Account(&'a str),
    /// It selects ServiceAccounts by their labels.
    SelectsAccounts,
    /// It selects workloads by their labels.
    SelectsWorkloads,
    /// A credential that it has on record, by name.
    Record(&'a IdentityId, &'a str),
}

/// Hashes of marks, by which most objects are passed over without being unpacked. One that seems to be there is to be
/// looked for.
pub(super) struct Marks(Box<[u64]>);

impl Packed {
    pub fn new(object: &Object) -> Self {
        let readable = object.0.as_ref().ok();
        let small = readable.and_then(compressed);
        Self {
            form: small.map_or_else(|| Form::Plain(Box::new(object.clone())), Form::Small),
            is_ready: readable.is_some_and(is_ready),
            marks: readable.map_or_else(|| Marks(Box::default()), Marks::of),
        }
    }

    /// The object as it was.
    pub fn unpack(&self) -> Object {
        match &self.form {
            Form::Plain(object) => Object::clone(object),
            Form::Small(bytes) => {
                let json = lz4_flex::decompress_size_prepended(bytes);
                let json = json.expect("it was compressed here");
                Guarded(Ok(
                    serde_json::from_slice(&json).expect("it was read here before")
                ))
            }
        }
    }

    pub fn is_readable(&self) -> bool {
        match &self.form {
            Form::Plain(object) => object.0.is_ok(),
            Form::Small(_) => true,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub fn has_any(&self, marks: &Marks) -> bool {
        self.marks.0.iter().any(|mark| marks.0.contains(mark))
    }
}

impl Marks {
    /// All that an object has.
    fn of(object: &AirflowWorkloadIdentity) -> Self {
        let airflow = &object.spec.airflow;
        let by_labels = [
            (&airflow.workload_selector, Mark::SelectsWorkloads),
            (&airflow.service_account_selector, Mark::SelectsAccounts),
        ];
        let by_labels = by_labels
            .into_iter()
            .filter_map(|(selector, mark)| selector.is_some().then_some(mark));
        let secrets = wanted_secrets(object);
        let secrets = secrets.iter().map(|wanted| Mark::Secret(&wanted.name));
        let status = object.status.iter();
        let known = status.flat_map(|status| &status.service_accounts);
        let accounts = known
            .map(|account| &account.name)
            .chain(&airflow.service_accounts);
        let accounts = accounts.map(|name| Mark::Account(name));
        let uid = object.metadata.uid.iter().map(|uid| Mark::Uid(uid));
        let others = by_labels.chain(uid).chain(secrets).chain(accounts);
        let others = others.map(|mark| hash(&mark));
        Self(others.chain(Self::of_records(object).0).collect())
    }

    /// Of the credentials that an object has on record.
    pub fn of_records(object: &AirflowWorkloadIdentity) -> Self {
        let recorded = records(object);
        let recorded = recorded.map(|(identity, record)| {
            // Azure's names do not differ by case.
            hash(&Mark::Record(&identity, &record.name.to_ascii_lowercase()))
        });
        Self(recorded.collect())
    }
}

impl<'a> FromIterator<Mark<'a>> for Marks {
    fn from_iter<I: IntoIterator<Item = Mark<'a>>>(marks: I) -> Self {
        Self(marks.into_iter().map(|mark| hash(&mark)).collect())
    }
}

fn hash(mark: &Mark) -> u64 {
    let mut hash = DefaultHasher::new();
    mark.hash(&mut hash);
    hash.finish()
}

fn is_ready(object: &AirflowWorkloadIdentity) -> bool {
    let ready = ConditionType::Ready.to_string();
    let mut conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == ready && condition.status == "True")
}

/// None if it would not be the same again: a time loses what is less than a second.
fn compressed(object: &AirflowWorkloadIdentity) -> Option<Box<[u8]>> {
    let json = serde_json::to_vec(object).ok()?;
    let again: AirflowWorkloadIdentity = serde_json::from_slice(&json).ok()?;
    (again == *object).then(|| lz4_flex::compress_prepend_size(&json).into())
}
