//! Many values in many files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use aho_corasick::AhoCorasick;

use crate::forms::forms;

/// Nobody may read it anywhere, and whose it is.
pub struct Sensitive {
    pub origin: String,
    pub value: String,
}

/// A value in one of its forms.
struct Form {
    /// Of the value.
    number: usize,
    name: &'static str,
    text: Vec<u8>,
}

pub struct Search {
    sensitive: Vec<Sensitive>,
    forms: Vec<Form>,
    /// Finds where one of the forms may end.
    ends: AhoCorasick,
}

/// So much of a form is looked for; where it is found, the rest is compared.
const END: usize = 24;

impl Search {
    pub fn new(sensitive: Vec<Sensitive>) -> Self {
        let all = sensitive.iter().enumerate();
        let all = all.flat_map(|(number, one)| {
            forms(&one.value)
                .into_iter()
                .map(move |(name, text)| Form { number, name, text })
        });
        let forms: Vec<Form> = all.collect();
        let ends = forms
            .iter()
            .map(|form| &form.text[form.text.len().saturating_sub(END)..]);
        let ends = AhoCorasick::new(ends).unwrap();
        Self {
            sensitive,
            forms,
            ends,
        }
    }

    /// One whose origin has these words.
    pub fn example(&self, words: &str) -> &Sensitive {
        let mut all = self.sensitive.iter();
        all.find(|one| one.origin.contains(words)).unwrap()
    }

    /// What of it a text holds.
    pub fn text(&self, text: &[u8]) -> Vec<String> {
        let ends = self.ends.find_overlapping_iter(text);
        let held = ends.filter(|end| {
            let form = &self.forms[end.pattern().as_usize()];
            text[..end.end()].ends_with(&form.text)
        });
        let held = held.map(|end| {
            let form = &self.forms[end.pattern().as_usize()];
            format!("{} ({})", self.sensitive[form.number].origin, form.name)
        });
        let mut held: Vec<String> = held.collect();
        held.dedup();
        held
    }

    /// What of it a file holds, with the line; counts the lines that libraries logged.
    pub fn file(&self, path: &Path, lines: &mut BTreeMap<String, usize>) -> Vec<String> {
        let mut file = BufReader::new(File::open(path).unwrap());
        let (mut line, mut number, mut found) = (Vec::new(), 0, Vec::new());
        while file.read_until(b'\n', &mut line).unwrap() > 0 {
            number += 1;
            if let Some(library) = library(&line) {
                *lines.entry(library).or_default() += 1;
            }
            let held = self.text(&line);
            found.extend(
                held.iter()
                    .map(|what| format!("{}:{number}: holds {what}", path.display())),
            );
            line.clear();
        }
        found
    }
}

/// Whose line it is, if it is at a level that is off by default.
fn library(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let target = match serde_json::from_str::<serde_json::Value>(&line) {
        Ok(line) => {
            let is_low = matches!(line["level"].as_str(), Some("TRACE" | "DEBUG"));
            is_low.then(|| line["target"].as_str().unwrap_or_default().to_owned())?
        }
        Err(_) => {
            let (_, rest) = line
                .split_once(" TRACE ")
                .or_else(|| line.split_once(" DEBUG "))?;
            // Behind the spans, which have fields.
            let is_target = |word: &&str| {
                let path = word.strip_suffix(':').unwrap_or_default();
                !path.is_empty()
                    && path
                        .chars()
                        .all(|c| c.is_alphanumeric() || "_:-".contains(c))
            };
            rest.split_whitespace().find(is_target)?.to_owned()
        }
    };
    target.split(':').next().map(str::to_owned)
}
