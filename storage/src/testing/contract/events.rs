//! What is kept of rooms without a document: events, ids, states.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Place;
use crate::{EventBatch, EventId, KeptEvent, KeptQuery, SharedStore};

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn kept(room: &str, offset: u64, event: &str, count: u64) -> KeptEvent {
    KeptEvent {
        room: room.to_owned(),
        offset,
        event: event.to_owned(),
        payload: format!(r#"{{ "n": {offset}.0, "text": "\\u0000 ä" }}"#),
        at: at(offset),
        until: at(offset + 1000),
        count,
    }
}

fn batch(events: impl IntoIterator<Item = KeptEvent>) -> EventBatch {
    EventBatch {
        events: events.into_iter().collect(),
        ..EventBatch::default()
    }
}

async fn read(store: &SharedStore, rooms: &[&str], after: u64, up_to: u64, limit: usize) -> Vec<u64> {
    let query = KeptQuery {
        rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
        after,
        up_to,
        limit,
        max_bytes: 1 << 20,
    };
    let found = store.kept_events(&query).await.unwrap();
    found.into_iter().map(|event| event.offset).collect()
}

const LAST: u64 = 9_007_199_254_740_991;

pub async fn kept_events_come_back_by_room_in_order_and_byte_for_byte(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.last_event().await.unwrap(), 0);
    assert_eq!(read(&store, &["page:a"], 0, LAST, 10).await, [0_u64; 0]);
    let events = [
        kept("page:a", 3, "e", 10),
        kept("page:b", 2, "e", 10),
        kept("page:a", 1, "f", 10),
        kept("page:a", LAST, "e", 10),
        kept("Page:a", 4, "e", 10),
    ];
    store.keep_events(&batch(events.clone())).await.unwrap();
    // Storing it again changes nothing.
    store.keep_events(&batch(events)).await.unwrap();
    let other = place.open().await;
    assert_eq!(
        other.event_epoch().await.unwrap(),
        store.event_epoch().await.unwrap()
    );
    assert!(store.event_epoch().await.unwrap().len() >= 8);
    assert_eq!(other.last_event().await.unwrap(), LAST);
    assert_eq!(read(&other, &["page:a"], 0, LAST, 10).await, [1, 3, LAST]);
    assert_eq!(read(&other, &["page:b", "page:a"], 1, 3, 10).await, [2, 3]);
    assert_eq!(read(&other, &["page:b", "page:a"], 0, LAST, 2).await, [1, 2]);
    assert_eq!(read(&other, &["page:a"], LAST, LAST, 2).await, [0_u64; 0]);
    let query = KeptQuery {
        rooms: vec!["page:a".to_owned()],
        after: 0,
        up_to: LAST,
        limit: 10,
        max_bytes: 60,
    };
    let first = other.kept_events(&query).await.unwrap();
    let expected = kept("page:a", 1, "f", 10);
    let [one, three] = first.as_slice() else {
        panic!("two of them begin within 60 bytes: {first:?}");
    };
    assert_eq!((&one.room, &one.event), (&expected.room, &expected.event));
    assert_eq!((&one.payload, one.at), (&expected.payload, expected.at));
    assert_eq!(three.offset, 3);
}

pub async fn of_each_name_in_a_room_the_newest_events_are_kept(place: &dyn Place) {
    let store = place.open().await;
    for offset in 1..=5 {
        let events = [kept("page:a", offset, "e", 3), kept("page:b", offset, "e", 3)];
        store.keep_events(&batch(events)).await.unwrap();
    }
    store
        .keep_events(&batch((6..=9).map(|offset| kept("page:a", offset, "f", 3))))
        .await
        .unwrap();
    assert_eq!(read(&store, &["page:a"], 0, LAST, 10).await, [3, 4, 5, 7, 8, 9]);
    assert_eq!(read(&store, &["page:b"], 0, LAST, 10).await, [3, 4, 5]);
}

pub async fn events_and_ids_are_forgotten_by_time(place: &dyn Place) {
    let store = place.open().await;
    let id = EventId {
        id: "order-1".to_owned(),
        digest: [7; 32],
        delivered: 3,
        until: at(2000),
    };
    let told = EventBatch {
        events: vec![kept("page:a", 1, "e", 10), kept("page:a", 2, "e", 10)],
        ids: vec![id.clone()],
        states: Vec::new(),
    };
    store.keep_events(&told).await.unwrap();
    let other = place.open().await;
    assert_eq!(other.event_id("order-1").await.unwrap(), Some(id));
    assert_eq!(other.event_id("Order-1").await.unwrap(), None);
    assert_eq!(store.forget_events(at(1000)).await.unwrap(), 0);
    assert_eq!(store.forget_events(at(1001)).await.unwrap(), 1);
    assert_eq!(read(&store, &["page:a"], 0, LAST, 10).await, [2]);
    assert_eq!(store.forget_events(at(3000)).await.unwrap(), 2);
    assert_eq!(read(&store, &["page:a"], 0, LAST, 10).await, [0_u64; 0]);
    assert_eq!(other.event_id("order-1").await.unwrap(), None);
}

pub async fn the_last_state_of_a_room_replaces_the_one_before(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.event_state("workspace:w").await.unwrap(), None);
    for state in ["{}", r#"{ "n": 1.0 }"#] {
        let told = EventBatch {
            states: vec![("workspace:w".to_owned(), state.to_owned())],
            ..EventBatch::default()
        };
        store.keep_events(&told).await.unwrap();
        let other = place.open().await;
        assert_eq!(
            other.event_state("workspace:w").await.unwrap().as_deref(),
            Some(state)
        );
    }
    assert_eq!(store.event_state("workspace:W").await.unwrap(), None);
}
