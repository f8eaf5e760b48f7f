//! Which drive a page belongs to, as the application's tables say.

use storage::PageId;

use super::{
    Access,
    answers::{Answer, Question},
};
use crate::rooms::{Refusal, RoomKind, RoomName};

impl Access {
    /// Whether the application can be asked for the drives of pages.
    pub fn knows_drives(&self) -> bool {
        self.0.drives.is_some()
    }

    /// The room of the drive that a page belongs to; `None` when it belongs to none, or nobody can be asked.
    ///
    /// # Errors
    /// When that cannot be found out now.
    pub async fn drive_of(&self, page: &PageId) -> Result<Option<RoomName>, Refusal> {
        let Some((application, query)) = &self.0.drives else {
            return Ok(None);
        };
        let question = Question::Drive(self.stamp(None), page.clone());
        let asking = async || {
            let drive = application.ask(query, &[page.as_str()]).await.map_err(|error| {
                tracing::error!(%page, %error, "PAGEROOM_PAGE_DRIVE_QUERY fails; the drive does not hear who looks at the page");
                Refusal::unavailable("the drive of the page cannot be found out now, try again")
            })?;
            let room = drive.and_then(|id| RoomName::with_prefix("drive:", &id));
            Ok(Answer::Drive(room.filter(|room| room.kind() == RoomKind::Drive)))
        };
        match self.0.answers.get(question, asking).await? {
            Answer::Drive(drive) => Ok(drive),
            Answer::Role(_)
            | Answer::User(..)
            | Answer::Whereabouts(_)
            | Answer::Room(_)
            | Answer::IsRemoved(_) => Ok(None),
        }
    }
}
