//! A report as people read it.

use std::fmt;

use super::report::{Change, ObjectReport, Origin, Report, Summary, Verb};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            write!(f, "{object}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {}", indented(note))?;
        }
        if self.summary != Summary::default() {
            writeln!(f, "\n{}", self.summary)?;
        }
        Ok(())
    }
}

impl fmt::Display for ObjectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() && self.problems.is_empty() {
            writeln!(f, "No changes: {} is as it should be.", self.name)?;
        } else {
            let origin = match self.origin {
                Origin::Applied => "",
                Origin::Changed => " (as the manifest changes it)",
                Origin::New => " (not applied yet)",
            };
            writeln!(
                f,
                "AirflowWorkloadIdentity {} in namespace {}{origin}",
                self.name, self.namespace
            )?;
        }
        for change in &self.changes {
            writeln!(f, "  {change}")?;
        }
        for problem in &self.problems {
            writeln!(
                f,
                "  ! {} {}: {}",
                problem.condition,
                problem.reason,
                indented(&problem.message)
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {}", indented(note))?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            Verb::Create => '+',
            Verb::Change => '~',
            Verb::Delete => '-',
            Verb::Adopt => '=',
            Verb::Leave => '.',
        };
        write!(f, "{sign} {}", self.detail)?;
        if !self.after.is_empty() {
            write!(f, " (after {})", self.after.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            create,
            change,
            delete,
            adopt,
            leave,
            problems,
        } = self;
        write!(
            f,
            "{create} to create, {change} to change, {delete} to delete, {adopt} to adopt, {leave} to leave; "
        )?;
        match problems {
            0 => write!(f, "nothing stands in the way."),
            1 => write!(f, "1 problem stands in the way."),
            more => write!(f, "{more} problems stand in the way."),
        }
    }
}

/// A message's further lines, such as a grant's YAML, stand beneath the first.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n      ")
}
