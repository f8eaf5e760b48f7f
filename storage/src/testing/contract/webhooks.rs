//! What is kept for webhooks: nothing stored goes untold, in order, and each event is delivered by one at a time.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Place, append, page};
use crate::{
    DeliveryClaim, DeliveryOutcome, DeliveryState, FinishedDelivery, Look, NewVersion, Notice, OutboxDepth,
    OutboxLimits, PageId, SharedStore, Telling, UntoldPages, VersionKind, WebhookDelivery, WebhookEvent,
};

const A: &str = "https://a.example/hook";
const B: &str = "https://b.example/hook";

/// Seconds after a time of no meaning.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(4_000_000_000 + seconds)
}

fn telling(targets: &[&str], pages: &[&str]) -> Telling {
    Telling {
        now: at(0),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        events: BTreeSet::from(WebhookEvent::ALL),
        looks: pages.iter().map(|id| look(id)).collect(),
        notices: Vec::new(),
    }
}

fn look(id: &str) -> Look {
    Look {
        page: page(id),
        with_changes: true,
    }
}

fn notice(id: &str, event: WebhookEvent) -> Notice {
    Notice {
        page: page(id),
        event,
        detail: r#"{"server":"s"}"#.to_owned(),
        at: at(7),
    }
}

fn claim(owner: &str, target: &str, seconds: u64) -> DeliveryClaim {
    DeliveryClaim {
        owner: owner.to_owned(),
        target: target.to_owned(),
        now: at(seconds),
        until: at(seconds + 30),
        limit: 100,
    }
}

fn ended(delivery: &WebhookDelivery, outcome: DeliveryOutcome) -> FinishedDelivery {
    FinishedDelivery {
        number: delivery.number,
        page: delivery.page.clone(),
        target: delivery.target.clone(),
        outcome,
    }
}

fn again(seconds: u64) -> DeliveryOutcome {
    DeliveryOutcome::Again {
        at: at(seconds),
        problem: "it answered with status 500".to_owned(),
    }
}

async fn pending(store: &SharedStore) -> Vec<WebhookDelivery> {
    store.webhooks(DeliveryState::Pending, 0, 10_000).await.unwrap()
}

/// Page, event and row of each.
fn told(deliveries: &[WebhookDelivery]) -> Vec<(&str, &str, u64)> {
    deliveries
        .iter()
        .map(|delivery| {
            let seq = delivery.seq.unwrap_or_default();
            (delivery.page.as_str(), delivery.event.as_str(), seq)
        })
        .collect()
}

/// Delivers all that is due, one queue after the other, and gives it in that order.
async fn deliver_all(store: &SharedStore, target: &str) -> Vec<WebhookDelivery> {
    let mut delivered = Vec::new();
    loop {
        let claimed = store.claim_webhooks(&claim("me", target, 0)).await.unwrap();
        if claimed.is_empty() {
            return delivered;
        }
        let done: Vec<_> = claimed
            .iter()
            .map(|delivery| ended(delivery, DeliveryOutcome::Delivered))
            .collect();
        store.finish_webhooks("me", at(0), &done).await.unwrap();
        delivered.extend(claimed);
    }
}

pub async fn what_is_stored_of_a_page_is_told_once_and_in_order(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.tell_webhooks(&telling(&[A], &["p"])).await.unwrap(), 0);
    store.begin_webhooks(UNIX_EPOCH).await.unwrap();
    store.begin_webhooks(at(1_000_000)).await.unwrap();
    store.commit(&[append("p", ["a", "b"])]).await.unwrap();
    store.commit(&[append("q", ["a"])]).await.unwrap();
    let version = NewVersion {
        seq: 1,
        kind: VersionKind::Named,
        name: Some("Zoë's \"draft\" \u{1f600}".to_owned()),
        user: Some("ada".to_owned()),
        reason: None,
    };
    store.add_version(&page("p"), &version).await.unwrap();
    let untold = store.untold_pages(None, 10).await.unwrap();
    let expected = UntoldPages {
        pages: vec![page("p"), page("q")],
        last: Some("q".to_owned()),
    };
    assert_eq!(untold, expected);
    // That a page came into being is told before it is told how far it has come.
    let mut first = telling(&[A], &["p", "nowhere"]);
    first.looks[0].with_changes = false;
    assert_eq!(store.tell_webhooks(&first).await.unwrap(), 2);
    let mut both = telling(&[A], &["p", "q"]);
    both.notices = vec![
        notice("p", WebhookEvent::LastLeft),
        notice("p", WebhookEvent::FirstJoined),
        notice("never stored", WebhookEvent::FirstJoined),
    ];
    store.set_deleted(&page("p"), Some(at(3))).await.unwrap();
    assert_eq!(store.tell_webhooks(&both).await.unwrap(), 7);
    let deliveries = pending(&store).await;
    let expected = [
        ("p", "page.created", 2),
        ("p", "version.created", 1),
        ("never stored", "page.first_joined", 0),
        ("p", "page.changed", 2),
        ("p", "page.deleted", 2),
        ("p", "page.last_left", 0),
        ("p", "page.first_joined", 0),
        ("q", "page.created", 1),
        ("q", "page.changed", 1),
    ];
    assert_eq!(told(&deliveries), expected);
    let detail: serde_json::Value = serde_json::from_str(&deliveries[1].detail).unwrap();
    assert_eq!(detail["name"].as_str(), version.name.as_deref());
    assert_eq!(detail["userId"], "ada");
    assert!(detail["versionId"].as_u64().is_some_and(|id| id > 0), "{detail}");
    let head = store.page(&page("p")).await.unwrap().unwrap();
    assert_eq!(deliveries[3].generation.as_deref(), Some(&*head.generation.0));
    assert_eq!((deliveries[4].at, deliveries[5].at), (at(3), at(7)));
    let ids: BTreeSet<_> = deliveries.iter().map(|delivery| &delivery.id).collect();
    assert_eq!(ids.len(), deliveries.len(), "each has an id of its own");
    // Nothing more.
    assert_eq!(store.tell_webhooks(&telling(&[A], &["p", "q"])).await.unwrap(), 0);
    let untold = store.untold_pages(None, 10).await.unwrap();
    assert_eq!((untold.pages, untold.last), (vec![], Some("q".to_owned())));
    // Another process comes to the same, also about what it did itself.
    let other = place.open().await;
    other.set_deleted(&page("p"), None).await.unwrap();
    other.commit(&[append("q", ["b"])]).await.unwrap();
    let untold = other.untold_pages(None, 1).await.unwrap();
    assert_eq!(
        (untold.pages, untold.last),
        (vec![page("p")], Some("p".to_owned()))
    );
    let untold = other.untold_pages(Some("p"), 10).await.unwrap();
    assert_eq!(
        (untold.pages, untold.last),
        (vec![page("q")], Some("q".to_owned()))
    );
    let untold = other.untold_pages(Some("q"), 10).await.unwrap();
    assert_eq!(untold, UntoldPages::default());
    other.tell_webhooks(&telling(&[A], &["p"])).await.unwrap();
    let delivered = deliver_all(&store, A).await;
    let of_p: Vec<_> = delivered.iter().filter(|delivery| delivery.page == "p").collect();
    assert_eq!(of_p.len(), 7);
    assert!(of_p.is_sorted_by_key(|delivery| delivery.number), "in order");
    assert_eq!(of_p[6].event, "page.restored");
    assert_eq!(store.outbox_depth().await.unwrap(), OutboxDepth::default());
}

pub async fn what_happened_before_there_were_webhooks_is_told_nobody(place: &dyn Place) {
    let store = place.open().await;
    store.commit(&[append("old", ["a"])]).await.unwrap();
    store.commit(&[append("older", ["a"])]).await.unwrap();
    store.set_deleted(&page("older"), Some(at(0))).await.unwrap();
    let version = NewVersion {
        seq: 1,
        kind: VersionKind::Automatic,
        name: None,
        user: None,
        reason: None,
    };
    store.add_version(&page("old"), &version).await.unwrap();
    store.begin_webhooks(at(1_000_000)).await.unwrap();
    // Only the version has not been looked at.
    let untold = store.untold_pages(None, 10).await.unwrap();
    assert_eq!(untold.pages, [page("old")]);
    let pages = telling(&[A], &["old", "older"]);
    assert_eq!(store.tell_webhooks(&pages).await.unwrap(), 0);
    assert_eq!(store.untold_pages(None, 10).await.unwrap().pages, []);
    // From then on it is as with any other page.
    store.commit(&[append("old", ["b"])]).await.unwrap();
    store.set_deleted(&page("older"), None).await.unwrap();
    assert_eq!(
        store.untold_pages(None, 10).await.unwrap().pages,
        [page("old"), page("older")]
    );
    assert_eq!(store.tell_webhooks(&pages).await.unwrap(), 2);
    let expected = [("old", "page.changed", 2), ("older", "page.restored", 1)];
    assert_eq!(told(&pending(&store).await), expected);
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

pub async fn a_change_that_waits_is_told_as_the_newest_one(place: &dyn Place) {
    let store = place.open().await;
    store.begin_webhooks(UNIX_EPOCH).await.unwrap();
    store.commit(&[append("p", ["a"])]).await.unwrap();
    store.tell_webhooks(&telling(&[A, B], &["p"])).await.unwrap();
    let created = store.claim_webhooks(&claim("me", A, 0)).await.unwrap();
    let edit = async || {
        store.commit(&[append("p", ["b"])]).await.unwrap();
        store.tell_webhooks(&telling(&[A, B], &["p"])).await.unwrap()
    };
    assert_eq!(edit().await, 2);
    let of_a = |deliveries: &[WebhookDelivery]| {
        let of_a: Vec<_> = deliveries.iter().filter(|row| row.target == A).cloned().collect();
        told(&of_a)
            .into_iter()
            .map(|(_, event, seq)| (event.to_owned(), seq))
            .collect::<Vec<_>>()
    };
    let row = |event: &str, seq| (event.to_owned(), seq);
    let expected = [row("page.created", 1), row("page.changed", 2)];
    assert_eq!(of_a(&pending(&store).await), expected);
    // One that was sent is not changed any more.
    let done = ended(&created[0], DeliveryOutcome::Delivered);
    store.finish_webhooks("me", at(0), &[done]).await.unwrap();
    let sent = store.claim_webhooks(&claim("me", A, 0)).await.unwrap();
    assert_eq!(sent[0].seq, Some(2));
    edit().await;
    edit().await;
    let expected = [row("page.changed", 2), row("page.changed", 4)];
    assert_eq!(of_a(&pending(&store).await), expected);
    // Behind another event there is a new one.
    let mut joined = telling(&[A, B], &[]);
    joined.notices = vec![notice("p", WebhookEvent::FirstJoined)];
    store.tell_webhooks(&joined).await.unwrap();
    edit().await;
    let changes = of_a(&pending(&store).await);
    assert_eq!(changes.last(), Some(&row("page.changed", 5)));
    assert_eq!(changes.len(), 4);
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
