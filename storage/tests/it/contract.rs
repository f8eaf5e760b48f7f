//! Every store keeps what the contract promises.

mod memory {
    use pageroom_storage::{store_contract, testing::contract::MemoryPlace};

    store_contract!(async { Some(MemoryPlace::default()) });
}

mod sqlite {
    use pageroom_storage::store_contract;

    use crate::database::SqlitePlace;

    store_contract!(async { Some(SqlitePlace::new()) });
}

mod postgres {
    use pageroom_storage::store_contract;

    use crate::database::PostgresPlace;

    store_contract!(PostgresPlace::new());
}

mod pooled {
    use pageroom_storage::store_contract;

    use crate::pooler::PooledSchema;

    store_contract!(PooledSchema::new());
}
