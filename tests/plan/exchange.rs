//! Whether Entra takes the accounts' tokens: what is tried, and what the user reads of it.

use std::time::Duration;

use airflow_workload_identity::{
    api::{AirflowWorkloadIdentityStatus, Reason},
    apply::{Outcome, StepResult},
    azure::{AzureError, AzureErrorKind},
    exchange::{NotVerified, TokenExchange},
    observe::{Exchange, Snapshot, exchanges_of},
    plan::plan,
    problem::{Problem, Retry},
    status::{exchanges_in, problems, status},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::given::*;

const SUBJECT: &str = "system:serviceaccount:airflow:airflow-worker";

type Change = fn(&mut Snapshot);

fn refusal(code: &str) -> NotVerified {
    NotVerified::Refused(AzureError {
        status: Some(401),
        code: Some(code.into()),
        message: format!("AADSTS{code}: no."),
        ..azure_error(AzureErrorKind::Unauthenticated)
    })
}

/// A converged world in which every account was tried, with this result.
fn tried(result: &Result<(), NotVerified>) -> Snapshot {
    let mut world = converged();
    try_all(&mut world, result);
    world
}

fn try_all(world: &mut Snapshot, result: &Result<(), NotVerified>) {
    let exchange = |of: TokenExchange| {
        let exchange = Exchange {
            of: of.clone(),
            result: result.clone(),
            again_in: Duration::from_secs(77),
        };
        (of.account, exchange)
    };
    world.exchanges = Some(exchanges_of(world).into_iter().map(exchange).collect());
}

/// As if somebody else had written the credentials.
fn foreign(mut world: Snapshot) -> Snapshot {
    for account in &mut world.object.status.as_mut().unwrap().service_accounts {
        account.federated_at = None;
    }
    world
}

/// Seconds after the credentials were written.
fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn read(world: &Snapshot, now: Timestamp) -> AirflowWorkloadIdentityStatus {
    let plan = plan(world);
    let outcome = Outcome {
        results: vec![StepResult::Done; plan.steps.len()],
        ..Outcome::default()
    };
    assert_eq!(
        problems(&plan, &outcome),
        [],
        "a pass goes well all the same"
    );
    status(world, &plan, &outcome, now)
}

fn of_type(status: &AirflowWorkloadIdentityStatus, type_: &str) -> Option<Condition> {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|condition| condition.type_ == type_)
        .cloned()
}

/// Status, reason and message of the condition.
fn told(world: &Snapshot, now: Timestamp) -> (String, String, String) {
    let condition = of_type(&read(world, now), "ExchangeVerified").unwrap();
    (condition.status, condition.reason, condition.message)
}

fn is(world: &Snapshot, now: Timestamp, status: &str, reason: &str) -> String {
    let (is, why, message) = told(world, now);
    assert_eq!((is.as_str(), why.as_str()), (status, reason), "{message}");
    message
}

#[test]
fn each_code_of_entras_is_a_reason_and_a_sentence_with_the_values() {
    let list = id("airflow").az_list();
    let issuer = issuer().to_string();
    let discovery = "https://oidc.example/cluster/.well-known/openid-configuration";
    let show = format!("az identity show --ids {}", id("airflow"));
    let delete = id("airflow").az_delete(&derived("airflow-worker"));
    let table: [(&str, &str, &[&str]); 15] = [
        (
            "70021",
            "NoMatchingCredential",
            &[&issuer, SUBJECT, AUDIENCE, &list],
        ),
        ("70025", "NoCredentials", &[CLIENT, &show, &list]),
        ("700211", "IssuerNotTrusted", &[&issuer, &list, "--issuer"]),
        (
            "700212",
            "AudienceNotTrusted",
            &[AUDIENCE, &list, "--federation-audience"],
        ),
        ("700213", "SubjectNotTrusted", &[SUBJECT, &list]),
        ("7002138", "SubjectCaseDiffers", &[SUBJECT, &delete]),
        ("700016", "ClientNotFound", &[CLIENT, TENANT, &show]),
        (
            "7000272",
            "SigningKeyUnknown",
            &[&issuer, discovery, "/openid/v1/jwks"],
        ),
        ("700024", "TokenTimeInvalid", &[SUBJECT, "date -u"]),
        ("50166", "IssuerUnreachable", &[discovery]),
        ("501661", "IssuerUnreachable", &[discovery]),
        ("90061", "IssuerUnreachable", &[discovery]),
        ("7002381", "EntraPolicy", &[TENANT, &issuer, CLIENT]),
        ("4711", "ExchangeRefused", &[SUBJECT, CLIENT, TENANT]),
        ("4711,700213", "SubjectNotTrusted", &[SUBJECT]),
    ];
    for (code, reason, values) in table {
        let mut world = foreign(converged());
        try_all(&mut world, &Err(refusal(code)));
        let message = is(&world, at(0), "False", reason);
        let entras = format!("ServiceAccount airflow-worker: AADSTS{code}: no. ");
        for value in values.iter().chain(&[entras.as_str()]) {
            assert!(message.contains(value), "{code} lacks {value}\n{message}");
        }
    }
}

#[test]
fn a_new_credential_is_given_time_and_then_the_fault_has_its_name() {
    for code in [
        "70021", "70025", "700016", "700211", "700212", "700213", "7002138",
    ] {
        let world = tried(&Err(refusal(code)));
        let message = is(&world, at(299), "Unknown", "Propagating");
        assert!(message.contains("Until 1970-01-01T00:05:00Z"), "{message}");
        assert!(message.contains(&format!("AADSTS{code}")), "{message}");
        let (status, reason, _) = told(&world, at(300));
        assert_eq!(status, "False", "{code}");
        assert_ne!(reason, "Propagating", "{code}");
    }
}

#[test]
fn the_keys_of_a_new_issuer_are_given_longer() {
    let mut world = tried(&Err(refusal("7000272")));
    is(&world, at(40 * 60 - 1), "Unknown", "Propagating");
    is(&world, at(40 * 60), "False", "SigningKeyUnknown");
    // Another account came later: the issuer is as old as the first one's credential.
    let status = world.object.status.as_mut().unwrap();
    let written = status.service_accounts[1].federated_at.as_mut().unwrap();
    written.0 = at(40 * 60);
    try_all(&mut world, &Ok(()));
    let exchanges = world.exchanges.as_mut().unwrap();
    exchanges.get_mut("airflow-worker").unwrap().result = Err(refusal("7000272"));
    is(&world, at(40 * 60 + 1), "False", "SigningKeyUnknown");
}

#[test]
fn what_no_delay_explains_is_told_at_once() {
    for code in ["700024", "50166", "501661", "90061", "7002381", "4711"] {
        let (status, reason, message) = told(&tried(&Err(refusal(code))), at(16));
        assert_eq!(status, "False", "{code} {reason}: {message}");
    }
}

#[test]
fn a_clock_that_was_set_back_gives_no_time_for_ever() {
    let mut world = tried(&Err(refusal("700213")));
    // What was written in the future was written now.
    let status = read(&world, at(-3600));
    let mut accounts = status.service_accounts.iter();
    assert!(accounts.all(|account| account.federated_at == Some(Time(at(-3600)))));
    world.object.status = Some(status);
    try_all(&mut world, &Err(refusal("700213")));
    is(&world, at(-3600 + 299), "Unknown", "Propagating");
    is(&world, at(-3600 + 300), "False", "SubjectNotTrusted");
    is(&world, at(-7200), "Unknown", "Waiting");
}

#[test]
fn entra_is_not_asked_too_early() {
    let world = converged();
    let of = &exchanges_of(&world)[0];
    assert_eq!(of.settles_in(at(5)), Some(Duration::from_secs(10)));
    assert_eq!(of.settles_in(at(15)), None);
    let problem = of.problem(&NotVerified::TooEarly, at(5));
    assert_eq!(problem.reason, Reason::Propagating);
    assert_eq!(problem.retry, Retry::After(Duration::from_secs(10)));
    is(
        &tried(&Err(NotVerified::TooEarly)),
        at(5),
        "Unknown",
        "Propagating",
    );
    let of = &exchanges_of(&foreign(world))[0];
    assert_eq!(
        of.settles_in(at(5)),
        None,
        "it may have been there for long"
    );
}

#[test]
fn what_passes_by_itself_is_tried_soon_and_what_somebody_has_to_do_seldom() {
    let unavailable = NotVerified::Refused(azure_error(AzureErrorKind::Unavailable));
    let throttled = NotVerified::Refused(AzureError {
        retry_after: Some(Duration::from_secs(9)),
        ..azure_error(AzureErrorKind::Throttled)
    });
    let table = [
        (unavailable, 16, "AzureUnavailable", Retry::Backoff),
        (
            throttled,
            16,
            "AzureThrottled",
            Retry::After(Duration::from_secs(9)),
        ),
        (
            refusal("700213"),
            16,
            "Propagating",
            Retry::After(Duration::from_secs(20)),
        ),
        (refusal("700213"), 600, "SubjectNotTrusted", Retry::Slow),
    ];
    for (error, now, reason, retry) in table {
        let world = tried(&Err(error.clone()));
        let status = if reason == "SubjectNotTrusted" {
            "False"
        } else {
            "Unknown"
        };
        is(&world, at(now), status, reason);
        let problem = exchanges_of(&world)[0].problem(&error, at(now));
        assert_eq!(problem.retry, retry, "{reason}");
    }
}

#[test]
fn all_taken_is_true_and_one_refused_is_false() {
    let mut world = tried(&Ok(()));
    is(&world, at(16), "True", "Done");
    let exchanges = world.exchanges.as_mut().unwrap();
    exchanges.get_mut("airflow-worker").unwrap().result = Err(refusal("700024"));
    let message = is(&world, at(16), "False", "TokenTimeInvalid");
    assert!(!message.contains("airflow-scheduler"), "{message}");
    let forbidden = Problem::on_change(Reason::TokenRequestForbidden, "no");
    let exchanges = world.exchanges.as_mut().unwrap();
    exchanges.get_mut("airflow-scheduler").unwrap().result = Err(NotVerified::NoToken(forbidden));
    is(&world, at(16), "False", "TokenTimeInvalid");
}

#[test]
fn ready_says_that_the_operators_own_work_is_done_and_waits_for_no_exchange() {
    let status = read(&tried(&Err(refusal("700024"))), at(16));
    assert_eq!(of_type(&status, "Ready").unwrap().status, "True");
    assert_eq!(status.accounts.as_deref(), Some("2/2"));
}

#[test]
fn nothing_changed_is_the_same_status_to_the_letter() {
    for result in [Ok(()), Err(refusal("700213")), Err(NotVerified::TooEarly)] {
        let mut world = tried(&result);
        let first = read(&world, at(16));
        world.object.status = Some(first.clone());
        assert_eq!(read(&world, at(17)), first);
    }
}

#[test]
fn without_the_flag_there_is_no_such_condition_and_an_old_one_goes() {
    assert_eq!(
        of_type(&read(&converged(), at(16)), "ExchangeVerified"),
        None
    );
    let mut world = tried(&Ok(()));
    world.object.status = Some(read(&world, at(16)));
    let mut suspended = world.clone();
    suspended.object.spec.suspend = true;
    let status = |world: &Snapshot| status(world, &plan(world), &Outcome::default(), at(20));
    let of = |world: &Snapshot| of_type(&status(world), "ExchangeVerified");
    assert!(of(&suspended).is_some(), "it is what it was");
    world.exchanges = None;
    suspended.exchanges = None;
    assert_eq!(of(&world), None);
    assert_eq!(of(&suspended), None);
}

#[test]
fn only_what_is_done_granted_and_still_the_same_is_tried() {
    let names = |world: &Snapshot| -> Vec<String> {
        let all = exchanges_of(world).into_iter();
        all.map(|of| of.account).collect()
    };
    let world = converged();
    assert_eq!(names(&world), ["airflow-scheduler", "airflow-worker"]);
    assert_eq!(names(&fresh()), [""; 0], "nothing is done yet");

    let ways: [(&str, Change); 7] = [
        ("suspended", |w| w.object.spec.suspend = true),
        ("deleted", |w| {
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0));
            w.object.metadata.deletion_timestamp = Some(now);
        }),
        ("not granted", |w| w.grants.clear()),
        ("another identity", |w| move_to(w, "other")),
        ("no such account", |w| w.discovery.accounts.clear()),
        ("accounts made anew", |w| {
            for name in ["airflow-scheduler", "airflow-worker"] {
                account(w, name, |state| state.uid = "another".into());
            }
        }),
        ("not annotated", |w| {
            let status = w.object.status.as_mut().unwrap();
            status
                .service_accounts
                .iter_mut()
                .for_each(|a| a.annotated = false);
        }),
    ];
    for (what, change) in ways {
        let mut world = converged();
        change(&mut world);
        // The other identity has another client ID.
        if let Some(view) = world.azure.get_mut(&id("other")) {
            view.identity.as_mut().unwrap().client_id = uuid::Uuid::nil();
        }
        assert_eq!(names(&world), [""; 0], "{what}");
    }
}

#[test]
fn a_credential_that_is_written_anew_is_tried_anew() {
    let mut world = tried(&Ok(()));
    let wait = |world: &Snapshot| exchanges_in(world, &read(world, at(7200)));
    assert_eq!(wait(&world), Some(Duration::from_secs(77)));
    azure(&mut world, "airflow", Vec::clear);
    let message = is(&world, at(7200), "Unknown", "Waiting");
    assert!(message.contains("is tried as soon as"), "{message}");
    assert_eq!(wait(&world), Some(Duration::from_secs(1)));
}

#[test]
fn what_cannot_be_tried_makes_no_pass_come() {
    let mut world = converged();
    world.exchanges = Some([].into());
    assert_eq!(exchanges_in(&world, &read(&world, at(16))), None);
    world.exchanges = None;
    assert_eq!(exchanges_in(&world, &read(&world, at(16))), None);
}

#[test]
fn what_is_not_done_waits() {
    let mut world = tried(&Ok(()));
    world.grants.clear();
    try_all(&mut world, &Ok(()));
    let plan = plan(&world);
    let status = status(&world, &plan, &Outcome::default(), at(16));
    let condition = of_type(&status, "ExchangeVerified").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("Unknown", "Waiting")
    );
}
