//! The folders that a mailbox is read from: the order in which they are read, and the state of each between two fetches.
//!
//! One session serves them all. The first folder is watched with IDLE; a round that is due at the interval `every` also
//! reads the others.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::fetch::Refused;
use super::list::Backlog;
use crate::SourceError;

/// The folders of a mailbox, and the state of the current round.
pub(super) struct Rounds {
    /// In the order of the configuration; at least one.
    pub folders: Vec<ReadFolder>,
    /// The folders that the current round has not finished, by index.
    waiting: VecDeque<usize>,
    /// The beginning of the last round that read all folders.
    all_read: Option<Instant>,
}

/// The state of one folder between two fetches.
pub(super) struct ReadFolder {
    pub name: String,
    pub backlog: Option<Backlog>,
    pub refused: Option<Refused>,
    /// Why it could not be opened the last time.
    closed: Option<String>,
}

impl Rounds {
    pub fn new(names: &[String]) -> Self {
        let folder = |name: &String| ReadFolder {
            name: name.clone(),
            backlog: None,
            refused: None,
            closed: None,
        };
        Self {
            folders: names.iter().map(folder).collect(),
            waiting: VecDeque::new(),
            all_read: None,
        }
    }

    /// Returns whether there is more than one folder.
    pub fn are_several(&self) -> bool {
        self.folders.len() > 1
    }

    /// Returns the next folder to read in this round. Begins a round if the last one is over. The folder goes to the end of the round
    /// until [`Self::finish`] is called for it: neither a large folder nor one whose mail cannot be fetched makes the others
    /// wait.
    pub fn next(&mut self, every: Duration) -> usize {
        let at = match self.waiting.pop_front() {
            Some(at) => at,
            None => self.begin(every),
        };
        self.waiting.push_back(at);
        at
    }

    /// Removes a folder from the current round.
    pub fn finish(&mut self, at: usize) {
        self.waiting.retain(|it| *it != at);
    }

    /// Returns whether all folders of the current round are finished.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins a round and returns its first folder. The watched folder is the last one, so that it is open afterwards.
    fn begin(&mut self, every: Duration) -> usize {
        let watched = self.watched();
        if self.until_others(every).is_zero() {
            self.all_read = Some(Instant::now());
            let others = (0..self.folders.len()).filter(|at| Some(*at) != watched);
            self.waiting = others.collect();
        }
        self.waiting.extend(watched);
        self.waiting.pop_front().unwrap_or(0)
    }

    /// Returns the time until the folders that are not watched are read again.
    pub fn until_others(&self, every: Duration) -> Duration {
        match (self.watched(), self.all_read) {
            (Some(_), Some(at)) if self.are_several() => every.saturating_sub(at.elapsed()),
            (Some(_), _) if !self.are_several() => Duration::MAX,
            _ => Duration::ZERO,
        }
    }

    /// Returns the folder that is watched with IDLE: the first one that could be opened.
    fn watched(&self) -> Option<usize> {
        self.folders.iter().position(|it| it.closed.is_none())
    }

    /// Returns the name of the folder that is watched.
    pub fn watched_name(&self) -> String {
        let at = self.watched().unwrap_or(0);
        self.folders
            .get(at)
            .map_or_else(String::new, |it| it.name.clone())
    }

    /// Records that a folder was opened, or why it could not be. The first reason stays while the folder is closed: a server
    /// may word each refusal differently.
    pub fn note(&mut self, at: usize, closed: Option<&SourceError>) {
        if let Some(folder) = self.folders.get_mut(at) {
            folder.closed = closed.map(|error| match folder.closed.take() {
                Some(first) => first,
                None => error.to_string(),
            });
        }
    }

    /// Returns whether no folder could be opened.
    pub fn are_closed(&self) -> bool {
        self.watched().is_none()
    }

    /// Describes the folders that are not read, while others are.
    pub fn trouble(&self) -> Option<String> {
        let mut reasons = self.folders.iter().filter_map(|it| it.closed.clone());
        let first = reasons.next().filter(|_| self.are_several())?;
        Some(reasons.fold(first, |all, next| format!("{all}; {next}")))
    }

    /// Forgets what was listed, for example because the connection was lost.
    pub fn forget_backlogs(&mut self) {
        for folder in &mut self.folders {
            folder.backlog = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(3600);

    fn rounds(names: &[&str]) -> Rounds {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        Rounds::new(&names)
    }

    fn missing() -> SourceError {
        SourceError::Folder {
            folder: "A".into(),
            missing: true,
            text: "no".into(),
        }
    }

    #[test]
    fn a_single_folder_is_read_in_each_round() {
        let mut one = rounds(&["A"]);
        for _ in 0..3 {
            assert_eq!(one.next(EVERY), 0);
            assert!(!one.is_over());
            one.finish(0);
            assert!(one.is_over());
        }
        assert_eq!(one.until_others(EVERY), Duration::MAX);
        assert!(one.trouble().is_none());
    }

    #[test]
    fn the_others_take_turns_and_wait_for_their_interval() {
        let mut all = rounds(&["A", "B", "C"]);
        assert_eq!([all.next(EVERY), all.next(EVERY)], [1, 2]);
        all.finish(1);
        // C has more, and so has A.
        assert_eq!([all.next(EVERY), all.next(EVERY)], [0, 2]);
        all.finish(2);
        all.finish(0);
        assert!(all.is_over() && all.until_others(EVERY) > Duration::ZERO);
        assert_eq!(all.next(EVERY), 0);
        all.finish(0);
        assert_eq!(all.next(Duration::ZERO), 1);
    }

    #[test]
    fn the_first_open_folder_is_watched() {
        let mut all = rounds(&["A", "B"]);
        all.note(0, Some(&missing()));
        assert_eq!(all.watched_name(), "B");
        assert!(all.trouble().unwrap().contains("folder A"));
        all.note(1, Some(&missing()));
        assert!(all.are_closed() && all.until_others(EVERY).is_zero());
        // All are tried again, each in one round.
        let tried = [all.next(EVERY), all.next(EVERY)];
        assert_eq!(tried, [0, 1]);
        all.note(0, None);
        assert_eq!(all.watched_name(), "A");
    }
}
