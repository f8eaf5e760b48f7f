//! What an error of PostgreSQL means for a caller.

use crate::{PageCommit, PageId, StoreError, error};

/// Which pages of a batch are held, by the names of those that are known and of those that are free.
pub(super) fn busy(batch: &[PageCommit], known: &[(String,)], free: &[(String,)]) -> StoreError {
    let is_in = |list: &[(String,)], page: &PageId| list.iter().any(|(name,)| name == page.as_str());
    let pages = batch
        .iter()
        .map(|entry| &entry.page)
        .filter(|page| is_in(known, page) && !is_in(free, page));
    StoreError::Busy {
        pages: pages.cloned().collect(),
    }
}

/// Codes: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    let reason = error.to_string();
    let Some(database) = error.as_database_error() else {
        return error::without_code(&error);
    };
    let code = database.code().unwrap_or_default();
    match &*code {
        "53100" => StoreError::Full { reason },
        "25006" | "42501" => StoreError::ReadOnly { reason },
        // Somebody holds a row. Who asked knows of which pages.
        "55P03" => StoreError::Busy { pages: Vec::new() },
        // No such database (yet); a statement or a transaction took too long.
        "3D000" | "57014" | "25P03" | "25P04" => StoreError::Unavailable { reason },
        // By class: connection, authorization, transaction rollback, resources, operator intervention, system.
        code => match code.get(..2) {
            Some("08" | "28" | "40" | "53" | "57" | "58") => StoreError::Unavailable { reason },
            _ => StoreError::Statement { reason },
        },
    }
}
