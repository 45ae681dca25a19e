//! What came out: a table for people, and the same for machines.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use serde::Serialize;

/// One line of the table.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// What was measured.
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    /// What it should be at most, or at least.
    pub goal: Option<Goal>,
    pub is_met: Option<bool>,
    /// What else was seen.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// All that was measured in one run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub machine: String,
    pub command: String,
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<Goal>,
        detail: impl Into<String>,
    ) {
        let is_met = goal.map(|goal| match goal {
            Goal::AtMost(most) => value <= most,
            Goal::AtLeast(least) => value >= least,
        });
        let figure = Figure {
            name: name.into(),
            unit,
            value,
            goal,
            is_met,
            detail: detail.into(),
        };
        println!("{}", figure.line());
        self.figures.push(figure);
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = String::from("| figure | measured | goal | |\n|---|---|---|---|\n");
        for figure in &self.figures {
            table.push_str(&figure.line());
            table.push('\n');
        }
        table
    }

    /// An error that names the goals that were not met.
    pub fn all_met(&self) -> Result<()> {
        let missed = self.figures.iter();
        let missed = missed.filter(|figure| figure.is_met == Some(false));
        let missed: Vec<_> = missed.map(|figure| figure.name.as_str()).collect();
        ensure!(missed.is_empty(), "not met: {}", missed.join("; "));
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

impl Figure {
    fn line(&self) -> String {
        let goal = match self.goal {
            Some(Goal::AtMost(most)) => format!("≤ {}", number(most)),
            Some(Goal::AtLeast(least)) => format!("≥ {}", number(least)),
            None => String::new(),
        };
        let miss = if self.is_met == Some(false) {
            " **not met**"
        } else {
            ""
        };
        let value = format!("{} {}", number(self.value), self.unit);
        format!(
            "| {} | {} | {goal}{miss} | {} |",
            self.name,
            value.trim_end(),
            self.detail
        )
    }
}

/// Three digits that tell.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// Cores, memory and processor.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned());
        value.unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    format!("{cores} cores, {processor}, {memory} of memory")
}
