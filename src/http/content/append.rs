//! `POST /api/pages/{id}/append`: content that goes to the end of a page as it comes. What an assistant writes is seen while it writes.

use std::time::Duration;

use axum::{
    body::BodyDataStream,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri},
    response::Response,
};
use bytes::{Buf, Bytes, BytesMut};
use crdt::{Append, AppendedPiece, ClientId, Form, Format, RelativePosition};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::{PageId, Seq};
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::{
    Now,
    seen::{AuthorQuery, WAITS, Writer, named},
    sent,
};
use crate::{
    auth::Identity,
    http::{
        App, HttpError,
        body::UnreadBody,
        described::with_seq,
        openapi::{
            parameters::{Brief, Conditions, PageName},
            refusals::{Briefly, Changing},
        },
        pages::{PageInPath, check_conditions},
    },
    reader::{Change, new_client},
    rooms::{Refusal, RefusalCode, Role},
};

/// What comes within this time is one piece at least: many small ones would cost a merge each, and nobody reads faster.
const PIECE: Duration = Duration::from_millis(50);

/// Time without anything after which a request ends.
const SILENCE: Duration = Duration::from_secs(120);

/// How often it is asked whether the author still may.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// How often a piece is merged when the page is compacted meanwhile.
const TRIES: usize = 3;

/// Most that one request may add, in bytes: what has come is read from its beginning with each piece.
const MAX_APPENDED_BYTES: usize = 1 << 20;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AppendQuery {
    /// The form of the body. When it is not said, that of `Content-Type`, else `markdown`.
    #[param(value_type = Option<AppendFormat>, nullable = false)]
    format: Option<String>,
    /// The name of the root type to whose end it goes. When it is not said, the one that people write in.
    field: Option<String>,
}

/// The forms in which something is appended.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes what `append` reads")]
pub(crate) enum AppendFormat {
    Markdown,
    Text,
}

/// What was added.
#[derive(Serialize, ToSchema)]
pub(crate) struct Appended {
    /// The number of the last row in which it is stored.
    seq: u64,
    /// Its size, in bytes.
    bytes: usize,
}

/// Adds what comes to the end of a page, and answers when it has ended and is stored.
///
/// Members see what comes while it comes, with a cursor where it ends. The request ends after two minutes in which nothing has come, and
/// when its author may not edit the page any more.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/append",
    operation_id = "appendContent",
    tag = "pages",
    params(("id" = PageName, Path), AppendQuery, AuthorQuery, Conditions, Brief),
    request_body(
        description = "What is added, in UTF-8: at most 1 MiB. What came before a refusal stays",
        content((String = "text/markdown"), (String = "text/plain")),
    ),
    responses((status = 200, description = "It is stored", body = Appended), Briefly, Changing),
)]
pub(crate) async fn append(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    (query, author): (
        Result<Query<AppendQuery>, QueryRejection>,
        Result<Query<AuthorQuery>, QueryRejection>,
    ),
    body: UnreadBody,
) -> Result<Response, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    let identity = named(identity, author)?;
    let Query(query) = query?;
    let format = match sent(query.format.as_deref(), &headers)? {
        None | Some(Form::Markdown) => Format::Markdown,
        Some(Form::Text) => Format::Text,
        Some(Form::Json | Form::Html | Form::Prosemirror | Form::Blocknote | Form::Delta) => {
            return Err(Refusal::malformed("what is appended is Markdown or text").into());
        }
    };
    check_conditions(&app, &page, &headers).await?;
    let mut writing = Writing {
        app: &app,
        page: &page,
        client: new_client(),
        append: Append {
            field: query.field,
            format,
            anchor: None,
            before: String::new(),
            now: String::new(),
        },
        asked_at: Instant::now(),
        seq: None,
    };
    let mut pieces = Pieces {
        stream: body.stream(),
        waiting: BytesMut::new(),
        pause: PIECE,
        has_ended: false,
    };
    let mut writer = Writer::new(&app, &page, identity);
    let written = write_all(&mut pieces, &mut writing, &mut writer).await;
    drop(writer);
    written.map_err(|error| writing.why_it_ended(error))?;
    let seq = match writing.seq {
        Some(seq) => seq,
        None => Now::of(&app, &page).await?.seq(),
    };
    let bytes = writing.append.now.len();
    Ok(with_seq(seq, Appended { seq, bytes }))
}

/// Writes what comes, piece by piece, until the end.
async fn write_all(
    pieces: &mut Pieces,
    writing: &mut Writing<'_>,
    writer: &mut Writer<'_>,
) -> Result<(), HttpError> {
    while let Some(piece) = writer.during(PIECE, pieces.next()).await?? {
        let began = Instant::now();
        let identity = writer.identity().clone();
        // What has ended already is over in a moment, as a rule.
        let seen_after = if pieces.has_ended { WAITS } else { PIECE };
        let end = writer
            .during(seen_after, writing.write(&identity, &piece))
            .await??;
        writer.is_at(end, !pieces.has_ended);
        // Others have their pages read by the same processes.
        pieces.pause = PIECE.max(2 * began.elapsed());
    }
    Ok(())
}

/// A body in pieces of whole characters.
struct Pieces {
    stream: BodyDataStream,
    waiting: BytesMut,
    /// What comes within this time is one piece.
    pause: Duration,
    has_ended: bool,
}

impl Pieces {
    /// What comes next within the time of a piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<String>, HttpError> {
        let mut end = None;
        while !self.has_ended {
            let at = end.unwrap_or_else(|| Instant::now() + SILENCE);
            match timeout_at(at, self.stream.next()).await {
                Ok(Some(Ok(data))) => {
                    self.take(&data)?;
                    end.get_or_insert_with(|| Instant::now() + self.pause);
                }
                Ok(Some(Err(_))) => return Err(Refusal::malformed("the body broke off").into()),
                Ok(None) => self.has_ended = true,
                Err(_) if end.is_some() => break,
                Err(_) => return Err(Refusal::malformed("nothing has come for too long").into()),
            }
        }
        let whole = match std::str::from_utf8(&self.waiting) {
            Ok(whole) => whole.len(),
            // The rest of a character comes with the next piece.
            Err(error) if error.error_len().is_none() && !self.has_ended => error.valid_up_to(),
            Err(_) => return Err(Refusal::malformed("the content is no UTF-8").into()),
        };
        if whole == 0 && self.has_ended {
            return Ok(None);
        }
        let piece = self.waiting.split_to(whole);
        Ok(Some(String::from_utf8_lossy(&piece).into_owned()))
    }

    fn take(&mut self, data: &Bytes) -> Result<(), HttpError> {
        if self.waiting.len() + data.remaining() > MAX_APPENDED_BYTES {
            return Err(too_much());
        }
        self.waiting.extend_from_slice(data);
        Ok(())
    }
}

fn too_much() -> HttpError {
    Refusal::too_large("one request appends at most 1 MiB").into()
}

fn unreadable() -> Refusal {
    Refusal::new(RefusalCode::Internal, "the reader said nothing that makes sense")
}

/// What is being appended.
struct Writing<'a> {
    app: &'a App,
    page: &'a PageId,
    client: ClientId,
    append: Append,
    asked_at: Instant,
    seq: Option<Seq>,
}

impl Writing<'_> {
    /// Writes a piece, and says where what has been written ends.
    async fn write(
        &mut self,
        identity: &Identity,
        piece: &str,
    ) -> Result<Option<RelativePosition>, HttpError> {
        if piece.is_empty() {
            return Ok(None);
        }
        if self.append.now.len() + piece.len() > MAX_APPENDED_BYTES {
            return Err(too_much());
        }
        self.check(identity).await?;
        self.append.now.push_str(piece);
        for _ in 0..TRIES {
            if let Some(end) = self.try_to_write(identity).await? {
                self.append.before.push_str(piece);
                return Ok(end);
            }
        }
        Err(Refusal::unavailable("the page is compacted again and again, try again").into())
    }

    /// Merges what has come by now into the page, and says where it ends; `None` when the page was compacted meanwhile.
    async fn try_to_write(
        &mut self,
        identity: &Identity,
    ) -> Result<Option<Option<RelativePosition>>, HttpError> {
        let now = Now::of(self.app, self.page).await?;
        // It goes on in the new document, as somebody who is new there.
        if now.ended.contains(self.client) {
            self.client = new_client();
        }
        let change: Change = Change::Append(self.append.clone());
        let merging = self.app.readers.merge(self.page, now.state, self.client, &change);
        let merged = merging.await?;
        let content: Box<RawValue> = merged.content;
        let appended: AppendedPiece<&RawValue> =
            serde_json::from_str(content.get()).map_err(|_| unreadable())?;
        if !merged.update.is_empty() {
            let registry = &self.app.around.registry;
            let user = identity.user.clone();
            match registry.post(self.page, user, merged.update).await {
                Ok(seq) => self.seq = Some(seq),
                Err(refusal) if refusal.code == RefusalCode::PageRebuilt => return Ok(None),
                Err(refusal) => return Err(refusal.into()),
            }
        }
        if self.append.anchor.is_none() {
            self.append.anchor = serde_json::from_str(appended.anchor.get()).ok();
            self.append.field = Some(merged.field);
        }
        Ok(Some(appended.end))
    }

    /// Why the request ended. What has been written under the former id of a page is not to be sent once more to the new one.
    fn why_it_ended(&self, error: HttpError) -> HttpError {
        let is_renamed =
            matches!(&error, HttpError::Refused(refusal) if refusal.code == RefusalCode::PageRenamed);
        if !is_renamed || self.append.before.is_empty() {
            return error;
        }
        let message = "the page has got another id meanwhile: what came before stays, go on there";
        Refusal::new(RefusalCode::Conflict, message).into()
    }

    /// Ends the request when the author may not write any more, or the server stops.
    async fn check(&mut self, identity: &Identity) -> Result<(), HttpError> {
        if self.app.is_draining() {
            return Err(Refusal::draining().into());
        }
        if self.asked_at.elapsed() < ASKED_AGAIN {
            return Ok(());
        }
        self.asked_at = Instant::now();
        let role = self.app.around.access.role(identity, self.page).await?;
        match role >= Role::Edit {
            true => Ok(()),
            false => Err(Refusal::read_only().into()),
        }
    }
}
