//! How long the past of which pages is kept.

use std::time::{Duration, SystemTime};

use super::{Place, append, commit_one, compact, page, rooms_of, snapshot};
use crate::{HistoryPolicy, Keep, Permission, Renaming, SharedStore};

fn policy(pages: &str, keep: Keep) -> HistoryPolicy {
    HistoryPolicy {
        pages: page(pages),
        keep,
    }
}

async fn set(store: &SharedStore, pages: &str, keep: Keep) {
    assert!(store.set_history_policy(&policy(pages, keep)).await.unwrap());
}

/// The policy that counts for a page.
async fn nearest(store: &SharedStore, id: &str) -> Option<(String, Keep)> {
    let policy = store.history_policy(&page(id)).await.unwrap()?;
    Some((policy.pages.as_str().to_owned(), policy.keep))
}

/// Rows of the page's past.
async fn rows(store: &SharedStore, id: &str) -> usize {
    let changes = store.changes(&page(id), 0, 1000).await.unwrap().unwrap();
    changes.rows.len()
}

pub async fn the_policy_of_a_page_is_its_own_one_or_that_on_the_longest_prefix(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(nearest(&store, "team/a").await, None);
    for (pages, keep) in [
        ("*", Keep::Versions(7)),
        ("team/*", Keep::Days(3)),
        ("team/", Keep::Nothing),
        ("team/a'%_\\🌍*", Keep::Everything),
        ("team/b", Keep::Days(9)),
    ] {
        set(&store, pages, keep).await;
    }
    set(&store, "team/b", Keep::Days(1)).await;
    let other = place.open().await;
    for store in [&store, &other] {
        for (id, pages, keep) in [
            ("other", "*", Keep::Versions(7)),
            ("Team/a", "*", Keep::Versions(7)),
            ("team/a", "team/*", Keep::Days(3)),
            ("team/", "team/", Keep::Nothing),
            ("team/b", "team/b", Keep::Days(1)),
            ("team/bc", "team/*", Keep::Days(3)),
            ("team/a'%_\\🌍!", "team/a'%_\\🌍*", Keep::Everything),
        ] {
            assert_eq!(nearest(store, id).await, Some((pages.to_owned(), keep)), "{id}");
        }
    }
    let listed = async |after, limit| {
        let listed = store.history_policies(after, limit).await.unwrap();
        listed
            .into_iter()
            .map(|policy| policy.pages.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 2).await, ["*", "team/"]);
    assert_eq!(
        listed(Some("team/"), 10).await,
        ["team/*", "team/a'%_\\🌍*", "team/b"]
    );
    assert!(store.remove_history_policy(&page("team/b")).await.unwrap());
    assert!(!store.remove_history_policy(&page("team/b")).await.unwrap());
    assert_eq!(
        nearest(&store, "team/b").await,
        Some(("team/*".to_owned(), Keep::Days(3)))
    );
}

pub async fn what_a_snapshot_covers_is_kept_as_the_policy_says(place: &dyn Place) {
    let store = place.open().await;
    for id in ["kept", "team/a", "team/b"] {
        commit_one(&store, append(id, ["1", "2"])).await;
    }
    set(&store, "team/*", Keep::Nothing).await;
    set(&store, "team/b", Keep::Days(1)).await;
    for (id, expected) in [("kept", 2), ("team/a", 0), ("team/b", 2)] {
        compact(&store, id, snapshot(2, "12")).await;
        assert_eq!(rows(&store, id).await, expected, "{id}");
    }
    // From then on what comes is kept, and what was not is absent.
    assert!(store.remove_history_policy(&page("team/*")).await.unwrap());
    commit_one(&store, append("team/a", ["3"])).await;
    compact(&store, "team/a", snapshot(3, "123")).await;
    assert_eq!(rows(&store, "team/a").await, 1);
    assert_eq!(store.past(&page("team/a"), 1, 1).await.unwrap(), None);
    let past = store.past(&page("team/a"), 2, 2).await.unwrap().unwrap();
    assert_eq!((past.covered, past.base.as_deref()), (2, Some(&b"12"[..])));
}

pub async fn a_policy_goes_with_its_page(place: &dyn Place) {
    let store = place.open().await;
    let rename = async |from: &str, to: &str| {
        let rooms = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())];
        let renaming = Renaming {
            from: page(from),
            to: page(to),
            rooms,
        };
        store.rename(&renaming).await.unwrap()
    };
    commit_one(&store, append("old", ["1"])).await;
    set(&store, "old*", Keep::Days(5)).await;
    set(&store, "old", Keep::Days(1)).await;
    assert!(rename("old", "new").await);
    let own = |id: &str, days| Some((id.to_owned(), Keep::Days(days)));
    assert_eq!(nearest(&store, "new").await, own("new", 1));
    assert_eq!(
        nearest(&store, "old").await,
        own("old*", 5),
        "that of others stays"
    );
    // What the new id has already, stays.
    set(&store, "third", Keep::Days(3)).await;
    assert!(rename("new", "third").await);
    assert_eq!(nearest(&store, "third").await, own("third", 3));
    assert_eq!(nearest(&store, "new").await, None);
    // A purged page leaves none.
    assert!(!store.purge(&page("third"), &rooms_of("third")).await.unwrap());
    assert_eq!(
        nearest(&store, "third").await,
        own("third", 3),
        "it was not purged"
    );
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    assert!(store.set_deleted(&page("third"), Some(now)).await.unwrap());
    assert!(store.purge(&page("third"), &rooms_of("third")).await.unwrap());
    assert_eq!(nearest(&store, "third").await, None);
}

pub async fn what_is_set_on_a_prefix_is_not_of_the_page_that_is_called_so(place: &dyn Place) {
    let store = place.open().await;
    for id in ["team*", "p"] {
        commit_one(&store, append(id, ["1"])).await;
    }
    set(&store, "team*", Keep::Days(5)).await;
    let grant = |on: &str| Permission {
        page: on.to_owned(),
        user: "ada".to_owned(),
        role: "edit".to_owned(),
        expires_at: None,
    };
    for on in ["team*", "p"] {
        store.grant(&grant(on)).await.unwrap();
    }
    let rename = async |from: &str, to: &str| {
        let room = || ("a".to_owned(), "b".to_owned());
        let renaming = Renaming {
            from: page(from),
            to: page(to),
            rooms: [room(), room()],
        };
        store.rename(&renaming).await.unwrap()
    };
    assert!(
        !rename("p", "other*").await,
        "one page's permissions would be many pages'"
    );
    assert!(!rename("team*", "q").await);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    assert!(store.set_deleted(&page("team*"), Some(now)).await.unwrap());
    assert!(store.purge(&page("team*"), &rooms_of("team*")).await.unwrap());
    let found = store.permissions_for("ada", &page("team/a")).await.unwrap();
    assert_eq!(found, [grant("team*")]);
    assert_eq!(
        nearest(&store, "team/a").await,
        Some(("team*".to_owned(), Keep::Days(5)))
    );
}
