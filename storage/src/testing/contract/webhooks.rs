//! What is kept for webhooks: nothing stored goes untold, in order, and each event is delivered by one at a time.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Place, append, page};
use crate::{
    DeliveryClaim, DeliveryOutcome, DeliveryState, FinishedDelivery, Look, NewVersion, Notice, OutboxDepth,
    SharedStore, Telling, UntoldPages, VersionKind, WebhookDelivery, WebhookEvent,
};

pub(super) const A: &str = "https://a.example/hook";
pub(super) const B: &str = "https://b.example/hook";

/// Seconds after a time of no meaning.
pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(4_000_000_000 + seconds)
}

pub(super) fn telling(targets: &[&str], pages: &[&str]) -> Telling {
    Telling {
        now: at(0),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        events: BTreeSet::from(WebhookEvent::ALL),
        looks: pages.iter().map(|id| look(id)).collect(),
        notices: Vec::new(),
    }
}

pub(super) fn look(id: &str) -> Look {
    Look {
        page: page(id),
        with_changes: true,
    }
}

pub(super) fn notice(id: &str, event: WebhookEvent) -> Notice {
    Notice {
        page: page(id),
        event,
        detail: r#"{"server":"s"}"#.to_owned(),
        at: at(7),
    }
}

pub(super) fn claim(owner: &str, target: &str, seconds: u64) -> DeliveryClaim {
    DeliveryClaim {
        owner: owner.to_owned(),
        target: target.to_owned(),
        now: at(seconds),
        until: at(seconds + 30),
        limit: 100,
    }
}

pub(super) fn ended(delivery: &WebhookDelivery, outcome: DeliveryOutcome) -> FinishedDelivery {
    FinishedDelivery {
        number: delivery.number,
        page: delivery.page.clone(),
        target: delivery.target.clone(),
        outcome,
    }
}

async fn pending(store: &SharedStore) -> Vec<WebhookDelivery> {
    store.webhooks(DeliveryState::Pending, 0, 10_000).await.unwrap()
}

/// Page, event and row of each.
pub(super) fn told(deliveries: &[WebhookDelivery]) -> Vec<(&str, &str, u64)> {
    deliveries
        .iter()
        .map(|delivery| {
            let seq = delivery.seq.unwrap_or_default();
            (delivery.page.as_str(), delivery.event.as_str(), seq)
        })
        .collect()
}

/// Delivers all that is due, one queue after the other, and gives it in that order.
pub(super) async fn deliver_all(store: &SharedStore, target: &str) -> Vec<WebhookDelivery> {
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
