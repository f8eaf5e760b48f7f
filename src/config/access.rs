//! Where roles come from, and what is kept of who did what.

use std::time::Duration;

use clap::Args;
use hyper::Uri;

use super::auth::{AuthSettings, check_length, web_address};
use crate::access::{AccessConfig, RateLimits, SeatLimits, SourceName};
use crate::auth::{PageSpaceConfig, Secret};

/// What users whose tokens have a version are asked for in PageSpace's tables.
const PAGESPACE_VERSIONS: &str =
    r#"SELECT "tokenVersion" FROM users WHERE id = $1 AND "suspendedAt" IS NULL"#;

/// The drive of a page in PageSpace's tables.
const PAGESPACE_DRIVES: &str = r#"SELECT "driveId" FROM pages WHERE id = $1"#;

/// What users may do.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What users may do")]
pub(super) struct AccessSettings {
    /// Where a user's role on a page comes from, in this order: `token` (its claim `pages`), `store` (permissions that are set
    /// through REST), `sql` (a query on the application's own tables), `pagespace` (PageSpace's own tables), `webhook`. The first that
    /// knows the page decides.
    #[arg(
        long,
        env = "PAGEROOM_ACCESS",
        default_value = "token,store",
        value_name = "SOURCES",
        value_delimiter = ','
    )]
    access: Vec<String>,
    /// The query of source `sql`: gets the user id as `$1` and the page id as `$2`, both texts, and answers with `view`,
    /// `comment`, `edit`, `admin`, or no row.
    #[arg(long, env = "PAGEROOM_ACCESS_QUERY", value_name = "SQL")]
    access_query: Option<String>,
    /// Tells what a shared room is that was not set through REST: gets its name `room:CODE` as `$1` (the code is `substr($1, 6)`), and answers
    /// with its name for people, how many users may be in it, and when it ends (each may be NULL), or with no row.
    #[arg(long, env = "PAGEROOM_ROOM_QUERY", value_name = "SQL")]
    room_query: Option<String>,
    /// Gives the id of the drive that page `$1` belongs to, or no row: members of the drive's room hear who looks at the page, if they may see
    /// it. Source `pagespace` knows that by itself.
    #[arg(long, env = "PAGEROOM_PAGE_DRIVE_QUERY", value_name = "SQL")]
    page_drive_query: Option<String>,
    /// Tells what a page holds that has never been stored, when it is opened for the first time: gets its id as `$1`, and answers with its
    /// content and the format of that (`text`, `html`, `prosemirror`, or NULL for PAGEROOM_CONTENT_FORMAT), or with no row.
    #[arg(long, env = "PAGEROOM_CONTENT_QUERY", value_name = "SQL")]
    content_query: Option<String>,
    /// Gives the version that tokens of user `$1` must name when they name one; no row for users whose tokens are void.
    #[arg(long, env = "PAGEROOM_TOKEN_VERSION_QUERY", value_name = "SQL")]
    token_version_query: Option<String>,
    /// The application's database, for these queries; that of the pages when nothing is said.
    #[arg(
        long,
        env = "PAGEROOM_ACCESS_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    access_database_url: Option<Secret>,
    /// The address of source `webhook`: is posted `{"userId","pageId"}` and answers `{"role","expiresAt"?}`, or 404 when it does not
    /// know the page.
    #[arg(long, env = "PAGEROOM_ACCESS_WEBHOOK_URL", value_name = "URL")]
    access_webhook_url: Option<String>,
    /// Signs what the webhook is asked (header `X-Pageroom-Signature`), at least 32 bytes.
    #[arg(
        long,
        env = "PAGEROOM_ACCESS_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    access_webhook_secret: Option<Secret>,
    /// How long an answer of a source is kept. Changes that are made through Pageroom or announced count at once.
    #[arg(
        long,
        env = "PAGEROOM_ACCESS_CACHE_SECONDS",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    access_cache_seconds: u64,
    /// Looks opaque tokens (`ps_sock_`, `ps_sess_`) and token versions up in PageSpace's own tables.
    #[arg(long, env = "PAGEROOM_PAGESPACE_TOKENS", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    pagespace_tokens: bool,
    /// PageSpace's sessions end when they are not used for this long; 0 for never.
    #[arg(
        long,
        env = "SESSION_IDLE_TIMEOUT_MS",
        default_value_t = 0,
        value_name = "MILLISECONDS"
    )]
    session_idle_timeout_ms: u64,
    /// What PageSpace encrypts names of users with, at least 32 bytes.
    #[arg(long, env = "ENCRYPTION_KEY", value_name = "SECRET", hide_env_values = true)]
    encryption_key: Option<Secret>,
    /// What backends sign their messages with (header `X-Broadcast-Signature`), at least 32 bytes.
    #[arg(
        long,
        env = "REALTIME_BROADCAST_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    broadcast_secret: Option<Secret>,
    /// What a worker shows as its bearer token that tells events in workspaces (`workspace:…`) and nowhere else, at least 32 bytes.
    #[arg(
        long,
        env = "INDEXER_SERVICE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    indexer_token: Option<Secret>,
    /// How long the audit log is kept in the store; 0 keeps none there.
    #[arg(
        long,
        env = "PAGEROOM_AUDIT_RETENTION_DAYS",
        default_value_t = 90,
        value_name = "DAYS"
    )]
    audit_retention_days: u32,
    /// Writes into presence who it is of, whatever the client says: `user.id`, and `user.name` and `user.avatarUrl` when the token
    /// has them. All other fields stay.
    #[arg(long, env = "PAGEROOM_STAMP_PRESENCE", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    stamp_presence: bool,
}

impl AccessSettings {
    pub(super) fn check(
        &self,
        database_url: &Secret,
        (rates, seats): (RateLimits, SeatLimits),
        problems: &mut Vec<String>,
    ) -> AccessConfig {
        let mut sources = Vec::new();
        for name in self.access.iter().filter(|name| !name.trim().is_empty()) {
            match name.parse::<SourceName>() {
                Ok(source) if sources.contains(&source) => {
                    problems.push(format!("PAGEROOM_ACCESS names `{}` twice", name.trim()));
                }
                Ok(source) => sources.push(source),
                Err(error) => problems.push(format!("PAGEROOM_ACCESS: {error}")),
            }
        }
        if sources.is_empty() {
            problems.push("PAGEROOM_ACCESS names no source: nobody could open a page".to_owned());
        }
        let query = self.access_query.as_deref().map(statement);
        for (source, name, is_set) in [
            (SourceName::Sql, "PAGEROOM_ACCESS_QUERY", query.is_some()),
            (
                SourceName::Webhook,
                "PAGEROOM_ACCESS_WEBHOOK_URL",
                self.access_webhook_url.is_some(),
            ),
        ] {
            match (sources.contains(&source), is_set) {
                (true, false) => problems.push(format!("a source of PAGEROOM_ACCESS needs {name}")),
                (false, true) => problems.push(format!(
                    "{name} is set and PAGEROOM_ACCESS does not name its source"
                )),
                (true, true) | (false, false) => {}
            }
        }
        check_length(
            "PAGEROOM_ACCESS_WEBHOOK_SECRET",
            self.access_webhook_secret.as_ref(),
            problems,
        );
        // Applications of the same environment may have one of their own.
        let names = self.encryption_key.as_ref().filter(|_| self.pagespace_tokens);
        check_length("ENCRYPTION_KEY", names, problems);
        let versions = self.token_version_query.as_deref().map(statement);
        let versions = versions.or_else(|| self.pagespace_tokens.then(|| PAGESPACE_VERSIONS.to_owned()));
        let database_url = self.access_database_url.as_ref().unwrap_or(database_url);
        let room_query = self.room_query.as_deref().map(statement);
        let content_query = self.content_query.as_deref().map(statement);
        let reads_pagespace = sources.contains(&SourceName::PageSpace);
        let page_drive_query = self.page_drive_query.as_deref().map(statement);
        let page_drive_query =
            page_drive_query.or_else(|| reads_pagespace.then(|| PAGESPACE_DRIVES.to_owned()));
        let queries = [&query, &room_query, &page_drive_query, &content_query, &versions];
        let has_queries = reads_pagespace || queries.into_iter().any(Option::is_some);
        let is_postgres = |url: &str| url.starts_with("postgres://") || url.starts_with("postgresql://");
        if reads_pagespace && !is_postgres(database_url.expose()) {
            problems.push(
                "source `pagespace` of PAGEROOM_ACCESS needs PageSpace's PostgreSQL database in PAGEROOM_ACCESS_DATABASE_URL"
                    .to_owned(),
            );
        }
        if has_queries && let Err(error) = storage::Application::check_address(database_url.expose()) {
            problems.push(format!(
                "PAGEROOM_ACCESS_DATABASE_URL (or, where it is not set, {error})"
            ));
        }
        AccessConfig {
            sources,
            cache: Duration::from_secs(self.access_cache_seconds),
            database_url: database_url.clone(),
            query,
            room_query,
            page_drive_query,
            content_query,
            token_version_query: versions,
            webhook: self.webhook(problems),
            pagespace: self.pagespace_tokens.then(|| PageSpaceConfig {
                idle_timeout: Duration::from_millis(self.session_idle_timeout_ms),
                encryption_key: self.encryption_key.clone(),
            }),
            audit_retention: Duration::from_secs(u64::from(self.audit_retention_days) * 24 * 60 * 60),
            stamps_presence: self.stamp_presence,
            rates,
            seats,
        }
    }

    fn webhook(&self, problems: &mut Vec<String>) -> Option<(Uri, Option<Secret>)> {
        let address = self.access_webhook_url.as_deref()?;
        let uri = web_address("PAGEROOM_ACCESS_WEBHOOK_URL", address);
        let uri = uri.map_err(|problem| problems.push(problem)).ok();
        Some((uri?, self.access_webhook_secret.clone()))
    }

    pub(super) fn broadcast_secret(&self, auth: &AuthSettings, problems: &mut Vec<String>) -> Option<Secret> {
        check_length(
            "REALTIME_BROADCAST_SECRET",
            self.broadcast_secret.as_ref(),
            problems,
        );
        if self.broadcast_secret.is_some() && self.broadcast_secret == auth.jwt_secret {
            problems.push("JWT_SECRET and REALTIME_BROADCAST_SECRET are the same: whoever knows one must not know the other".to_owned());
        }
        self.broadcast_secret.clone()
    }

    pub(super) fn indexer_token(&self, problems: &mut Vec<String>) -> Option<Secret> {
        check_length("INDEXER_SERVICE_TOKEN", self.indexer_token.as_ref(), problems);
        self.indexer_token.clone()
    }
}

/// A query without what ends it.
fn statement(query: &str) -> String {
    query.trim().trim_end_matches(';').to_owned()
}
