//! One owner per identity: order, pace and safety of what goes to Azure, in virtual time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use airflow_workload_identity::{
    azure::{ARRIVES, AzureErrorKind, CredentialProperties, Identities, MaxAge, Unsettled},
    mandate::Mandate,
    model::{CredentialName, FederatedCredential},
};
use async_trait::async_trait;
use azure_core::http::{AsyncRawResponse, HttpClient, Method, Request};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::client::{answer, client, id};

const NOW: MaxAge = MaxAge::strictly(Duration::ZERO);
const OF_A_MINUTE: MaxAge = MaxAge::strictly(Duration::from_secs(60));
const UUID: &str = "11111111-1111-1111-1111-111111111111";
const ANOTHER: &str = "22222222-2222-2222-2222-222222222222";

/// Azure with one identity. Writes are answered from a script first: a status, and seconds to wait.
#[derive(Debug, Default)]
struct Azure {
    credentials: Mutex<Vec<FederatedCredential>>,
    script: Mutex<VecDeque<(u16, Option<&'static str>)>>,
    writes: Mutex<Vec<(Instant, Method)>>,
    lists: Mutex<Vec<Instant>>,
    /// Statuses with which the next LISTs are refused.
    refused_lists: Mutex<VecDeque<(u16, &'static str)>>,
    is_another: AtomicBool,
    /// What Azure takes to answer of the identity itself.
    identity_takes: Mutex<Duration>,
}

impl Azure {
    fn script(&self, answers: &[(u16, Option<&'static str>)]) {
        self.script.lock().unwrap().extend(answers);
    }

    /// Deletes the identity, and makes one of the same name.
    fn make_identity_anew(&self) {
        self.credentials.lock().unwrap().clear();
        self.is_another.store(true, Ordering::Relaxed);
    }

    fn refuse_lists(&self, answers: &[(u16, &'static str)]) {
        self.refused_lists.lock().unwrap().extend(answers);
    }

    fn list(&self) -> Value {
        self.lists.lock().unwrap().push(Instant::now());
        let all = self.credentials.lock().unwrap();
        let value: Vec<Value> = all.iter().map(body).collect();
        json!({ "value": value })
    }

    fn write(&self, request: &Request) -> (u16, Option<&'static str>, Value) {
        let at = (Instant::now(), request.method());
        self.writes.lock().unwrap().push(at);
        if let Some((status, retry_after)) = self.script.lock().unwrap().pop_front() {
            return (status, retry_after, json!({}));
        }
        let name = request.url().path().rsplit('/').next().unwrap().to_owned();
        let mut all = self.credentials.lock().unwrap();
        all.retain(|credential| credential.name != name);
        if request.method() == Method::Delete {
            return (200, None, Value::Null);
        }
        all.push(seen(&name));
        (201, None, body(&seen(&name)))
    }

    /// The time from write to write, in whole seconds.
    fn gaps(&self) -> Vec<u64> {
        let writes = self.writes.lock().unwrap();
        writes
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0).as_secs())
            .collect()
    }
}

#[async_trait]
impl HttpClient for Azure {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let is_get = request.method() == Method::Get;
        let is_list = request
            .url()
            .path()
            .ends_with("/federatedIdentityCredentials");
        let (status, retry_after, body) = match (is_get, is_list) {
            (true, true) => {
                let list = self.list();
                let refused = self.refused_lists.lock().unwrap().pop_front();
                refused.map_or((200, None, list), |(status, wait)| {
                    (status, Some(wait), json!({}))
                })
            }
            (true, false) => {
                let takes = *self.identity_takes.lock().unwrap();
                sleep(takes).await;
                let is_another = self.is_another.load(Ordering::Relaxed);
                let client = if is_another { ANOTHER } else { UUID };
                let identity = json!({ "properties": { "clientId": client, "tenantId": UUID } });
                (200, None, identity)
            }
            (false, _) => self.write(request),
        };
        Ok(answer(status, retry_after, &body))
    }
}

fn world() -> (Arc<Azure>, Arc<Identities>) {
    world_under(Arc::new(Mandate::unlimited()))
}

fn world_under(mandate: Arc<Mandate>) -> (Arc<Azure>, Arc<Identities>) {
    let azure = Arc::new(Azure::default());
    let identities = Identities::new(client(azure.clone()), mandate);
    (azure, Arc::new(identities))
}

fn properties() -> CredentialProperties {
    CredentialProperties {
        issuer: "i".into(),
        subject: "s".into(),
        audiences: vec!["a".into()],
    }
}

fn seen(name: &str) -> FederatedCredential {
    let CredentialProperties {
        issuer,
        subject,
        audiences,
    } = properties();
    FederatedCredential {
        name: name.to_owned(),
        issuer,
        subject,
        audiences,
        is_marked: None,
    }
}

fn body(credential: &FederatedCredential) -> Value {
    json!({ "name": credential.name, "properties": {
        "issuer": credential.issuer, "subject": credential.subject, "audiences": credential.audiences,
    }})
}

async fn put(identities: &Identities, name: &str) -> Result<(), AzureErrorKind> {
    let name: CredentialName = name.parse().unwrap();
    identities
        .put(&id(), &name, &properties(), None, &|| true)
        .await
        .map_err(|error| error.kind)
}

#[tokio::test(start_paused = true)]
async fn another_writer_in_the_way_costs_patience_and_no_failure() {
    let (azure, identities) = world();
    azure.script(&[(409, None); 6]);
    assert_eq!(put(&identities, "one").await, Ok(()));
    assert_eq!(azure.writes.lock().unwrap().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_never_ends_is_told_to_the_object() {
    let (azure, identities) = world();
    azure.script(&vec![(409, None); 1000]);
    let start = Instant::now();
    assert_eq!(
        put(&identities, "one").await,
        Err(AzureErrorKind::ConcurrentWrite)
    );
    let tries = azure.writes.lock().unwrap().len();
    assert!((5..20).contains(&tries), "{tries} tries");
    assert!(start.elapsed() <= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn writes_are_fast_until_azure_asks_to_slow_down_and_then_keep_its_pace() {
    let (azure, identities) = world();
    for name in ["a01", "a02", "a03"] {
        put(&identities, name).await.unwrap();
    }
    azure.script(&[(429, Some("9"))]);
    for name in ["a04", "a05", "a06"] {
        put(&identities, name).await.unwrap();
    }
    assert_eq!(azure.gaps(), [0, 0, 0, 9, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_is_told_to_the_object() {
    let (azure, identities) = world();
    azure.script(&[(429, Some("120"))]);
    assert_eq!(
        put(&identities, "one").await,
        Err(AzureErrorKind::Throttled)
    );
    assert_eq!(
        put(&identities, "two").await,
        Err(AzureErrorKind::Throttled)
    );
    assert_eq!(azure.writes.lock().unwrap().len(), 1, "Azure is left alone");
    tokio::time::advance(Duration::from_secs(121)).await;
    assert_eq!(put(&identities, "two").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn turns_are_taken_in_the_order_in_which_they_were_asked_for() {
    let (azure, identities) = world();
    azure.script(&[(429, Some("4"))]);
    let names = ["a01", "a02", "a03", "a04"];
    let puts = names.map(|name| {
        let identities = identities.clone();
        tokio::spawn(async move { put(&identities, name).await })
    });
    for put in puts {
        put.await.unwrap().unwrap();
    }
    let written = azure.credentials.lock().unwrap();
    let order: Vec<&str> = written.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(order, names);
}

#[tokio::test(start_paused = true)]
async fn at_azures_pace_who_would_wait_in_vain_does_not_line_up() {
    let (azure, identities) = world();
    azure.script(&[(429, Some("4"))]);
    put(&identities, "one").await.unwrap();
    // Each four seconds one of them may write, and nobody waits for longer than twenty.
    let puts = (0..10).map(|n| {
        let identities = identities.clone();
        tokio::spawn(async move {
            let start = Instant::now();
            let result = put(&identities, &format!("a{n:02}")).await;
            (result, start.elapsed().as_secs())
        })
    });
    let mut ended = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        ended.push(put.await.unwrap());
    }
    let written = [4, 8, 12, 16, 20].map(|seconds| (Ok(()), seconds));
    assert_eq!(ended[..5], written);
    assert_eq!(
        ended[5..],
        [const { (Err(AzureErrorKind::Throttled), 0) }; 5]
    );
}

#[tokio::test(start_paused = true)]
async fn one_list_serves_everybody_who_asks_at_the_same_time() {
    let (azure, identities) = world();
    let views = (0..50).map(|_| {
        let identities = identities.clone();
        tokio::spawn(async move {
            identities
                .view(&id(), MaxAge::strictly(Duration::from_secs(1)))
                .await
                .credentials
                .is_ok()
        })
    });
    for view in futures::future::join_all(views).await {
        assert!(view.unwrap());
    }
    assert_eq!(azure.lists.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_azure_puts_off_is_not_asked_for_again_and_again() {
    let (azure, identities) = world();
    put(&identities, "one").await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    azure.refuse_lists(&[(429, "120"); 9]);
    for name in ["two", "three"] {
        assert_eq!(put(&identities, name).await, Err(AzureErrorKind::Throttled));
    }
    assert_eq!(azure.lists.lock().unwrap().len(), 2);
    assert_eq!(azure.writes.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_only_looks_does_not_wait_for_who_writes() {
    let (azure, identities) = world();
    put(&identities, "one").await.unwrap();
    azure.script(&[(429, Some("15"))]);
    let writer = identities.clone();
    let waiting = tokio::spawn(async move { put(&writer, "two").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let view = identities.view(&id(), OF_A_MINUTE).await;
    assert_eq!(view.credentials.unwrap(), [seen("one")]);
    assert_eq!(start.elapsed(), Duration::ZERO);
    waiting.await.unwrap().unwrap();
    let view = identities.view(&id(), OF_A_MINUTE).await;
    assert_eq!(
        view.credentials.unwrap().len(),
        2,
        "and sees what was written"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_on_old_news_is_not_written() {
    let (azure, identities) = world();
    put(&identities, "one").await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    // Meanwhile another cluster writes a credential of the name that is about to be created.
    let mut theirs = seen("two");
    theirs.subject = "theirs".into();
    azure.credentials.lock().unwrap().push(theirs.clone());
    assert_eq!(put(&identities, "two").await, Err(AzureErrorKind::Outdated));

    // And changes the one that is about to be deleted.
    tokio::time::advance(Duration::from_secs(60)).await;
    azure.credentials.lock().unwrap()[0].subject = "theirs".into();
    let deleted = identities.delete(&id(), &seen("one"), &|| true).await;
    assert_eq!(deleted.unwrap_err().kind, AzureErrorKind::Outdated);
    assert_eq!(azure.writes.lock().unwrap().len(), 1, "only the first");
    assert!(azure.credentials.lock().unwrap().contains(&theirs));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_went_while_a_write_waited_for_its_turn_is_obeyed() {
    let (azure, identities) = world();
    azure.script(&[(429, Some("10"))]);
    let granted = Arc::new(AtomicBool::new(true));
    let is_granted = granted.clone();
    let waiting = tokio::spawn(async move {
        let name: CredentialName = "one".parse().unwrap();
        let is_granted = || is_granted.load(Ordering::SeqCst);
        identities
            .put(&id(), &name, &properties(), None, &is_granted)
            .await
            .map_err(|error| error.kind)
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    granted.store(false, Ordering::SeqCst);
    assert_eq!(waiting.await.unwrap(), Err(AzureErrorKind::Outdated));
    assert!(azure.credentials.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_all_waiting_and_begins_no_write() {
    let mandate = Arc::new(Mandate::unlimited());
    let (azure, identities) = world_under(mandate.clone());
    azure.script(&[(429, Some("10"))]);
    let waiting = {
        let identities = identities.clone();
        tokio::spawn(async move { put(&identities, "one").await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    mandate.stop();
    assert!(waiting.await.unwrap().is_err());
    assert!(put(&identities, "two").await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(azure.writes.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_lead_writes_nothing() {
    let (azure, identities) = world_under(Arc::new(Mandate::elected()));
    let refused = put(&identities, "one").await;
    assert_eq!(refused, Err(AzureErrorKind::Unavailable));
    assert!(azure.writes.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_goes_while_a_write_is_put_off_ends_the_write() {
    let (azure, identities) = world();
    azure.script(&[(409, None), (429, None)]);
    let (name, left) = ("one".parse().unwrap(), AtomicUsize::new(2));
    let is_allowed = || {
        let found = left.load(Ordering::Relaxed);
        left.store(found.saturating_sub(1), Ordering::Relaxed);
        found > 0
    };
    let put = identities
        .put(&id(), &name, &properties(), None, &is_allowed)
        .await;
    assert_eq!(put.unwrap_err().kind, AzureErrorKind::Outdated);
    let writes = azure.writes.lock().unwrap().len();
    assert_eq!(writes, 2, "none after the two that Azure put off");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_known_at_once_and_what_is_gone_is_deleted() {
    let (azure, identities) = world();
    put(&identities, "one").await.unwrap();
    let known = async || {
        let view = identities.view(&id(), OF_A_MINUTE).await;
        view.credentials.unwrap()
    };
    assert_eq!(known().await, [seen("one")]);
    // Somebody goes by it now.
    let deleted = identities.delete(&id(), &seen("one"), &|| false).await;
    assert_eq!(deleted.unwrap_err().kind, AzureErrorKind::Outdated);
    assert_eq!(known().await, [seen("one")]);
    let delete = async || identities.delete(&id(), &seen("one"), &|| true).await;
    delete().await.unwrap();
    assert_eq!(known().await, []);
    delete().await.unwrap();
    assert_eq!(azure.writes.lock().unwrap().len(), 2, "one PUT, one DELETE");
}

/// A write of a process before this one may still arrive: a list of before says so, and one of after is the
/// last word.
#[tokio::test(start_paused = true)]
async fn a_list_soon_after_the_start_is_not_the_last_word() {
    let (azure, identities) = world();
    let minute = Duration::from_secs(60);
    let is_unsettled = async |max_age: Duration| {
        let view = identities.view(&id(), MaxAge::strictly(max_age)).await;
        view.unsettled.includes("one")
    };
    let lists = || azure.lists.lock().unwrap().len();
    assert!(is_unsettled(minute).await);
    tokio::time::advance(ARRIVES + Duration::from_secs(5)).await;
    assert_eq!(identities.counts(minute), [(id(), 0)].into());
    assert!(is_unsettled(minute).await);
    assert_eq!(lists(), 1);
    assert!(!is_unsettled(ARRIVES).await);
    assert!(!is_unsettled(minute).await);
    assert_eq!(lists(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_given_up_leaves_its_own_credential_in_doubt_only() {
    let (azure, identities) = world();
    put(&identities, "two").await.unwrap();
    tokio::time::advance(ARRIVES).await;
    azure.script(&[(503, None)]);
    assert_eq!(
        put(&identities, "one").await,
        Err(AzureErrorKind::Unavailable)
    );
    let unsettled = identities
        .view(&id(), MaxAge::strictly(ARRIVES))
        .await
        .unsettled;
    assert!(unsettled.includes("ONE") && !unsettled.includes("two"));
    tokio::time::advance(ARRIVES).await;
    let unsettled = identities.view(&id(), NOW).await.unsettled;
    assert_eq!(unsettled, Unsettled::Nothing);
}

#[tokio::test(start_paused = true)]
async fn whoever_only_looks_waits_for_nothing() {
    let (_, identities) = world_under(Arc::new(Mandate::elected()));
    let view = identities.view(&id(), NOW).await;
    assert_eq!(view.unsettled, Unsettled::Nothing);
}

/// Whatever a process before this one had sent, it had sent when this one began.
#[tokio::test(start_paused = true)]
async fn an_identity_that_is_met_long_after_the_start_is_settled() {
    let (_, identities) = world();
    identities.view(&id(), NOW).await;
    tokio::time::advance(ARRIVES).await;
    let other = id()
        .to_string()
        .replace("airflow", "other")
        .parse()
        .unwrap();
    assert_ne!(other, id());
    let view = identities.view(&other, NOW).await;
    assert_eq!(view.unsettled, Unsettled::Nothing);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_was_made_anew_between_a_look_and_a_write_is_read_anew() {
    let (azure, identities) = world();
    let client = async || {
        let view = identities.view(&id(), NOW).await;
        view.identity.unwrap().client_id.to_string()
    };
    put(&identities, "one").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(client().await, UUID);

    azure.make_identity_anew();
    let name = "one".parse().unwrap();
    let seen = seen("one");
    identities
        .put(&id(), &name, &properties(), Some(&seen), &|| true)
        .await
        .unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(client().await, ANOTHER);
}

/// As tools do that make everything anew which is theirs: what it lacks is seen with the next look, and if it lacks
/// nothing, within an hour.
#[tokio::test(start_paused = true)]
async fn one_that_was_made_anew_with_credentials_of_the_same_names_is_read_anew() {
    const MOMENT: Duration = Duration::from_millis(1);
    let (theirs, mut changed) = (seen("theirs"), seen("theirs"));
    changed.audiences = vec!["another".into()];
    let hour = Duration::from_secs(3600);
    let table = [
        (
            vec![theirs.clone(), seen("ours")],
            vec![theirs.clone()],
            MOMENT,
        ),
        (vec![theirs.clone()], vec![changed], MOMENT),
        // All of it.
        (vec![theirs.clone()], vec![theirs], hour),
    ];
    for (before, after, noticed) in table {
        let (azure, identities) = world();
        let client = async || {
            let view = identities.view(&id(), NOW).await;
            view.identity.unwrap().client_id.to_string()
        };
        *azure.credentials.lock().unwrap() = before;
        assert_eq!(client().await, UUID);
        azure.make_identity_anew();
        *azure.credentials.lock().unwrap() = after;
        tokio::time::advance(noticed.saturating_sub(MOMENT)).await;
        if noticed == hour {
            assert_eq!(client().await, UUID);
        }
        tokio::time::advance(MOMENT).await;
        assert_eq!(client().await, ANOTHER);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_as_old_as_its_answer_and_one_that_grew_old_is_asked_for_again() {
    for (takes, age, lists) in [(0, 0, 1), (5, 5, 1), (6, 0, 2)] {
        let (azure, identities) = world();
        *azure.identity_takes.lock().unwrap() = Duration::from_secs(takes);
        let view = identities.view(&id(), NOW).await;
        assert_eq!(view.age.as_secs(), age, "the identity takes {takes} s");
        assert_eq!(azure.lists.lock().unwrap().len(), lists);
    }
}

#[tokio::test(start_paused = true)]
async fn one_looks_at_what_azure_puts_off_and_the_others_do_not_wait() {
    let (azure, identities) = world();
    azure.refuse_lists(&[(429, "15"); 100]);
    let start = Instant::now();
    let looks = (0..20).map(|_| {
        let identities = identities.clone();
        tokio::spawn(async move {
            let error = identities.view(&id(), NOW).await.credentials.unwrap_err();
            (error.kind, start.elapsed().as_secs())
        })
    });
    let mut told = Vec::new();
    for look in looks.collect::<Vec<_>>() {
        told.push(look.await.unwrap());
    }
    assert_eq!(told[0], (AzureErrorKind::Throttled, 15));
    assert_eq!(told[1..], [(AzureErrorKind::Throttled, 0); 19]);
    assert_eq!(azure.lists.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn in_a_pause_the_last_list_does_for_a_while_for_whoever_can_do_with_it() {
    let (azure, identities) = world();
    let age = MaxAge {
        wanted: Duration::from_secs(2),
        in_a_pause: Duration::from_secs(10),
    };
    identities.view(&id(), NOW).await;
    azure.refuse_lists(&[(429, "60"); 9]);
    let look = async |age| {
        let start = Instant::now();
        let view = identities.view(&id(), age).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        view.credentials.map(|_| view.age.as_secs())
    };
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(look(age).await, Ok(3));
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!(look(age).await, Ok(10));
    for age in [MaxAge::strictly(age.wanted), age] {
        tokio::time::advance(Duration::from_secs(1)).await;
        let error = look(age).await.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Throttled);
    }
    assert_eq!(azure.lists.lock().unwrap().len(), 2, "it was told at once");
}

/// A write that has waited for a second of the fifteen until it may look.
async fn put_off() -> (Arc<Identities>, JoinHandle<Result<(), AzureErrorKind>>) {
    let (azure, identities) = world();
    identities.view(&id(), NOW).await;
    tokio::time::advance(Duration::from_secs(6)).await;
    azure.refuse_lists(&[(429, "15")]);
    let writer = identities.clone();
    let waiting = tokio::spawn(async move { put(&writer, "one").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    (identities, waiting)
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_look_azure_puts_off_holds_up_nobody_who_only_looks() {
    let (identities, waiting) = put_off().await;
    let start = Instant::now();
    let view = identities.view(&id(), OF_A_MINUTE).await;
    assert_eq!(view.credentials, Ok(Vec::new()));
    let age = MaxAge {
        wanted: Duration::ZERO,
        ..OF_A_MINUTE
    };
    let view = identities.view(&id(), age).await;
    assert_eq!(view.credentials, Ok(Vec::new()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_behind_a_look_that_azure_puts_off_does_not_line_up() {
    let (identities, first) = put_off().await;
    let start = Instant::now();
    assert_eq!(
        put(&identities, "two").await,
        Err(AzureErrorKind::Throttled)
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    first.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_short_pause_of_azures_is_waited_for() {
    let (azure, identities) = world();
    azure.refuse_lists(&[(429, "3")]);
    let start = Instant::now();
    let view = identities.view(&id(), NOW).await;
    assert_eq!(view.credentials, Ok(Vec::new()));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_failure_answers_for_a_moment_for_all_that_ask() {
    let (azure, identities) = world();
    azure.refuse_lists(&[(503, "0"); 9]);
    for _ in 0..5 {
        let view = identities.view(&id(), NOW).await;
        assert_eq!(
            view.credentials.unwrap_err().kind,
            AzureErrorKind::Unavailable
        );
        assert!(view.identity.is_ok(), "it was read before the list failed");
    }
    assert_eq!(azure.lists.lock().unwrap().len(), 1);
    tokio::time::advance(Duration::from_secs(3)).await;
    identities.view(&id(), NOW).await;
    assert_eq!(azure.lists.lock().unwrap().len(), 2);
}
