//! Structures that are read from a row, column by column, by the names of their fields.

/// Makes structures that any database of sqlx reads. sqlx's own derive would compile both drivers, and SQLite, a second time for the
/// compiler's own use.
macro_rules! columns {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$note:meta])* $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$note])* $field: $type,)*
        }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self {
                    $($field: row.try_get(stringify!($field))?,)*
                })
            }
        }
    )*};
}

pub(crate) use columns;
