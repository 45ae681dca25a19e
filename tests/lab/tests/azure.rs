//! Azure as the lab's tests use it: behind the operator's back.

use lab::identities::{AIRFLOW, EXCHANGE_AUDIENCE};
use lab::{Credential, Lab, LabOptions};

#[tokio::test]
async fn a_token_is_exchanged_only_while_its_account_is_federated() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let identity = AIRFLOW.resource_id();
    let subject = "system:serviceaccount:default:default";
    let token = lab
        .mint_token("default", "default", EXCHANGE_AUDIENCE)
        .await
        .unwrap();
    let scope = "https://storage.azure.com/.default";
    let exchange = || lab.emulator().exchange(AIRFLOW.client_id, &token, scope);
    assert!(exchange().await.is_err());

    let azure = lab.azure().await.unwrap();
    azure
        .put_credential(&identity, "one", lab.issuer(), subject)
        .await
        .unwrap();
    assert_eq!(
        azure.list_credentials(&identity).await.unwrap(),
        [Credential {
            name: "one".into(),
            issuer: lab.issuer().into(),
            subject: subject.into(),
            audiences: vec![EXCHANGE_AUDIENCE.into()],
        }]
    );
    assert_eq!(exchange().await.unwrap().token_type, "Bearer");

    azure.delete_credential(&identity, "one").await.unwrap();
    assert!(exchange().await.is_err());

    let counts = lab.emulator().counts().await.unwrap();
    assert_eq!(
        (counts.of("credential.put"), counts.of("credential.delete")),
        (1, 1)
    );
    let requests = lab.emulator().requests(0).await.unwrap();
    assert_eq!(requests.len() as u64, counts.total);
}
