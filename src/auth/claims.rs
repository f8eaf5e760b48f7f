//! What a token says, which of it is believed, and the identity that it makes.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};

use super::{
    Identity, Profile,
    identity::{expired, unauthenticated},
};
use crate::rooms::{Refusal, Role};

/// Clocks of the issuer and ours may differ by this much.
pub(super) const LEEWAY: Duration = Duration::from_secs(15);

/// What a token says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The user. A whole number counts as its decimal text.
    #[serde(
        default,
        deserialize_with = "text_or_number",
        skip_serializing_if = "Option::is_none"
    )]
    pub sub: Option<String>,
    /// The user, where `sub` is missing.
    #[serde(
        default,
        rename = "userId",
        deserialize_with = "text_or_number",
        skip_serializing_if = "Option::is_none"
    )]
    pub user_id: Option<String>,
    /// `admin` may do everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Page ids and prefix patterns with the name of the role they give.
    #[serde(
        default,
        deserialize_with = "each_once",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub pages: BTreeMap<String, String>,
    /// When the token ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<NumericDate>,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<NumericDate>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<NumericDate>,
    /// The version of the user's tokens when it was issued.
    #[serde(default, rename = "tokenVersion", skip_serializing_if = "Option::is_none")]
    pub token_version: Option<u64>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<serde_json::Value>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<serde_json::Value>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<serde_json::Value>,
    /// Address of the user's picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<serde_json::Value>,
    /// The same, where `picture` is missing.
    #[serde(default, rename = "avatarUrl", skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<serde_json::Value>,
}

/// Seconds since 1970. Tokens may give fractions (RFC 7519 §2), of which only the whole seconds count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NumericDate(pub u64);

impl NumericDate {
    /// The moment; `None` beyond the end of time.
    pub fn time(self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.0))
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let fraction = || number.as_f64().filter(|seconds| (0.0..9e15).contains(seconds));
        number
            .as_u64()
            .or_else(|| fraction().map(|seconds| seconds as u64))
            .map(Self)
            .ok_or_else(|| D::Error::custom("no time"))
    }
}

/// Reads the id of a user, which databases often count.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Positive(u64),
        Negative(i64),
    }

    let id = Option::<Id>::deserialize(deserializer)
        .map_err(|_| D::Error::custom("an id is a text or a whole number"))?;
    Ok(id.map(|id| match id {
        Id::Text(text) => text,
        Id::Positive(number) => number.to_string(),
        Id::Negative(number) => number.to_string(),
    }))
}

/// Reads grants of which none may be given twice: whoever signed the token may have meant the other one.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Grants;

    impl<'de> Visitor<'de> for Grants {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of roles by page")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut grants = BTreeMap::new();
            while let Some((page, role)) = map.next_entry()? {
                if grants.insert(page, role).is_some() {
                    return Err(A::Error::custom("a page is named twice"));
                }
            }
            Ok(grants)
        }
    }

    deserializer.deserialize_map(Grants)
}

/// Why a token proves nothing: what its bearer is told, and what whoever runs the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    pub(super) refusal: Refusal,
    pub(super) reason: Cow<'static, str>,
}

impl Unproven {
    pub(super) fn because(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            refusal: unauthenticated(),
            reason: reason.into(),
        }
    }
}

/// What is asked of claims beside a good signature.
#[derive(Clone, Debug, Default)]
pub struct ClaimRules {
    /// The token must name this issuer.
    pub issuer: Option<String>,
    /// The token must name this audience.
    pub audience: Option<String>,
    /// Tokens that never expire are taken too.
    pub without_expiry: bool,
}

impl ClaimRules {
    /// What is asked of the claims of a token whose signature is good.
    pub(super) fn check(&self, claims: &Claims, now: SystemTime) -> Result<(), Unproven> {
        if claims.exp.is_none() && !self.without_expiry {
            return Err(Unproven::because(
                "the token never expires (no claim `exp`): PAGEROOM_TOKENS_WITHOUT_EXPIRY would take it",
            ));
        }
        let is_early = |begin: SystemTime| now.checked_add(LEEWAY).is_none_or(|latest| begin > latest);
        if claims.nbf.is_some_and(|nbf| nbf.time().is_none_or(is_early)) {
            return Err(Unproven::because(
                "the token begins later (claim `nbf`): clocks differ?",
            ));
        }
        if let Some(issuer) = &self.issuer
            && !names(claims.iss.as_ref(), issuer)
        {
            return Err(Unproven::because("claim `iss` is not what JWT_ISSUER asks for"));
        }
        if let Some(audience) = &self.audience
            && !names(claims.aud.as_ref(), audience)
        {
            return Err(Unproven::because("claim `aud` is not what JWT_AUDIENCE asks for"));
        }
        Ok(())
    }
}

/// Whether a claim is a text, or a list that has it.
fn names(claim: Option<&serde_json::Value>, wanted: &str) -> bool {
    match claim {
        Some(serde_json::Value::Array(list)) => {
            list.iter().all(serde_json::Value::is_string)
                && list.iter().any(|item| item.as_str() == Some(wanted))
        }
        Some(single) => single.as_str() == Some(wanted),
        None => false,
    }
}

/// What is wrong with claims that cannot be read: which one, and what it should be. Never what it is.
pub(super) fn flaw(claims: &[u8]) -> String {
    use serde_json::Value;

    let Ok(Value::Object(claims)) = serde_json::from_slice::<Value>(claims) else {
        return "the token's claims are no JSON object".to_owned();
    };
    let is_time = |value: &Value| serde_json::from_value::<NumericDate>(value.clone()).is_ok();
    let is_id = |value: &Value| value.is_string() || value.is_u64() || value.is_i64() || value.is_null();
    let is_roles = |value: &Value| {
        value
            .as_object()
            .is_some_and(|roles| roles.values().all(Value::is_string))
    };
    type Rule<'a> = (&'a str, &'a str, &'a dyn Fn(&Value) -> bool);
    let rules: [Rule<'_>; 8] = [
        ("sub", "a text or a whole number", &is_id),
        ("userId", "a text or a whole number", &is_id),
        ("role", "a text", &|value| value.is_string() || value.is_null()),
        ("pages", "an object of roles by page, each named once", &is_roles),
        ("tokenVersion", "a whole number", &|value| {
            value.is_u64() || value.is_null()
        }),
        ("exp", "a time in seconds", &|value| {
            is_time(value) || value.is_null()
        }),
        ("nbf", "a time in seconds", &|value| {
            is_time(value) || value.is_null()
        }),
        ("iat", "a time in seconds", &|value| {
            is_time(value) || value.is_null()
        }),
    ];
    let wrong = rules
        .iter()
        .find(|(name, _, is_right)| claims.get(*name).is_some_and(|value| !is_right(value)));
    match wrong {
        Some((name, should, _)) => format!("claim `{name}` is not {should}"),
        None => "a claim is given twice".to_owned(),
    }
}

impl Claims {
    /// Who these claims are about. Their signature and issuer have been checked.
    pub(super) fn into_identity(self, now: SystemTime) -> Result<Identity, Unproven> {
        let user = self.sub.or(self.user_id);
        let user =
            user.ok_or_else(|| Unproven::because("the token names no user: claim `sub` or `userId`"))?;
        let mut identity = Identity::user(&user, now).map_err(|refusal| Unproven {
            refusal,
            reason:
                "the user that the token names (`sub`) is empty, too long, `*`, or has control characters"
                    .into(),
        })?;
        if let Some(exp) = self.exp {
            let ends = exp.time().and_then(|ends| ends.checked_add(LEEWAY));
            let ends = ends.ok_or_else(|| Unproven::because("claim `exp` is beyond the end of time"))?;
            identity.expires_at = Some(ends);
            if identity.has_expired(now) {
                return Err(Unproven {
                    refusal: expired(),
                    reason: "the token has expired".into(),
                });
            }
        }
        for (pattern, role) in self.pages {
            let unknown =
                || Unproven::because("claim `pages` gives a role that is none: view, comment, edit or admin");
            let role = Role::from_name(&role).ok_or_else(unknown)?;
            identity.grants.insert(pattern, role);
        }
        // A time in the future would outlive the next sign-out.
        let issued_at = self
            .iat
            .and_then(NumericDate::time)
            .filter(|issued| *issued <= now);
        identity.issued_at = issued_at.unwrap_or(now);
        identity.admin = self.role.as_deref() == Some(Role::Admin.as_str());
        identity.token_version = self.token_version;
        let text = |value: Option<serde_json::Value>| value?.as_str().map(str::to_owned);
        identity.profile = Profile {
            name: text(self.name),
            avatar_url: text(self.picture).or_else(|| text(self.avatar_url)),
        };
        Ok(identity)
    }
}
