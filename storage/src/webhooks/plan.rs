//! What is told of a page, and where it goes: the rules that all stores share, on plain values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{MAX_QUEUED_EVENTS, Telling, WebhookEvent};
use crate::{Version, rows::milliseconds};

/// What was told of a page last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) generation: String,
    pub(crate) created: i64,
    pub(crate) seq: i64,
    pub(crate) deleted: Option<i64>,
}

/// A page as it is stored, and what was told of it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) page: String,
    pub(crate) generation: String,
    pub(crate) seq: i64,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) deleted: Option<i64>,
    pub(crate) mark: Option<Mark>,
}

/// An event, for all targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) page: String,
    pub(crate) event: WebhookEvent,
    pub(crate) generation: Option<String>,
    pub(crate) seq: Option<i64>,
    pub(crate) detail: String,
    pub(crate) at: i64,
}

const NO_DETAIL: &str = "{}";

impl Head {
    /// Whether there is something to tell beside versions, where webhooks are there since `since`.
    pub(crate) fn is_untold(&self, since: i64) -> bool {
        match &self.mark {
            None => self.updated >= since || self.deleted.is_some_and(|at| at >= since),
            Some(mark) => {
                mark.generation != self.generation
                    || mark.seq < self.seq
                    || mark.deleted.is_some() != self.deleted.is_some()
            }
        }
    }

    /// What is new of the page, and what was told of it from then on.
    pub(crate) fn compare(&self, since: i64, now: i64, with_changes: bool) -> (Vec<Event>, Mark) {
        let known = self
            .mark
            .as_ref()
            .filter(|mark| mark.generation == self.generation);
        let is_new =
            self.created >= since && self.mark.as_ref().is_none_or(|mark| mark.created != self.created);
        let told_seq = match known {
            Some(mark) => mark.seq,
            None if self.mark.is_some() || self.updated >= since => 0,
            None => self.seq,
        };
        let told_deleted = match known {
            Some(mark) => mark.deleted,
            // What was put there before there were webhooks is old news.
            None => self.deleted.filter(|at| *at < since),
        };
        let mut events = Vec::new();
        if known.is_none() && is_new {
            events.push(self.event(WebhookEvent::PageCreated, self.created));
        }
        if with_changes && self.seq > told_seq {
            events.push(self.event(WebhookEvent::PageChanged, self.updated));
        }
        match (told_deleted, self.deleted) {
            (None, Some(at)) => events.push(self.event(WebhookEvent::PageDeleted, at)),
            (Some(_), None) => events.push(self.event(WebhookEvent::PageRestored, now)),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let mark = Mark {
            generation: self.generation.clone(),
            created: self.created,
            seq: if with_changes { self.seq } else { told_seq },
            deleted: self.deleted,
        };
        (events, mark)
    }

    fn event(&self, event: WebhookEvent, at: i64) -> Event {
        Event {
            page: self.page.clone(),
            event,
            generation: Some(self.generation.clone()),
            seq: Some(self.seq),
            detail: NO_DETAIL.to_owned(),
            at,
        }
    }

    /// What is told of a version of the page, if it was made since there are webhooks.
    pub(crate) fn version(&self, since: i64, version: &Version) -> Option<Event> {
        let at = milliseconds(version.at);
        let mut detail = Map::new();
        detail.insert("versionId".to_owned(), json!(version.id));
        detail.insert("kind".to_owned(), json!(version.version.kind.as_str()));
        for (name, value) in [
            ("name", &version.version.name),
            ("userId", &version.version.user),
            ("reason", &version.version.reason),
        ] {
            if let Some(value) = value {
                detail.insert(name.to_owned(), json!(value));
            }
        }
        (at >= since).then(|| Event {
            seq: i64::try_from(version.version.seq).ok(),
            detail: Value::Object(detail).to_string(),
            ..self.event(WebhookEvent::VersionCreated, at)
        })
    }
}

/// All that is to be told, page by page and in order: what was found of pages, and what happened besides.
pub(crate) fn events(telling: &Telling, found: Vec<Event>) -> Vec<Event> {
    let besides = telling.notices.iter().map(|notice| Event {
        page: notice.page.as_str().to_owned(),
        event: notice.event,
        generation: None,
        seq: None,
        detail: notice.detail.clone(),
        at: milliseconds(notice.at),
    });
    let all = found.into_iter().chain(besides);
    let mut wanted: Vec<_> = all
        .filter(|event| telling.events.contains(&event.event))
        .collect();
    // Stable: notices of a page keep their order.
    wanted.sort_by(|a, b| {
        let rank = |event: &Event| match event.event {
            WebhookEvent::FirstJoined | WebhookEvent::LastLeft => 1,
            WebhookEvent::PageCreated
            | WebhookEvent::PageChanged
            | WebhookEvent::VersionCreated
            | WebhookEvent::PageDeleted
            | WebhookEvent::PageRestored => 0,
        };
        let order = |event: &Event| match rank(event) {
            0 => WebhookEvent::ALL.iter().position(|known| *known == event.event),
            _ => None,
        };
        (&a.page, rank(a), order(a)).cmp(&(&b.page, rank(b), order(b)))
    });
    wanted
}

/// What a page and a target are known by.
pub(crate) type QueueKey = (String, String);

/// A queue before something is added to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// Its pending events.
    pub(crate) depth: u64,
    /// The number of its last event, where that is a change that nobody was sent.
    pub(crate) unsent_change: Option<i64>,
}

/// An event and whom it is for.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) event: Event,
    pub(crate) target: String,
    /// Why it is given up at once.
    pub(crate) problem: Option<&'static str>,
}

/// What is written.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// New rows, in order.
    pub(crate) rows: Vec<NewRow>,
    /// Rows in whose place a newer change is told.
    pub(crate) replaced: Vec<(i64, Event)>,
    /// By how much queues grow.
    pub(crate) grown: BTreeMap<QueueKey, u64>,
}

const TOO_MANY: &str = "more events of this page wait for this target than may";

/// The queues that events go to.
pub(crate) fn keys(events: &[Event], targets: &[String]) -> BTreeSet<QueueKey> {
    let pages: BTreeSet<&String> = events.iter().map(|event| &event.page).collect();
    let keys = pages
        .into_iter()
        .flat_map(|page| targets.iter().map(move |target| (page.clone(), target.clone())));
    keys.collect()
}

/// Finds a place for events in queues.
pub(crate) fn place(
    events: Vec<Event>,
    targets: &[String],
    queues: &mut BTreeMap<QueueKey, Queue>,
) -> Placement {
    let mut placement = Placement::default();
    for event in events {
        for target in targets {
            let key = (event.page.clone(), target.clone());
            let queue = queues.entry(key.clone()).or_default();
            // Whatever comes next is behind a new row.
            let unsent = queue.unsent_change.take();
            if let Some(number) = unsent.filter(|_| event.event == WebhookEvent::PageChanged) {
                placement.replaced.push((number, event.clone()));
                queue.unsent_change = Some(number);
                continue;
            }
            let is_full = queue.depth >= MAX_QUEUED_EVENTS;
            if !is_full {
                queue.depth += 1;
                *placement.grown.entry(key).or_default() += 1;
            }
            placement.rows.push(NewRow {
                event: event.clone(),
                target: target.clone(),
                problem: is_full.then_some(TOO_MANY),
            });
        }
    }
    placement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64, created: i64, updated: i64, deleted: Option<i64>, mark: Option<Mark>) -> Head {
        Head {
            page: "p".to_owned(),
            generation: "g".to_owned(),
            seq,
            created,
            updated,
            deleted,
            mark,
        }
    }

    fn mark(seq: i64, created: i64, deleted: Option<i64>) -> Option<Mark> {
        Some(Mark {
            generation: "g".to_owned(),
            created,
            seq,
            deleted,
        })
    }

    fn names(head: &Head, with_changes: bool) -> Vec<&'static str> {
        let (events, mark) = head.compare(100, 1000, with_changes);
        // What was told is told once.
        let again = Head {
            mark: Some(mark),
            ..head.clone()
        };
        let (repeated, _) = again.compare(100, 1000, with_changes);
        assert_eq!(repeated, Vec::new(), "{head:?}");
        assert_eq!(
            again.is_untold(100),
            !with_changes && again.mark.as_ref().is_some_and(|mark| mark.seq < head.seq),
            "{head:?}"
        );
        events.iter().map(|event| event.event.as_str()).collect()
    }

    #[test]
    fn what_is_new_of_a_page_is_the_difference_between_its_head_and_its_mark() {
        for (head, told) in [
            // Before there were webhooks.
            (head(5, 50, 60, None, None), vec![]),
            (head(5, 50, 60, Some(70), None), vec![]),
            (head(5, 50, 150, None, None), vec!["page.changed"]),
            (head(5, 50, 60, Some(150), None), vec!["page.deleted"]),
            // Since then.
            (
                head(1, 100, 100, None, None),
                vec!["page.created", "page.changed"],
            ),
            (
                head(3, 150, 160, Some(170), None),
                vec!["page.created", "page.changed", "page.deleted"],
            ),
            (head(3, 150, 160, None, mark(3, 150, None)), vec![]),
            (head(4, 150, 160, None, mark(3, 150, None)), vec!["page.changed"]),
            (
                head(4, 150, 160, None, mark(3, 150, Some(155))),
                vec!["page.changed", "page.restored"],
            ),
            (head(3, 150, 160, Some(180), mark(3, 150, Some(155))), vec![]),
            // Another page of the same name, and the same page rebuilt.
            (
                Head {
                    generation: "h".to_owned(),
                    ..head(1, 200, 200, None, mark(3, 150, Some(155)))
                },
                vec!["page.created", "page.changed"],
            ),
            (
                Head {
                    generation: "h".to_owned(),
                    ..head(1, 150, 200, None, mark(3, 150, None))
                },
                vec!["page.changed"],
            ),
        ] {
            assert_eq!(names(&head, true), told, "{head:?}");
            let rest: Vec<_> = told.into_iter().filter(|name| *name != "page.changed").collect();
            assert_eq!(names(&head, false), rest, "{head:?}");
        }
    }

    fn event(page: &str, event: WebhookEvent, seq: i64) -> Event {
        Event {
            page: page.to_owned(),
            event,
            generation: None,
            seq: Some(seq),
            detail: NO_DETAIL.to_owned(),
            at: 0,
        }
    }

    #[test]
    fn a_change_takes_the_place_of_one_that_waits_at_the_end_and_was_not_sent() {
        let targets = ["a".to_owned(), "b".to_owned()];
        let mut queues = BTreeMap::from([
            (
                ("p".to_owned(), "a".to_owned()),
                Queue {
                    depth: 2,
                    unsent_change: Some(7),
                },
            ),
            (("p".to_owned(), "b".to_owned()), Queue::default()),
        ]);
        let placed = place(
            vec![
                event("p", WebhookEvent::PageChanged, 5),
                event("p", WebhookEvent::PageDeleted, 5),
                event("p", WebhookEvent::PageChanged, 6),
            ],
            &targets,
            &mut queues,
        );
        let replaced: Vec<_> = placed
            .replaced
            .iter()
            .map(|(number, e)| (*number, e.seq))
            .collect();
        assert_eq!(replaced, [(7, Some(5))], "only before the page was deleted");
        let rows: Vec<_> = placed
            .rows
            .iter()
            .map(|row| (row.target.as_str(), row.event.event.as_str()))
            .collect();
        assert_eq!(
            rows,
            [
                ("b", "page.changed"),
                ("a", "page.deleted"),
                ("b", "page.deleted"),
                ("a", "page.changed"),
                ("b", "page.changed")
            ]
        );
        assert_eq!(placed.grown.values().copied().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_does_not_fit_a_queue_is_dead_at_once() {
        let targets = ["a".to_owned()];
        let full = Queue {
            depth: MAX_QUEUED_EVENTS - 1,
            unsent_change: None,
        };
        let mut queues = BTreeMap::from([(("p".to_owned(), "a".to_owned()), full)]);
        let events = vec![
            event("p", WebhookEvent::FirstJoined, 0),
            event("p", WebhookEvent::LastLeft, 0),
        ];
        let placed = place(events, &targets, &mut queues);
        let dead: Vec<_> = placed.rows.iter().map(|row| row.problem.is_some()).collect();
        assert_eq!(dead, [false, true]);
        assert_eq!(placed.grown.values().sum::<u64>(), 1);
    }
}
