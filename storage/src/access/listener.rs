//! Hears what PostgreSQL announces on [`CHANNEL`].

use std::time::Duration;

use serde::Deserialize;
use sqlx::{
    Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::timeout;

use super::{AccessChange, CHANNEL};
use crate::{StoreError, connections::open_first};

/// A database that takes longer to connect to is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that has said nothing for this long is asked whether it is still there: behind a network that drops a connection without
/// a word, changes would go unheard for ever.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// It is gone if it does not answer within this time.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(5);

/// A connection that waits for announcements. It connects at the first use and again after a failure.
pub struct AccessListener {
    /// Where to connect to, in the order in which it is tried.
    hosts: Vec<PgConnectOptions>,
    listener: Option<PgListener>,
    heartbeat: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    user_id: Option<String>,
    page_id: Option<String>,
}

impl AccessListener {
    pub(crate) fn new(hosts: Vec<PgConnectOptions>) -> Self {
        Self {
            // The server looks after its side of the connection in the same way.
            hosts: hosts
                .into_iter()
                .map(|options| {
                    options.options([
                        ("tcp_keepalives_idle", "15"),
                        ("tcp_keepalives_interval", "5"),
                        ("tcp_keepalives_count", "3"),
                    ])
                })
                .collect(),
            listener: None,
            heartbeat: HEARTBEAT,
        }
    }

    /// Asks the server whether it is there after so much silence.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }

    /// The first of the hosts that is a primary: a standby refuses to listen, and one that is not there would be asked until its time is over
    /// while nothing is heard.
    async fn host(&self) -> Result<PgConnectOptions, StoreError> {
        let nowhere = || StoreError::Unavailable {
            reason: "the address names no host".to_owned(),
        };
        let place = match self.hosts.len() {
            0 | 1 => 0,
            several => {
                let patience = CONNECT_TIMEOUT.saturating_mul(several.try_into().unwrap_or(u32::MAX));
                let late = |_| Err(sqlx::Error::PoolTimedOut);
                let opened = timeout(patience, open_first::<PgConnection>(&self.hosts, true)).await;
                let (place, connection) = opened.unwrap_or_else(late).map_err(failure)?;
                // A connection that cannot say goodbye is gone anyway.
                let _ = timeout(CONNECT_TIMEOUT, connection.close()).await;
                place
            }
        };
        self.hosts.get(place).cloned().ok_or_else(nowhere)
    }

    /// Waits for the next announcement. Whoever has (again) begun to listen is told first that everything may have changed: what
    /// was announced before was not heard. After an error the caller pauses and asks again.
    ///
    /// May be cancelled; an announcement is then heard by the next call.
    pub async fn next(&mut self) -> Result<AccessChange, StoreError> {
        let Some(listener) = &mut self.listener else {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(CONNECT_TIMEOUT)
                .connect_lazy_with(self.host().await?);
            let mut listener = PgListener::connect_with(&pool).await.map_err(failure)?;
            listener.listen(CHANNEL).await.map_err(failure)?;
            self.listener = Some(listener);
            return Ok(AccessChange::default());
        };
        let received = loop {
            if let Ok(received) = timeout(self.heartbeat, listener.try_recv()).await {
                break received;
            }
            // What is announced meanwhile is kept for the next turn.
            let asked = timeout(HEARTBEAT_PATIENCE, listener.execute("SELECT 1")).await;
            if !matches!(asked, Ok(Ok(_))) {
                break Ok(None);
            }
        };
        match received {
            Ok(Some(notification)) => Ok(parse(notification.payload())),
            // The connection broke.
            Ok(None) => {
                self.listener = None;
                Ok(AccessChange::default())
            }
            Err(error) => {
                self.listener = None;
                Err(failure(error))
            }
        }
    }
}

/// Whatever is wrong with a connection, the next one may be better.
fn failure(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable {
        reason: error.to_string(),
    }
}

/// What cannot be read may mean anything, and so means everything.
fn parse(payload: &str) -> AccessChange {
    serde_json::from_str::<Payload>(payload).map_or_else(
        |_| AccessChange::default(),
        |payload| AccessChange {
            user: payload.user_id,
            page: payload.page_id,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_narrows_only_what_it_names() {
        let change = |user: Option<&str>, page: Option<&str>| AccessChange {
            user: user.map(str::to_owned),
            page: page.map(str::to_owned),
        };
        assert_eq!(
            parse(r#"{"userId":"ada","pageId":"p"}"#),
            change(Some("ada"), Some("p"))
        );
        assert_eq!(parse(r#"{"pageId":"p","more":1}"#), change(None, Some("p")));
        for anything in ["", "{}", "ada", "[1]", r#"{"userId":7}"#] {
            assert_eq!(parse(anything), change(None, None), "{anything}");
        }
    }
}
