//! Where a role comes from: the token, the store, a query on the application's tables, or a webhook.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hyper::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use storage::{Application, EVERYBODY, PageId, Permission, SharedStore};

use super::Decision;
use crate::{
    auth::{Secret, Webhook, WebhookError},
    rooms::{Refusal, Role},
};

/// Header with the signature of a question.
const SIGNATURE: &str = "x-pageroom-signature";

/// A source of roles, as it is named in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceName {
    /// The grants in the token.
    Token,
    /// Table `page_permissions`.
    Store,
    /// A configured query.
    Sql,
    /// The tables of PageSpace.
    PageSpace,
    /// A configured address.
    Webhook,
}

impl FromStr for SourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "token" => Ok(Self::Token),
            "store" => Ok(Self::Store),
            "sql" => Ok(Self::Sql),
            "pagespace" => Ok(Self::PageSpace),
            "webhook" => Ok(Self::Webhook),
            other => Err(format!(
                "`{other}` is no source: token, store, sql, pagespace or webhook"
            )),
        }
    }
}

/// A source that is not the token.
pub(super) enum Source {
    Store(SharedStore),
    Sql {
        application: Arc<Application>,
        query: String,
    },
    PageSpace(Arc<Application>),
    Webhook(Box<RoleWebhook>),
}

/// What PageSpace's tables say: a role, and until when in milliseconds since 1970.
const PAGESPACE: &str = include_str!("pagespace.sql");

impl Source {
    /// What a user may do with a page, as far as this source knows the page. What went wrong is logged here and told nobody.
    pub(super) async fn ask(
        &self,
        user: &str,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Option<Decision>, Refusal> {
        let failed = |source: &str, error: &dyn fmt::Display| {
            tracing::error!(source, %error, "a source of permissions fails; whoever asks has no access until it is back");
            Refusal::unavailable("what you may do cannot be found out now, try again")
        };
        match self {
            Self::Store(store) => {
                let permissions = store.permissions_for(user, page).await;
                let permissions = permissions.map_err(|error| failed("store", &error))?;
                most_specific(&permissions, page, now).map_err(|role| failed("store", &role))
            }
            Self::Sql { application, query } => {
                let answer = application.ask(query, &[user, page.as_str()]).await;
                let answer = answer.map_err(|error| failed("sql", &error))?;
                let role = answer.map(|name| named(&name)).transpose();
                Ok(role.map_err(|role| failed("sql", &role))?.map(forever))
            }
            Self::PageSpace(application) => {
                let row = application.row(PAGESPACE, &[user, page.as_str()]).await;
                let row = row.map_err(|error| failed("pagespace", &error))?;
                let Some([Some(role), ends]) = row else {
                    return Ok(None);
                };
                let role = named(&role).map_err(|role| failed("pagespace", &role))?;
                let ends = ends
                    .map(|ends| ends.parse().map(Duration::from_millis))
                    .transpose();
                let ends = ends.map_err(|error| failed("pagespace", &error))?;
                let until = ends.and_then(|ends| UNIX_EPOCH.checked_add(ends));
                Ok(Some(Decision { role, until }))
            }
            Self::Webhook(webhook) => {
                let answer = webhook.ask(user, page, now).await;
                answer.map_err(|error| failed("webhook", &error))
            }
        }
    }
}

fn forever(role: Role) -> Decision {
    Decision { role, until: None }
}

/// A role by its name; what is none is the source's mistake.
fn named(name: &str) -> Result<Role, String> {
    Role::from_name(name).ok_or_else(|| "an answer that is no role: view, comment, edit or admin".to_owned())
}

/// The permission that decides: the page's own id before patterns, a longer pattern before a shorter one, and then the user's
/// own before everybody's.
fn most_specific(
    permissions: &[Permission],
    page: &PageId,
    now: SystemTime,
) -> Result<Option<Decision>, String> {
    let rank = |permission: &Permission| {
        let is_page = permission.page == page.as_str();
        (is_page, permission.page.len(), permission.user != EVERYBODY)
    };
    let holds = |permission: &&Permission| permission.expires_at.is_none_or(|ends| ends > now);
    let decides = permissions
        .iter()
        .filter(holds)
        .max_by_key(|permission| rank(permission));
    let decision = |permission: &Permission| {
        Ok(Decision {
            role: named(&permission.role)?,
            until: permission.expires_at,
        })
    };
    decides.map(decision).transpose()
}

/// An address of the application that knows who may do what.
#[derive(Clone)]
pub(super) struct RoleWebhook(Webhook);

/// What a webhook answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebhookAnswer {
    role: Option<String>,
    /// Seconds since 1970.
    expires_at: Option<u64>,
}

/// What is wrong with a webhook.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("its answer could not be read: {0}")]
    Answer(String),
}

impl RoleWebhook {
    /// A webhook at this address. With a secret each question is signed.
    pub(super) fn new(address: Uri, secret: Option<Secret>) -> Self {
        Self(Webhook::new(address, SIGNATURE, secret))
    }

    async fn ask(&self, user: &str, page: &PageId, now: SystemTime) -> Result<Option<Decision>, AskError> {
        let body = json!({ "userId": user, "pageId": page.as_str() }).to_string();
        let (status, answer) = self.0.post(now, body).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(AskError::Status(status)),
        }
        let unreadable = |error: &dyn fmt::Display| AskError::Answer(error.to_string());
        let answer: WebhookAnswer = serde_json::from_slice(&answer).map_err(|error| unreadable(&error))?;
        let Some(role) = answer.role else { return Ok(None) };
        let role = named(&role).map_err(|error| unreadable(&error))?;
        let until = answer
            .expires_at
            .map(|ends| UNIX_EPOCH.checked_add(Duration::from_secs(ends)));
        let until = until.flatten();
        Ok(until
            .is_none_or(|ends| ends > now)
            .then_some(Decision { role, until }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn permission(page: &str, user: &str, role: &str, ends: Option<u64>) -> Permission {
        Permission {
            page: page.to_owned(),
            user: user.to_owned(),
            role: role.to_owned(),
            expires_at: ends.map(at),
        }
    }

    #[test]
    fn the_narrowest_permission_that_holds_decides() {
        let page = PageId::new("team/a").expect("a page id");
        let all = [
            permission("*", "ada", "admin", None),
            permission("team/*", "*", "comment", None),
            permission("team/*", "ada", "view", None),
            permission("team/a", "*", "edit", Some(200)),
            permission("team/a", "ada", "admin", Some(100)),
        ];
        let decide = |permissions: &[Permission], now| {
            let decision = most_specific(permissions, &page, at(now)).expect("roles");
            decision.map(|decision| (decision.role, decision.until))
        };
        assert_eq!(decide(&all, 99), Some((Role::Admin, Some(at(100)))));
        assert_eq!(decide(&all, 100), Some((Role::Edit, Some(at(200)))));
        assert_eq!(decide(&all, 200), Some((Role::View, None)));
        assert_eq!(decide(&all[..2], 0), Some((Role::Comment, None)));
        assert_eq!(decide(&all[..1], 0), Some((Role::Admin, None)));
        assert_eq!(decide(&[], 0), None);
        let wrong = [permission("team/a", "ada", "owner", None)];
        assert!(
            most_specific(&wrong, &page, at(0)).is_err(),
            "what is no role is no access"
        );
    }

    #[test]
    fn a_page_named_like_a_pattern_is_narrower_than_the_pattern_of_its_name() {
        let page = PageId::new("team*").expect("a page id");
        let all = [
            permission("team**", "ada", "admin", None),
            permission("team*", "ada", "view", None),
        ];
        let decision = most_specific(&all, &page, at(0)).expect("roles").expect("a role");
        assert_eq!(decision.role, Role::View);
    }
}
