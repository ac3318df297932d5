//! Refusals that concern a folder, as errors of the mailbox.

use postroom_exchange::ews::{Kind, Refusal};
use postroom_net::Step;

use crate::SourceError;

/// Converts a refusal to the error of a step that concerns a folder.
pub(super) trait OfFolder {
    fn for_folder(self, step: Step, folder: &str) -> SourceError;
}

impl OfFolder for Refusal {
    fn for_folder(self, step: Step, folder: &str) -> SourceError {
        match self.kind() {
            Kind::FolderMissing | Kind::ItemGone if step == Step::Select => SourceError::Folder {
                folder: folder.to_owned(),
                missing: true,
                text: self.describe(),
            },
            _ => self.into_error(step).into(),
        }
    }
}
