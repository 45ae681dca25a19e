//! The requests that clients made.

use std::collections::BTreeMap;

use axum::http::Method;
use jiff::Timestamp;
use serde::Serialize;

/// A request and the status of its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Running number, from 1.
    pub n: u64,
    time: Timestamp,
    /// User agent.
    client: String,
    method: String,
    path: String,
    operation: String,
    /// 0 if a fault left the request without an answer.
    status: u16,
}

/// Numbers of requests.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    total: usize,
    /// Requests that would change something, whatever became of them.
    writes: usize,
    by_operation: BTreeMap<String, usize>,
}

/// Requests in the order of their answers.
#[derive(Default)]
pub struct Journal {
    last: u64,
    entries: Vec<Entry>,
}

impl Journal {
    /// Notes a request.
    pub fn add(&mut self, client: &str, method: &Method, path: &str, operation: &str, status: u16) {
        self.last += 1;
        self.entries.push(Entry {
            n: self.last,
            time: Timestamp::now(),
            client: client.to_owned(),
            method: method.to_string(),
            path: path.to_owned(),
            operation: operation.to_owned(),
            status,
        });
    }

    /// Requests after number `n`.
    pub fn since(&self, n: u64) -> Vec<Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.n > n)
            .cloned()
            .collect()
    }

    /// How many there were of each operation.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            total: self.entries.len(),
            ..Counts::default()
        };
        for entry in &self.entries {
            *counts
                .by_operation
                .entry(entry.operation.clone())
                .or_default() += 1;
            let write = matches!(entry.method.as_str(), "PUT" | "PATCH" | "DELETE");
            counts.writes += usize::from(write);
        }
        counts
    }

    /// Forgets all requests; numbers go on, so that `since` stays meaningful.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_clearing() {
        let mut journal = Journal::default();
        journal.add("c", &Method::PUT, "/", "credential.put", 201);
        journal.add("c", &Method::GET, "/", "credential.list", 200);
        journal.add("c", &Method::POST, "/", "token", 200);
        let counts = journal.counts();
        assert_eq!((counts.total, counts.writes), (3, 1));
        assert_eq!(counts.by_operation["credential.put"], 1);
        assert_eq!(
            journal
                .since(1)
                .iter()
                .map(|entry| entry.n)
                .collect::<Vec<_>>(),
            [2, 3]
        );
        journal.clear();
        assert_eq!(journal.counts(), Counts::default());
        journal.add("c", &Method::GET, "/", "credential.list", 200);
        assert_eq!(journal.since(0)[0].n, 4);
    }
}
