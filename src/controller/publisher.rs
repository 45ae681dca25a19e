//! Events go out beside the passes, one after the other: nobody waits for news, and thousands at once do not
//! keep the API server from work.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use tokio::sync::mpsc;

use crate::{api::OPERATOR, problem::bounded};

/// Events that wait; more are lost.
const WAITING: usize = 10_000;
/// A recorder remembers all events of the last minutes to count repetitions, and looks through them each time.
const REMEMBERED: usize = 500;

/// Where passes leave their events.
#[derive(Clone)]
pub(super) struct News(mpsc::Sender<(Event, ObjectReference)>);

/// Who sends them.
pub(super) struct Publisher {
    client: Client,
    waiting: mpsc::Receiver<(Event, ObjectReference)>,
}

/// Both ends.
pub(super) fn news(client: Client) -> (News, Publisher) {
    let (sender, waiting) = mpsc::channel(WAITING);
    (News(sender), Publisher { client, waiting })
}

impl News {
    /// An event is news, not state: one that is lost is not sent again.
    pub fn publish(&self, event: Event, about: ObjectReference) {
        if self.0.try_send((event, about)).is_err() {
            tracing::debug!("an event is lost: too many wait");
        }
    }
}

impl Publisher {
    /// Sends events until nobody has any more.
    pub async fn run(mut self) {
        let mut recorder = self.recorder();
        let mut remembered = 0;
        while let Some((event, about)) = self.waiting.recv().await {
            if remembered == REMEMBERED {
                (recorder, remembered) = (self.recorder(), 0);
            }
            remembered += 1;
            if let Err(error) = bounded(recorder.publish(&event, &about)).await {
                tracing::debug!("cannot publish an event: {error}");
            }
        }
    }

    fn recorder(&self) -> Recorder {
        let reporter = Reporter {
            controller: OPERATOR.into(),
            instance: std::env::var("POD_NAME").ok(),
        };
        Recorder::new(self.client.clone(), reporter)
    }
}
