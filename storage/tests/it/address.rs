//! An address is understood or refused with a sentence that says why, and never repeated.

use pageroom_storage::{DirectUrl, StoreOptions, check_address, open};

use crate::database::SqlitePlace;

#[test]
fn addresses_are_told_apart() {
    for good in [
        "memory:",
        "sqlite://pageroom.db",
        "sqlite:///var/lib/pageroom/pages.db?mode=rw",
        "postgres://user:password@host:5433/database?sslmode=require",
        "postgresql://host",
    ] {
        check_address(good, None).unwrap();
    }
    for (bad, said) in [
        ("", "must be"),
        ("secret", "must be"),
        ("mysql://root:secret@host/db", "must be"),
        ("memory:secret", "must be"),
        ("sqlite:secret", "must be"),
        ("sqlite://", "names no file"),
        ("sqlite://:memory:", "memory:"),
        ("sqlite://secret?mode=memory", "memory:"),
        ("sqlite://secret.db?journal=off", "is not usable"),
        ("postgres://u:secret@host:port/db", "is not usable"),
        ("postgres:secret", "must be"),
    ] {
        let error = check_address(bad, None).unwrap_err();
        assert_eq!(error.kind(), "address", "{bad}");
        let sentence = error.to_string();
        assert!(
            sentence.starts_with("DATABASE_URL ") && sentence.contains(said),
            "{bad}: {sentence}"
        );
        assert!(!sentence.contains("secret"), "{sentence}");
    }
}

#[test]
fn an_address_through_a_pooler_has_one_of_postgresql_itself_beside_it() {
    let direct = |url: &str| Some(DirectUrl::new(url));
    let pooled = "postgres://pooler:6432/pages";
    let refused = |url: &str, direct: Option<DirectUrl>| {
        let error = check_address(url, direct.as_ref()).unwrap_err().to_string();
        assert!(
            !error.contains("a-secret") && !format!("{direct:?}").contains("a-secret"),
            "{error}"
        );
        error
    };
    check_address(pooled, direct("postgres://u:a-secret@host/pages").as_ref()).unwrap();
    check_address(
        &format!("{pooled}?pgbouncer=true"),
        direct("postgres://host/pages").as_ref(),
    )
    .unwrap();
    let alone = refused(&format!("{pooled}?pgbouncer=true"), None);
    assert!(
        alone.starts_with("DATABASE_URL leads through PgBouncer")
            && alone.contains("PAGEROOM_DATABASE_DIRECT_URL"),
        "{alone}"
    );
    for (url, beside) in [
        ("memory:", "postgres://u:a-secret@host/pages"),
        ("sqlite://pages.db", "postgres://u:a-secret@host/pages"),
        (pooled, "postgres://u:a-secret@host:port/pages"),
        (pooled, "postgres://u:a-secret@host/pages?pgbouncer=true"),
    ] {
        let error = refused(url, direct(beside));
        assert!(error.starts_with("PAGEROOM_DATABASE_DIRECT_URL "), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_one_is_told_apart() {
    let place = SqlitePlace::new();
    let options = StoreOptions::default();

    let missing = format!("{}/deeper.db", place.url());
    let error = open(&missing, &options).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), "address", "it does not pass by itself");
    assert!(error.to_string().contains("there is no folder"), "{error}");

    std::fs::write(
        place.file(),
        "certainly not a database, but longer than a header of a hundred bytes ".repeat(9),
    )
    .unwrap();
    let error = open(&place.url(), &options).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("is no SQLite file"), "{error}");
}
