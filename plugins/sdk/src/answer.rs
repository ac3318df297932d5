//! Return types of a rule's function, so that a short rule needs no wrapping.

use crate::{Action, Decision, Failure};

/// A return value of a rule: an action, a list of them, `None` for pass, a [`Decision`], or a result of any of these.
pub trait Answer {
    fn answer(self) -> Result<Decision, Failure>;
}

impl Answer for Decision {
    fn answer(self) -> Result<Decision, Failure> {
        Ok(self)
    }
}

impl Answer for Vec<Action> {
    fn answer(self) -> Result<Decision, Failure> {
        Ok(Decision::Actions(self))
    }
}

impl<A: Into<Action>> Answer for A {
    fn answer(self) -> Result<Decision, Failure> {
        Ok(Decision::Actions(vec![self.into()]))
    }
}

impl<A: Answer> Answer for Option<A> {
    fn answer(self) -> Result<Decision, Failure> {
        self.map_or(Ok(Decision::Pass), A::answer)
    }
}

impl<A: Answer, E: Into<Failure>> Answer for Result<A, E> {
    fn answer(self) -> Result<Decision, Failure> {
        self.map_err(Into::into)?.answer()
    }
}
