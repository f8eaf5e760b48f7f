//! Brings the tables of a database up to date, and refuses to work with tables it does not know.

use sqlx::migrate::{Migrate, MigrateError, Migrator};

use crate::StoreError;

/// Where a database keeps which migrations it has had. Not sqlx's own default name: the database may be shared with an
/// application that uses it.
pub(crate) const TABLE: &str = "pageroom_migrations";

/// Whether the tables are what this program expects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    Current,
    Outdated,
}

/// Compares what a database has had with what this program brings. Reads only, so a role that may not create tables can start
/// on tables that are up to date, and so can a server on a file that has become read-only. `exists` says whether [`TABLE`] does.
pub(crate) async fn compare<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
    exists: bool,
) -> Result<State, MigrateError> {
    if !exists {
        return Ok(State::Outdated);
    }
    let applied = connection.list_applied_migrations(TABLE).await?;
    for migration in &applied {
        match migrator.iter().find(|known| known.version == migration.version) {
            None => return Err(MigrateError::VersionMissing(migration.version)),
            Some(known) if known.checksum != migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version));
            }
            Some(_) => {}
        }
    }
    if applied.len() < migrator.iter().count() {
        Ok(State::Outdated)
    } else {
        Ok(State::Current)
    }
}

/// The refusal to work with outdated tables.
pub(crate) fn outdated() -> StoreError {
    StoreError::Migration {
        reason: "its tables are older than this program: run `pageroom migrate`".to_owned(),
    }
}

/// What went wrong, told apart by `driver` when it was the database rather than the migrations.
pub(crate) fn failure(error: MigrateError, driver: impl Fn(sqlx::Error) -> StoreError) -> StoreError {
    let reason = if let MigrateError::VersionMissing(version) = error {
        format!("it has had migration {version}, which this program does not know: use a newer pageroom")
    } else {
        error.to_string()
    };
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        let cause = driver(error);
        if !matches!(cause, StoreError::Statement { .. }) {
            return cause;
        }
    }
    StoreError::Migration { reason }
}
