//! `GET /openapi.json`: what REST takes and answers (OpenAPI 3.1), made from the handlers.
//!
//! A handler is described where it stands, with `#[utoipa::path(…)]`, and named among the `paths` below. `tests/it/openapi.rs` fails for a
//! route of the table that is not described, and for a description without a route. Bodies and answers are described by the very types that
//! are read and written; what those cannot say (headers, refusals) is in [`parameters`] and [`refusals`].

pub(super) mod parameters;
pub(super) mod refusals;

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, SecurityRequirement,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use self::refusals::Shared;
use super::{
    admin, audit, bridge, changes, compact, compare, content, error::Problem, health, history_policies, life,
    page_state::unchanged, pages, permissions, presence, query, restore, rooms, trash, users, versions,
    webhooks, y_sweet,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pageroom",
        description = include_str!("description.md"),
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "pages", description = "Pages: listed, read, changed, deleted"),
        (name = "history", description = "What pages were, and who changed them"),
        (name = "access", description = "Who may do what"),
        (name = "rooms", description = "Shared rooms, which have no document"),
        (name = "bridge", description = "Events that backends tell, and whom they send away"),
        (name = "webhooks", description = "Events on their way to addresses of the application"),
        (name = "administration", description = "This server, for whoever runs it: what is open, who is where, its log and its end"),
        (name = "server", description = "The server itself"),
        (name = "y-sweet", description = "What the SDK of y-sweet asks. Addresses under `/d/` and `/doc/` are the same"),
    ),
    paths(
        serve,
        pages::list,
        pages::describe,
        pages::snapshot,
        pages::post_update,
        pages::post_stateless,
        content::read::read,
        content::put::put,
        content::edit::edit,
        content::append::append,
        trash::delete,
        trash::restore,
        life::purge,
        life::duplicate,
        compact::compact,
        life::rename,
        life::former_ids,
        life::free_former_id,
        query::query,
        changes::list,
        versions::list,
        versions::post,
        versions::get,
        restore::restore,
        restore::undo,
        compare::compare,
        compare::blame,
        presence::list,
        history_policies::get,
        history_policies::set,
        history_policies::remove,
        history_policies::list,
        permissions::list,
        permissions::grant,
        permissions::revoke,
        rooms::get,
        rooms::put,
        rooms::delete,
        users::sign_out,
        users::block,
        users::unblock,
        users::refresh,
        audit::list,
        admin::overview::get,
        admin::stream::watch,
        admin::rooms::list,
        admin::users::list,
        admin::drain::begin,
        admin::drain::call_off,
        admin::log_level::get,
        admin::log_level::put,
        admin::log_level::reset,
        webhooks::list,
        webhooks::replay,
        webhooks::replay_all,
        bridge::broadcast::broadcast,
        bridge::broadcast::broadcast_batch,
        bridge::kick::kick,
        health::alive,
        health::indexer,
        health::ready,
        health::metrics,
        y_sweet::ready,
        y_sweet::check_store,
        y_sweet::get_store,
        y_sweet::new,
        y_sweet::auth,
        y_sweet::as_update,
        y_sweet::update,
    ),
    // What only parameters name is not found by itself.
    components(schemas(
        Problem,
        compare::ComparisonFormat,
        content::ContentFormat,
        content::append::AppendFormat,
        parameters::Label,
        parameters::PageName,
        parameters::WaitingOrDead,
        parameters::PagePattern,
        parameters::RoomCode,
        parameters::UserName,
        parameters::UserPattern,
    )),
    modifiers(&WhoAsks, &Shared),
)]
struct Api;

/// How requests say who asks. Each handler that asks for nothing says so itself.
struct WhoAsks;

impl Modify for WhoAsks {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "`PAGEROOM_ADMIN_TOKEN`, which may do everything, or a JSON Web Token of a user, whose rights count",
            ))
            .build();
        let key = |name: &str, description: &str| ApiKeyValue::with_description(name, description);
        let query = ApiKey::Query(key("token", "The token of a user"));
        let cookie = ApiKey::Cookie(key(
            "accessToken",
            "The token of a user; it counts with an allowed `Origin` only. Session cookies of NextAuth and Auth.js count likewise",
        ));
        let signature = ApiKey::Header(key(
            "X-Broadcast-Signature",
            "`t=SECONDS,v1=HEX`: the time in seconds of UNIX, at most 300 from now, and HMAC-SHA256 of `SECONDS.BODY` with \
             `REALTIME_BROADCAST_SECRET`",
        ));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for (name, scheme) in [("query", query), ("cookie", cookie), ("signature", signature)] {
            components.add_security_scheme(name, SecurityScheme::ApiKey(scheme));
        }
        let one_of = ["bearer", "query", "cookie"].map(|name| SecurityRequirement::new(name, [""; 0]));
        api.security = Some(one_of.into());
    }
}

/// Says of whole numbers that are never negative how large they may be: the library takes them for signed ones, which are half as large.
fn widen(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let widest = match fields.get("format").and_then(Value::as_str) {
                Some("int32") => Some(("uint32", u64::from(u32::MAX))),
                Some("int64") => Some(("uint64", u64::MAX)),
                Some(_) | None => None,
            };
            if let Some((format, maximum)) = widest
                && fields.get("minimum").and_then(Value::as_u64).is_some()
            {
                fields.insert("format".to_owned(), format.into());
                fields.entry("maximum").or_insert(maximum.into());
            }
            fields.values_mut().for_each(widen);
        }
        Value::Array(items) => items.iter_mut().for_each(widen),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The description as it is served, and the tag of its bytes.
struct Written {
    json: Bytes,
    tag: HeaderValue,
}

/// Written at the first request for it; it says nothing of this server or its settings.
static WRITTEN: LazyLock<Result<Written, serde_json::Error>> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Api::openapi())?;
    widen(&mut document);
    let json = serde_json::to_vec(&document)?;
    let digest = Sha256::digest(&json);
    let tag = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    let tag = HeaderValue::from_str(&format!("\"{}\"", tag.collect::<String>()));
    Ok(Written {
        json: json.into(),
        tag: tag.unwrap_or(HeaderValue::from_static("\"\"")),
    })
});

/// Describes REST: this document.
///
/// OpenAPI 3.1. The same for everybody.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "describeApi",
    tag = "server",
    security(()),
    params(parameters::Known),
    responses(
        (status = 200, description = "The description", body = BTreeMap<String, Value>, headers(
            ("etag" = String, description = "The tag of this description"),
        )),
        (status = 304, description = "The asker has it"),
        refusals::Defect,
    ),
)]
pub(super) async fn serve(headers: HeaderMap) -> Response {
    let written = match &*WRITTEN {
        Ok(written) => written,
        Err(error) => {
            tracing::error!(%error, "the description of REST cannot be written");
            return super::error::defect().into_response();
        }
    };
    let about = [
        (header::ETAG, written.tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    match written.tag.to_str().is_ok_and(|tag| unchanged(&headers, tag)) {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => {
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], about, written.json.clone()).into_response()
        }
    }
}
