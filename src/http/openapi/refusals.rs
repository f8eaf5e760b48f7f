//! What is answered when a request is refused, as the description has it: a few responses that operations share.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify,
    openapi::{
        self, ContentBuilder, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder, schema::Type,
    },
};

use crate::http::error::PROBLEM;

/// The refusals: their names in the description, their statuses, and when they are answered.
const REFUSALS: [(&str, &str, &str); 11] = [
    (
        "Renamed",
        "308",
        "The page has another id now (`page_renamed`), and the same is found at `Location`",
    ),
    (
        "Unauthenticated",
        "401",
        "No token, one that proves nothing (`unauthenticated`), that is over (`token_expired`) or withdrawn (`token_revoked`)",
    ),
    (
        "Forbidden",
        "403",
        "The asker may not do this (`forbidden`), or may read the page and not change it (`read_only`)",
    ),
    (
        "NotFound",
        "404",
        "There is no such thing, or it is not kept (`not_found`), or the page is in the trash (`page_deleted`)",
    ),
    (
        "Conflict",
        "409",
        "What is asked contradicts what there is (`conflict`)",
    ),
    (
        "PreconditionFailed",
        "412",
        "The page is in another state than `If-Match`, `If-None-Match` or `baseSeq` says, or that state is not kept (`conflict`)",
    ),
    (
        "TooLarge",
        "413",
        "The body, the page or the work is over its limit (`too_large`)",
    ),
    (
        "Malformed",
        "422",
        "The path, the query, a header or the body makes no sense (`malformed`)",
    ),
    (
        "RateLimited",
        "429",
        "Too many requests of this address or user (`rate_limited`)",
    ),
    ("Internal", "500", "A defect of the server (`internal`)"),
    (
        "Unavailable",
        "503",
        "The store or a source of permissions cannot be asked now (`unavailable`), or the server is stopping (`draining`)",
    ),
];

/// Puts the refusals among what operations refer to.
pub(super) struct Shared;

impl Modify for Shared {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, status, when) in REFUSALS {
            components
                .responses
                .insert(name.to_owned(), RefOr::T(response(status, when)));
        }
    }
}

fn response(status: &str, when: &str) -> Response {
    let problem = || {
        ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .build()
    };
    let response = ResponseBuilder::new()
        .description(when)
        .content("application/json", problem())
        .content(PROBLEM, problem());
    match status {
        "429" => {
            let seconds = HeaderBuilder::new()
                .schema(Some(Object::with_type(Type::Integer)))
                .description(Some("Seconds until it is worth asking again"));
            response.header("retry-after", seconds.build()).build()
        }
        "308" => {
            let place = HeaderBuilder::new()
                .schema(Some(Object::with_type(Type::String)))
                .description(Some(
                    "The same of the page under its id, relative to what was asked for",
                ));
            response.header("location", place.build()).build()
        }
        _ => response.build(),
    }
}

/// References to the refusals with these statuses.
fn of(statuses: &[&str]) -> BTreeMap<String, RefOr<Response>> {
    let refusals = REFUSALS.iter().filter(|(_, status, _)| statuses.contains(status));
    refusals
        .map(|(name, status, _)| {
            let refusal = RefOr::Ref(Ref::from_response_name(*name));
            ((*status).to_owned(), refusal)
        })
        .collect()
}

/// Groups of refusals, which stand among the `responses` of an operation.
macro_rules! groups {
    ($($(#[$meta:meta])* $name:ident = [$($status:literal),+];)+) => {
        $(
            $(#[$meta])*
            pub(in crate::http) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    of(&[$($status),+])
                }
            }
        )+
    };
}

groups! {
    /// Of every request for which it matters who asks.
    Asking = ["401", "403", "422", "429", "500", "503"];
    /// Of a request that reads something.
    Reading = ["308", "401", "403", "404", "422", "429", "500", "503"];
    /// Of a request that reads what a page was, which may be too much work.
    ReadingPast = ["308", "401", "403", "404", "413", "422", "429", "500", "503"];
    /// Of a request with a body.
    Sending = ["401", "403", "413", "422", "429", "500", "503"];
    /// Of a request that changes a page.
    Changing = ["308", "401", "403", "404", "409", "412", "413", "422", "429", "500", "503"];
    /// Of a request that changes a page into what it was.
    Restoring = ["308", "401", "403", "404", "409", "413", "422", "429", "500", "503"];
    /// A contradiction.
    Conflicting = ["409"];
    /// Of a request that can only fail by a defect.
    Defect = ["500"];
}

/// The answer to a change with `Prefer: return=minimal`.
pub(in crate::http) enum Briefly {}

impl IntoResponses for Briefly {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let header = |kind, description: &str| {
            let header = HeaderBuilder::new().schema(Some(Object::with_type(kind)));
            header.description(Some(description)).build()
        };
        let answer = ResponseBuilder::new()
            .description("It is stored, and no body was preferred")
            .header("x-pageroom-seq", header(Type::Integer, "The number of the row"))
            .header("preference-applied", header(Type::String, "`return=minimal`"));
        [("204".to_owned(), answer.build().into())].into()
    }
}
