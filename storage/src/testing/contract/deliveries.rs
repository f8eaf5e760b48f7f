//! How what is kept for webhooks is delivered: by one at a time, in order, and what becomes of the rest.

use std::{collections::BTreeSet, time::UNIX_EPOCH};

use super::{
    Place, append,
    webhooks::{A, B, at, claim, deliver_all, ended, look, notice, telling, told},
};
use crate::{DeliveryOutcome, DeliveryState, Look, OutboxDepth, OutboxLimits, PageId, WebhookEvent};

fn again(seconds: u64) -> DeliveryOutcome {
    DeliveryOutcome::Again {
        at: at(seconds),
        problem: "it answered with status 500".to_owned(),
    }
}

pub async fn an_event_is_claimed_by_one_and_the_rest_of_its_page_waits(place: &dyn Place) {
    let store = place.open().await;
    store.begin_webhooks(UNIX_EPOCH).await.unwrap();
    for id in ["p", "q"] {
        store.commit(&[append(id, ["a"])]).await.unwrap();
    }
    store.tell_webhooks(&telling(&[A, B], &["p", "q"])).await.unwrap();
    let mut small = claim("one", A, 0);
    small.limit = 1;
    let first = store.claim_webhooks(&small).await.unwrap();
    let second = store.claim_webhooks(&claim("two", A, 0)).await.unwrap();
    assert_eq!((first.len(), second.len()), (1, 1), "the first of each page");
    assert_ne!(first[0].page, second[0].page);
    assert_eq!((first[0].event.as_str(), first[0].attempts), ("page.created", 1));
    assert_eq!(store.claim_webhooks(&claim("three", A, 29)).await.unwrap(), []);
    assert_eq!(
        store.claim_webhooks(&claim("three", B, 0)).await.unwrap().len(),
        2
    );
    // One that was not delivered keeps its place and its id.
    let problem = ended(&first[0], again(5));
    store.finish_webhooks("one", at(1), &[problem]).await.unwrap();
    let delivered = ended(&second[0], DeliveryOutcome::Delivered);
    // Somebody else's word about it counts for nothing.
    store
        .finish_webhooks("one", at(1), std::slice::from_ref(&delivered))
        .await
        .unwrap();
    assert_eq!(store.claim_webhooks(&claim("one", A, 2)).await.unwrap(), []);
    store.finish_webhooks("two", at(1), &[delivered]).await.unwrap();
    let next = store.claim_webhooks(&claim("one", A, 2)).await.unwrap();
    let expected = [(second[0].page.as_str(), "page.changed", 1)];
    assert_eq!(
        told(&next),
        expected,
        "the next of the page whose first was delivered"
    );
    let retried = store.claim_webhooks(&claim("two", A, 6)).await.unwrap();
    assert_eq!(retried.len(), 1);
    assert_eq!((&retried[0].id, retried[0].attempts), (&first[0].id, 2));
    assert_eq!(
        retried[0].last_error.as_deref(),
        Some("it answered with status 500")
    );
    // Whoever died while delivering is taken over from.
    let late = store.claim_webhooks(&claim("three", A, 40)).await.unwrap();
    assert_eq!(late.len(), 2);
    let over = ended(&retried[0], DeliveryOutcome::Delivered);
    store.finish_webhooks("two", at(41), &[over]).await.unwrap();
    assert!(
        store.webhook(&retried[0].id).await.unwrap().is_some(),
        "it is not two's any more"
    );
}

pub async fn dead_events_are_listed_replayed_in_their_place_and_forgotten(place: &dyn Place) {
    let store = place.open().await;
    store.begin_webhooks(UNIX_EPOCH).await.unwrap();
    let pages = ["p0", "p1", "p2"];
    for id in pages {
        store.commit(&[append(id, ["a"])]).await.unwrap();
    }
    let mut created = telling(&[A], &pages);
    created.events = BTreeSet::from([WebhookEvent::PageCreated]);
    store.tell_webhooks(&created).await.unwrap();
    let claimed = store.claim_webhooks(&claim("me", A, 0)).await.unwrap();
    let died: Vec<_> = claimed
        .iter()
        .map(|delivery| {
            let problem = "it answered with status 410".to_owned();
            ended(delivery, DeliveryOutcome::Dead { problem })
        })
        .collect();
    store.finish_webhooks("me", at(10), &died).await.unwrap();
    assert_eq!(store.claim_webhooks(&claim("me", A, 100)).await.unwrap(), []);
    let dead = async |after, limit| store.webhooks(DeliveryState::Dead, after, limit).await.unwrap();
    let all = dead(0, 10).await;
    assert_eq!(all.len(), 3);
    assert_eq!(dead(0, 2).await, all[..2]);
    assert_eq!(dead(all[1].number, 2).await, all[2..]);
    assert_eq!(all[0].last_error.as_deref(), Some("it answered with status 410"));
    assert_eq!(all[0].ended_at, Some(at(10)));
    let depth = store.outbox_depth().await.unwrap();
    assert_eq!((depth.pending, depth.dead, depth.oldest), (0, 3, None));
    // What came later waits behind what is replayed.
    let mut left = telling(&[A], &[]);
    left.notices = vec![notice("p0", WebhookEvent::LastLeft)];
    store.tell_webhooks(&left).await.unwrap();
    let number = all[0].number;
    let other = place.open().await;
    assert_eq!(other.replay_webhooks(at(20), &[number, number]).await.unwrap(), 1);
    assert_eq!(
        other.replay_webhooks(at(20), &[number, 1_000_000]).await.unwrap(),
        0
    );
    let replayed = store.webhook(&all[0].id).await.unwrap().unwrap();
    assert_eq!((replayed.state, replayed.attempts), (DeliveryState::Pending, 0));
    assert_eq!((replayed.since, replayed.ended_at), (at(20), None));
    let depth = store.outbox_depth().await.unwrap();
    assert_eq!((depth.pending, depth.dead, depth.oldest), (2, 2, Some(at(20))));
    let mut order = Vec::new();
    for _ in 0..2 {
        let next = store.claim_webhooks(&claim("me", A, 20)).await.unwrap();
        assert_eq!(next.len(), 1);
        order.push(next[0].event.clone());
        let done = ended(&next[0], DeliveryOutcome::Delivered);
        store.finish_webhooks("me", at(20), &[done]).await.unwrap();
    }
    assert_eq!(order, ["page.created", "page.last_left"]);
    assert_eq!(store.webhook("no such id").await.unwrap(), None);
    let mut limits = OutboxLimits {
        now: at(30),
        targets: vec![A.to_owned()],
        pending_before: at(25),
        dead_before: at(10),
        dead_count: 1,
        latest: at(3600),
    };
    assert_eq!(
        store.forget_webhooks(&limits).await.unwrap(),
        1,
        "beyond the newest one"
    );
    assert_eq!(dead(0, 10).await, all[2..]);
    limits.dead_before = at(11);
    assert_eq!(store.forget_webhooks(&limits).await.unwrap(), 1, "too old");
    assert_eq!(dead(0, 10).await, []);
    // Events for a target that is no more are given up when they are old, and no clock makes others wait for ever.
    let mut joined = telling(&[A, B], &[]);
    joined.notices = vec![notice("p1", WebhookEvent::FirstJoined)];
    store.tell_webhooks(&joined).await.unwrap();
    let claimed = store.claim_webhooks(&claim("me", A, 20)).await.unwrap();
    let late = ended(&claimed[0], again(1_000_000));
    store.finish_webhooks("me", at(20), &[late]).await.unwrap();
    limits.dead_count = 10;
    assert_eq!(store.forget_webhooks(&limits).await.unwrap(), 1);
    assert_eq!(dead(0, 10).await[0].target, B);
    assert_eq!(store.claim_webhooks(&claim("me", B, 100)).await.unwrap(), []);
    assert_eq!(store.claim_webhooks(&claim("me", A, 30)).await.unwrap().len(), 1);
}

pub async fn two_stores_tell_and_deliver_each_event_once(place: &dyn Place) {
    let stores = [place.open().await, place.open().await];
    stores[0].begin_webhooks(UNIX_EPOCH).await.unwrap();
    let ids: Vec<String> = (0..40).map(|n| format!("p{n:02}")).collect();
    let batch: Vec<_> = ids.iter().map(|id| append(id, ["a"])).collect();
    stores[0].commit(&batch).await.unwrap();
    let work = stores.map(|store| {
        let looks: Vec<Look> = ids.iter().map(|id| look(id)).collect();
        tokio::spawn(async move {
            let mut delivered = Vec::new();
            // Each tells all pages, in parts of its own.
            for part in looks.chunks(7) {
                let mut telling = telling(&[A], &[]);
                telling.looks = part.to_vec();
                store.tell_webhooks(&telling).await.unwrap();
                let owner = format!("{:p}", &raw const *store);
                let claimed = store.claim_webhooks(&claim(&owner, A, 0)).await.unwrap();
                let done: Vec<_> = claimed
                    .iter()
                    .map(|delivery| ended(delivery, DeliveryOutcome::Delivered))
                    .collect();
                store.finish_webhooks(&owner, at(0), &done).await.unwrap();
                delivered.extend(claimed);
            }
            delivered
        })
    });
    let mut delivered = Vec::new();
    for work in work {
        delivered.extend(work.await.unwrap());
    }
    let store = place.open().await;
    delivered.extend(deliver_all(&store, A).await);
    let mut told: Vec<(String, String)> = delivered
        .into_iter()
        .map(|delivery| (delivery.page, delivery.event))
        .collect();
    told.sort();
    let expected: Vec<_> = ids
        .iter()
        .flat_map(|id| ["page.changed", "page.created"].map(|event| (id.clone(), event.to_owned())))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(store.outbox_depth().await.unwrap(), OutboxDepth::default());
    let untold = store.untold_pages(None, 100).await.unwrap();
    assert_eq!(untold.pages, Vec::<PageId>::new());
}
