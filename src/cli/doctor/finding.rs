//! What was found, one finding a line: the same for text and JSON.

use std::fmt;

use serde::Serialize;

use crate::{cli::exit::Found, problem::ClusterError};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing, or not to be seen from here.
    Warning,
    /// Wrong.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Which check says so.
    pub check: &'static str,
    /// What was looked at, as `<kind>/<name>` where it is an object.
    pub object: String,
    /// How it is.
    pub what: String,
    /// Why it is so, or why that matters.
    pub why: Option<String>,
    /// What to do, with the exact command, label, value or YAML.
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, object: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            check,
            object: object.into(),
            what: what.into(),
            why: None,
            fix: None,
        }
    }

    /// The same, at this level.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// The same, for this reason.
    #[must_use]
    pub fn why(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    /// The same, with this way out.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }

    /// The same, with reason and way out of a condition's message: those say first what is wrong, and
    /// then what to do.
    #[must_use]
    pub fn told(self, message: &str) -> Self {
        match message.split_once(". ") {
            Some((why, fix)) => self.why(why).fix(fix),
            None => self.why(message),
        }
    }

    /// Something that cannot be looked at.
    #[must_use]
    pub fn unread(check: &'static str, unread: &Unread) -> Self {
        Self::ok(check, &unread.object, "cannot be looked at")
            .at(Level::Warning)
            .why(&unread.error)
            .fix(match &unread.right {
                Some(right) => format!("Ask for the right to {right}, or run this as who has it"),
                None => "Try again".into(),
            })
    }
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What.
    pub object: String,
    /// What the API server said.
    pub error: String,
    /// The right that is missing, if that is all.
    pub right: Option<String>,
}

/// What was read, or why it could not be.
pub type Read<T> = Result<T, Unread>;

impl Unread {
    /// The API server did not let it be read, or did not answer. `right` is what it takes.
    #[must_use]
    pub fn new(object: impl Into<String>, right: &str, error: &ClusterError) -> Self {
        Self {
            object: object.into(),
            error: error.to_string(),
            right: error.is_status(403).then(|| right.to_owned()),
        }
    }
}

/// All findings.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// In the order in which they were looked for.
    pub findings: Vec<Finding>,
    /// How many of each level.
    pub summary: Summary,
}

/// How many findings there are of each level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// As it should be.
    pub ok: usize,
    /// Worth knowing.
    pub warnings: usize,
    /// Wrong.
    pub errors: usize,
}

impl Diagnosis {
    /// Adds it up.
    #[must_use]
    pub fn new(findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|f| f.level == level).count();
        let summary = Summary {
            ok: count(Level::Ok),
            warnings: count(Level::Warning),
            errors: count(Level::Error),
        };
        Self { findings, summary }
    }

    /// In one word.
    #[must_use]
    pub fn found(&self) -> Found {
        match self.summary.errors {
            0 => Found::Nothing,
            _ => Found::Problems,
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Summary {
            ok,
            warnings,
            errors,
        } = self.summary;
        writeln!(f, "\n{ok} ok, {warnings} to know, {errors} wrong")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warn",
            Level::Error => "FAIL",
        };
        let sentences = [Some(&self.what), self.why.as_ref()];
        let told: Vec<String> = sentences.into_iter().flatten().map(sentence).collect();
        let fix = self.fix.iter().cloned();
        let text: Vec<String> = told.into_iter().chain(fix).collect();
        write!(
            f,
            "{level:<4}  {check:<11}  {object}: {text}",
            check = self.check,
            object = self.object,
            text = text.join(" ").trim_end().replace('\n', "\n        "),
        )
    }
}

fn sentence(text: &String) -> String {
    match text.chars().last() {
        Some('.' | ':' | '?') => text.clone(),
        _ => format!("{text}."),
    }
}
