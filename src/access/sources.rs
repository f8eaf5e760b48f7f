//! Where a role comes from: the token, the store, a query on the application's tables, or a webhook.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::Deserialize;
use serde_json::json;
use storage::{Application, EVERYBODY, PageId, Permission, SharedStore};

use crate::{
    auth::{Secret, signature},
    rooms::{Refusal, Role},
};

/// Longest time that a webhook may take.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer of a webhook, in bytes.
const MAX_WEBHOOK_BYTES: usize = 16 * 1024;

/// A source of roles, as it is named in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceName {
    /// The grants in the token.
    Token,
    /// Table `page_permissions`.
    Store,
    /// A configured query.
    Sql,
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
            "webhook" => Ok(Self::Webhook),
            other => Err(format!("`{other}` is no source: token, store, sql or webhook")),
        }
    }
}

/// What a source said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) role: Role,
    /// Until when it holds without being asked again.
    pub(super) until: Option<SystemTime>,
}

/// A source that is not the token.
pub(super) enum Source {
    Store(SharedStore),
    Sql {
        application: Arc<Application>,
        query: String,
    },
    Webhook(Box<Webhook>),
}

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
                narrowest(&permissions, page, now).map_err(|role| failed("store", &role))
            }
            Self::Sql { application, query } => {
                let answer = application.ask(query, &[user, page.as_str()]).await;
                let answer = answer.map_err(|error| failed("sql", &error))?;
                let role = answer.map(|name| named(&name)).transpose();
                Ok(role.map_err(|role| failed("sql", &role))?.map(forever))
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
fn narrowest(permissions: &[Permission], page: &PageId, now: SystemTime) -> Result<Option<Decision>, String> {
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
pub(super) struct Webhook {
    address: Uri,
    secret: Option<Secret>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

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
enum WebhookError {
    #[error("no answer within {WEBHOOK_TIMEOUT:?}")]
    Late,
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("its answer could not be read: {0}")]
    Answer(String),
}

impl Webhook {
    /// A webhook at this address. With a secret each question is signed.
    pub(super) fn new(address: Uri, secret: Option<Secret>) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            address,
            secret,
            client,
        }
    }

    async fn ask(
        &self,
        user: &str,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Option<Decision>, WebhookError> {
        let asking = tokio::time::timeout(WEBHOOK_TIMEOUT, self.exchange(user, page, now));
        let answer = asking.await.map_err(|_| WebhookError::Late)??;
        let Some(answer) = answer else { return Ok(None) };
        let unreadable = |error: &dyn fmt::Display| WebhookError::Answer(error.to_string());
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

    /// Asks, and reads the answer. `None` for an answer without a body. Redirections are not followed.
    async fn exchange(
        &self,
        user: &str,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Option<Bytes>, WebhookError> {
        let body = json!({ "userId": user, "pageId": page.as_str() }).to_string();
        let mut request =
            Request::post(self.address.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(
                "x-pageroom-signature",
                signature::sign(secret, now, body.as_bytes()),
            );
        }
        let request = request
            .body(Full::from(body))
            .map_err(|error| WebhookError::Answer(error.to_string()))?;
        let answer = self.client.request(request).await?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let body = Limited::new(answer.into_body(), MAX_WEBHOOK_BYTES)
                    .collect()
                    .await;
                Ok(Some(
                    body.map_err(|error| WebhookError::Answer(error.to_string()))?
                        .to_bytes(),
                ))
            }
            status => Err(WebhookError::Status(status)),
        }
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
            let decision = narrowest(permissions, &page, at(now)).expect("roles");
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
            narrowest(&wrong, &page, at(0)).is_err(),
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
        let decision = narrowest(&all, &page, at(0)).expect("roles").expect("a role");
        assert_eq!(decision.role, Role::View);
    }
}
