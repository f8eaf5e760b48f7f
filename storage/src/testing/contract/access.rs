//! What is kept of people: permissions, sign-outs, and what was done.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Place, page};
use crate::{AuditEntry, AuditQuery, LastSeen, Permission, UserRecord};

fn permission(page: &str, user: &str, role: &str, expires_at: Option<SystemTime>) -> Permission {
    Permission {
        page: page.to_owned(),
        user: user.to_owned(),
        role: role.to_owned(),
        expires_at,
    }
}

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

pub async fn permissions_cover_a_page_by_its_id_and_by_prefix(place: &dyn Place) {
    let store = place.open().await;
    for (name, user, role) in [
        ("team/a", "ada", "edit"),
        ("team/*", "ada", "view"),
        ("team/a*", "*", "comment"),
        ("*", "ada", "view"),
        ("team/a/*", "ada", "admin"),
        ("team/a", "bob", "admin"),
        ("Team/a", "ada", "admin"),
        ("team/_", "ada", "admin"),
        ("team/%", "ada", "admin"),
    ] {
        store.grant(&permission(name, user, role, None)).await.unwrap();
    }
    let found = async |user: &str, id: &str| {
        let found = store.permissions_for(user, &page(id)).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|found| (found.page, found.user)).collect();
        found.sort();
        found
    };
    let pair = |page: &str, user: &str| (page.to_owned(), user.to_owned());
    assert_eq!(
        found("ada", "team/a").await,
        [
            pair("*", "ada"),
            pair("team/*", "ada"),
            pair("team/a", "ada"),
            pair("team/a*", "*")
        ]
    );
    assert_eq!(found("eve", "team/ab").await, [pair("team/a*", "*")]);
    assert_eq!(found("eve", "tea").await, []);
    assert_eq!(found("a' OR '1' = '1", "team/b").await, []);
}

pub async fn what_a_user_has_permissions_on_is_listed(place: &dyn Place) {
    let store = place.open().await;
    for (name, user) in [
        ("team/*", "ada"),
        ("team/*", "*"),
        ("p", "bob"),
        ("b", "*"),
        ("a", "ada"),
        ("A", "ada"),
    ] {
        store.grant(&permission(name, user, "view", None)).await.unwrap();
    }
    assert_eq!(
        store.permitted("ada", 10).await.unwrap(),
        ["A", "a", "b", "team/*"]
    );
    assert_eq!(store.permitted("ada", 2).await.unwrap(), ["A", "a"]);
    assert_eq!(store.permitted("eve", 10).await.unwrap(), ["b", "team/*"]);
    store.revoke("team/*", "ada").await.unwrap();
    store.revoke("team/*", "*").await.unwrap();
    assert_eq!(store.permitted("ada", 10).await.unwrap(), ["A", "a", "b"]);
}

pub async fn a_permission_takes_the_place_of_the_last_one_and_can_be_revoked(place: &dyn Place) {
    let store = place.open().await;
    let ends = Some(at(4_102_444_800_123));
    store.grant(&permission("p", "ada", "edit", None)).await.unwrap();
    store.grant(&permission("p", "ada", "view", ends)).await.unwrap();
    for user in ["bob", "*", "Zoë"] {
        store
            .grant(&permission("p", user, "comment", None))
            .await
            .unwrap();
    }
    store.grant(&permission("pp", "ada", "edit", None)).await.unwrap();
    let other = place.open().await;
    let seen = other.permissions_on("p", None, 10).await.unwrap();
    let users: Vec<_> = seen.iter().map(|permission| permission.user.as_str()).collect();
    assert_eq!(users, ["*", "Zoë", "ada", "bob"]);
    assert!(seen.contains(&permission("p", "ada", "view", ends)));
    let rest = other.permissions_on("p", Some("Zoë"), 1).await.unwrap();
    assert_eq!(rest, [permission("p", "ada", "view", ends)]);
    assert!(store.revoke("p", "ada").await.unwrap());
    assert!(!store.revoke("p", "ada").await.unwrap());
    let left = other.permissions_for("ada", &page("p")).await.unwrap();
    assert_eq!(left, [permission("p", "*", "comment", None)]);
}

pub async fn users_are_signed_out_and_blocked(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.user("ada").await.unwrap(), UserRecord::default());
    store.block("ada", true).await.unwrap();
    let blocked = UserRecord {
        blocked: true,
        ..UserRecord::default()
    };
    assert_eq!(store.user("ada").await.unwrap(), blocked);
    assert_eq!(store.sign_out("ada", at(5_000)).await.unwrap(), 1);
    assert_eq!(store.sign_out("ada", at(4_000)).await.unwrap(), 2);
    store.block("ada", false).await.unwrap();
    let signed_out = UserRecord {
        token_version: Some(2),
        signed_out_at: Some(at(5_000)),
        blocked: false,
    };
    assert_eq!(place.open().await.user("ada").await.unwrap(), signed_out);
    assert_eq!(store.user("bob").await.unwrap(), UserRecord::default());
}

pub async fn the_audit_log_is_read_newest_first_and_forgotten_by_time(place: &dyn Place) {
    let store = place.open().await;
    let entry = |n: u64, action: &str, user: Option<&str>| AuditEntry {
        at: at(n * 1000),
        action: action.to_owned(),
        outcome: if n.is_multiple_of(2) { "ok" } else { "forbidden" }.to_owned(),
        user: user.map(str::to_owned),
        page: Some(if n == 2 { "other" } else { "p" }.to_owned()),
        address: None,
        detail: format!("entry \"{n}\" \u{1f600}"),
    };
    let entries: Vec<_> = (1..=6)
        .map(|n| {
            entry(
                n,
                if n < 4 { "connect" } else { "grant" },
                (n > 1).then_some("ada"),
            )
        })
        .collect();
    store.audit(&entries).await.unwrap();
    store.audit(&[]).await.unwrap();
    let read = async |query: AuditQuery| {
        let found = store.audited(&query).await.unwrap();
        found.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>()
    };
    let all = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let mut newest_first = entries.clone();
    newest_first.reverse();
    assert_eq!(read(all.clone()).await, newest_first);
    let narrow = AuditQuery {
        user: Some("ada".to_owned()),
        action: Some("grant".to_owned()),
        outcome: Some("ok".to_owned()),
        page: Some("p".to_owned()),
        from: Some(at(4_000)),
        to: Some(at(6_000)),
        ..all.clone()
    };
    assert_eq!(read(narrow).await, [entries[3].clone()]);
    let on_page = AuditQuery {
        page: Some("other".to_owned()),
        ..all.clone()
    };
    assert_eq!(read(on_page).await, [entries[1].clone()]);
    let (second, _) = store
        .audited(&AuditQuery {
            limit: 2,
            ..all.clone()
        })
        .await
        .unwrap()[1]
        .clone();
    let older = AuditQuery {
        before: Some(second),
        limit: 1,
        ..all.clone()
    };
    assert_eq!(read(older).await, [entries[3].clone()]);
    assert_eq!(store.forget_audit(at(5_000)).await.unwrap(), 4);
    assert_eq!(read(all).await, newest_first[..2]);
}

pub async fn who_was_seen_in_a_room_is_read_newest_first_and_forgotten(place: &dyn Place) {
    let store = place.open().await;
    let seen = |room: &str, user: &str, milliseconds: u64| LastSeen {
        room: room.to_owned(),
        user: user.to_owned(),
        at: at(milliseconds),
    };
    let first = [
        seen("drive:d", "ada", 4_102_444_800_123),
        seen("drive:d", "Zoë", 5_000),
        seen("drive:d:calendar", "eve", 9_000),
    ];
    store.see(&first).await.unwrap();
    store.see(&[]).await.unwrap();
    let later = [seen("drive:d", "Zoë", 7_001), seen("drive:d", "ada", 1)];
    store.see(&later).await.unwrap();
    let other = place.open().await;
    let found = other.seen("drive:d", 10).await.unwrap();
    assert_eq!(
        found,
        [first[0].clone(), later[0].clone()],
        "the latest time counts"
    );
    assert_eq!(other.seen("drive:d", 1).await.unwrap(), [first[0].clone()]);
    store.forget_seen("drive:d", "ada").await.unwrap();
    store.forget_seen("drive:d", "ada").await.unwrap();
    assert_eq!(other.seen("drive:d", 10).await.unwrap(), [later[0].clone()]);
    assert_eq!(other.seen("drive", 10).await.unwrap(), []);
}
