//! The body of a request: read only once it is known that whoever sends it may, and only for so long.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json,
    body::{BodyDataStream, Bytes},
    extract::{FromRequest, Request},
};
use hyper::body::{Body, Frame, SizeHint};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use tokio::time::{Sleep, sleep};

use super::HttpError;

/// A request whose body has not been read. A handler that takes this decides first.
pub(super) struct UnreadBody(Request);

impl<S: Sync> FromRequest<S> for UnreadBody {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> Result<Self, HttpError> {
        Ok(Self(request))
    }
}

impl UnreadBody {
    /// The body of a request that was not taken apart.
    pub(super) fn of(request: Request) -> Self {
        Self(request)
    }

    /// Reads the body.
    pub(super) async fn bytes(self) -> Result<Bytes, HttpError> {
        Ok(Bytes::from_request(self.0, &()).await?)
    }

    /// Reads at most so many bytes; `None` for a body that is longer or does not come whole.
    pub(super) async fn at_most(self, max_bytes: usize) -> Option<Bytes> {
        axum::body::to_bytes(self.0.into_body(), max_bytes).await.ok()
    }

    /// The body as it comes. Its reader sees to how long that may take.
    pub(super) fn stream(self) -> BodyDataStream {
        self.0.into_body().into_data_stream()
    }

    /// Reads the body as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, HttpError> {
        let Json(AsObject(read)) = Json::from_request(self.0, &()).await?;
        Ok(read)
    }
}

/// JSON that is an object. What is read into a structure may be a list of its fields otherwise, in an order that nobody knows.
pub(super) struct AsObject<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AsObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Reads the fields of an object.
struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// A body that must have come within a time. Only reading it starts the clock.
pub(crate) struct TimedBody<B> {
    body: B,
    limit: Duration,
    clock: Option<Pin<Box<Sleep>>>,
}

/// The body did not come in time, or not at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError<E> {
    /// It took too long.
    #[error("the body took too long")]
    Late,
    /// The connection broke.
    #[error(transparent)]
    Broken(E),
}

impl<B> TimedBody<B> {
    /// A body for which there is so much time; zero for any.
    pub(crate) fn new(body: B, limit: Duration) -> Self {
        Self {
            body,
            limit,
            clock: None,
        }
    }
}

impl<B: Body + Unpin> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = BodyError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = &mut *self;
        if !this.limit.is_zero() {
            let limit = this.limit;
            let clock = this.clock.get_or_insert_with(|| Box::pin(sleep(limit)));
            if clock.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(BodyError::Late)));
            }
        }
        let frame = Pin::new(&mut this.body).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
