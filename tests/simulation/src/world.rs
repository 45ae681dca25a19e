//! What all parts of a run share: the cluster, Azure, the rules, the trace, and the seed's dice.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::azure::Azure;
use crate::met::{Event, Met};
use crate::rules::Rules;
use crate::weather::{Fate, Weather};

/// Lines of the trace that are kept for a failure.
const KEPT: usize = 150;

pub struct World {
    state: Mutex<State>,
    /// The cluster changed. A channel of tokio's would wake the watches in an order that is the
    /// process's, not the seed's.
    pub news: Notify,
    pub azure: Azure,
    /// Whether the operators try if Entra takes the accounts' tokens.
    pub verifies: bool,
}

pub struct State {
    pub rng: Rng,
    pub api: ApiServer,
    pub weather: Weather,
    pub rules: Rules,
    pub trace: Trace,
    pub met: Met,
}

/// What happened, the latest last.
pub struct Trace {
    start: Instant,
    lines: VecDeque<String>,
    /// Printed as they come, too.
    is_told: bool,
    /// Of all lines, to see whether two runs are the same.
    pub hash: u64,
}

impl World {
    /// `is_told`: the whole trace is printed.
    pub fn new(mut rng: Rng, is_told: bool) -> Arc<Self> {
        let weather = Weather::draw(&mut rng);
        let throttle = rng.u32(..6) == 0;
        let verifies = rng.u32(..3) == 0;
        let propagation_ms = [0, 3_000, 30_000, 90_000][rng.usize(..4)];
        Arc::new(Self {
            state: Mutex::new(State {
                api: ApiServer::new(),
                rules: Rules::new(weather.longest()),
                weather,
                trace: Trace {
                    start: Instant::now(),
                    lines: VecDeque::new(),
                    is_told,
                    hash: 0,
                },
                met: Met::default(),
                rng,
            }),
            news: Notify::new(),
            azure: Azure::new(throttle, propagation_ms),
            verifies,
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, line: impl FnOnce() -> String) {
        self.state().trace.tell(line);
    }

    pub fn met(&self, event: Event) {
        self.state().met.add(event);
    }

    /// What becomes of a request.
    pub fn fate<T>(&self, request: &http::Request<T>) -> Fate {
        let state = &mut *self.state();
        let is_write = request.method() != http::Method::GET;
        state.weather.fate(&mut state.rng, is_write)
    }

    /// Sends a request of a person's to the cluster: it arrives at once.
    pub fn kubectl(&self, request: &http::Request<Vec<u8>>) -> (u16, Value) {
        let answer = {
            let state = &mut *self.state();
            let before = state.api.changes().len();
            let answer = state.api.answer(request, Timestamp::now());
            state.rules.note_changes(&state.api, before, None);
            state.trace.tell(|| {
                let (method, path) = (request.method(), request.uri());
                let body = String::from_utf8_lossy(request.body());
                format!("person: {method} {path} {body} → {}", answer.status())
            });
            answer
        };
        self.news.notify_waiters();
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        (answer.status().as_u16(), body)
    }
}

impl State {
    /// The cluster's tokens have this issuer from now on.
    pub fn move_to(&mut self, issuer: &str) {
        self.rules.issuers.insert(issuer.into());
        self.api.set_issuer(issuer);
    }
}

impl Trace {
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let mut text = format!("{:>9.3}  ", self.start.elapsed().as_secs_f64());
        let _ = write!(text, "{}", line());
        for byte in text.bytes() {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_told {
            println!("{text}");
        }
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    pub fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
