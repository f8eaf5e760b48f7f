//! `POST /api/pages/query`: many pages at once, those that are named, those whose ids begin alike, or those whose text has words; a line of
//! JSON each.
//!
//! Which pages they are is decided before the answer begins. Their content is read while it leaves, one page after the other.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use crdt::Form;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::{PageId, PageRecord, Search, SearchError};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    described::ListedPage,
    error::Reason,
    openapi::refusals::Sending,
    page_state::{View, view},
    pages::{describe_record, limit_of},
};
use crate::{
    auth::Identity,
    rooms::{Refusal, RefusalCode, Role, run_blocking_if},
};

/// Largest question, in bytes.
const MAX_QUESTION_BYTES: usize = 1 << 20;
/// Pages that may be named.
const MAX_IDS: usize = 1000;
/// Pages that are looked up ahead of whoever reads the answer. Content is not read ahead: a slow reader would have more of it kept than of a
/// single page.
const READ_AHEAD: usize = 4;
/// How long a user who has read too much waits before the next page.
const USER_PAUSE: Duration = Duration::from_millis(100);
/// Pages that are found at once in the store.
const FOUND_AT_ONCE: usize = 256;
/// Looking for words in a text of this many bytes takes long enough to get out of the way of other tasks.
const LONG_TEXT: usize = 16 * 1024;
/// What is shown of a text around the first word that was looked for, in characters before and from there on.
const SNIPPET: (usize, usize) = (60, 140);

/// Which pages are told of, and what of them: `ids`, or `search` and `prefix`, or `prefix` alone, which may be nothing.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Question {
    /// These pages, in this order.
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
    /// Pages whose ids begin so.
    prefix: Option<String>,
    /// Pages whose text has these words, the best first.
    search: Option<String>,
    /// The `next` of the answer before.
    after: Option<String>,
    /// Most pages; 100 if nothing is said, at most 1 000.
    #[schema(format = Int64, minimum = 0)]
    limit: Option<usize>,
    /// What is told of a page beside what a listing says.
    #[serde(default)]
    include: Vec<Include>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum Include {
    Text,
    Json,
}

/// A page of the answer.
struct Selected {
    page: PageId,
    /// What is known of it, if that was asked for already.
    record: Option<PageRecord>,
    found: Option<FoundBy>,
}

/// How a page answers a search.
#[derive(Clone)]
struct FoundBy {
    search: Arc<Search>,
    score: f64,
}

/// A line of the answer.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Line {
    Page(Box<ToldPage>),
    Untold(UntoldPage),
    More(MorePages),
}

/// A page that cannot be told of.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UntoldPage {
    page_id: String,
    error: Reason,
}

/// There are more pages. The last line.
#[derive(Serialize, ToSchema)]
pub(super) struct MorePages {
    /// The next `after`.
    next: String,
}

/// A page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToldPage {
    #[serde(flatten)]
    described: ListedPage,
    /// How well it answers a search: the more, the better.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// A part of its text with the first word that was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// All root types by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    json: Option<Box<RawValue>>,
}

impl From<SearchError> for HttpError {
    fn from(error: SearchError) -> Self {
        Refusal::malformed(error.to_string()).into()
    }
}

/// Tells of many pages at once: those that are named, those whose ids begin alike, or those whose text has words.
///
/// A line of JSON for each page that the asker may see. A page that is called `query` is `%71uery` in a path.
#[utoipa::path(
    post,
    path = "/api/pages/query",
    operation_id = "queryPages",
    tag = "pages",
    request_body = Question,
    responses(
        (status = 200, description = "A line for each page", body = Vec<Line>, content_type = "application/x-ndjson"),
        Sending,
    ),
)]
pub(super) async fn query(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Response, HttpError> {
    let identity = app.identify(&headers, &uri).await?;
    let body = body.at_most(MAX_QUESTION_BYTES).await;
    let body = body.ok_or_else(|| Refusal::too_large("a query has at most 1 MiB, and comes whole"))?;
    let question: Question = serde_json::from_slice(&body)
        .map_err(|error| Refusal::malformed(format!("the body is no query: {error}")))?;
    let include: Arc<[Include]> = question.include.as_slice().into();
    let (selected, next) = select(&app, &identity, question).await?;
    let identity = Arc::new(identity);
    let ahead = match include.is_empty() {
        true => READ_AHEAD,
        false => 1,
    };
    let lines = stream::iter(selected)
        .map(move |selected| {
            let (app, identity, include) = (app.clone(), identity.clone(), include.clone());
            async move { line(&app, &identity, selected, &include).await }
        })
        .buffered(ahead);
    let last = next.map(|next| written(&Line::More(MorePages { next })));
    let lines = lines.chain(stream::iter(last)).map(Ok::<_, Infallible>);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// Which pages the answer has, and where the next one goes on.
async fn select(
    app: &App,
    identity: &Identity,
    question: Question,
) -> Result<(Vec<Selected>, Option<String>), HttpError> {
    let limit = limit_of(question.limit);
    match question {
        Question {
            ids: Some(ids),
            prefix: None,
            search: None,
            after: None,
            ..
        } => {
            if ids.len() > MAX_IDS {
                return Err(Refusal::malformed(format!("a query names at most {MAX_IDS} pages")).into());
            }
            let named = |id: String| {
                Ok(Selected {
                    page: PageId::new(&id)?,
                    record: None,
                    found: None,
                })
            };
            let named = ids.into_iter().map(named).collect::<Result<_, HttpError>>()?;
            Ok((named, None))
        }
        Question { ids: Some(_), .. } => {
            Err(Refusal::malformed("`ids` stand alone: without `prefix`, `search` and `after`").into())
        }
        Question {
            search: Some(search),
            prefix,
            after,
            ..
        } => {
            let search = Arc::new(Search::parse(&search)?);
            let skip = after.map_or(Ok(0), |after| after.parse());
            let skip = skip.map_err(|_| Refusal::malformed("`after` is the `next` of an answer"))?;
            find(app, identity, &search, &prefix.unwrap_or_default(), skip, limit).await
        }
        Question { prefix, after, .. } => {
            list(app, identity, &prefix.unwrap_or_default(), after, limit).await
        }
    }
}

async fn list(
    app: &App,
    identity: &Identity,
    prefix: &str,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<Selected>, Option<String>), HttpError> {
    let (records, next) = app.visible(identity, prefix, after, limit, false).await?;
    let selected = records.into_iter().map(|record| Selected {
        page: record.page.clone(),
        record: Some(record),
        found: None,
    });
    Ok((selected.collect(), next))
}

/// The best pages after the first `skip` that are found, without those that the asker may not see.
async fn find(
    app: &App,
    identity: &Identity,
    search: &Arc<Search>,
    prefix: &str,
    mut skip: usize,
    limit: usize,
) -> Result<(Vec<Selected>, Option<String>), HttpError> {
    let reach = app.around.access.reach(identity).await?;
    let ranges = reach.remaining(prefix, None);
    let ranges: Vec<_> = ranges.iter().filter_map(crate::access::Range::ids).collect();
    let mut selected = Vec::new();
    loop {
        let found = app.store.search(search, &ranges, skip, FOUND_AT_ONCE).await?;
        let is_last = found.len() < FOUND_AT_ONCE;
        for found in found {
            if selected.len() == limit {
                return Ok((selected, Some(skip.to_string())));
            }
            skip += 1;
            let record = app.store.page(&found.page).await?;
            let Some(record) = record.filter(|record| record.deleted_at.is_none()) else {
                continue;
            };
            if app.may_list(identity, &record).await? {
                let (search, score) = (search.clone(), found.score);
                selected.push(Selected {
                    page: found.page,
                    record: Some(record),
                    found: Some(FoundBy { search, score }),
                });
            }
        }
        if is_last {
            return Ok((selected, None));
        }
    }
}

/// What is told of a page, or why nothing is.
async fn line(app: &App, identity: &Identity, selected: Selected, include: &[Include]) -> String {
    let page = selected.page.clone();
    let line = match tell(app, identity, selected, include).await {
        Ok(page) => Line::Page(Box::new(page)),
        Err(error) => Line::Untold(UntoldPage {
            page_id: page.as_str().to_owned(),
            error: Reason::of(&error.refusal()),
        }),
    };
    written(&line)
}

async fn tell(
    app: &App,
    identity: &Identity,
    selected: Selected,
    include: &[Include],
) -> Result<ToldPage, HttpError> {
    let page = &selected.page;
    // Also of a page that was selected: what leaves later is decided later.
    if app.around.access.role(identity, page).await? < Role::View {
        return Err(Refusal::new(RefusalCode::Forbidden, "the page is not for you").into());
    }
    let record = match selected.record {
        Some(record) => Some(record),
        None => app.store.page(page).await?,
    };
    let record = record.ok_or_else(HttpError::unknown_page)?;
    let mut line = ToldPage {
        described: describe_record(&record),
        score: None,
        snippet: None,
        text: None,
        json: None,
    };
    if let Some(FoundBy { search, score }) = selected.found {
        line.score = Some(score);
        let text = app.store.searched_text(page).await?;
        line.snippet =
            text.map(|(_, text)| run_blocking_if(text.len() > LONG_TEXT, || snippet(&text, &search)));
    }
    if include.is_empty() {
        return Ok(line);
    }
    if let Some(user) = &identity.user {
        // Content comes no faster than a request for each page would bring it.
        while app.around.access.rates().user_asks(user).is_err() {
            tokio::time::sleep(USER_PAUSE).await;
        }
    }
    let read = view(app, page, |document| {
        let size = document.encoded_size_estimate() as u64;
        Ok((size, document.encode()?))
    });
    let (View { value, seq, .. }, _) = read.await?.ok_or_else(HttpError::unknown_page)?;
    let (size, state) = value;
    line.described.seq = seq;
    line.described.size_bytes = size;
    // What is read once does not take the place of what is edited.
    let readers = app.readers.of_past(seq);
    for form in include {
        let form = match form {
            Include::Text => Form::Text,
            Include::Json => Form::Json,
        };
        let content = readers.content(page, state.clone(), form, None).await?;
        let content = content.ok_or_else(HttpError::unknown_page)?;
        match form {
            Form::Json => {
                let json = RawValue::from_string(content);
                let json = json.map_err(|_| Refusal::unavailable("the page cannot be read just now"))?;
                line.json = Some(json);
            }
            Form::Text | Form::Html | Form::Markdown | Form::Prosemirror | Form::Blocknote | Form::Delta => {
                line.text = Some(content);
            }
        }
    }
    Ok(line)
}

/// A part of a text with the first word that was looked for; its beginning when that is written in another form.
fn snippet(text: &str, search: &Search) -> String {
    let (before, behind) = SNIPPET;
    let place = search.place_in(text).map_or(0, |place| place.start);
    let (head, tail) = text.split_at(place);
    let start = head.char_indices().rev().take(before).last();
    let start = start.map_or(place, |(start, _)| start);
    let end = tail
        .char_indices()
        .nth(behind)
        .map_or(text.len(), |(end, _)| place + end);
    let shown = text.get(start..end).unwrap_or_default();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn written(line: &Line) -> String {
    // What is written has no keys but strings.
    let mut line = serde_json::to_string(line).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_cut_between_characters_around_the_first_word() {
        let text = format!("{} word {}", "é ".repeat(200), "東 ".repeat(200));
        let search = Search::parse("nothing word").expect("a search");
        let shown = snippet(&text, &search);
        assert!(shown.contains("é é word 東 東"), "{shown}");
        assert!(shown.chars().count() <= SNIPPET.0 + SNIPPET.1);
        assert_eq!(snippet("one two", &search), "one two");
        assert_eq!(snippet("", &search), "");
    }
}
