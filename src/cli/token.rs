//! `pageroom token`: mints a token with the configured secret, for trying things out.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;

use crate::{
    auth::{Claims, NumericDate},
    config::{AuthSettings, ConfigError},
    rooms::Role,
};

/// What the token says.
#[derive(Args, Debug)]
pub(super) struct TokenArgs {
    /// The user.
    #[arg(long, value_name = "USER")]
    user: String,
    /// A page id or prefix pattern (`team-7/*`, `*`) the user may open; may be given several times.
    #[arg(long = "page", value_name = "PAGE", default_value = "*")]
    pages: Vec<String>,
    /// What the user may do there.
    #[arg(long, value_name = "ROLE", default_value = "edit", value_parser = ["view", "comment", "edit", "admin"])]
    role: String,
    /// How long the token lasts.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: humantime::Duration,
    #[command(flatten)]
    auth: AuthSettings,
}

/// Why no token was minted.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("there is no secret to sign with: set JWT_SECRET to the one that the server has")]
    NoSecret,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the token lasts longer than time can be counted")]
    TooLong,
    #[error("the token could not be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

pub(super) fn mint(args: &TokenArgs) -> Result<String, TokenError> {
    let mut problems = Vec::new();
    // Tokens have nothing to do with where the server listens.
    args.auth.check(Ipv4Addr::LOCALHOST.into(), None, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError(problems).into());
    }
    let keys = args.auth.keys(&mut problems);
    let ends = now().checked_add(*args.expires).ok_or(TokenError::TooLong)?;
    let exp = ends
        .duration_since(UNIX_EPOCH)
        .map_err(|_| TokenError::TooLong)?
        .as_secs();
    let pages: BTreeMap<_, _> = args
        .pages
        .iter()
        .map(|page| (page.clone(), args.role.clone()))
        .collect();
    let role = (args.role == Role::Admin.as_str() && args.pages.iter().any(|page| page == "*"))
        .then(|| args.role.clone());
    let issued = now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    let token = keys.sign(Claims {
        sub: Some(args.user.clone()),
        pages,
        exp: Some(NumericDate(exp)),
        iat: issued.map(NumericDate),
        role,
        ..Claims::default()
    });
    Ok(token.ok_or(TokenError::NoSecret)??)
}

#[expect(clippy::disallowed_methods, reason = "the command line meets the clock here")]
fn now() -> SystemTime {
    SystemTime::now()
}
