//! What is kept of shared rooms, and of who was removed from them.

use std::time::{Duration, UNIX_EPOCH};

use super::Place;
use crate::{Permission, SharedRoom};

pub async fn a_shared_room_is_kept_as_it_was_last_said_and_forgotten(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.shared_room("room:a").await.unwrap(), None);
    let first = SharedRoom {
        room: "room:a".to_owned(),
        name: Some("Zoë's room \u{1f600}".to_owned()),
        max_members: Some(u32::MAX),
        expires_at: Some(UNIX_EPOCH + Duration::from_millis(4_102_444_800_123)),
    };
    store.keep_room(&first).await.unwrap();
    let other = place.open().await;
    assert_eq!(other.shared_room("room:a").await.unwrap(), Some(first));
    let second = SharedRoom {
        room: "room:a".to_owned(),
        name: None,
        max_members: None,
        expires_at: None,
    };
    store.keep_room(&second).await.unwrap();
    assert_eq!(other.shared_room("room:a").await.unwrap(), Some(second));
    assert_eq!(other.shared_room("room:A").await.unwrap(), None);
    assert!(store.forget_room("room:a").await.unwrap());
    assert!(!store.forget_room("room:a").await.unwrap());
    assert_eq!(other.shared_room("room:a").await.unwrap(), None);
}

pub async fn who_was_removed_from_a_room_stays_so_until_granted_a_permission_on_it(place: &dyn Place) {
    let store = place.open().await;
    let grant = async |page: &str, user: &str, role: &str| {
        let permission = Permission {
            page: page.to_owned(),
            user: user.to_owned(),
            role: role.to_owned(),
            expires_at: None,
        };
        store.grant(&permission).await.unwrap();
    };
    grant("room:a", "ada", "edit").await;
    for user in ["ada", "ada", "bob"] {
        store.remove_from_room("room:a", user).await.unwrap();
    }
    let other = place.open().await;
    let is_removed = async |user: &str| other.is_removed("room:a", user).await.unwrap();
    assert!(is_removed("ada").await && is_removed("bob").await && !is_removed("eve").await);
    assert!(!other.is_removed("room:b", "ada").await.unwrap());
    for (page, user) in [("room:*", "ada"), ("room:b", "ada"), ("room:a", "*")] {
        grant(page, user, "edit").await;
        assert!(is_removed("ada").await, "{page} {user}");
    }
    // Whether the permission is new or was there all the time.
    grant("room:a", "ada", "edit").await;
    grant("room:a", "bob", "view").await;
    assert!(!is_removed("ada").await && !is_removed("bob").await);
    store.remove_from_room("room:a", "ada").await.unwrap();
    store.forget_room("room:a").await.unwrap();
    assert!(!is_removed("ada").await, "a room of this name is another one");
}
