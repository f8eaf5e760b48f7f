//! What a worker has said of one workspace, and what its members are told of that. Pure: time is an argument.
//!
//! A worker speaks one of two vocabularies, and members hear both: each payload has the fields of either, and what has two names is told
//! under both. Progress comes for every page, and is told at a pace that a browser can take; it never goes backwards.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// How often progress is told: with every so many pages, and after so long.
#[derive(Clone, Copy, Debug)]
pub struct ProgressPace {
    /// Pages; 0 for every one.
    pub pages: u64,
    /// Time.
    pub time: Duration,
}

/// Phases that are remembered of one job.
const MAX_PHASES: usize = 32;

/// The phases of an index, in their order. Workers may have others.
const PHASES: [&str; 6] = ["fetch", "render", "analyze", "embed", "ontology", "finalize"];

/// Fields of progress that have two names.
const TWINS: [(&str, &str); 4] = [
    ("docsDone", "processedDocuments"),
    ("docsTotal", "totalDocuments"),
    ("pagesDone", "processedPages"),
    ("pagesTotal", "totalPages"),
];

/// An event for the members of a workspace.
pub(super) type Event = (String, Map<String, Json>);

/// How far the work on a workspace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    #[default]
    Unknown,
    Queued,
    Active,
    Ended,
}

/// What a worker has said of one workspace.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Job {
    status: Status,
    /// The phases that there have been, the present one last.
    phases: Vec<String>,
    /// In the present phase.
    pages: u64,
    docs: u64,
    /// Pages that members know of.
    told_pages: u64,
    /// What members were told last, for those who come later.
    last: Vec<Event>,
    #[serde(skip)]
    told_at: Option<Instant>,
    /// Progress that is not told yet.
    #[serde(skip)]
    held: Option<Map<String, Json>>,
}

/// What an event of a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queued,
    Started,
    Progress,
    Ready,
    Failed,
    Cancelled,
}

impl Kind {
    /// The kind of an event, in either vocabulary.
    pub(super) fn of(event: &str) -> Option<Self> {
        match event {
            "index:queued" => Some(Self::Queued),
            "index:started" => Some(Self::Started),
            "index:progress" => Some(Self::Progress),
            "index:ready" | "index:complete" => Some(Self::Ready),
            "index:failed" | "index:error" => Some(Self::Failed),
            "index:cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// What members are told, in both vocabularies.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Queued => &["index:queued"],
            Self::Started => &["index:started"],
            Self::Progress => &["index:progress"],
            Self::Ready => &["index:ready", "index:complete"],
            Self::Failed => &["index:failed", "index:error"],
            Self::Cancelled => &["index:cancelled"],
        }
    }
}

impl Job {
    /// Takes what a worker says of a workspace. Gives what its members are told of it, in order.
    pub(super) fn take(
        &mut self,
        now: Instant,
        pace: ProgressPace,
        workspace: &str,
        kind: Kind,
        mut payload: Map<String, Json>,
    ) -> Vec<Event> {
        payload.insert("workspaceId".to_owned(), workspace.into());
        match kind {
            Kind::Queued | Kind::Started => {
                *self = Self {
                    status: if kind == Kind::Queued {
                        Status::Queued
                    } else {
                        Status::Active
                    },
                    ..Self::default()
                };
                self.tell(kind, payload)
            }
            Kind::Progress => self.progress(now, pace, payload),
            Kind::Ready | Kind::Failed | Kind::Cancelled => {
                // A worker that speaks both vocabularies says it twice.
                if self.status == Status::Ended && self.was_told(kind) {
                    return Vec::new();
                }
                if kind == Kind::Failed && !payload.contains_key("phase") {
                    let phase = self.phases.last().cloned();
                    payload.insert("phase".to_owned(), phase.into());
                }
                let mut events = self.flush(now);
                self.status = Status::Ended;
                events.extend(self.tell(kind, payload));
                events
            }
        }
    }

    fn was_told(&self, kind: Kind) -> bool {
        let names = self.last.iter().map(|(name, _)| name.as_str());
        names.eq(kind.names().iter().copied())
    }

    fn tell(&mut self, kind: Kind, payload: Map<String, Json>) -> Vec<Event> {
        let names = kind.names().iter();
        self.last = names.map(|name| ((*name).to_owned(), payload.clone())).collect();
        self.last.clone()
    }

    fn progress(&mut self, now: Instant, pace: ProgressPace, mut payload: Map<String, Json>) -> Vec<Event> {
        if self.status != Status::Active {
            *self = Self {
                status: Status::Active,
                ..Self::default()
            };
        }
        for (one, other) in TWINS {
            copy(&mut payload, one, other);
            copy(&mut payload, other, one);
        }
        if let (None, Some(id)) = (
            payload.get("documentId"),
            payload
                .get("currentDocument")
                .and_then(|document| document.get("id")),
        ) {
            let id = id.clone();
            payload.insert("documentId".to_owned(), id);
        }
        let phase = payload.get("phase").and_then(Json::as_str);
        let phase = phase
            .or(self.phases.last().map(String::as_str))
            .unwrap_or("processing")
            .to_owned();
        let is_new_phase = self.phases.last().is_none_or(|last| *last != phase);
        if is_new_phase && self.is_over(&phase) {
            return Vec::new();
        }
        if is_new_phase {
            if self.phases.len() >= MAX_PHASES {
                self.phases.remove(0);
            }
            self.phases.push(phase);
            (self.pages, self.docs) = (0, 0);
        }
        let (pages, docs) = (number(&payload, "pagesDone"), number(&payload, "docsDone"));
        let has_advanced = pages > self.pages || docs > self.docs;
        (self.pages, self.docs) = (pages.max(self.pages), docs.max(self.docs));
        for (field, value) in [("pagesDone", self.pages), ("docsDone", self.docs)] {
            if payload.contains_key(field) && number(&payload, field) < value {
                raise(&mut payload, field, value);
            }
        }
        let (pages_total, docs_total) = (number(&payload, "pagesTotal"), number(&payload, "docsTotal"));
        let is_last = has_advanced && pages_total > 0 && self.pages >= pages_total && self.docs >= docs_total;
        let is_due = is_new_phase
            || is_last
            || self.told_at.is_none_or(|at| now >= at + pace.time)
            || (has_advanced && self.pages >= self.told_pages.saturating_add(pace.pages));
        self.held = Some(payload);
        match is_due {
            true => self.flush(now),
            false => Vec::new(),
        }
    }

    /// Whether a phase was left before.
    fn is_over(&self, phase: &str) -> bool {
        let place = |phase: &str| PHASES.iter().position(|known| *known == phase);
        let is_earlier = match (place(phase), self.phases.last().and_then(|last| place(last))) {
            (Some(phase), Some(last)) => phase < last,
            _ => false,
        };
        is_earlier || self.phases.iter().any(|before| before == phase)
    }

    /// Tells what is not told yet.
    fn flush(&mut self, now: Instant) -> Vec<Event> {
        let Some(held) = self.held.take() else {
            return Vec::new();
        };
        (self.told_at, self.told_pages) = (Some(now), self.pages);
        self.tell(Kind::Progress, held)
    }

    /// When progress is told that was held back.
    pub(super) fn next_deadline(&self, pace: ProgressPace) -> Option<Instant> {
        self.held.as_ref()?;
        Some(self.told_at? + pace.time)
    }

    /// Tells progress that was held back for long enough.
    pub(super) fn tick(&mut self, now: Instant, pace: ProgressPace) -> Vec<Event> {
        match self.next_deadline(pace) {
            Some(deadline) if deadline <= now => self.flush(now),
            Some(_) | None => Vec::new(),
        }
    }

    /// What somebody is told who comes now.
    pub(super) fn replay(&self) -> Vec<Event> {
        let mut last = self.last.clone();
        for (_, payload) in &mut last {
            payload.insert("replayed".to_owned(), true.into());
        }
        last
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }
}

fn copy(payload: &mut Map<String, Json>, from: &str, to: &str) {
    if !payload.contains_key(to)
        && let Some(value) = payload.get(from).cloned()
    {
        payload.insert(to.to_owned(), value);
    }
}

fn number(payload: &Map<String, Json>, field: &str) -> u64 {
    payload.get(field).and_then(Json::as_u64).unwrap_or(0)
}

/// Sets a field under both of its names.
fn raise(payload: &mut Map<String, Json>, field: &str, value: u64) {
    payload.insert(field.to_owned(), value.into());
    if let Some((_, twin)) = TWINS.iter().find(|(name, _)| *name == field) {
        payload.insert((*twin).to_owned(), value.into());
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a story begins now")]
mod tests {
    use serde_json::json;

    use super::*;

    const PACE: ProgressPace = ProgressPace {
        pages: 10,
        time: Duration::from_secs(5),
    };

    struct Story {
        job: Job,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self {
                job: Job::default(),
                now: Instant::now(),
            }
        }

        fn pass(&mut self, seconds: u64) -> Vec<Event> {
            self.now += Duration::from_secs(seconds);
            self.job.tick(self.now, PACE)
        }

        fn say(&mut self, event: &str, payload: Json) -> Vec<Event> {
            let Json::Object(payload) = payload else {
                panic!("no object: {payload}");
            };
            let kind = Kind::of(event).unwrap_or_else(|| panic!("{event} is known"));
            self.job.take(self.now, PACE, "w", kind, payload)
        }

        /// The pages that progress tells of.
        fn pages(&mut self, phase: &str, pages: u64) -> Vec<u64> {
            let payload = json!({ "phase": phase, "docsDone": 0, "docsTotal": 1, "pagesDone": pages, "pagesTotal": 100 });
            let told = self.say("index:progress", payload);
            told.iter()
                .map(|(_, payload)| number(payload, "pagesDone"))
                .collect()
        }
    }

    fn names(events: &[Event]) -> Vec<&str> {
        events.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn members_hear_both_vocabularies_whichever_the_worker_speaks() {
        let mut story = Story::new();
        let told = story.say("index:started", json!({}));
        assert_eq!(
            told,
            [(
                "index:started".to_owned(),
                json!({ "workspaceId": "w" })
                    .as_object()
                    .cloned()
                    .expect("an object")
            )]
        );
        let told = story.say(
            "index:progress",
            json!({ "phase": "processing", "currentDocument": { "id": "d" }, "totalDocuments": 3, "processedDocuments": 1,
                    "totalPages": 50, "processedPages": 10, "analyzedPages": 4, "etaSeconds": 9 }),
        );
        let [(name, payload)] = told.as_slice() else {
            panic!("one event: {told:?}");
        };
        assert_eq!(name, "index:progress");
        let expected = json!({
            "workspaceId": "w", "phase": "processing", "currentDocument": { "id": "d" }, "documentId": "d", "etaSeconds": 9,
            "totalDocuments": 3, "docsTotal": 3, "processedDocuments": 1, "docsDone": 1,
            "totalPages": 50, "pagesTotal": 50, "processedPages": 10, "pagesDone": 10, "analyzedPages": 4,
        });
        assert_eq!(Json::Object(payload.clone()), expected);
        let told = story.say(
            "index:complete",
            json!({ "documentCount": 3, "pageCount": 50, "cost": 1.5 }),
        );
        assert_eq!(names(&told), ["index:ready", "index:complete"]);
        for (_, payload) in &told {
            let expected = json!({ "workspaceId": "w", "documentCount": 3, "pageCount": 50, "cost": 1.5 });
            assert_eq!(Json::Object(payload.clone()), expected);
        }
        assert_eq!(
            story.say("index:ready", json!({ "pageCount": 50 })),
            [],
            "it has been said"
        );
        story.say("index:started", json!({}));
        story.pages("render", 1);
        let told = story.say("index:error", json!({ "error": "no more money" }));
        assert_eq!(names(&told), ["index:failed", "index:error"]);
        assert!(told.iter().all(|(_, payload)| payload["phase"] == "render"));
        assert_eq!(
            names(&story.say("index:cancelled", json!({}))),
            ["index:cancelled"]
        );
    }

    #[test]
    fn progress_is_told_first_last_with_a_phase_by_pages_by_time_and_never_backwards() {
        let mut story = Story::new();
        story.say("index:started", json!({}));
        assert_eq!(story.pages("render", 1), [1], "the first");
        assert_eq!(story.pages("render", 2), [0_u64; 0]);
        assert_eq!(story.pages("render", 10), [0_u64; 0]);
        assert_eq!(story.pages("render", 11), [11], "ten pages more");
        assert_eq!(story.pages("render", 12), [0_u64; 0]);
        assert_eq!(story.pages("render", 9), [0_u64; 0], "late");
        let told = story.pass(5);
        assert_eq!(told.len(), 1, "by time");
        assert_eq!(number(&told[0].1, "pagesDone"), 12);
        assert_eq!(story.pass(5), [], "once");
        assert_eq!(
            story.pages("render", 12),
            [12],
            "after a long time, though nothing has changed"
        );
        assert_eq!(story.pages("analyze", 3), [3], "a new phase");
        assert_eq!(story.pages("render", 99), [0_u64; 0], "of a phase that is over");
        assert_eq!(
            story.pages("fetch", 99),
            [0_u64; 0],
            "of a phase that is over, whether it was heard of or not"
        );
        assert_eq!(story.pages("analyze", 4), [0_u64; 0]);
        let told = story.say("index:ready", json!({ "pageCount": 100 }));
        assert_eq!(names(&told), ["index:progress", "index:ready", "index:complete"]);
        assert_eq!(number(&told[0].1, "pagesDone"), 4);
        story.say("index:started", json!({}));
        assert_eq!(story.pages("fetch", 1), [1], "another job");
        let last =
            json!({ "phase": "fetch", "docsDone": 1, "docsTotal": 1, "pagesDone": 2, "pagesTotal": 2 });
        assert_eq!(story.say("index:progress", last.clone()).len(), 1, "the last");
        assert_eq!(story.say("index:progress", last), [], "it has been told");
    }

    #[test]
    fn who_comes_later_hears_the_last_state_also_after_a_restart() {
        let mut story = Story::new();
        assert_eq!(story.job.replay(), []);
        story.say("index:started", json!({}));
        assert_eq!(names(&story.job.replay()), ["index:started"]);
        story.pages("render", 5);
        story.pages("render", 6);
        let again = serde_json::to_string(&story.job).expect("JSON");
        story.job = serde_json::from_str(&again).expect("a job");
        let replayed = story.job.replay();
        assert_eq!(names(&replayed), ["index:progress"]);
        assert_eq!(
            (&replayed[0].1["replayed"], number(&replayed[0].1, "pagesDone")),
            (&json!(true), 5)
        );
        assert_eq!(story.pages("fetch", 9), [0_u64; 0], "never backwards");
        assert_eq!(story.pages("render", 4), [6], "nor here: what was known is known");
        story.say("index:ready", json!({ "pageCount": 6 }));
        assert_eq!(names(&story.job.replay()), ["index:ready", "index:complete"]);
        assert_eq!(story.job.status(), Status::Ended);
        story.say("index:queued", json!({}));
        assert_eq!(names(&story.job.replay()), ["index:queued"]);
    }

    #[test]
    fn nothing_that_a_worker_says_breaks_anything() {
        let mut story = Story::new();
        for payload in [
            json!({}),
            json!({ "phase": 7, "pagesDone": -1, "pagesTotal": "x", "docsDone": 1.5 }),
            json!({ "phase": "", "pagesDone": u64::MAX, "pagesTotal": u64::MAX, "currentDocument": [] }),
        ] {
            story.say("index:progress", payload);
        }
        for phase in 0..100 {
            story.pages(&format!("phase {phase}"), 1);
        }
        assert!(story.job.phases.len() <= MAX_PHASES);
    }
}
