//! Every store keeps what the contract promises.

mod database;

mod memory {
    use pageroom_storage::{store_contract, testing::contract::MemoryPlace};

    store_contract!(async { Some(MemoryPlace::default()) });
}

mod sqlite {
    use pageroom_storage::store_contract;

    use super::database::SqlitePlace;

    store_contract!(async { Some(SqlitePlace::new()) });
}

mod postgres {
    use pageroom_storage::store_contract;

    use super::database::PostgresPlace;

    store_contract!(PostgresPlace::new());
}
