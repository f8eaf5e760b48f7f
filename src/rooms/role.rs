//! What a user may do with a page.

/// What a user may do with a page; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Role {
    /// Read, and show a cursor.
    View,
    /// Also send events.
    Comment,
    /// Also change the page.
    Edit,
    /// Also manage the page.
    Admin,
}

impl Role {
    /// Whether this role may change the page.
    pub fn may_edit(self) -> bool {
        self >= Self::Edit
    }

    /// The role's name on the wire and in claims.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Comment => "comment",
            Self::Edit => "edit",
            Self::Admin => "admin",
        }
    }

    /// Reads a role's name; `None` for anything that is no role.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "view" => Some(Self::View),
            "comment" => Some(Self::Comment),
            "edit" => Some(Self::Edit),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}
