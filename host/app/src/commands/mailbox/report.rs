//! Prints the steps of a test as they end: lines for people, or one JSON object per step.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Error;
use postroom_auth::advice::{Advice, advise_vault};
use postroom_auth::vault::VaultError;
use postroom_core::harmless::harmless;
use postroom_net::trace::{Side, Trace, TraceLine};
use postroom_net::{ProbeStep, Step};
use serde_json::json;

use crate::commands::print;
use postroom_config::Unavailable;

/// The part under test.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// A mailbox.
    In,
    /// A target.
    Out,
}

/// The error of a failed step, with advice.
pub type Failure = (String, Advice);

/// Returns the failure of a part whose secret, key or certificate is missing.
fn of_unavailable(why: Unavailable) -> Failure {
    let advice = Advice {
        text: format!("help: {}", why.help),
        steps: Vec::new(),
    };
    (why.reason, advice)
}

pub struct Report {
    json: bool,
    trace: Option<Trace>,
    part: Part,
    failed: bool,
    /// The first failure to write to stdout.
    trouble: Option<io::Error>,
}

impl Report {
    pub fn new(json: bool, trace: Option<Trace>) -> Self {
        Self {
            json,
            trace,
            part: Part::In,
            failed: false,
            trouble: None,
        }
    }

    pub fn begin(&mut self, part: Part, title: &str) -> anyhow::Result<()> {
        self.part = part;
        self.remark(title)
    }

    /// Returns whether a step failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Prints a line for people only.
    pub fn remark(&self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            print(text)?;
        }
        Ok(())
    }

    /// Prints a step of a probe with its result.
    pub fn probed<E: Display>(&mut self, step: ProbeStep<E>, advice: impl FnOnce(&E) -> Advice) {
        let outcome = step
            .outcome
            .map_err(|error| (error.to_string(), advice(&error)));
        self.step(step.step, step.elapsed, outcome);
    }

    /// Prints that a secret, key or certificate is missing.
    pub fn unavailable(&mut self, why: Unavailable) {
        self.step(
            Step::Configuration,
            Duration::ZERO,
            Err(of_unavailable(why)),
        );
    }

    /// Prints a step with its result.
    pub fn step(&mut self, step: Step, elapsed: Duration, outcome: Result<String, Failure>) {
        self.failed |= outcome.is_err();
        let text = if self.json {
            self.object(step, elapsed, &outcome).to_string()
        } else {
            self.lines(step, elapsed, &outcome)
        };
        if let Err(error) = print(text) {
            self.trouble.get_or_insert(error);
        }
    }

    fn object(
        &self,
        step: Step,
        elapsed: Duration,
        outcome: &Result<String, Failure>,
    ) -> serde_json::Value {
        let part = match self.part {
            Part::In => "in",
            Part::Out => "out",
        };
        let failure = outcome.as_ref().err();
        let mut object = json!({
            "step": step,
            "part": part,
            "ok": outcome.is_ok(),
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "detail": outcome.as_ref().ok(),
            "error": failure.map(|(error, _)| error),
            "advice": failure.map(|(_, advice)| &advice.text),
            "steps": failure.map_or(&[][..], |(_, advice)| &advice.steps),
        });
        if self.trace.is_some() {
            object["trace"] = self.said().iter().map(traced).collect();
        }
        object
    }

    fn lines(&self, step: Step, elapsed: Duration, outcome: &Result<String, Failure>) -> String {
        let (word, detail) = match outcome {
            Ok(detail) => ("ok  ", detail.as_str()),
            Err(_) => ("FAIL", ""),
        };
        let mut text = format!(
            "{word} {step:<13}{:>6} ms  {}",
            elapsed.as_millis(),
            harmless(detail)
        );
        text.truncate(text.trim_end().len());
        for line in self.said() {
            text.push_str(&format!("\n  {line}"));
        }
        if let Err((error, advice)) = outcome {
            text.push_str(&format!("\n\n{}\n\n{}\n", harmless(error), advice.text));
            for step in &advice.steps {
                text.push_str(&format!("  {step}\n"));
            }
        }
        text
    }

    fn said(&self) -> Vec<TraceLine> {
        self.trace.as_ref().map(Trace::take).unwrap_or_default()
    }

    /// Prints what was recorded after the last step.
    pub fn end(&mut self) -> anyhow::Result<()> {
        for line in self.said() {
            self.remark(&format!("  {line}"))?;
        }
        match self.trouble.take() {
            Some(trouble) => Err(trouble.into()),
            None => Ok(()),
        }
    }

    /// Reports that nothing can be tested without the vault.
    pub fn no_vault(mut self, error: Error) -> anyhow::Result<ExitCode> {
        let failure = match error.downcast::<Unavailable>() {
            Ok(why) => of_unavailable(why),
            Err(error) => {
                let vault = error.downcast::<VaultError>()?;
                (vault.to_string(), advise_vault(&vault))
            }
        };
        self.step(Step::Vault, Duration::ZERO, Err(failure));
        self.finish()
    }

    pub fn finish(mut self) -> anyhow::Result<ExitCode> {
        self.end()?;
        Ok(if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn traced(line: &TraceLine) -> serde_json::Value {
    let side = match line.side {
        Side::Client => "C",
        Side::Server => "S",
        Side::Note => "-",
    };
    json!({
        "at_ms": u64::try_from(line.at.as_millis()).unwrap_or(u64::MAX),
        "side": side,
        "text": line.text,
    })
}
