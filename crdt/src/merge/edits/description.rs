//! What a path looks like as JSON, for a description of what a server reads.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, OneOfBuilder, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

use super::Path;

impl PartialSchema for Path {
    fn schema() -> RefOr<Schema> {
        let pointer = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^/"))
            .description(Some("A JSON pointer (RFC 6901)"));
        let part = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Integer]))
            .minimum(Some(0))
            .maximum(Some(u32::MAX));
        let parts = ArrayBuilder::new()
            .items(part)
            .min_items(Some(1))
            .description(Some("Keys and indexes"));
        OneOfBuilder::new()
            .item(pointer)
            .item(parts)
            .description(Some(
                "Where something is in a page: the name of a root type, and then keys and indexes",
            ))
            .into()
    }
}

impl ToSchema for Path {}
