//! Each fate of a request once: between a client and Azure, and of a watch between a client and the API server.

use std::fs;
use std::time::Duration;

use lab::proxy::{Fate, Proxy, Side};
use lab::{Lab, LabOptions};
use reqwest::{Certificate, Client, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Long enough for an answer that comes, and short enough to wait for one that does not.
const A_WHILE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);

/// The emulator's page size stands for what a write changes.
struct Pages<'a> {
    lab: &'a Lab,
    http: Client,
    url: String,
}

impl Pages<'_> {
    async fn put(&self, size: u64) -> reqwest::Result<Response> {
        let body = json!({ "pageSize": size });
        self.http.put(&self.url).json(&body).send().await
    }

    async fn get(&self) -> reqwest::Result<Response> {
        self.http.get(&self.url).send().await
    }

    /// Past the proxy.
    async fn are(&self) -> Value {
        let url = format!("{}/admin/config", self.lab.emulator().url());
        let config: Value = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        config["pageSize"].clone()
    }
}

fn client(lab: &Lab) -> Client {
    let ca = fs::read(lab.emulator().ca_path()).unwrap();
    let ca = Certificate::from_pem(&ca).unwrap();
    let builder = Client::builder().tls_certs_only([ca]).no_proxy();
    builder.build().unwrap()
}

/// What comes of a body, and whether it comes to its end.
async fn read(mut answer: Response) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => read.extend(chunk),
            Ok(None) => return (read, true),
            Err(_) => return (read, false),
        }
    }
}

#[tokio::test]
async fn a_request_meets_the_fate_that_the_rule_says() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let proxy = Proxy::start(&lab).unwrap();
    let pages = Pages {
        url: format!("{}/admin/config", proxy.azure_url()),
        http: client(&lab),
        lab: &lab,
    };

    // It is passed on, and noted.
    assert_eq!(pages.put(11).await.unwrap().status(), 200);
    assert_eq!(pages.are().await, 11);
    pages.get().await.unwrap();
    let seen = proxy.seen();
    assert_eq!(
        (seen[0].side, seen[0].method.as_str(), seen[0].path.as_str()),
        (Side::Azure, "PUT", "/admin/config")
    );
    let places: Vec<_> = seen.iter().map(|seen| (seen.number, seen.write)).collect();
    assert_eq!(places, [(1, Some(1)), (2, None)]);

    // It waits before it is passed on.
    proxy.rule(|seen| match seen.write {
        Some(2) => Fate::Hold,
        _ => Fate::Pass,
    });
    {
        let mut put = Box::pin(pages.put(12));
        tokio::select! {
            held = proxy.held(|_| true) => assert_eq!(held.write, Some(2)),
            _ = &mut put => panic!("it was answered"),
        }
        assert!(timeout(A_WHILE, &mut put).await.is_err());
        assert_eq!(pages.are().await, 11);
        proxy.rule(|_| Fate::Pass);
        assert_eq!(put.await.unwrap().status(), 200);
        assert_eq!(pages.are().await, 12);
    }

    // It is passed on, and its answer waits.
    proxy.rule(|_| Fate::PassThenHold);
    {
        let mut put = Box::pin(pages.put(13));
        tokio::select! {
            held = proxy.answered(|_| true) => assert_eq!(held.write, Some(3)),
            _ = &mut put => panic!("it was answered"),
        }
        assert_eq!(pages.are().await, 13);
        assert!(timeout(A_WHILE, &mut put).await.is_err());
        proxy.rule(|_| Fate::Reset);
        assert!(put.await.is_err());
    }

    // The test answers.
    proxy.rule(|_| Fate::answer(429, &[("retry-after", "7")], "busy"));
    let answer = pages.put(14).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.text().await.unwrap(), "busy");

    // Nobody does.
    proxy.rule(|_| Fate::Hang);
    assert!(timeout(A_WHILE, pages.put(14)).await.is_err());
    proxy.rule(|_| Fate::Reset);
    let error = pages.put(14).await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
    assert_eq!(pages.are().await, 13, "nothing of that was passed on");

    // The answer is spoilt.
    proxy.rule(|_| Fate::Pass);
    let whole = pages.get().await.unwrap().bytes().await.unwrap();
    proxy.rule(|_| Fate::Truncate(5));
    let answer = pages.get().await.unwrap();
    assert_eq!(answer.content_length(), Some(whole.len() as u64));
    assert_eq!(read(answer).await, (whole[..5].to_vec(), false));
    proxy.rule(|_| Fate::Stall(5));
    let mut answer = pages.get().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), &whole[..5]);
    assert!(timeout(A_WHILE, answer.chunk()).await.is_err());
    proxy.rule(|_| Fate::Map(Box::new(|body| [&body[..], b" "].concat())));
    let answer = pages.get().await.unwrap();
    assert_eq!(read(answer).await, ([&whole[..], b" "].concat(), true));

    // What is held when the proxy ends never arrives.
    proxy.rule(|_| Fate::Hold);
    let put = pages.put(15);
    let (put, ()) = tokio::join!(put, async move {
        proxy.held(|_| true).await;
        drop(proxy);
    });
    assert!(put.is_err());
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(pages.are().await, 13);
}

#[tokio::test]
async fn a_watch_streams_until_its_connection_is_cut() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let proxy = Proxy::start(&lab).unwrap();
    let bind =
        "create clusterrolebinding watcher --clusterrole=view --serviceaccount=default:default";
    let bind: Vec<&str> = bind.split(' ').collect();
    lab.kubectl(&bind).await.unwrap();
    let issuer = lab.issuer();
    let token = lab.mint_token("default", "default", issuer).await.unwrap();
    let url = format!(
        "{}/api/v1/namespaces/default/configmaps?watch=true",
        proxy.cluster_url()
    );
    // The API server takes a moment to know the binding, and what the role says.
    let start = std::time::Instant::now();
    let mut watch = loop {
        let watch = client(&lab).get(&url).bearer_auth(&token).send();
        let watch = watch.await.unwrap();
        if watch.status() == 200 {
            break watch;
        }
        assert!(start.elapsed() < LIMIT, "{}", watch.status());
        tokio::time::sleep(A_WHILE).await;
    };
    for name in ["first", "second"] {
        lab.kubectl(&["create", "configmap", name]).await.unwrap();
        let news = async {
            let mut news = String::new();
            while !news.contains(&format!(r#""name":"{name}""#)) {
                let chunk = watch.chunk().await.unwrap().unwrap();
                news.push_str(str::from_utf8(&chunk).unwrap());
            }
        };
        timeout(LIMIT, news).await.unwrap();
    }
    assert_eq!(proxy.seen()[0].query, "watch=true");
    proxy.cut();
    assert!(timeout(LIMIT, watch.chunk()).await.unwrap().is_err());
}
