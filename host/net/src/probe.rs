//! The steps of a probe: each is named, timed and reported when it ends.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::{Proxy, Step};

/// One step of a probe.
#[derive(Debug)]
pub struct ProbeStep<E> {
    pub step: Step,
    pub elapsed: Duration,
    /// The finding, as text for people.
    pub outcome: Result<String, E>,
}

/// An error that names the step it ended.
pub trait FailedStep {
    fn failed_step(&self) -> Step;
}

/// Reports the steps of opening a session. A session that is opened for use, not for a probe, has no listener.
pub struct ProbeReporter<'t, E> {
    listener: Option<&'t mut (dyn FnMut(ProbeStep<E>) + Send)>,
    since: Instant,
    has_token: bool,
}

impl<'t, E> ProbeReporter<'t, E> {
    /// Creates a reporter without a listener.
    pub fn quiet() -> Self {
        Self {
            listener: None,
            since: Instant::now(),
            has_token: false,
        }
    }

    /// Creates a reporter that passes each step to `listener`.
    pub fn to(listener: &'t mut (dyn FnMut(ProbeStep<E>) + Send)) -> Self {
        Self {
            listener: Some(listener),
            ..Self::quiet()
        }
    }

    /// Returns whether there is a listener.
    pub fn is_probe(&self) -> bool {
        self.listener.is_some()
    }

    /// Ends the current step successfully and begins the next. `detail` is called only if there is a listener.
    pub fn passed(&mut self, step: Step, detail: impl FnOnce() -> String) {
        self.has_token |= step == Step::Token;
        if self.is_probe() {
            self.ended(step, Ok(detail()));
        }
    }

    /// Ends the step of connecting to a server, preceded by that of its proxy.
    pub fn connected(&mut self, host: &str, port: u16, proxy: Option<&Proxy>, tcp: &TcpStream) {
        match proxy {
            Some(proxy) => {
                self.passed(Step::Proxy, || proxy.to_string());
                self.passed(Step::Connect, || format!("{host}:{port} through the proxy"));
            }
            None => self.passed(Step::Connect, || {
                let peer = tcp.peer_addr().map(|peer| format!(" ({})", peer.ip()));
                format!("{host}:{port}{}", peer.unwrap_or_default())
            }),
        }
    }

    /// Ends the current step with its outcome. Returns whether it succeeded.
    pub fn ended(&mut self, step: Step, outcome: Result<String, E>) -> bool {
        let is_ok = outcome.is_ok();
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.since, now);
        if let Some(listener) = &mut self.listener {
            listener(ProbeStep {
                step,
                elapsed,
                outcome,
            });
        }
        is_ok
    }
}

impl<E: FailedStep> ProbeReporter<'_, E> {
    /// Ends the current step with an error.
    pub fn failed(&mut self, error: E) {
        let step = match error.failed_step() {
            // The server refused the first token: the second one belongs to the sign-in.
            Step::Token if self.has_token => Step::Authenticate,
            step => step,
        };
        self.ended(step, Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed(Step);

    impl FailedStep for Failed {
        fn failed_step(&self) -> Step {
            self.0
        }
    }

    fn steps(run: impl FnOnce(&mut ProbeReporter<'_, Failed>)) -> Vec<(Step, bool)> {
        let mut steps = Vec::new();
        let mut listener = |step: ProbeStep<Failed>| steps.push((step.step, step.outcome.is_ok()));
        run(&mut ProbeReporter::to(&mut listener));
        steps
    }

    #[test]
    fn a_second_token_belongs_to_the_sign_in() {
        let first = steps(|reporter| reporter.failed(Failed(Step::Token)));
        assert_eq!(first, [(Step::Token, false)]);
        let second = steps(|reporter| {
            reporter.passed(Step::Token, String::new);
            reporter.failed(Failed(Step::Token));
        });
        assert_eq!(second, [(Step::Token, true), (Step::Authenticate, false)]);
    }

    #[test]
    fn without_a_listener_no_detail_is_made() {
        let mut reporter = ProbeReporter::<Failed>::quiet();
        reporter.passed(Step::Connect, || unreachable!("nobody listens"));
        assert!(!reporter.is_probe());
    }
}
