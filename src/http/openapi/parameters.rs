//! Parameters that several operations have, as the description has them.

use std::borrow::Cow;

use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
    },
};

/// Texts without control characters that have a length.
macro_rules! texts {
    ($($(#[$meta:meta])* $name:ident: $description:literal;)+) => {
        $(
            $(#[$meta])*
            pub(in crate::http) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    text($description).into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )+
    };
}

texts! {
    /// A page in a path.
    PageName: "The id of a page: 1 to 255 bytes of UTF-8 without control characters and without `.` or `..` between slashes, which are written \
               `%2F` in a path";
    /// A page in a path, or many.
    PagePattern: "The id of a page, or a prefix and `*` for all pages whose ids begin with it: 1 to 255 bytes of UTF-8 without control characters";
    /// A user in a path.
    UserName: "The id of a user: 1 to 255 bytes of UTF-8 without control characters";
    /// A user in a path, or everybody.
    UserPattern: "The id of a user, or `*` for everybody: 1 to 255 bytes of UTF-8 without control characters";
    /// What somebody calls something.
    Label: "1 to 255 bytes of UTF-8 without control characters";
}

/// Texts that are one of a few words.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident: $description:literal = [$($word:literal),+];)+) => {
        $(
            $(#[$meta])*
            pub(in crate::http) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .enum_values(Some([$($word),+]))
                        .description(Some($description))
                        .into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )+
    };
}

words! {
    /// What has become of a delivery so far.
    WaitingOrDead: "It waits to be delivered, or was given up" = ["pending", "dead"];
}

/// A body that is an update.
pub(in crate::http) enum YjsUpdate {}

impl PartialSchema for YjsUpdate {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .content_media_type("application/octet-stream")
            .description(Some("One update of Yjs (v1), as bytes"))
            .into()
    }
}

impl ToSchema for YjsUpdate {}

/// A shared room in a path.
pub(in crate::http) enum RoomCode {}

impl PartialSchema for RoomCode {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(250))
            .pattern(Some(r"^(room:)?[^:\u0000-\u001F\u007F-\u009F]+$"))
            .description(Some("`room:CODE`, or the code alone where it has no colon"))
            .into()
    }
}

impl ToSchema for RoomCode {}

fn text(description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some(r"^[^\u0000-\u001F\u007F-\u009F]+$"))
        .description(Some(description))
        .build()
}

fn header(name: &str, schema: Object, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(schema))
        .description(Some(description))
        .build()
}

/// The header of whoever may have the answer already.
pub(in crate::http) enum Known {}

impl IntoParams for Known {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "If-None-Match",
            Object::with_type(Type::String),
            "Tags of states that the asker has, or `*`; one of them is answered with 304",
        )]
    }
}

/// The headers that hold a change to a state of the page.
pub(in crate::http) enum Conditions {}

impl IntoParams for Conditions {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let tag = || Object::with_type(Type::String);
        vec![
            header(
                "If-Match",
                tag(),
                "Tags of states, or `*` for any: in another one nothing is changed, and 412 answered",
            ),
            header(
                "If-None-Match",
                tag(),
                "Tags of states in which nothing is changed, and 412 answered; `*` for a page that must not exist yet, however many ask at once",
            ),
        ]
    }
}

/// The header with which a request is made once, however often it comes.
pub(in crate::http) enum Once {}

impl IntoParams for Once {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(255))
            .build();
        vec![header(
            "Idempotency-Key",
            key,
            "What the asker calls this request, 1 to 255 bytes: with the same key it changes the page once",
        )]
    }
}

/// The header of whoever needs no body in the answer.
pub(in crate::http) enum Brief {}

impl IntoParams for Brief {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "Prefer",
            Object::with_type(Type::String),
            "`return=minimal`: the answer has no body (RFC 7240)",
        )]
    }
}
