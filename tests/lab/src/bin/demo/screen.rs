//! What the demo prints: steps while it works, and what a user would type with what it answers.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Instant;

pub(crate) struct Screen {
    coloured: bool,
    start: Instant,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            coloured: io::stdout().is_terminal() && !no_color,
            start: Instant::now(),
        }
    }

    /// Something that is about to be done, with the time since the start.
    pub(crate) fn step(&self, text: &str) {
        let seconds = self.start.elapsed().as_secs_f32();
        println!("{} {text}", self.paint(DIM, &format!("{seconds:5.1} s")));
    }

    /// A question that a user has, the command that answers it, and the answer.
    pub(crate) fn answer(&self, question: &str, command: &str, answer: &str) {
        println!("\n{}", self.paint(BOLD, question));
        println!("{}", self.paint(CYAN, &format!("$ {command}")));
        println!("{}", answer.trim_end());
    }

    pub(crate) fn heading(&self, text: &str) {
        println!("\n{}", self.paint(BOLD, text));
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const CYAN: &str = "36";
